package engine

import (
	"math"
	"slices"

	"github.com/opencmq/cmq/internal/cmq"
)

// sweepInterval is the least time between two sweeps of one shard, in milliseconds.
const sweepInterval = 1000

// shard is the leader's view of one shard: who waits, what is on its way, when to look again. Every shard has one, so it is
// small.
type shard struct {
	id    cmq.ShardID
	more  *busy // nil: everything in it is zero
	sends int64 // messages in entries or queue that will be receivable at once
	takes int64 // messages that receives in entries or queue will take

	marksAt int64 // when retention, rewind window or age have something to do; math.MaxInt64: never
	sweepAt int64 // alarm for that
	swept   int64 // when the newest sweep was queued
	sweep   bool  // a sweep is queued or on its way
}

// busy is what the view of a shard has beside, if somebody waits or references are read.
type busy struct {
	parked []*Call // polls waiting for a message, oldest first
	wakeAt int64   // alarm for them

	lane    int64   // where the next look at the delayed lanes goes on, if they are too many for one
	loading bool    // references are being read
	vague   bool    // the marks that are due are not known until then
	aside   []*Call // waiting for them

	asks *asks // nil: nobody waits for queries, and nothing is undecided
}

// busy gives what the view has beside, to be changed.
func (s *shard) busy() *busy {
	if s.more == nil {
		s.more = new(busy)
	}
	return s.more
}

// calm lets go of what the view has beside, if nothing is in it.
func (s *shard) calm() {
	if b := s.more; b != nil && len(b.parked)+len(b.aside) == 0 && b.wakeAt == 0 && b.lane == 0 && !b.loading && !b.vague && b.asks.idle() {
		s.more = nil
	}
}

// parks counts the polls that wait for a message.
func (s *shard) parks() int {
	if s.more == nil {
		return 0
	}
	return len(s.more.parked)
}

// calls lists the calls that wait, for whatever.
func (s *shard) calls() []*Call {
	if s.more == nil {
		return nil
	}
	list := slices.Concat(s.more.parked, s.more.aside)
	if s.more.asks != nil {
		list = append(list, s.more.asks.parked...)
	}
	return list
}

// unpark takes out the poll that waits for longest.
func (b *busy) unpark() *Call {
	c := b.parked[0]
	b.parked = b.parked[1:]
	c.parked = false
	return c
}

// putAside lets a call wait for references.
func (s *shard) putAside(c *Call) {
	c.tries++
	b := s.busy()
	b.aside = append(b.aside, c)
}

func (m *Machine) shard(id cmq.ShardID) *shard {
	s := m.shards[id]
	if s == nil {
		s = &shard{id: id}
		m.shards[id] = s
	}
	return s
}

// dropView forgets a dropped shard; its polls hear that the queue is gone.
func (m *Machine) dropView(id cmq.ShardID) {
	s := m.shards[id]
	if s == nil {
		return
	}
	delete(m.shards, id)
	m.stats.Undecided.Add(-s.undecided())
	for _, c := range s.calls() {
		c.refuse(cmq.ErrQueueNotExist)
	}
}

