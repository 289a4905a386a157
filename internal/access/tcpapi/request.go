package tcpapi

import (
	"time"

	"github.com/opencmq/cmq/internal/access"
	"github.com/opencmq/cmq/internal/cmq"
)

// request is one request under way: begun by the reader, ended by whoever comes first of the Backend's answer, the
// time that is up, and the end of the connection.
type request struct {
	c        *conn
	owner    string
	seqno    int64
	cmd      int32
	oneWay   bool // no answer is wanted
	action   access.Action
	name     string // of the queue or topic
	deadline time.Time
	size     int // bytes of its bodies
	poll     *poll

	body   [1][]byte     // room for a send of one
	handle [1]cmq.Handle // and for a handle

	// Under c.mu:
	pending    cmq.Pending
	ended      bool
	prev, next *request
}

// chain is requests under way, in order of their beginning.
type chain struct {
	root request // between last and first
	n    int
}

func (l *chain) init() { l.root.prev, l.root.next = &l.root, &l.root }

func (l *chain) add(r *request) {
	r.prev, r.next = l.root.prev, &l.root
	r.prev.next, l.root.prev = r, r
	l.n++
}

func (l *chain) remove(r *request) {
	r.prev.next, r.next.prev = r.next, r.prev
	r.prev, r.next = nil, nil
	l.n--
}

func (l *chain) all() (requests []*request) {
	for r := l.root.next; r != &l.root; r = r.next {
		requests = append(requests, r)
	}
	return requests
}

// chainOf is the chain a request belongs to. Polls that wait have their own, because they do so for long and in any order.
func (c *conn) chainOf(r *request) *chain {
	if r.poll != nil && r.poll.counted {
		return &c.polls
	}
	return &c.calls
}

// begin puts a request under way. It reports false if the connection is at its end.
func (c *conn) begin(r *request) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.chainOf(r).add(r)
	c.bytes += r.size
	if c.alarm.IsZero() || r.deadline.Before(c.alarm) {
		c.setAlarm(r.deadline)
	}
	return true
}

// keep remembers what cancels the request. If that has ended meanwhile, its answer has come or nobody wants it.
func (r *request) keep(p cmq.Pending) {
	r.c.mu.Lock()
	ended := r.ended
	if !ended {
		r.pending = p
	}
	r.c.mu.Unlock()
	if ended {
		p.Cancel()
	}
}

// end reports whether the caller is the one to answer, and to say with answered that it has.
func (r *request) end() bool {
	c := r.c
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.endLocked(r)
}

func (c *conn) endLocked(r *request) bool {
	if r.ended {
		return false
	}
	r.ended = true
	c.chainOf(r).remove(r)
	c.bytes -= r.size
	c.door.memory.Add(-int64(r.size))
	if r.poll != nil && r.poll.counted {
		c.door.config.Polls.Leave()
	}
	c.owed.Add(1)
	c.room.Signal()
	return true
}

// answered says that what there is to say about an ended request is in the outbox.
func (r *request) answered() {
	if r.c.owed.Add(-1) == 0 && r.c.draining.Load() {
		r.c.wake()
	}
}

// setAlarm has the time of requests looked after at t.
func (c *conn) setAlarm(t time.Time) {
	c.alarm = t
	if c.timer == nil {
		c.timer = time.AfterFunc(time.Until(t), c.expire)
	} else {
		c.timer.Reset(time.Until(t))
	}
}

// expire ends the requests whose time is up.
func (c *conn) expire() {
	for _, r := range c.takeExpired(time.Now()) {
		r.expired()
	}
}

func (c *conn) takeExpired(now time.Time) (expired []*request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.alarm = time.Time{}
	if c.closed {
		return nil
	}
	var next time.Time
	check := func(r *request) (due bool) {
		if due = !r.deadline.After(now); due {
			c.endLocked(r)
			expired = append(expired, r)
		} else if next.IsZero() || r.deadline.Before(next) {
			next = r.deadline
		}
		return due
	}
	for c.calls.n > 0 && check(c.calls.root.next) { // they have the same time each: the others are later
	}
	for _, r := range c.polls.all() {
		check(r)
	}
	if !next.IsZero() {
		c.setAlarm(next)
	}
	return expired
}

// expired answers a request that was ended because it has taken too long; it may be carried out all the same.
func (r *request) expired() {
	defer r.answered()
	if r.pending != nil {
		r.pending.Cancel()
	}
	if r.poll != nil {
		r.pollOver()
		return
	}
	r.refuse(errTooLong)
}

// refuse answers with the error of the catalogue that stands for err, and logs what is the server's fault. The caller
// has ended the request.
func (r *request) refuse(err error) {
	refused, internal := access.Refusal(r.action, err)
	if internal {
		r.c.door.logFailure(r.action, err)
	}
	r.plain(refused)
}

// plain answers with no body; a nil refusal is success.
func (r *request) plain(e *cmq.Error) {
	if !r.oneWay {
		r.c.plain(r.head(e))
	}
}

func (r *request) head(e *cmq.Error) head {
	if e != nil {
		return refusal(r.seqno, r.cmd, e)
	}
	return head{seqno: r.seqno, cmd: r.cmd}
}
