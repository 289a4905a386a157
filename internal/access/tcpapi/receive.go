package tcpapi

import (
	"errors"
	"time"

	"github.com/opencmq/cmq/internal/access"
	"github.com/opencmq/cmq/internal/cmq"
)

// poll is what a receive is about.
//
// A batch asks at once first, and waits if there is nothing. What wakes it is often the first of several, so it looks
// again a moment later before it answers, and once more if that brought some; so a client that waits for messages sent one
// after the other gets them together. A batch that finds something at once does not wait.
//
//	now: ──┬── some ──────────────────────────────────────────────► answer
//	       └── none ──► wait ──┬── as many as wanted ─────────────► answer
//	                           ├── some ──► later ──┬── no more ──► answer
//	                           │                    └── some ──► later ──► answer
//	                           └── none, time is up ──────────────► answer 10200
type poll struct {
	batch   bool
	num     int
	lock    time.Duration  // 0: the queue's
	wait    *time.Duration // nil: the queue's
	until   time.Time      // end of the wait; zero if the queue knows
	left    time.Duration  // what wait points to, if it is neither nil nor atOnce
	counted bool           // in access.Polls

	got   []cmq.Message // what woke it, and what came then; under c.mu
	looks int           // how often got grew; under c.mu
}

// A batch that has been woken waits so long for more, and so often.
const (
	gatherTime = 80 * time.Millisecond
	maxLooks   = 2
)

// pollGrace is what a poll may take beyond its wait, when the Backend looks for a leader. Clients allow for three seconds.
const pollGrace = 1500 * time.Millisecond

// atOnce is no wait.
var atOnce time.Duration

// receive carries out commands 1023 and 1024.
func (c *conn) receive() {
	v := &c.views.receive
	*v = receiveView{batch: c.envelope.cmd == cmdBatchReceive}
	action := access.ReceiveMessage
	if v.batch {
		action = access.BatchReceiveMessage
	}
	r := c.newRequest(action)
	r.oneWay = false // whoever receives wants to know what
	r.poll = &poll{batch: v.batch, num: 1}
	if refused := c.checkReceive(r, v); refused != nil {
		r.plain(refused)
		return
	}
	if waits := r.poll.wait != &atOnce; waits && !c.mayPoll() {
		r.plain(cmq.ErrThrottled)
		return
	} else {
		r.poll.counted = waits
	}
	if !c.begin(r) {
		if r.poll.counted {
			c.door.config.Polls.Leave()
		}
		return
	}
	if r.poll.batch && r.poll.counted {
		r.ask(r.poll.num, &atOnce, r.looked)
	} else {
		r.ask(r.poll.num, r.remaining(), r.received)
	}
}

// mayPoll takes a place for a poll that waits.
func (c *conn) mayPoll() bool {
	c.mu.Lock()
	n := c.polls.n
	c.mu.Unlock()
	return n < maxPolls && c.door.config.Polls.Enter()
}

// checkReceive reads and checks the body.
func (c *conn) checkReceive(r *request, v *receiveView) (refused *cmq.Error) {
	if v.batch {
		refused = c.body(fieldBatchReceive, "tcp_batch_pull_msg", v)
	} else {
		refused = c.body(fieldReceive, "tcp_pull_msg", v)
	}
	if refused != nil {
		return refused
	}
	if r.name, refused = c.queue(v.queue, v.hasQueue); refused != nil {
		return refused
	}
	limits := &c.door.config.Limits
	if v.batch {
		switch {
		case !v.hasNum:
			return cmq.ErrParameterMissing("num_msg")
		case v.num < 1:
			return cmq.ErrParameterRange("num_msg")
		}
		r.poll.num = min(int(v.num), limits.ReceiveEntries) // the published client's own example asks for 20
	}
	if v.hasLock {
		if !limits.VisibilityTimeout.Holds(int64(v.lock)) {
			return cmq.ErrParameterRange("visible_timeout")
		}
		r.poll.lock = time.Duration(v.lock) * time.Second
	}
	return r.setWait(v, limits.PollingWaitSeconds.Max)
}

// setWait says how long the poll waits, and when it is given up.
func (r *request) setWait(v *receiveView, limit int64) *cmq.Error {
	now := r.c.reader.now
	switch {
	case !v.hasWait:
		r.deadline = now.Add(time.Duration(limit)*time.Second + pollGrace)
	case v.wait < 0:
		return cmq.ErrParameterRange("poll_wait_seconds")
	case v.wait == 0:
		r.poll.wait = &atOnce
	default:
		r.poll.left = access.ClampWait(int64(v.wait), limit)
		r.poll.wait = &r.poll.left
		r.poll.until = now.Add(r.poll.left)
		r.deadline = r.poll.until.Add(pollGrace)
	}
	return nil
}

// remaining is what is left of the wait. It is asked for once: the Backend may look at it as long as the poll lasts.
func (r *request) remaining() *time.Duration {
	if !r.poll.until.IsZero() {
		r.poll.left = max(0, time.Until(r.poll.until))
	}
	return r.poll.wait
}

