package tcpapi

import (
	"time"

	"github.com/opencmq/cmq/internal/access"
	"github.com/opencmq/cmq/internal/cmq"
)

// prepare sends messages that nobody receives before they are committed. From now on the connection can be asked what
// becomes of them.
func (c *conn) prepare(r *request, v *sendView) {
	if c.producer == 0 {
		c.producer = c.door.config.Producers.Number()
	}
	c.door.config.Producers.Enter(r.owner, r.name, c.producer, c)
	interval := queryInterval(v.firstQueryInterval, c.door.config.Limits.FirstQueryInterval)
	r.keep(c.door.config.Backend.StartPrepare(r.owner, r.name, v.bodies, interval, c.producer, r.sent))
}

// queryInterval reads first_query_interval: the published client's default is 5000 and called milliseconds, its example
// says 5. 0 leaves it to the queue.
func queryInterval(n int32, limit cmq.Range) time.Duration {
	longest := time.Duration(limit.Max) * time.Second
	switch {
	case n <= 0:
		return 0
	case n < 1000:
		return min(time.Duration(n)*time.Second, longest)
	}
	return min(time.Duration(n)*time.Millisecond, longest)
}

// Ask implements access.Producer: it writes command 1042.
func (c *conn) Ask(queue string, id cmq.MsgID) bool {
	b := c.out.open()
	if b != nil {
		c.asked++
		b.query(c.asked, queue, id)
	}
	c.added()
	return b != nil
}

// Address implements access.Producer.
func (c *conn) Address() string { return c.net.RemoteAddr().String() }

// confirm carries out command 1041. The published client sends it one way, as it were, and does not read the answer.
func (c *conn) confirm() {
	r := c.newRequest(access.SendMessage)
	decisions, refused := c.checkConfirm(r)
	if refused != nil {
		r.plain(refused)
		return
	}
	if c.begin(r) {
		r.keep(c.door.config.Backend.StartConfirm(r.owner, r.name, decisions, func(errs []*cmq.Error, err error) { r.decided(decisions, errs, err) }))
	}
}

// checkConfirm reads and checks the body.
func (c *conn) checkConfirm(r *request) (decisions []cmq.Decision, refused *cmq.Error) {
	var v confirmView
	if refused = c.body(fieldConfirm, "transaction_confirm", &v); refused != nil {
		return nil, refused
	}
	if r.name, refused = c.queue(v.queue, v.hasQueue); refused != nil {
		return nil, refused
	}
	if n := len(v.items); n == 0 || n > c.door.config.Limits.ReceiveEntries {
		return nil, cmq.ErrParameterBatch("item")
	}
	for _, item := range v.items {
		if item.state != stateCommit && item.state != stateRollback {
			return nil, cmq.ErrParameterRange("state")
		}
		decisions = append(decisions, cmq.Decision{ID: cmq.MsgID(item.id), Commit: item.state == stateCommit})
	}
	return decisions, nil
}

// decided answers with what became of each message: 0 if all are as asked, 10750 if none is, 10760 otherwise.
func (r *request) decided(decisions []cmq.Decision, errs []*cmq.Error, err error) {
	if !r.end() {
		return
	}
	defer r.answered()
	switch {
	case err != nil:
		r.refuse(err)
		return
	case r.oneWay:
		return
	}
	list := make([]confirmed, len(decisions))
	failed := 0
	for i, d := range decisions {
		list[i] = confirmed{uint64(d.ID), stateRollback, errs[i]}
		if d.Commit {
			list[i].state = stateCommit
		}
		if errs[i] != nil {
			list[i].state = stateUnknown
			failed++
		}
	}
	h := r.head(nil)
	switch {
	case failed == len(list):
		h = r.head(cmq.ErrConfirm)
	case failed > 0:
		h = r.head(cmq.ErrConfirmPart)
	}
	if b := r.c.out.open(); b != nil {
		b.confirmation(h, r.name, list)
	}
	r.c.added()
}
