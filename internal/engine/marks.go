package engine

import (
	"math"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/core/broker"
	"github.com/opencmq/cmq/internal/core/command"
	"github.com/opencmq/cmq/internal/mutant"
	"github.com/opencmq/cmq/internal/store/reflog"
)

// A shard may have a million delayed lanes. A look at it takes this many that fall due first, which are those that
// somebody can miss, and as many of the others in turn; half a millisecond.
const (
	firstLanes = 2048
	nextLanes  = 2048
)

// glance is how long a shard is left alone, in milliseconds, when there is no hurry to look at it again.
const glance = 1000

// addMarksOfShares does for the shards of a spread what addMarks does for the shard of other operations: what is past its
// retention takes no room from what arrives.
func (m *Machine) addMarksOfShares(op *command.Op) {
	for i := range op.Shares {
		if id := op.Shares[i].Shard; m.b.Has(id) {
			m.addMarks(m.shard(id))
		}
	}
}

// addMarks puts the marks that are due into the entry, before the shard's next operation. If it reports false, there may
// be more, and the references that tell are being read.
func (m *Machine) addMarks(s *shard) (complete bool) {
	if s.marksAt > m.now {
		return s.more == nil || !s.more.vague
	}
	marks, next, complete := m.marks(s)
	if s.marksAt = next; !complete || s.more != nil {
		s.busy().vague = !complete
	}
	if len(marks) > 0 {
		m.builder.Add(command.Op{Kind: command.Expire, Shard: s.id, Marks: marks})
	}
	return complete
}

// marks reads off the send times how far retention, rewind window and age have come, and when they go on. Marks are
// never too high; if they are not complete, they may be too low for now.
func (m *Machine) marks(s *shard) (marks []command.Mark, next int64, complete bool) {
	a, _, ok := m.b.Attributes(s.id)
	if !ok {
		return nil, math.MaxInt64, true
	}
	p := passing{lookup: m.lookup(), shard: s.id, now: m.retentionTime(), next: math.MaxInt64}
	lanes, window := int64(0), int64(math.MaxInt64)
	all := m.eachLane(s, func(l broker.LaneInfo) {
		lanes++
		p.soon = lanes > firstLanes
		mark := command.Mark{Lane: l.Lane, Low: l.Low, Floor: l.Floor, Age: l.Age}
		mark.Low = p.passed(l.Lane, a.MsgRetention.Milliseconds(), l.Low, l.Tail, &p.next)
		if a.Rewind > 0 {
			mark.Floor = p.passed(l.Lane, a.Rewind.Milliseconds(), max(l.Floor, mark.Low), l.Cursor, &window)
		}
		if a.DeadLetter.Ages() {
			mark.Age = p.passed(l.Lane, a.DeadLetter.MaxTimeToLive.Milliseconds(), max(l.Age, mark.Low), l.Tail, &p.next)
		}
		if mark.Low > l.Low || mark.Floor > l.Floor || mark.Age > l.Age {
			marks = append(marks, mark)
		}
	})
	// No delivery depends on the rewind window: once a second is enough. And to look at thousands of lanes for
	// every entry would cost more than what it finds.
	if window != math.MaxInt64 {
		p.next = min(p.next, max(window, m.now+glance))
	}
	if !all {
		p.next = min(p.next, m.now+glance)
	}
	if len(p.wants) > 0 {
		m.loadMarks(s, p.lookup)
		p.next = m.now + glance
	}
	return marks, max(p.next, m.now+lanes/16), p.exact
}

// eachLane visits the lanes of a shard, or the most urgent ones and some others if there are very many. It reports whether
// these were all.
func (m *Machine) eachLane(s *shard, visit func(broker.LaneInfo)) (all bool) {
	n, last := 0, int64(0)
	m.b.LanesFrom(s.id, 0, func(l broker.LaneInfo) bool {
		if n++; n > firstLanes {
			return false
		}
		last = l.Lane
		visit(l)
		return true
	})
	if n <= firstLanes {
		return true
	}
	n = 0
	b := s.busy()
	from := max(b.lane, last+1)
	b.lane = 0
	m.b.LanesFrom(s.id, from, func(l broker.LaneInfo) bool {
		if n++; n > nextLanes {
			b.lane = l.Lane
			return false
		}
		visit(l)
		return true
	})
	return false
}

// passing finds how far time has passed over the lanes of one shard.
type passing struct {
	lookup
	shard cmq.ShardID
	now   int64
	next  int64
	soon  bool // the lane is looked at again soon in any case
}

// passed is the first position in [from, to) of the lane whose message is younger than age; next is lowered to the
// moment that one gets there.
func (p *passing) passed(lane, age int64, from, to uint64, next *int64) uint64 {
	if from >= to {
		return from
	}
	k := reflog.Key{Shard: uint64(p.shard), Lane: lane}
	exact := p.exact
	seq := min(max(p.seqAt(k, p.now-age+1, to), from), to)
	if lane > p.now {
		p.exact = exact // what is not due yet is not handed out, so nobody has to wait for its marks
	}
	if seq < to && !p.soon {
		if sent, ok := p.timeAt(k, seq); ok {
			*next = min(*next, max(sent+age, p.now+1))
		}
	}
	return seq
}

// retentionTime is the time that retention is judged by: cluster time, because a wall clock may be days off.
func (m *Machine) retentionTime() int64 {
	if mutant.On(mutant.RetentionByWallClock) && m.cfg.Wall != nil {
		return m.cfg.Wall()
	}
	return m.now
}

// loadMarks reads the references that marks found missing; then the shard is looked at again.
func (m *Machine) loadMarks(s *shard, l lookup) {
	b := s.busy()
	if b.loading {
		return
	}
	b.loading = true
	m.load(l, func(err error) { m.loaded(s, err) })
}
