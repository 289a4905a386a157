package check

import (
	"slices"
	"time"

	"github.com/opencmq/cmq/internal/cmq"
)

// A subscription that pushes is a queue whose only consumers are the nodes that push: what they receive, delete and relock is
// in the history like what any consumer does, and all rules of queues hold. So nothing is lost, locks exclude, and a message
// that was tried as often as it may be comes out of the dead-letter queue. Beside that the endpoint writes down what came to
// it (Deliver). Nobody may say that a message was delivered unless the endpoint has said so before, and what is done after a
// try is what the schedule wants:
//
//	D1 a message is deleted only after its endpoint has taken it, or after the last try
//	D2 the endpoint is told the number of the try that the queue gave out
//	D3 the pause after a try is that of the schedule, whoever made the tries before
//	D4 what came of a try is written down: nothing is tried again unless that got lost
//	D5 where order was asked for, a later message comes only after an earlier one has gone

// Schedule says how often and when a message is tried.
type Schedule struct {
	Tries    int           `json:"tries"`
	Pauses   []Pause       `json:"pauses"`              // after each try; the last one stands for those that follow
	FromTry  bool          `json:"from_try,omitempty"`  // pauses begin when the try did, not when it failed
	Rest     time.Duration `json:"rest,omitempty"`      // is kept in any case between the end of a try and the next
	Lock     time.Duration `json:"lock"`                // to which locks are extended during a try
	InOrder  bool          `json:"in_order,omitempty"`  // one at a time
	Slack    time.Duration `json:"slack,omitempty"`     // by which times may be rounded
	DeadNext bool          `json:"dead_next,omitempty"` // after the last try the message goes to the dead-letter queue
}

// Pause is the time to the next try: at least and at most.
type Pause struct {
	Least time.Duration `json:"least"`
	Most  time.Duration `json:"most"`
}

// after is the pause after try number n, from 1.
func (s *Schedule) after(n int) Pause { return s.Pauses[min(max(n, 1), len(s.Pauses))-1] }

// push is what is known of one subscription that pushes.
type push struct {
	queue    string
	schedule *Schedule
	delivers []*Op                   // by call
	tries    map[cmq.Handle][]*Op    // Delivers of a handle
	written  map[cmq.Handle][]*Op    // Deletes and Relocks of a handle, whatever came of them
	received map[cmq.Handle]*receipt // what was given out under the handle
}

type receipt struct {
	op *Op
	d  *Delivery
}

// pushes judges all subscriptions that push.
func (c *checker) pushes() {
	byQueue := map[string]*push{}
	var all []*push
	for _, op := range c.h.Ops {
		if op.Kind == Set && op.Settings.Schedule != nil && byQueue[op.Queue] == nil {
			p := &push{queue: op.Queue, schedule: op.Settings.Schedule, tries: map[cmq.Handle][]*Op{}, written: map[cmq.Handle][]*Op{}, received: map[cmq.Handle]*receipt{}}
			byQueue[op.Queue], all = p, append(all, p)
		}
	}
	for _, op := range c.h.Ops {
		if p := byQueue[op.Queue]; p != nil && op.Phase != PhaseDrain {
			p.index(op)
		}
	}
	for _, p := range all {
		slices.SortStableFunc(p.delivers, func(a, b *Op) int { return int(a.Call - b.Call) })
		for _, op := range p.delivers {
			c.tried(p, op)
		}
		for _, op := range c.h.Ops {
			if op.Queue == p.queue && op.Phase != PhaseDrain {
				c.wrote(p, op)
			}
		}
		c.inOrder(p)
	}
}

func (p *push) index(op *Op) {
	switch op.Kind {
	case Deliver:
		if len(op.Handles) == 1 {
			p.delivers = append(p.delivers, op)
			p.tries[op.Handles[0]] = append(p.tries[op.Handles[0]], op)
		}
	case Delete, Relock:
		for _, h := range op.Handles {
			p.written[h] = append(p.written[h], op)
		}
	case Receive:
		for i := range op.Messages {
			p.received[op.Messages[i].Handle] = &receipt{op, &op.Messages[i]}
		}
	}
}

