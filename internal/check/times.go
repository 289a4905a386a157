package check

import "time"

// delay checks that no delivery came before the delay was over, by true time and exactly by cluster time (I10),
// and none long after the retention (I24).
func (c *checker) delay(m *message) {
	for _, d := range m.deliveries {
		s := c.bodyOf(d)
		if s == nil || s.op.Queue != d.op.Queue {
			continue
		}
		wait := s.op.Delay
		if earliest := s.op.Call + wait - Eps(wait) - c.ahead(s.op.Call, d.op.Return); d.op.Return < earliest {
			c.broken("I10", "%s: message %d, sent at %v with a delay of %v, was received at %v (receive %d)", d.op.Queue, d.ID, s.op.Call, wait, d.op.Return, d.op.ID)
		}
		if d.op.Lock == 0 {
			continue
		}
		at := d.Until - d.op.Lock.Milliseconds()
		if at < d.Enqueued+wait.Milliseconds() {
			c.broken("I10", "%s: message %d, stored at cluster time %d with a delay of %v, was delivered at %d (receive %d)", d.op.Queue, d.ID, d.Enqueued, wait, at, d.op.ID)
		}
		_, longest := c.queue(d.op.Queue).retention()
		if age := time.Duration(at-d.Enqueued) * time.Millisecond; longest > 0 && age > longest+scanSlack {
			c.broken("I24", "%s: message %d was delivered at the age of %v (receive %d); the retention is %v", d.op.Queue, d.ID, age, d.op.ID, longest)
		}
	}
}

// rewinds checks that a message whose delete was confirmed before a rewind that covers it is delivered again (I12).
func (c *checker) rewinds(m *message) {
	sent := m.sent()
	if sent == nil || sent.Outcome != OK {
		return
	}
	q := c.queue(m.op.Queue)
	if len(q.rewinds) == 0 || q.drainEnd == 0 || c.mayHaveExpired(sent, q) {
		return
	}
	for _, d := range m.deliveries {
		if d.deleted == nil || d.op.Queue != q.name {
			continue
		}
		for _, rw := range q.rewinds {
			if rw.Outcome != OK || rw.Call <= d.deleted.Return || rw.To > d.Enqueued || !c.inWindow(sent, rw, q) || q.clearedSince(d.op.Call) {
				continue
			}
			if !m.deliveredAfter(d) {
				c.broken("I12", "%s: message %d, stored at cluster time %d and deleted by delete %d, did not come back after the rewind %d to %d",
					q.name, m.id, d.Enqueued, d.deleted.ID, rw.ID, rw.To)
				return
			}
		}
	}
}

// deliveredAfter tells whether the message was delivered again after d, from its own queue or as a dead letter.
func (m *message) deliveredAfter(d *delivery) bool {
	for _, other := range m.deliveries {
		if other.op.Queue != d.op.Queue || other.Handle > d.Handle {
			return true
		}
	}
	return false
}

// inWindow tells whether the message was surely rewindable when the rewind was carried out: every setting since the
// queue was made kept deleted messages, and for long enough.
func (c *checker) inWindow(send, rw *Op, q *queue) bool {
	if len(q.settings) == 0 {
		return false
	}
	shortest := q.settings[0].Settings.Rewind
	for _, s := range q.settings {
		shortest = min(shortest, s.Settings.Rewind)
	}
	age := rw.Return - send.Call + c.ahead(send.Call, rw.Return)
	return shortest > 0 && age < shortest-Eps(shortest)
}

// quiet checks the counters: never negative, and at rest nothing is locked or delayed (I11) and as much is
// active as the drain then finds (I14).
func (c *checker) quiet() {
	for _, name := range c.names {
		q := c.queues[name]
		for _, op := range q.statuses {
			n := op.Counts
			if n.Active < 0 || n.Inactive < 0 || n.Delayed < 0 || n.Rewindable < 0 {
				c.broken("I14", "%s: status %d shows a negative count: %+v", q.name, op.ID, *n)
			}
			if op.Phase != PhaseQuiet {
				continue
			}
			if n.Inactive != 0 || n.Delayed != 0 {
				c.broken("I11", "%s: all locks and delays are over, but status %d shows %d locked and %d delayed", q.name, op.ID, n.Inactive, n.Delayed)
			}
			if q.drainEnd > 0 && c.steady(q) && n.Active != int64(q.drained) {
				c.broken("I14", "%s: status %d shows %d active messages, the drain found %d", q.name, op.ID, n.Active, q.drained)
			}
		}
	}
}

// steady tells whether nothing can leave or enter the queue by time alone between the last status and the drain's end.
func (c *checker) steady(q *queue) bool {
	shortest, _ := q.retention()
	if shortest > 0 && q.drainEnd+c.ahead(0, q.drainEnd) >= shortest-Eps(shortest) {
		return false
	}
	for _, op := range c.h.Ops {
		if op.Kind == Decide && op.Queue == q.name && op.Phase == PhaseDrain {
			return false
		}
	}
	for _, other := range c.queues {
		for _, s := range other.settings {
			if s.Settings.MaxAge > 0 && (other == q || s.Settings.DeadLetter == q.name) {
				return false
			}
		}
	}
	return true
}
