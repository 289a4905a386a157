package check

import (
	"sort"
	"time"

	"github.com/opencmq/cmq/internal/cmq"
)

// sends checks the order of ids: of two sends to one queue, one after the other, the later has the larger ids (I4).
// Ids carry the set's log index, so this holds within a set, and a queue of these histories lives in one set.
func (c *checker) sends() {
	type edge struct {
		at   time.Duration
		call bool
		op   *Op
	}
	byQueue := map[string][]edge{}
	for _, op := range c.h.Ops {
		if (op.Kind == Send || op.Kind == Prepare) && op.Outcome == OK {
			byQueue[op.Queue] = append(byQueue[op.Queue], edge{op.Call, true, op}, edge{op.Return, false, op})
		}
	}
	for _, name := range c.names {
		edges := byQueue[name]
		sort.SliceStable(edges, func(i, j int) bool {
			return edges[i].at < edges[j].at || edges[i].at == edges[j].at && edges[i].call && !edges[j].call
		})
		var returned cmq.MsgID // largest id of the sends that have returned
		floor := map[*Op]cmq.MsgID{}
		for _, e := range edges {
			if e.call {
				floor[e.op] = returned
				continue
			}
			for _, id := range e.op.IDs {
				if id <= floor[e.op] {
					c.broken("I4", "%s: send %d got id %d although id %d had been given out before it began", e.op.Queue, e.op.ID, id, floor[e.op])
				}
				returned = max(returned, id)
			}
		}
	}
}

// bodyOf is what is known of the body of a delivery; nil: nobody sent it.
func (c *checker) bodyOf(d *delivery) *sent { return c.byBody[bodyKey{c.scope(d.op.Queue), d.Body}] }

// identity checks that every delivery is of a message somebody sent, unchanged, in the right queue (I2, I3).
func (c *checker) identity(m *message) {
	for _, d := range m.deliveries {
		s := c.bodyOf(d)
		switch {
		case s == nil:
			c.broken("I2", "%s: receive %d got message %d with a body nobody sent: %.16q", d.op.Queue, d.op.ID, d.ID, d.Body)
			continue
		case s.op.Outcome == Fail:
			c.broken("I3", "%s: receive %d got %.16q, whose send %d was refused", d.op.Queue, d.op.ID, d.Body, s.op.ID)
			continue
		case s.id == 0:
			s.id = d.ID
		case s.id != d.ID && s.op.Session:
			c.broken("S1", "%s: receive %d got body %.16q under id %d, but it was stored with id %d", d.op.Queue, d.op.ID, d.Body, d.ID, s.id)
		case s.id != d.ID:
			c.broken("I2", "%s: receive %d got body %.16q under id %d, but it has id %d", d.op.Queue, d.op.ID, d.Body, d.ID, s.id)
		}
		if d.op.Queue != s.op.Queue && !c.queue(s.op.Queue).leadsTo(d.op.Queue) {
			c.broken("I2", "message %d, sent to %s, came out of %s", d.ID, s.op.Queue, d.op.Queue)
		}
		if s.op.Call > d.op.Return {
			c.broken("I2", "%s: message %d was received before it was sent", d.op.Queue, d.ID)
		}
	}
}

func (q *queue) leadsTo(deadLetter string) bool {
	for _, s := range q.settings {
		if s.Settings.DeadLetter == deadLetter {
			return true
		}
	}
	return false
}

// loss checks that a confirmed message was deleted, seen in the drain, cleared or has outlived its retention (I1).
func (c *checker) loss(m *message) {
	sent := m.sent()
	if sent == nil {
		return
	}
	q := c.queue(m.op.Queue)
	if q.drainEnd == 0 || q.clearedSince(m.op.Call) || c.mayHaveExpired(sent, q) {
		return
	}
	last := ""
	for _, d := range m.deliveries {
		if d.deleted != nil || d.maybe != nil || d.op.Phase == PhaseDrain {
			return
		}
		dq := c.queue(d.op.Queue)
		if dq.clearedSince(d.op.Call) || c.mayHaveExpired(sent, dq) {
			return
		}
		last = d.op.Queue
	}
	for _, s := range q.settings {
		if dq := s.Settings.DeadLetter; dq != "" && c.queue(dq).clearedSince(m.op.Call) {
			return
		}
	}
	place := "middle: others before and after it are there"
	switch {
	case q.drained == 0:
		place = "the drain found nothing at all"
	case m.id < q.minID:
		place = "prefix: older than all that are left"
	case m.id > q.maxID:
		place = "postfix: younger than all that are left"
	}
	if last != "" {
		place += "; it was delivered but never deleted, last from " + last
	}
	c.broken("I1", "%s: confirmed message %d (%.16q, send %d at %v) is lost (%s)", m.op.Queue, m.id, m.body, m.op.ID, m.op.Call, place)
}

// mayHaveExpired tells whether the message could be past the retention before the drain was over.
func (c *checker) mayHaveExpired(send *Op, q *queue) bool {
	shortest, _ := q.retention()
	age := q.drainEnd - send.Call + c.ahead(send.Call, q.drainEnd)
	return shortest > 0 && age >= shortest-Eps(shortest)
}

// places checks that a message is in one queue only: once it came out of the dead-letter queue it does not come out
// of its own again (I9).
func (c *checker) places(m *message) {
	if len(m.deliveries) < 2 || m.deliveries[0].op.Queue == m.deliveries[len(m.deliveries)-1].op.Queue {
		return
	}
	s := c.bodyOf(m.deliveries[0])
	if s == nil {
		return
	}
	own := c.queue(s.op.Queue)
	for _, dead := range m.deliveries {
		if dead.op.Queue == own.name || own.rewoundSince(s.op.Call, dead.Enqueued) {
			continue
		}
		for _, d := range m.deliveries {
			if d.op.Queue != own.name {
				continue
			}
			if d.op.Call > dead.op.Return || d.deleted != nil {
				c.broken("I9", "message %d came out of %s (receive %d, deleted %t) and of %s (receive %d)",
					m.id, own.name, d.op.ID, d.deleted != nil, dead.op.Queue, dead.op.ID)
				return
			}
		}
	}
}
