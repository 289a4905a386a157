package queue

import (
	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/core/command"
)

// Rewind makes the deleted messages at or behind the given positions receivable again, as if never
// delivered, as far back as each lane's floors allow. Messages in flight, returned or dead stay as they
// are, locks and counts included. The error is ErrNotRewindable if the queue keeps nothing to rewind.
func (s *Shard) Rewind(to []command.LaneSeq) *cmq.Error {
	if !s.rewinds() {
		return cmq.ErrNotRewindable
	}
	for _, p := range to {
		if l := s.lane(p.Lane); l != nil {
			s.rewind(l, p.Seq)
		}
	}
	return nil
}

// rewind moves the cursor back to to, if it is ahead, and brings back what was deleted at or behind to.
func (s *Shard) rewind(l *lane, to uint64) {
	to = max(to, l.floor, l.low)
	if to >= l.tail {
		return
	}
	before := l.pending()
	kept := l.skip().minus(l.skip().from(to))
	l.setSkip(union(kept, s.used(l, to), l.gone().from(to)))
	l.seek(min(l.cursor, to))
	s.changed(l, before)
	if s.ages() {
		s.bury(l)
	}
}

// used lists the positions of the lane at or behind from that are in flight, returned or dead.
func (s *Shard) used(l *lane, from uint64) spans {
	var list []span
	s.eachLive(l.due, func(p span) {
		list = append(list, span{max(p.lo, from), p.hi})
	})
	return newSpans(list)
}

// Expire tells the lanes how far time has come; marks of lanes that are not there, or that reach back behind
// earlier ones, change nothing.
func (s *Shard) Expire(marks []command.Mark) {
	for _, m := range marks {
		l := s.lane(m.Lane)
		if l == nil {
			if w, ok := s.delayed.get(m.Lane); !ok || max(m.Low, m.Age) <= w.First {
				continue
			}
			l = s.open(m.Lane)
		}
		before := l.pending()
		s.raiseLow(l, min(m.Low, l.tail))
		if s.rewinds() {
			s.raiseFloor(l, min(m.Floor, l.cursor))
		}
		s.changed(l, before)
		if s.ages() {
			l.age = max(l.age, min(m.Age, l.tail))
			s.bury(l)
		}
		s.tidy(l)
	}
}

// raiseLow ends all messages below low, whatever their state.
func (s *Shard) raiseLow(l *lane, low uint64) {
	if low <= l.low {
		return
	}
	l.low = low
	if l.live > 0 && l.oldest < low {
		s.kill(l, low)
	}
	if l.cursor < low {
		l.seek(low)
	}
	s.raiseFloor(l, low)
}

// kill ends the live messages below low.
func (s *Shard) kill(l *lane, low uint64) {
	strike := func(r run) { l.strike(r.seq, r.n) }
	var ended []uint64
	s.flights.each(func(f *flight) {
		if f.lane == l.due && f.seq < low {
			ended = append(ended, f.counter)
		}
	})
	for _, counter := range ended {
		f, _ := s.flights.remove(counter)
		l.strike(f.seq, 1)
	}
	s.returned.below(l.due, low, strike)
	s.dead.below(l.due, low, strike)
	l.oldest = low
}

// raiseFloor makes the deletes below floor final.
func (s *Shard) raiseFloor(l *lane, floor uint64) {
	if floor <= l.floor {
		return
	}
	l.floor = floor
	if l.holes != nil {
		l.setGone(l.gone().from(floor))
	}
	if l.live == 0 || l.oldest >= floor {
		return
	}
	l.under = 0
	oldest := l.tail
	s.eachLive(l.due, func(p span) {
		oldest = min(oldest, p.lo)
		if p.lo < floor {
			l.under += min(p.hi, floor) - p.lo
		}
	})
	l.oldest = oldest
}

// bury moves what is older than the lane's age mark and not locked to the dead ones.
func (s *Shard) bury(l *lane) {
	s.returned.below(l.due, l.age, s.die)
	before := l.pending()
	s.pass(l, l.age)
	s.changed(l, before)
}

// pass moves what lies between the cursor of a lane and limit to the dead ones.
func (s *Shard) pass(l *lane, limit uint64) {
	for l.cursor < limit {
		upto := limit
		if skip := l.skip(); len(skip.list) > 0 {
			upto = min(upto, skip.list[0].lo)
		}
		n := upto - l.cursor
		s.die(run{lane: l.due, seq: l.cursor, n: n})
		l.enlist(l.cursor, n)
		l.seek(upto)
	}
}

// Set changes the attributes. Without a dead-letter policy the dead ones that still wait become receivable
// again. What can be rewound is dropped when Rewind becomes 0; when it ceases to be 0, what was deleted
// until then stays deleted.
func (s *Shard) Set(a cmq.ShardAttributes) {
	s.Adjust(a)
	if a.DeadLetter.Queue == 0 {
		s.revive()
	}
}

// Adjust is Set for a shard whose messages wait for another queue without a dead-letter policy, see Forward.
func (s *Shard) Adjust(a cmq.ShardAttributes) {
	old := s.Attributes()
	s.adopt(a)
	if old.DeadLetter != a.DeadLetter {
		for _, l := range s.opened() {
			l.age = l.low
		}
	}
	switch {
	case old.Rewind <= 0 && a.Rewind > 0:
		for _, l := range s.opened() {
			l.setGone(union(l.gone(), l.skip().minus(s.used(l, l.cursor))))
			s.raiseFloor(l, l.cursor)
		}
	case old.Rewind > 0 && a.Rewind <= 0:
		for _, l := range s.opened() {
			s.tidy(l)
		}
	}
}

// revive returns all dead messages to the living.
func (s *Shard) revive() {
	for _, r := range s.dead.list() {
		s.returned.add(r.run)
	}
	s.noneDead()
}
