package sim

import (
	"time"

	"github.com/opencmq/cmq/internal/check"
	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/dispatch/push/course"
)

// endpoint is where the messages of a subscription go. It takes some, refuses some, never answers some, and takes some so that
// nobody hears of it; now and then it does nothing but one of the bad things for a while. It writes down what came to it.
type endpoint struct {
	w    *world
	id   cmq.NodeID // its end of the network's links
	q    *queue
	rng  stream
	mood manner // answers for the time being; mixed: this and that
	dead bool   // refuses everything until the faults end
}

// manner is how an endpoint treats a message.
type manner int

const (
	mixed    manner = iota
	takes           // and says so
	refuses         // and says so
	hangs           // says nothing, and does not take it
	vanishes        // takes it, and the answer is lost
)

func newEndpoint(w *world, q *queue) *endpoint {
	return &endpoint{w: w, id: 5000 + cmq.NodeID(q.id), q: q, rng: newStream(w.cfg.Seed, "endpoint "+q.name)}
}

// begin lets its moods change.
func (e *endpoint) begin() {
	e.dead = e.rng.chance(35)
	e.change()
}

func (e *endpoint) change() {
	if e.w.phase > loading {
		return
	}
	e.mood = pick(e.rng, []manner{mixed, mixed, takes, takes, refuses, hangs, vanishes})
	e.w.after(e.rng.mostly(100*time.Millisecond, 4*time.Second), e.change)
}

// treatment is how it treats the next message. Behind the faults it takes all.
func (e *endpoint) treatment() manner {
	one := pick(e.rng, []manner{takes, takes, takes, refuses, refuses, hangs, vanishes})
	switch {
	case e.w.phase != loading:
		return takes
	case e.dead:
		return refuses
	case e.mood != mixed:
		return e.mood
	}
	return one
}

// take is a message at the endpoint, sent by a node that was up for the inc-th time.
func (e *endpoint) take(t *try, inc int) {
	w, m, how := e.w, t.Message, e.treatment()
	op := w.history.Invoke(&check.Op{
		Client: int(e.id), Kind: check.Deliver, Queue: e.q.name, Call: w.now,
		IDs: []cmq.MsgID{m.ID}, Bodies: []string{string(m.Body)}, Handles: []cmq.Handle{m.Handle}, Try: m.DequeueCount,
	})
	var o course.Outcome
	o.Taken = how == takes || how == vanishes
	if how == refuses && e.rng.chance(20) {
		op.After = e.rng.between(0, 2*time.Second).Truncate(time.Millisecond)
		o.After = slower(op.After)
	}
	w.after(e.thinks(), func() {
		outcome := check.Fail
		if o.Taken {
			outcome = check.OK
		}
		op.Finish(w.now, outcome)
		w.trace.mix(10, uint64(w.now), uint64(m.ID), uint64(m.DequeueCount), uint64(how))
		w.trace.say(w.now, "endpoint %s: message %d, try %d with handle %d: %s [%d, arrived at %.6f]", e.q.name, m.ID, m.DequeueCount, m.Handle, how, op.ID, op.Call.Seconds())
		if how == takes || how == refuses {
			e.answer(t, inc, op, o)
		}
	})
}

// thinks is how long it takes: mostly a moment, sometimes longer than anybody waits.
func (e *endpoint) thinks() time.Duration {
	if e.w.phase == loading && e.rng.chance(5) {
		return e.rng.between(0, 4*time.Second)
	}
	return e.rng.mostly(0, 30*time.Millisecond)
}

func (e *endpoint) answer(t *try, inc int, op *check.Op, o course.Outcome) {
	n := t.c.node
	e.w.net.carry(e.id, n.id, false, func() {
		if n.incarnation != inc {
			return
		}
		n.exec(func() {
			if !t.ended {
				op.Heard = e.w.now
			}
			t.end(o)
		})
	})
}

// String is for traces.
func (m manner) String() string {
	return [...]string{"mixed", "taken", "refused", "no answer", "taken, and the answer is lost"}[m]
}
