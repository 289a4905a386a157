package check

import (
	"sort"
	"time"
)

// locks checks consecutive deliveries of one message from one queue: exclusivity of the lock (I5), stale handles (I6)
// and that a delete is final (I7). Handles grow with every delivery, so their order is the order of the deliveries.
func (c *checker) locks(m *message) {
	for i, d := range m.deliveries {
		if i+1 == len(m.deliveries) || m.deliveries[i+1].op.Queue != d.op.Queue {
			continue
		}
		next := m.deliveries[i+1]
		q := c.queue(d.op.Queue)
		revived := (d.deleted != nil || d.maybe != nil) && q.rewoundSince(d.op.Call, d.Enqueued)
		if d.released == nil && !revived {
			c.exclusive(d, next)
		}
		if d.deleted != nil {
			c.final(d, next, q)
		}
	}
}

// exclusive checks I5 by true time, and exactly by cluster time.
func (c *checker) exclusive(d, next *delivery) {
	if d.op.Lock == 0 {
		return
	}
	earliest := d.heldUntil() - c.ahead(d.op.Call, next.op.Return)
	if next.op.Return < earliest {
		c.broken("I5", "%s: message %d was received by client %d at %v (receive %d) while client %d held its lock of %v since %v (receive %d), changed %d times, until %v",
			d.op.Queue, d.ID, next.op.Client, next.op.Return, next.op.ID, d.op.Client, d.op.Lock, d.op.Call, d.op.ID, len(d.relocks), earliest)
		return
	}
	if len(d.relocks) == 0 && next.op.Lock > 0 && next.Until-next.op.Lock.Milliseconds() < d.Until {
		c.broken("I5", "%s: message %d was delivered again at cluster time %d (receive %d), before the lock of receive %d ended at %d",
			d.op.Queue, d.ID, next.Until-next.op.Lock.Milliseconds(), next.op.ID, d.op.ID, d.Until)
	}
}

// heldUntil is the moment up to which the lock surely held, if nobody deleted or released the message: the end that the
// receive or a confirmed change asked for, unless a change that may have come later asked for an earlier one.
func (d *delivery) heldUntil() time.Duration {
	end := func(op *Op) time.Duration { return op.Call + op.Lock - Eps(op.Lock) }
	least := func(of *Op) time.Duration {
		at := end(of)
		for _, op := range d.relocks {
			if op != of && op.Return > of.Call {
				at = min(at, end(op))
			}
		}
		return at
	}
	until := least(d.op)
	for _, op := range d.relocks {
		if op.Outcome == OK {
			until = max(until, least(op))
		}
	}
	return until
}

// final checks what may follow a delivery whose delete was confirmed. If the later delivery was known before the
// delete was called, the handle was old and should have been refused; otherwise the delete did not hold.
func (c *checker) final(d, next *delivery, q *queue) {
	if q.rewoundSince(d.deleted.Call, d.Enqueued) {
		return
	}
	if next.op.Return < d.deleted.Call {
		c.broken("I6", "%s: delete %d with handle %d of receive %d was accepted, although message %d had been delivered again by receive %d",
			d.op.Queue, d.deleted.ID, d.Handle, d.op.ID, d.ID, next.op.ID)
		return
	}
	c.broken("I7", "%s: message %d, deleted by delete %d at %v, was delivered again by receive %d at %v",
		d.op.Queue, d.ID, d.deleted.ID, d.deleted.Return, next.op.ID, next.op.Return)
}

// counts checks that dequeue counts rise by one, with gaps only for receives whose answer got lost, and stay within
// the dead-letter policy (I8).
func (c *checker) counts(m *message) {
	for i, d := range m.deliveries {
		q := c.queue(d.op.Queue)
		lost := q.infoBefore(d.op.Return)
		least, most := 1, 1+lost
		if i > 0 && m.deliveries[i-1].op.Queue == d.op.Queue {
			before := m.deliveries[i-1]
			least, most = before.Count+1, before.Count+1+lost
			if before.released != nil {
				least = before.Count
			}
			gone := before.deleted != nil || before.maybe != nil || q.deadLetters()
			if gone && q.rewoundSince(before.op.Call, d.Enqueued) {
				least = 1
			}
		}
		if d.Count < least || d.Count > most {
			c.broken("I8", "%s: message %d has dequeue count %d at receive %d; expected %d to %d", d.op.Queue, d.ID, d.Count, d.op.ID, least, most)
		}
		if n := q.maxReceives(); n > 0 && d.Count > n {
			c.broken("I8", "%s: message %d was delivered %d times; the policy allows %d", d.op.Queue, d.ID, d.Count, n)
		}
	}
}

// infoBefore is how many receives without an answer were called before t: each may have raised the count once.
func (q *queue) infoBefore(t time.Duration) int {
	return sort.Search(len(q.infoReceives), func(i int) bool { return q.infoReceives[i] >= t })
}

// maxReceives is the largest number of deliveries the policy ever allowed, 0 if there was a time without one.
func (q *queue) maxReceives() int {
	most := 0
	for _, s := range q.settings {
		if s.Settings.MaxReceives == 0 {
			return 0
		}
		most = max(most, s.Settings.MaxReceives)
	}
	return most
}

// handles checks that a delete or relock within the lock, with the only handle there is, is not refused (I6). A delete or release
// with the same handle that was called before this one returned may have come first.
func (c *checker) handles() {
	users := map[handleKey][]*Op{}
	for _, op := range c.h.Ops {
		if (op.Kind == Delete || op.Kind == Release) && op.Outcome != Fail {
			for _, h := range op.Handles {
				users[handleKey{op.Queue, h}] = append(users[handleKey{op.Queue, h}], op)
			}
		}
	}
	for _, op := range c.h.Ops {
		if op.Kind != Delete && op.Kind != Relock || op.Outcome != OK {
			continue
		}
		for i, h := range op.Handles {
			key := handleKey{op.Queue, h}
			if i < len(op.Done) && !op.Done[i] && !contested(op, users[key]) {
				c.refused(op, c.byHandle[key])
			}
		}
	}
}

func contested(del *Op, users []*Op) bool {
	for _, op := range users {
		if op != del && op.Call < del.Return {
			return true
		}
	}
	return false
}

func (c *checker) refused(del *Op, d *delivery) {
	if d == nil || d.op.Lock == 0 || d.released != nil {
		return
	}
	q := c.queue(del.Queue)
	ahead := c.ahead(d.op.Call, del.Return)
	inTime := del.Return < d.heldUntil()-ahead
	shortest, _ := q.retention()
	age := del.Return - d.op.Call + ahead + time.Duration(d.Until-d.op.Lock.Milliseconds()-d.Enqueued)*time.Millisecond
	if !inTime || q.clearedSince(d.op.Call) || shortest > 0 && age >= shortest-Eps(shortest) {
		return
	}
	c.broken("I6", "%s: %s %d with the handle of receive %d was refused %v after the receive began; the lock lasts %v",
		del.Queue, del.Kind, del.ID, d.op.ID, del.Return-d.op.Call, d.heldUntil()-d.op.Call)
}