func sortedShards(shards map[cmq.ShardID]*shard) []cmq.ShardID {
	ids := make([]cmq.ShardID, 0, len(shards))
	for id := range shards {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// ready is how many messages a receive cut now would find, as far as can be told.
func (m *Machine) ready(s *shard) int64 {
	return m.b.Ready(s.id, m.now) + s.sends - s.takes
}

// feed queues parked polls for the messages that are ready.
func (m *Machine) feed(s *shard) {
	if s.parks() == 0 || m.refuses(cmq.KindReceive) {
		return
	}
	ready := m.ready(s)
	for ready > 0 && s.parks() > 0 {
		c := s.more.unpark()
		if c.done == nil {
			continue
		}
		m.take(s, c, ready)
		ready -= int64(c.taken)
	}
	m.watch(s)
}

// take queues a receive and counts what it will take.
func (m *Machine) take(s *shard, c *Call, ready int64) {
	c.taken = int(min(int64(c.req.Max), ready))
	s.takes += int64(c.taken)
	m.enqueue(c)
}

func (m *Machine) untake(c *Call) {
	if s := m.shards[c.req.Shard]; s != nil && m.leading {
		s.takes -= int64(c.taken)
	}
	c.taken = 0
}

// watch sets the alarm for the moment the passing of time makes something ready for a parked poll.
func (m *Machine) watch(s *shard) {
	if s.parks() == 0 {
		return
	}
	b := s.more
	at := m.b.NextWake(s.id, m.now)
	if at == 0 || b.wakeAt != 0 && b.wakeAt <= max(at, m.now+1) {
		return
	}
	at = max(at, m.now+1)
	b.wakeAt = at
	m.alarms.set(at, func(int64) {
		if b.wakeAt == at {
			b.wakeAt = 0
		}
		m.feed(s)
		s.calm()
	})
}

func (m *Machine) park(s *shard, c *Call) {
	c.parked = true
	b := s.busy()
	b.parked = append(b.parked, c)
	m.alarms.set(c.until, func(int64) {
		if c.parked && c.done != nil {
			m.unpark(c)
			c.finish(&Result{}, nil)
		}
	})
	m.watch(s)
}

func (m *Machine) unpark(c *Call) {
	c.parked = false
	s := m.shards[c.req.Shard]
	if s == nil || s.more == nil {
		return
	}
	list := &s.more.parked
	if c.req.Kind == cmq.KindQueries {
		list = &s.more.asks.parked
	}
	if i := slices.Index(*list, c); i >= 0 {
		*list = slices.Delete(*list, i, i+1)
		s.calm()
	}
}

// housekeep sets the alarm for the next moment at which time alone changes the shard: a message reaches its
// retention, leaves the rewind window, becomes too old, or a lock ends that may send it to the dead-letter queue.
func (m *Machine) housekeep(s *shard) {
	at, soonest := s.marksAt, max(m.now+1, s.swept+sweepInterval)
	if m.b.Landing(s.id) {
		at, soonest = m.now, m.now+1 // until all is carried out, each batch goes on with it
	} else if a, _, ok := m.b.Attributes(s.id); ok && a.DeadLetter.Queue != 0 {
		if m.b.Dying(s.id, m.now) {
			at = m.now
		} else if end := m.b.NextWake(s.id, m.now); end != 0 {
			at = min(at, end)
		}
	}
	if at == math.MaxInt64 || s.sweep || s.sweepAt != 0 && s.sweepAt <= at {
		return
	}
	// A sweep is an entry of its own on an idle set; one a second for each shard is enough.
	at = max(at, soonest)
	s.sweepAt = at
	m.alarms.set(at, func(int64) {
		if s.sweepAt == at && m.shards[s.id] == s {
			s.sweepAt = 0
			m.sweep(s)
		}
	})
}

// sweep queues a housekeeping command if there is something to do by now.
func (m *Machine) sweep(s *shard) {
	if s.sweep {
		return
	}
	if !m.b.Dying(s.id, m.now) && !m.b.Landing(s.id) {
		if s.marksAt > m.now {
			m.housekeep(s)
			return
		}
		marks, next, _ := m.marks(s)
		if len(marks) == 0 {
			s.marksAt = next
			m.housekeep(s)
			return
		}
	}
	s.sweep, s.swept = true, m.now
	req := &cmq.Request{Kind: kindSweep, Shard: s.id}
	m.enqueue(&Call{req: req, size: sizeOf(req)})
}

// firstExpiry is when a message sent at time first needs housekeeping.
func (m *Machine) firstExpiry(id cmq.ShardID, sent int64) int64 {
	a, _, ok := m.b.Attributes(id)
	if !ok {
		return math.MaxInt64
	}
	at := sent + a.MsgRetention.Milliseconds()
	if a.DeadLetter.Ages() {
		at = min(at, sent+a.DeadLetter.MaxTimeToLive.Milliseconds())
	}
	if a.Rewind > 0 {
		at = min(at, sent+a.Rewind.Milliseconds())
	}
	return at
}

// announceDead tells the mover of messages waiting for the dead-letter queue.
func (m *Machine) announceDead(s *shard) {
	if m.cfg.OnDead == nil {
		return
	}
	if m.b.Dead(s.id) == 0 {
		return
	}
	topic := cmq.ShardID(0)
	if sub := m.b.Subscriber(s.id); sub != nil && sub.Forward {
		topic = sub.Topic
	}
	m.cfg.OnDead(s.id, topic)
}