// tried checks one try at the endpoint (D2, D4).
func (c *checker) tried(p *push, op *Op) {
	h := op.Handles[0]
	r := p.received[h]
	if r == nil {
		c.broken("D2", "%s: try %d at the endpoint is with handle %d, which nobody was given", p.queue, op.ID, h)
		return
	}
	if op.Try != r.d.Count || len(op.IDs) != 1 || op.IDs[0] != r.d.ID || len(op.Bodies) != 1 || op.Bodies[0] != r.d.Body {
		c.broken("D2", "%s: the endpoint was told of messages %v as try %d (%d), but receive %d gave out message %d with count %d", p.queue, op.IDs, op.Try, op.ID, r.op.ID, r.d.ID, r.d.Count)
	}
	if op.Heard == 0 {
		return
	}
	want := "delete or relock"
	if op.Outcome == OK {
		want = "delete"
	}
	if !slices.ContainsFunc(p.written[h], func(w *Op) bool { return w.Call >= op.Heard && (w.Kind == Delete || op.Outcome != OK) }) {
		c.broken("D4", "%s: the answer to try %d of message %d (%s) arrived at %v, and no %s was asked for", p.queue, op.Try, r.d.ID, op.Outcome, op.Heard, want)
	}
}

// wrote checks what was asked to be written down of a try (D1, D3).
func (c *checker) wrote(p *push, op *Op) {
	if op.Kind != Delete && op.Kind != Relock || len(op.Handles) != 1 {
		return
	}
	r := p.received[op.Handles[0]]
	if r == nil {
		return // the rules of handles see to that
	}
	last := r.d.Count >= p.schedule.Tries
	if op.Kind == Relock {
		c.paused(p, op, r, last)
		return
	}
	for _, try := range p.tries[op.Handles[0]] {
		if try.Outcome == OK && try.Return <= op.Call {
			return
		}
	}
	if !last || p.schedule.DeadNext {
		c.broken("D1", "%s: message %d was called delivered by delete %d at %v, and its endpoint had not taken it at try %d of %d",
			p.queue, r.d.ID, op.ID, op.Call, r.d.Count, p.schedule.Tries)
	}
}

// paused checks the pause that was arranged after a try.
func (c *checker) paused(p *push, op *Op, r *receipt, last bool) {
	s := p.schedule
	if op.Lock == s.Lock {
		return // the try goes on
	}
	if last {
		if !s.DeadNext || op.Lock != 0 {
			c.broken("D3", "%s: relock %d arranged a try after the last one, %d, of message %d", p.queue, op.ID, r.d.Count, r.d.ID)
		}
		return
	}
	pause := s.after(r.d.Count)
	if s.FromTry {
		pause.Least = max(pause.Least-(op.Call-r.op.Return), s.Rest)
	}
	for _, try := range p.tries[op.Handles[0]] {
		pause.Most = max(pause.Most, try.After)
	}
	if op.Lock < pause.Least-s.Slack || op.Lock > pause.Most+s.Slack {
		c.broken("D3", "%s: after try %d of message %d, relock %d arranged a pause of %v; the schedule wants %v to %v",
			p.queue, r.d.Count, r.d.ID, op.ID, op.Lock, pause.Least, pause.Most)
	}
}

// inOrder checks D5. A try that reached the endpoint after its lock had ended proves nothing: nobody can hold up what is on
// its way.
func (c *checker) inOrder(p *push) {
	if !p.schedule.InOrder {
		return
	}
	var newest cmq.MsgID
	for _, op := range p.delivers {
		d := c.byHandle[handleKey{p.queue, op.Handles[0]}]
		if d == nil || op.Call >= d.heldUntil()-c.ahead(d.op.Call, op.Call) {
			continue
		}
		if d.ID < newest {
			c.broken("D5", "%s: message %d was tried at %v (%d), after message %d", p.queue, d.ID, op.Call, op.ID, newest)
		}
		newest = max(newest, d.ID)
	}
}
