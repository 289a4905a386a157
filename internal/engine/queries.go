package engine

import (
	"slices"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/set"
)

// asks is what the leader knows of those who carry its questions about prepared messages to the producers: the doors of
// all nodes that have producers of the shard's queue keep a call parked here, as consumers do for messages. A query is
// counted in the log before it goes out, and none is counted while there is nobody to carry it.
type asks struct {
	parked []*Call // oldest first
	out    bool    // queries are queued or on their way; the next ones wait for it
	at     int64   // alarm

	undecided   int64 // messages, when last looked
	undecidedAt int64 // alarm for more
	quietUntil  int64 // no log line about it before
}

// idle reports whether there is nothing to remember.
func (a *asks) idle() bool {
	return a == nil || len(a.parked) == 0 && !a.out && a.at == 0 && a.undecided == 0 && a.undecidedAt == 0
}

// asks gives what the view has about queries; nil if there is nothing.
func (s *shard) asks() *asks {
	if s.more == nil {
		return nil
	}
	return s.more.asks
}

// makeAsks gives it to be changed.
func (s *shard) makeAsks() *asks {
	b := s.busy()
	if b.asks == nil {
		b.asks = new(asks)
	}
	return b.asks
}

// undecided counts the shard's undecided messages as they were when last looked.
func (s *shard) undecided() int64 {
	if a := s.asks(); a != nil {
		return a.undecided
	}
	return 0
}

// maxAsks is how many queries go out with one call.
const maxAsks = 64

// queries takes a call that waits for queries.
func (m *Machine) queries(c *Call) {
	if !m.b.Has(c.req.Shard) {
		m.enqueue(c) // it may just not be applied yet
		return
	}
	if wait := c.req.Wait.Milliseconds(); wait > 0 {
		c.until = m.now + wait
	}
	m.parkAsk(m.shard(c.req.Shard), c)
}

// parkAsk lets a call wait for queries, until its time is up.
func (m *Machine) parkAsk(s *shard, c *Call) {
	a := s.makeAsks()
	c.parked = true
	a.parked = append(a.parked, c)
	m.ask(s)
	switch {
	case !c.parked:
	case c.until <= m.now:
		m.unpark(c)
		c.finish(&Result{}, nil)
	default:
		m.alarms.set(c.until, func(int64) {
			if c.parked && c.done != nil {
				m.unpark(c)
				c.finish(&Result{}, nil)
			}
		})
	}
}

// ask queues the queries that are due, if there is somebody to carry them, or sets the alarm for the next.
func (m *Machine) ask(s *shard) {
	a := s.asks()
	if a == nil || len(a.parked) == 0 || a.out || m.space >= set.SpaceHard {
		return
	}
	c, ids := m.pair(s)
	if c != nil {
		c.ids, a.out = ids, true
		m.unpark(c)
		m.enqueue(c)
		return
	}
	at := m.b.NextAsk(s.id)
	if at == 0 || a.at != 0 && a.at <= at {
		return
	}
	a.at = at
	m.alarms.set(at, func(int64) {
		if a.at == at {
			a.at = 0
		}
		if m.shards[s.id] == s {
			m.ask(s)
			s.calm()
		}
	})
}

// pair chooses a call and the queries to answer it with: those of producers at the caller's node, and those of
// producers whose own node does not ask.
func (m *Machine) pair(s *shard) (c *Call, ids []cmq.MsgID) {
	parked := s.more.asks.parked
	at := func(node cmq.NodeID) int {
		return slices.IndexFunc(parked, func(c *Call) bool { return c.req.Origin.Node == node })
	}
	looked := 0
	m.b.Asks(s.id, m.now, func(id cmq.MsgID, origin cmq.Origin) bool {
		own := at(origin.Node)
		if c == nil {
			c = parked[max(own, 0)]
		}
		if own < 0 || origin.Node == c.req.Origin.Node {
			ids = append(ids, id)
		}
		looked++
		return looked < maxAsks && len(ids) < c.req.Max
	})
	return c, ids
}

// completeQueries hands the queries over. If all the messages were decided meanwhile, the call waits on.
func (m *Machine) completeQueries(c *Call, queries []cmq.Query) {
	s := m.shards[c.req.Shard]
	if s != nil && s.asks() != nil {
		s.more.asks.out = false
		s.calm()
	}
	switch {
	case len(queries) > 0:
		m.stats.Asked.Add(uint64(len(queries)))
		c.finish(&Result{Reply: cmq.Reply{Queries: slices.Clone(queries)}}, nil)
	case c.gone || c.until <= m.now:
		c.finish(&Result{}, nil)
	case !m.leading || s == nil:
		c.finish(nil, &cmq.NotLeaderError{Set: m.cfg.Set})
	default:
		m.parkAsk(s, c)
	}
}

// decide queues decisions. What is committed will be receivable at once.
func (m *Machine) decide(c *Call) {
	m.enqueue(c)
	s := m.shard(c.req.Shard)
	s.sends += commits(c.req)
	m.feed(s)
}

func commits(req *cmq.Request) (n int64) {
	for _, d := range req.Decisions {
		if d.Commit {
			n++
		}
	}
	return n
}

func (m *Machine) completeDecide(c *Call, errs []*cmq.Error) {
	if s := m.shards[c.req.Shard]; s != nil {
		s.sends -= commits(c.req)
	}
	for i, e := range errs {
		switch {
		case e != nil:
		case c.req.Decisions[i].Commit:
			m.stats.Committed.Add(1)
		default:
			m.stats.RolledBack.Add(1)
		}
	}
}

// alarmPause is the least time between two log lines about one shard's undecided messages, in milliseconds.
const alarmPause = 10_000

// watchUndecided counts the shard's undecided messages, says so when there are more, and looks again when time will have
// made more of them.
func (m *Machine) watchUndecided(s *shard) {
	before := s.undecided()
	if m.b.Held() == 0 && before == 0 {
		return
	}
	all, undecided := m.b.Prepared(s.id, m.now)
	if all == 0 && before == 0 {
		return
	}
	a := s.makeAsks()
	defer s.calm()
	m.stats.Undecided.Add(undecided - before)
	if a.undecided = undecided; undecided > before {
		m.cfg.Logger.Warn("prepared messages are undecided: their producers were asked as often as the queue allows, and did not answer; list them with cmq queue undecided, and decide with cmq queue decide",
			"set", m.cfg.Set, "queue", s.id.Queue(), "shard", s.id, "undecided", undecided, "prepared", all)
		a.quietUntil = m.now + alarmPause
	}
	at := m.b.NextUndecided(s.id, m.now)
	if at == 0 || a.undecidedAt != 0 && a.undecidedAt <= max(at, a.quietUntil) {
		return
	}
	at = max(at, a.quietUntil)
	a.undecidedAt = at
	m.alarms.set(at, func(int64) {
		if a.undecidedAt == at && m.shards[s.id] == s {
			a.undecidedAt = 0
			m.watchUndecided(s)
		}
	})
}
