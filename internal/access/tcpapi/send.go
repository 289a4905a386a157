package tcpapi

import (
	"time"

	"github.com/opencmq/cmq/internal/access"
	"github.com/opencmq/cmq/internal/cmq"
)

// send carries out commands 1021 and 1022.
func (c *conn) send() {
	var r *request
	v := &c.views.send
	*v = sendView{batch: c.envelope.cmd == cmdBatchSend} // its bodies are the Backend's to keep
	if v.batch {
		r = c.newRequest(access.BatchSendMessage)
	} else {
		r = c.newRequest(access.SendMessage)
		v.bodies = r.body[:0]
	}
	if refused := c.checkSend(r, v); refused != nil {
		r.plain(refused)
		return
	}
	if !c.beginSend(r) {
		return
	}
	if v.transaction != 0 {
		c.prepare(r, v)
		return
	}
	delay := time.Duration(v.delay) * time.Second
	if v.session.given {
		r.keep(c.door.config.Backend.StartSendOnce(r.owner, r.name, v.bodies, delay, v.session.session(), r.sent))
		return
	}
	r.keep(c.door.config.Backend.StartSend(r.owner, r.name, v.bodies, delay, r.sent))
}

// beginSend is begin for a request with bodies, which it refuses if there is no room for them.
func (c *conn) beginSend(r *request) bool {
	if c.door.memory.Add(int64(r.size)) > c.door.config.MaxMemory {
		c.door.memory.Add(-int64(r.size))
		r.plain(cmq.ErrThrottled)
		return false
	}
	if !c.begin(r) {
		c.door.memory.Add(-int64(r.size))
		return false
	}
	return true
}

// checkSend reads and checks the body.
func (c *conn) checkSend(r *request, v *sendView) (refused *cmq.Error) {
	if v.batch {
		refused = c.body(fieldBatchSend, "tcp_batch_send_msg", v)
	} else {
		refused = c.body(fieldSend, "tcp_send_msg", v)
	}
	if refused != nil {
		return refused
	}
	if r.name, refused = c.queue(v.queue, v.hasQueue); refused != nil {
		return refused
	}
	if r.size, refused = c.checkBodies(v.bodies, v.batch); refused != nil {
		return refused
	}
	switch {
	case !c.door.config.Limits.DelaySeconds.Holds(int64(v.delay)):
		return cmq.ErrDelayRange
	case v.transaction != 0 && v.delay != 0:
		return cmq.ErrNotAllowed // it becomes visible when it is committed
	case v.transaction != 0 && v.session.given:
		return cmq.ErrNotAllowed // sessions have no prepared messages
	case v.session.given:
		return v.session.check()
	}
	return nil
}

// checkBodies checks what holds for every queue and topic, and gives the size of all; their own MaxMsgSize is the
// Backend's to check.
func (c *conn) checkBodies(bodies [][]byte, batch bool) (size int, refused *cmq.Error) {
	limits := &c.door.config.Limits
	switch {
	case batch && (len(bodies) == 0 || len(bodies) > limits.BatchEntries):
		return 0, cmq.ErrParameterBatch("msgBody")
	case len(bodies) == 0:
		return 0, cmq.ErrBodyEmpty
	}
	for _, body := range bodies {
		switch {
		case len(body) == 0:
			return 0, cmq.ErrBodyEmpty
		case int64(len(body)) > limits.MaxMsgSize.Max:
			return 0, cmq.ErrMsgSize
		}
		size += len(body)
	}
	if batch && size > limits.BatchBytes {
		return 0, cmq.ErrBatchSize
	}
	return size, nil
}

// sent answers with the ids.
func (r *request) sent(ids []cmq.MsgID, err error) {
	if !r.end() {
		return
	}
	defer r.answered()
	switch {
	case err != nil:
		r.refuse(err)
	case !r.oneWay:
		if b := r.c.out.open(); b != nil {
			b.ids(r.head(nil), ids)
		}
		r.c.added()
	}
}