func (r *request) ask(num int, wait *time.Duration, done func([]cmq.Message, error)) {
	r.keep(r.c.door.config.Backend.StartReceive(r.owner, r.name, num, wait, r.poll.lock, done))
}

// looked is what a batch finds at once.
func (r *request) looked(messages []cmq.Message, err error) {
	if err == nil && len(messages) == 0 || errors.Is(err, cmq.ErrNoMessage) {
		r.ask(r.poll.num, r.remaining(), r.woken)
		return
	}
	r.received(messages, err)
}

// woken is what a batch has waited for.
func (r *request) woken(messages []cmq.Message, err error) {
	if err != nil || len(messages) == 0 || len(messages) >= r.poll.num {
		r.received(messages, err)
		return
	}
	r.lookLater(messages)
}

// lookLater keeps the messages with the poll and looks for more in a moment.
func (r *request) lookLater(messages []cmq.Message) {
	if !r.hold(messages) {
		r.c.release(r.owner, r.name, messages)
		return
	}
	pause := gatherTime
	if until := r.poll.until; !until.IsZero() {
		pause = min(pause, time.Until(until))
	}
	time.AfterFunc(pause, r.gather)
}

// gather looks for more of what woke the batch.
func (r *request) gather() {
	r.c.mu.Lock()
	ended, more := r.ended, r.poll.num-len(r.poll.got)
	r.c.mu.Unlock()
	if !ended {
		r.ask(more, &atOnce, r.gathered)
	}
}

// hold keeps messages with the poll. It reports false if that has ended.
func (r *request) hold(messages []cmq.Message) bool {
	r.c.mu.Lock()
	defer r.c.mu.Unlock()
	if !r.ended {
		r.poll.got = append(r.poll.got, messages...)
		r.poll.looks++
	}
	return !r.ended
}

// gathered is what came a moment later. If that could not be found out, there is an answer all the same.
func (r *request) gathered(messages []cmq.Message, err error) {
	if len(messages) > 0 && r.mayLook(len(messages)) {
		r.lookLater(messages)
		return
	}
	if !r.end() {
		r.c.release(r.owner, r.name, messages)
		return
	}
	defer r.answered()
	r.deliver(append(r.poll.take(), messages...))
}

// mayLook reports whether a poll that got so many more may look again.
func (r *request) mayLook(more int) bool {
	r.c.mu.Lock()
	defer r.c.mu.Unlock()
	p := r.poll
	inTime := p.until.IsZero() || time.Now().Before(p.until)
	return p.looks < maxLooks && len(p.got)+more < p.num && inTime
}

// take takes what is held. It is called once the request has ended.
func (p *poll) take() []cmq.Message {
	got := p.got
	p.got = nil
	return got
}

// stopWaiting carries out command 10002, an extension: a poll that waits is answered now, with what it has or with 10200.
// That is its only answer. A poll that is not there, or does not wait, has been answered or is answered anyway.
func (c *conn) stopWaiting() {
	var v stopView
	refused := c.body(fieldStopWaiting, "stop_waiting", &v)
	if refused == nil && !v.hasSeqno {
		refused = cmq.ErrParameterMissing("seqno")
	}
	if refused != nil {
		c.plain(refusal(c.envelope.seqno, c.envelope.cmd, refused))
		return
	}
	if r := c.takeWaiting(v.seqno); r != nil {
		r.expired()
	}
}

// takeWaiting ends the poll with this number if it waits.
func (c *conn) takeWaiting(seqno int64) *request {
	c.mu.Lock()
	defer c.mu.Unlock()
	for r := c.polls.root.next; r != &c.polls.root; r = r.next {
		if r.seqno == seqno && r.poll.counted && c.endLocked(r) {
			return r
		}
	}
	return nil
}

// received answers with messages.
func (r *request) received(messages []cmq.Message, err error) {
	if !r.end() {
		r.c.release(r.owner, r.name, messages)
		return
	}
	defer r.answered()
	switch {
	case err != nil:
		r.refuse(err)
	case len(messages) == 0:
		r.plain(cmq.ErrNoMessage)
	default:
		r.deliver(messages)
	}
}

// pollOver answers a poll whose time is up, although the Backend has not said so.
func (r *request) pollOver() {
	switch got := r.poll.take(); {
	case len(got) > 0:
		r.deliver(got)
	case r.poll.counted:
		r.plain(cmq.ErrNoMessage)
	default:
		r.refuse(errTooLong)
	}
}

// deliver writes the answer with the messages. If the client has gone, they are released, now or by the writer.
func (r *request) deliver(messages []cmq.Message) {
	b := r.c.out.open()
	if b == nil {
		r.c.out.close()
		r.c.release(r.owner, r.name, messages)
		return
	}
	if r.poll.batch {
		b.messages(r.head(nil), messages)
	} else {
		b.message(r.head(nil), &messages[0])
	}
	handles := r.handle[:]
	if handles[0] = messages[0].Handle; len(messages) > 1 {
		handles = handlesOf(messages)
	}
	b.handed = append(b.handed, delivered{b.length(), r.owner, r.name, handles})
	r.c.added()
}
