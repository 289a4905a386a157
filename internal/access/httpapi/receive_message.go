package httpapi

import (
	"context"
	"errors"
	"time"

	"github.com/opencmq/cmq/internal/access"
	"github.com/opencmq/cmq/internal/cmq"
)

func (c *call) receiveMessage() error {
	name, err := c.queue("queueName")
	if err != nil {
		return err
	}
	messages, err := c.receive(name, 1)
	if err != nil {
		return err
	}
	c.envelope(nil)
	c.out = append(c.out, ',')
	c.appendMessage(&messages[0])
	return c.deliver(name, messages)
}

func (c *call) batchReceiveMessage() error {
	name, err := c.queue("queueName")
	if err != nil {
		return err
	}
	limit := cmq.Range{Min: 1, Max: int64(c.door.config.Limits.BatchEntries)}
	max, err := c.integer("numOfMsg", limit)
	if err != nil {
		return err
	}
	if max == nil {
		return cmq.ErrParameterMissing("numOfMsg")
	}
	messages, err := c.receive(name, int(*max))
	if err != nil {
		return err
	}
	c.envelope(nil)
	c.key("msgInfoList")
	for i := range messages {
		c.out = append(c.out, "[,"[min(i, 1)], '{')
		c.appendMessage(&messages[i])
		c.out = append(c.out, '}')
	}
	c.out = append(c.out, ']')
	return c.deliver(name, messages)
}

// receive gives at least one message of a queue, or an error.
func (c *call) receive(name string, max int) ([]cmq.Message, error) {
	return c.poll(func(e ends, wait *time.Duration, lock time.Duration) ([]cmq.Message, error) {
		return await(c, e, func(done func([]cmq.Message, error)) cmq.Pending {
			return c.backend().StartReceive(c.owner, name, max, wait, lock, done)
		})
	})
}

// poll gives at least one message that take brings, or an error. It ends early when the client goes away, and without a
// message when the server stops. The parameter visibilityTimeout is ours: without it lock is 0.
func (c *call) poll(take func(e ends, wait *time.Duration, lock time.Duration) ([]cmq.Message, error)) ([]cmq.Message, error) {
	wait, err := c.pollingWait()
	if err != nil {
		return nil, err
	}
	lock, err := c.integerOr("visibilityTimeout", c.door.config.Limits.VisibilityTimeout, 0)
	if err != nil {
		return nil, err
	}
	if wait == nil || *wait > 0 {
		if !c.door.config.Polls.Enter() {
			return nil, cmq.ErrThrottled
		}
		defer c.door.config.Polls.Leave()
	}
	polls := c.door.config.Polls
	if polls.Ended() {
		return nil, cmq.ErrNoMessage
	}
	e := ends{after: c.receiveTimeout(wait), gone: c.r.Context().Done(), stopped: polls.Done()}
	messages, err := take(e, wait, time.Duration(lock)*time.Second)
	if err == nil && len(messages) == 0 {
		err = cmq.ErrNoMessage
	}
	return messages, err
}

// pollingWait gives how long the client wants to wait; nil leaves it to the queue.
func (c *call) pollingWait() (*time.Duration, error) {
	seconds, given, err := c.decimal("pollingWaitSeconds")
	if err != nil || !given {
		return nil, err
	}
	if seconds < 0 {
		return nil, cmq.ErrParameterRange("pollingWaitSeconds")
	}
	wait := access.ClampWait(seconds, c.door.config.Limits.PollingWaitSeconds.Max)
	return &wait, nil
}

// pollGrace is what a poll may take beyond its wait. Clients allow for a second.
const pollGrace = 500 * time.Millisecond

// receiveTimeout bounds the Backend, which ends the wait by itself unless it is in trouble.
func (c *call) receiveTimeout(wait *time.Duration) time.Duration {
	longest := time.Duration(c.door.config.Limits.PollingWaitSeconds.Max) * time.Second
	if wait != nil {
		longest = *wait
	}
	return max(longest+pollGrace, c.door.config.CallTimeout)
}

// appendMessage writes the seven fields of a delivery, and ours of a dead letter, without braces.
func (c *call) appendMessage(m *cmq.Message) {
	c.out = append(c.out, `"msgBody":`...)
	c.out = appendBytes(c.out, m.Body)
	c.key("msgId")
	c.out = appendQuotedUint(c.out, uint64(m.ID))
	c.key("receiptHandle")
	c.out = appendQuotedUint(c.out, uint64(m.Handle))
	c.unix("enqueueTime", m.Enqueued)
	c.unix("firstDequeueTime", m.FirstDequeue)
	c.unix("nextVisibleTime", m.NextVisible)
	c.number("dequeueCount", int64(m.DequeueCount))
	if s := m.Source; s != nil {
		c.text("originalQueueId", s.Queue.String())
		c.unix("originalEnqueueTime", s.Enqueued)
		c.number("originalDequeueCount", int64(s.DequeueCount))
	}
}

// deliver writes the answer with the messages of a queue.
func (c *call) deliver(name string, messages []cmq.Message) error {
	return c.deliverOr(messages, func(ctx context.Context, handles []cmq.Handle) error {
		return c.backend().Release(ctx, c.owner, name, handles)
	})
}

// deliverOr writes the answer with the messages. If the client is known to have gone, before or while it is written, the
// receive is undone: otherwise the messages would be locked for nobody.
func (c *call) deliverOr(messages []cmq.Message, release func(context.Context, []cmq.Handle) error) error {
	err := c.r.Context().Err()
	if err == nil {
		err = c.send(true)
	}
	if err != nil {
		c.undo(messages, release)
	}
	return errSent
}

// undo gives the messages back. The client's context is over, so it has its own time.
func (c *call) undo(messages []cmq.Message, release func(context.Context, []cmq.Handle) error) {
	c.sent = true
	handles := make([]cmq.Handle, len(messages))
	for i := range messages {
		handles[i] = messages[i].Handle
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.r.Context()), c.door.config.CallTimeout)
	defer cancel()
	var refusal *cmq.Error
	if err := release(ctx, handles); err != nil && !errors.As(err, &refusal) {
		c.door.logFailure(c, err)
	}
}
