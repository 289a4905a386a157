package engine

import (
	"math"
	"slices"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/core/broker"
	"github.com/opencmq/cmq/internal/core/command"
	"github.com/opencmq/cmq/internal/store/reflog"
)

// sweepInterval is the least time between two sweeps of one shard, in milliseconds.
const sweepInterval = 1000

// shard is the leader's view of one shard: who waits, what is on its way, when to look again.
type shard struct {
	id     cmq.ShardID
	parked []*Call // polls waiting for a message, oldest first
	sends  int64   // messages in entries or queue that will be receivable at once
	takes  int64   // messages that receives in entries or queue will take

	wakeAt  int64 // alarm for parked polls
	marksAt int64 // when retention, rewind window or age have something to do; math.MaxInt64: never
	sweepAt int64 // alarm for that
	swept   int64 // when the newest sweep was queued
	sweep   bool  // a sweep is queued or on its way
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
	for _, c := range s.parked {
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
	ready := m.ready(s)
	for ready > 0 && len(s.parked) > 0 {
		c := s.parked[0]
		s.parked = s.parked[1:]
		c.parked = false
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
	if len(s.parked) == 0 {
		return
	}
	at := m.b.NextWake(s.id, m.now)
	if at == 0 || s.wakeAt != 0 && s.wakeAt <= max(at, m.now+1) {
		return
	}
	at = max(at, m.now+1)
	s.wakeAt = at
	m.alarms.set(at, func(int64) {
		if s.wakeAt == at {
			s.wakeAt = 0
		}
		m.feed(s)
	})
}

func (m *Machine) park(s *shard, c *Call) {
	c.parked = true
	s.parked = append(s.parked, c)
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
	if s == nil {
		return
	}
	if i := slices.Index(s.parked, c); i >= 0 {
		s.parked = slices.Delete(s.parked, i, i+1)
	}
}

// housekeep sets the alarm for the next moment at which time alone changes the shard: a message reaches its
// retention, leaves the rewind window, becomes too old, or a lock ends that may send it to the dead-letter queue.
func (m *Machine) housekeep(s *shard) {
	for i := range m.out.Placed {
		if p := &m.out.Placed[i]; p.Shard == s.id {
			s.marksAt = min(s.marksAt, m.firstExpiry(s.id, m.time))
			break
		}
	}
	at := s.marksAt
	if a, _, ok := m.b.Attributes(s.id); ok && a.DeadLetter.Queue != 0 {
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
	at = max(at, m.now+1, s.swept+sweepInterval)
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
	if !m.b.Dying(s.id, m.now) {
		if s.marksAt > m.now {
			m.housekeep(s)
			return
		}
		marks, next := m.marks(s.id)
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
	if a.DeadLetter.Queue != 0 && a.DeadLetter.Policy == cmq.PolicyAge {
		at = min(at, sent+a.DeadLetter.MaxTimeToLive.Milliseconds())
	}
	if a.Rewind > 0 {
		at = min(at, sent+a.Rewind.Milliseconds())
	}
	return at
}

// addMarks puts the marks that are due into the entry, before the shard's next operation.
func (m *Machine) addMarks(s *shard) {
	if s.marksAt > m.now {
		return
	}
	marks, next := m.marks(s.id)
	s.marksAt = next
	if len(marks) > 0 {
		m.builder.Add(command.Op{Kind: command.Expire, Shard: s.id, Marks: marks})
	}
}

// marks reads off the send times how far retention, rewind window and age have come, and when they go on.
func (m *Machine) marks(id cmq.ShardID) (marks []command.Mark, next int64) {
	next = math.MaxInt64
	a, _, ok := m.b.Attributes(id)
	if !ok {
		return nil, next
	}
	lanes, window := int64(0), int64(math.MaxInt64)
	m.b.Lanes(id, func(l broker.LaneInfo) bool {
		lanes++
		mark := command.Mark{Lane: l.Lane, Low: l.Low, Floor: l.Floor, Age: l.Age}
		mark.Low = m.passed(id, l, a.MsgRetention.Milliseconds(), l.Low, l.Tail, &next)
		if a.Rewind > 0 {
			mark.Floor = m.passed(id, l, a.Rewind.Milliseconds(), max(l.Floor, mark.Low), l.Cursor, &window)
		}
		if a.DeadLetter.Queue != 0 && a.DeadLetter.Policy == cmq.PolicyAge {
			mark.Age = m.passed(id, l, a.DeadLetter.MaxTimeToLive.Milliseconds(), max(l.Age, mark.Low), l.Tail, &next)
		}
		if mark.Low > l.Low || mark.Floor > l.Floor || mark.Age > l.Age {
			marks = append(marks, mark)
		}
		return true
	})
	// No delivery depends on the rewind window: once a second is enough. And to look at thousands of lanes for
	// every entry would cost more than what it finds.
	if window != math.MaxInt64 {
		next = min(next, max(window, m.now+1000))
	}
	return marks, max(next, m.now+lanes/16)
}

// passed is the first position in [from, to) of the lane whose message is younger than age; next is lowered to the
// moment that one gets there.
func (m *Machine) passed(id cmq.ShardID, l broker.LaneInfo, age int64, from, to uint64, next *int64) uint64 {
	k := reflog.Key{Shard: uint64(id), Lane: l.Lane}
	seq := min(max(m.refs.SeqAt(k, m.now-age+1, to), from), max(to, from))
	if seq < to {
		if sent, ok := m.refs.TimeAt(k, seq); ok {
			*next = min(*next, max(sent+age, m.now+1))
		}
	}
	return seq
}

// announceDead tells the mover of messages waiting for the dead-letter queue.
func (m *Machine) announceDead(s *shard) {
	if m.cfg.OnDead == nil {
		return
	}
	if _, dead := m.b.DeadHead(s.id, 1); len(dead) > 0 {
		m.cfg.OnDead(s.id)
	}
}
