package httpapi

import (
	"time"

	"github.com/opencmq/cmq/internal/cmq"
)

func (c *call) sendMessage() error {
	name, err := c.queue("queueName")
	if err != nil {
		return err
	}
	bodies, err := c.oneBody()
	if err != nil {
		return err
	}
	ids, err := c.store(name, bodies)
	if err != nil {
		return err
	}
	c.msgID(ids)
	return nil
}

func (c *call) batchSendMessage() error {
	name, err := c.queue("queueName")
	if err != nil {
		return err
	}
	bodies, err := c.batchBodies()
	if err != nil {
		return err
	}
	ids, err := c.store(name, bodies)
	if err != nil {
		return err
	}
	c.msgList(ids)
	return nil
}

// store sends, once if the request is one of a session.
func (c *call) store(name string, bodies [][]byte) ([]cmq.MsgID, error) {
	delay, err := c.delay()
	if err != nil {
		return nil, err
	}
	session, err := c.session()
	if err != nil {
		return nil, err
	}
	return await(c, c.ends(), func(done func([]cmq.MsgID, error)) cmq.Pending {
		if session.ID != 0 {
			return c.backend().StartSendOnce(c.owner, name, bodies, delay, session, done)
		}
		return c.backend().StartSend(c.owner, name, bodies, delay, done)
	})
}

// msgID answers with the id of the one message.
func (c *call) msgID(ids []cmq.MsgID) {
	c.envelope(nil)
	c.key("msgId")
	c.out = appendQuotedUint(c.out, uint64(ids[0]))
}

// msgList answers with the ids of a batch.
func (c *call) msgList(ids []cmq.MsgID) {
	c.envelope(nil)
	c.key("msgList")
	for i, id := range ids {
		c.out = append(c.out, "[,"[min(i, 1)])
		c.out = append(c.out, `{"msgId":`...)
		c.out = appendQuotedUint(c.out, uint64(id))
		c.out = append(c.out, '}')
	}
	c.out = append(c.out, ']')
}

// oneBody gives the message of the request, in memory of its own: the Backend may keep it, but this call's buffer is used
// again.
func (c *call) oneBody() ([][]byte, error) {
	body, err := c.required("msgBody")
	if err != nil {
		return nil, err
	}
	if err := c.checkBody(body); err != nil {
		return nil, err
	}
	return [][]byte{append(make([]byte, 0, len(body)), body...)}, nil
}

// batchBodies is oneBody for a batch.
func (c *call) batchBodies() ([][]byte, error) {
	bodies, err := c.list("msgBody")
	if err != nil {
		return nil, err
	}
	total := 0
	for _, body := range bodies {
		if err := c.checkBody(body); err != nil {
			return nil, err
		}
		total += len(body)
	}
	if total > c.door.config.Limits.BatchBytes {
		return nil, cmq.ErrBatchSize
	}
	return copyAll(bodies, total), nil
}

// checkBody checks what holds for every queue and topic; their own MaxMsgSize is the Backend's to check.
func (c *call) checkBody(body []byte) error {
	switch {
	case len(body) == 0:
		return cmq.ErrBodyEmpty
	case int64(len(body)) > c.door.config.Limits.MaxMsgSize.Max:
		return cmq.ErrMsgSize
	}
	return nil
}

// copyAll copies bodies, total bytes together, into one piece of memory.
func copyAll(bodies [][]byte, total int) [][]byte {
	own := make([][]byte, len(bodies))
	memory := make([]byte, 0, total)
	for i, body := range bodies {
		start := len(memory)
		memory = append(memory, body...)
		own[i] = memory[start:len(memory):len(memory)]
	}
	return own
}

func (c *call) delay() (time.Duration, error) {
	seconds, _, err := c.decimal("delaySeconds")
	if err != nil {
		return 0, err
	}
	if !c.door.config.Limits.DelaySeconds.Holds(seconds) {
		return 0, cmq.ErrDelayRange
	}
	return time.Duration(seconds) * time.Second, nil
}
