package check

import (
	"testing"
	"time"

	"github.com/opencmq/cmq/internal/cmq"
)

// fast is a schedule of four tries with growing pauses.
func fast() *Schedule {
	return &Schedule{
		Tries: 4, Pauses: []Pause{{100 * ms, 100 * ms}, {200 * ms, 200 * ms}, {400 * ms, 500 * ms}}, FromTry: true, Rest: 10 * ms,
		Lock: 100 * ms, Slack: 2 * ms, InOrder: true,
	}
}

// newPushStory has a topic t with a subscription "shop" that pushes; dead: with a dead-letter queue.
func newPushStory(dead bool) *story {
	st := newStory(Settings{})
	s := &Settings{Retention: time.Hour, Fed: true, Schedule: fast()}
	if dead {
		s.DeadLetter, s.MaxReceives, s.Schedule.DeadNext = "dead", 4, true
	}
	st.add(&Op{Kind: Set, Queue: "shop", Settings: s}, OK)
	st.add(&Op{Kind: Subscribe, Queue: "t", Call: 2 * ms, Subscription: &Subscription{Name: "shop", Queue: "shop"}}, OK)
	return st
}

// get is a courier's receive, and try what the endpoint writes down of it, 3 ms later; its answer arrives in 4 ms.
func (st *story) get(at time.Duration, p *Op, count int) *Op {
	r := st.receive(at, p, 0, count)
	r.Queue = "shop"
	return r
}

func (st *story) try(at time.Duration, r *Op, o Outcome) *Op {
	m := r.Messages[0]
	op := st.add(&Op{Kind: Deliver, Queue: "shop", Call: at, IDs: []cmq.MsgID{m.ID}, Handles: []cmq.Handle{m.Handle}, Bodies: []string{m.Body}, Try: m.Count}, o)
	op.Heard = op.Return + 2*ms
	return op
}

// fail tries a message at the endpoint, which refuses it, and arranges the next try.
func (st *story) fail(at time.Duration, p *Op, count int, pause time.Duration) *Op {
	r := st.get(at, p, count)
	st.try(at+3*ms, r, Fail)
	return st.relock(at+10*ms, r, pause)
}

// taken tries a message that the endpoint takes.
func (st *story) taken(at time.Duration, p *Op, count int) *Op {
	r := st.get(at, p, count)
	st.try(at+3*ms, r, OK)
	return st.delete(at+10*ms, r)
}

func pushStory(dead bool, f func(st *story)) func() *story {
	return func() *story {
		st := newPushStory(dead)
		f(st)
		return st
	}
}

func badPushes() []badHistory {
	row := func(rule, name string, f func(st *story)) badHistory {
		return badHistory{rule, name, pushStory(false, f)}
	}
	return []badHistory{
		row("D1", "deleted and never tried", func(st *story) { st.delete(30*ms, st.get(20*ms, st.publish(10*ms, "a"), 1)) }),
		row("D1", "deleted while it is being tried", func(st *story) {
			r := st.get(20*ms, st.publish(10*ms, "a"), 1)
			st.delete(24*ms, r)
			st.try(23*ms, r, OK)
		}),
		row("D1", "deleted though the endpoint refused it", func(st *story) {
			r := st.get(20*ms, st.publish(10*ms, "a"), 3)
			st.try(23*ms, r, Fail)
			st.delete(30*ms, r)
		}),
		row("D1", "nobody knows whether it is deleted, and it was not tried", func(st *story) {
			st.delete(30*ms, st.get(20*ms, st.publish(10*ms, "a"), 1)).Finish(32*ms, Info)
		}),
		{"D1", "the last try failed, and it does not go to the dead-letter queue", pushStory(true, func(st *story) {
			r := st.get(20*ms, st.publish(10*ms, "a"), 4)
			st.try(23*ms, r, Fail)
			st.delete(30*ms, r)
		})},
		row("D2", "another number", func(st *story) { st.try(23*ms, st.get(20*ms, st.publish(10*ms, "a"), 1), OK).Try = 2 }),
		row("D2", "another message", func(st *story) { st.try(23*ms, st.get(20*ms, st.publish(10*ms, "a"), 1), OK).IDs[0] = 99 }),
		row("D2", "without being received", func(st *story) {
			st.try(23*ms, st.get(20*ms, st.publish(10*ms, "a"), 1), OK).Handles[0] = 99
		}),
		row("D3", "too early", func(st *story) { st.fail(20*ms, st.publish(10*ms, "a"), 2, 150*ms) }),
		row("D3", "too late", func(st *story) { st.fail(20*ms, st.publish(10*ms, "a"), 1, 200*ms) }),
		row("D3", "the third again", func(st *story) { st.fail(20*ms, st.publish(10*ms, "a"), 3, 200*ms) }),
		row("D3", "one more than there are", func(st *story) { st.fail(20*ms, st.publish(10*ms, "a"), 4, 450*ms) }),
		row("D4", "taken, and nobody says so", func(st *story) { st.try(23*ms, st.get(20*ms, st.publish(10*ms, "a"), 1), OK) }),
		row("D4", "taken, and arranged again", func(st *story) {
			r := st.get(20*ms, st.publish(10*ms, "a"), 1)
			st.try(23*ms, r, OK)
			st.relock(30*ms, r, 95*ms)
		}),
		row("D4", "refused, and nothing is arranged", func(st *story) { st.try(23*ms, st.get(20*ms, st.publish(10*ms, "a"), 1), Fail) }),
		row("D5", "an earlier one is still there", func(st *story) {
			a, b := st.publish(10*ms, "a"), st.publish(12*ms, "b")
			st.taken(20*ms, b, 1)
			st.taken(40*ms, a, 1)
		}),
		row("D5", "a later one between two tries", func(st *story) {
			a, b := st.publish(10*ms, "a"), st.publish(12*ms, "b")
			st.fail(20*ms, a, 1, 92*ms)
			st.taken(40*ms, b, 1)
			st.taken(150*ms, a, 2)
		}),
		row("I1", "never tried, and gone", func(st *story) {
			st.publish(10*ms, "a")
			st.empty("shop")
		}),
		row("I7", "tried again though it is deleted", func(st *story) {
			p := st.publish(10*ms, "a")
			st.taken(20*ms, p, 1)
			st.taken(150*ms, p, 2)
		}),
		row("I8", "the count begins anew", func(st *story) {
			p := st.publish(10*ms, "a")
			st.fail(20*ms, p, 1, 92*ms)
			st.fail(150*ms, p, 1, 92*ms)
		}),
		{"I1", "given up, and not in the dead-letter queue", pushStory(true, func(st *story) {
			r := st.get(20*ms, st.publish(10*ms, "a"), 4)
			st.try(23*ms, r, Fail)
			st.relock(30*ms, r, 0)
			st.empty("shop")
			st.dry(3*time.Second, "dead")
		})},
	}
}

