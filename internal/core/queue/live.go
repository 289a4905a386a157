package queue

import (
	"cmp"
	"slices"

	"github.com/opencmq/cmq/internal/cmq"
)

// Live visits the positions whose messages may still be asked for: those that can be delivered, moved to the
// dead-letter queue or brought back by a rewind. They come as spans [lo, hi), lane by lane as they fall due and
// ascending within a lane, as few and as long as possible, until yield returns false. What is not visited
// is gone for good. Messages that are prepared have no positions; Held gives them.
//
// It costs as much as there are messages in flight, returned and dead, and lanes.
func (s *Shard) Live(yield func(lane int64, lo, hi uint64) bool) {
	listed := s.listed()
	s.merged(0, func(l *lane) bool {
		n := 0
		for n < len(listed) && listed[n].lane <= l.due {
			n++
		}
		live := s.liveOf(l, listed[:n])
		listed = listed[n:]
		for _, p := range live.list {
			if !yield(l.due, p.lo, p.hi) {
				return false
			}
		}
		return true
	})
}

// liveOf is the live positions of one lane; listed are those of its positions that are in flight, returned or dead.
func (s *Shard) liveOf(l *lane, listed []run) spans {
	list := make([]span, 0, len(listed)+1)
	for _, r := range listed {
		list = append(list, span{r.seq, r.seq + r.n})
	}
	used := newSpans(list)
	if s.rewinds() {
		return union(used, newSpans([]span{{l.floor, l.tail}}).minus(l.gone()))
	}
	return union(used, newSpans([]span{{l.cursor, l.tail}}).minus(l.skip()))
}

// listed gives the messages in flight, returned and dead, by lane.
func (s *Shard) listed() []run {
	list := make([]run, 0, s.flights.len()+len(s.dead.list()))
	s.flights.each(func(f *flight) { list = append(list, run{lane: f.lane, seq: f.seq, n: 1}) })
	s.returned.each(func(r run) { list = append(list, r) })
	for _, r := range s.dead.list() {
		list = append(list, r.run)
	}
	slices.SortFunc(list, func(a, b run) int { return cmp.Compare(a.lane, b.lane) })
	return list
}

// Needed gives, for each lane that has any, the first position whose message may still be asked for, in the order
// of Lanes, until yield returns false.
func (s *Shard) Needed(yield func(lane int64, from uint64) bool) {
	s.Lanes(func(l LaneInfo) bool { return l.Needed == l.Tail || yield(l.Lane, l.Needed) })
}

// Holds reports whether the delivery with this handle is still the message's newest and its lock has not ended.
func (s *Shard) Holds(h cmq.Handle) bool {
	f := s.flights.get(s.counterOf(h))
	return f != nil && f.deadline > s.now
}

// Numbers sum up the shard: two shards of which some differ are in different states.
func (s *Shard) Numbers() [16]uint64 {
	l := &s.main
	opened, uses := s.sessions.numbers()
	return [...]uint64{
		l.low, l.floor, l.age, l.cursor, l.tail, l.skip().n + l.gone().n<<32, s.sent, s.counter,
		uint64(s.flights.len()), s.returned.n, s.dead.len() + s.dead.number()<<32, s.delayed.total(),
		uint64(s.HeldCount()), uint64(s.NextAsk()), opened, uses,
	}
}
