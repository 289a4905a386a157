package check

// decided is what one Decide says of one message.
type decided struct {
	op     *Op
	commit bool
	done   bool // it was carried out, and was the first to be
}

// indexDecisions notes at the messages what was decided about them. What failed never happened.
func (c *checker) indexDecisions(op *Op) {
	if op.Outcome == Fail {
		return
	}
	for i, d := range op.Decisions {
		m := c.byID[messageKey{c.scope(op.Queue), d.ID}]
		done := op.Outcome == OK && i < len(op.Done) && op.Done[i]
		switch {
		case m == nil && c.queue(op.Queue).infoPrepares > 0:
			m = c.message(op.Queue, d.ID) // the answer with the id was lost, but its producer was asked about it
			m.decisions = append(m.decisions, decided{op, d.Commit, done})
		case m == nil && done:
			c.broken("T2", "%s: decide %d: message %d, which nobody prepared, was decided", op.Queue, op.ID, d.ID)
		case m != nil:
			m.decisions = append(m.decisions, decided{op, d.Commit, done})
		}
	}
}

// sent is the operation with which the message became visible to consumers for sure, nil if that is not known: the send, or
// what committed it.
func (m *message) sent() *Op {
	if m.op == nil || m.op.Kind != Prepare {
		return m.op
	}
	for _, d := range m.decisions {
		if d.commit && d.done {
			return d.op
		}
	}
	return nil
}

// transaction checks the rules T1 to T3 for one message.
func (c *checker) transaction(m *message) {
	prepare := m.op
	if prepare == nil && len(m.deliveries) > 0 {
		if s := c.bodyOf(m.deliveries[0]); s != nil { // the answer with the id got lost
			prepare = s.op
		}
	}
	if prepare == nil || prepare.Kind != Prepare {
		return
	}
	var first *decided
	for i := range m.decisions {
		d := &m.decisions[i]
		switch {
		case !d.done:
			c.undecidedLost(m, d)
		case first != nil:
			c.broken("T2", "%s: message %d was decided by %d and again by %d", d.op.Queue, m.id, first.op.ID, d.op.ID)
		default:
			first = d
		}
	}
	for _, d := range m.deliveries {
		c.deliverable(m, d, first)
	}
}

// deliverable checks that a delivery came after a commit that may have been carried out.
func (c *checker) deliverable(m *message, d *delivery, first *decided) {
	if first != nil && !first.commit {
		c.broken("T2", "%s: message %d was rolled back by decide %d and delivered by receive %d", d.op.Queue, m.id, first.op.ID, d.op.ID)
		return
	}
	for _, by := range m.decisions {
		if by.commit && (by.done || by.op.Outcome == Info) && by.op.Call <= d.op.Return {
			return
		}
	}
	c.broken("T1", "%s: message %d was delivered by receive %d, but nobody had committed it", d.op.Queue, m.id, d.op.ID)
}

// undecidedLost checks a decision that was refused: somebody else must have decided, or a clear ended the message.
func (c *checker) undecidedLost(m *message, refused *decided) {
	if refused.op.Outcome != OK || m.op == nil || refused.op.Call < m.op.Return || c.queue(m.op.Queue).clearedSince(m.op.Call) {
		return
	}
	for i := range m.decisions {
		if d := &m.decisions[i]; d != refused && (d.done || d.op.Outcome == Info) && d.op.Call < refused.op.Return {
			return
		}
	}
	c.broken("T3", "%s: message %d, prepared by %d, was unknown to decide %d at %v, although nobody had decided about it",
		m.op.Queue, m.id, m.op.ID, refused.op.ID, refused.op.Call)
}