func TestGoodPushesPass(t *testing.T) {
	for name, row := range map[string]struct {
		dead bool
		f    func(st *story)
	}{
		"at the first try": {false, func(st *story) {
			st.taken(20*ms, st.publish(10*ms, "a"), 1)
			st.empty("shop")
		}},
		"at the last": {false, func(st *story) {
			p := st.publish(10*ms, "a")
			st.fail(20*ms, p, 1, 92*ms)
			st.fail(150*ms, p, 2, 192*ms)
			st.fail(400*ms, p, 3, 495*ms)
			st.taken(time.Second, p, 4)
			st.empty("shop")
		}},
		"given up": {false, func(st *story) {
			p := st.publish(10*ms, "a")
			for i, pause := range []time.Duration{92 * ms, 192 * ms, 495 * ms} {
				st.fail(time.Duration(i)*time.Second+20*ms, p, i+1, pause)
			}
			r := st.get(4*time.Second, p, 4)
			st.try(4*time.Second+3*ms, r, Fail)
			st.delete(4*time.Second+10*ms, r)
			st.dry(5*time.Second, "shop")
		}},
		"given up to the dead-letter queue": {true, func(st *story) {
			p := st.publish(10*ms, "a")
			for i, pause := range []time.Duration{92 * ms, 192 * ms, 495 * ms, 0} {
				st.fail(time.Duration(i)*time.Second+20*ms, p, i+1, pause)
			}
			st.dry(5*time.Second, "shop")
			st.drainFrom(5*time.Second, "dead", p)
			st.dry(6*time.Second, "dead")
		}},
		"the endpoint asks for a longer pause": {false, func(st *story) {
			p := st.publish(10*ms, "a")
			st.fail(20*ms, p, 1, 300*ms)
			st.Ops[len(st.Ops)-2].After = 300 * ms
			st.taken(400*ms, p, 2)
			st.empty("shop")
		}},
		"the lock is extended": {false, func(st *story) {
			p := st.publish(10*ms, "a")
			r := st.get(20*ms, p, 1)
			st.relock(80*ms, r, 100*ms)
			st.try(150*ms, r, OK)
			st.delete(160*ms, r)
			st.empty("shop")
		}},
		"the answer got lost": {false, func(st *story) {
			p := st.publish(10*ms, "a")
			st.try(23*ms, st.get(20*ms, p, 1), OK).Heard = 0
			st.taken(150*ms, p, 2)
			st.empty("shop")
		}},
		"the delete got lost": {false, func(st *story) {
			p := st.publish(10*ms, "a")
			st.taken(20*ms, p, 1).Finish(0, Info)
			st.taken(150*ms, p, 2)
			st.empty("shop")
		}},
		"one try was on its way for long": {false, func(st *story) {
			a, b := st.publish(10*ms, "a"), st.publish(12*ms, "b")
			first := st.get(20*ms, a, 1)
			st.taken(150*ms, a, 2)
			st.taken(200*ms, b, 1)
			st.try(300*ms, first, OK).Heard = 0
			st.empty("shop")
		}},
	} {
		if report := Check(&pushStory(row.dead, row.f)().History); len(report.Violations) > 0 {
			t.Errorf("%s: false alarm: %v", name, report.Violations)
		}
	}
}
