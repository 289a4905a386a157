// Package delay orders the lanes of delayed messages by the moment they fall due. All messages of a shard
// that become receivable at the same moment share one lane; of each lane this package keeps three numbers, so
// a burst of a million messages for one moment costs as much as one message. It knows no clock: its user
// tells it how far time has come.
package delay

import (
	"math"

	"github.com/tidwall/btree"
)

// Due gives the moment at which a message falls due that is sent at now and delayed by delay, both in
// milliseconds; delay must be at least 1. The moment is rounded up, never down, to 1 ms, 100 ms or 1 s, so
// that a message is late by less than 0.2 percent, never early, and the number of distinct moments
// stays small: 60,000 within a minute, 36,000 within an hour, 86,400 a day beyond.
func Due(now, delay int64) int64 {
	if delay > math.MaxInt64-second-now {
		return math.MaxInt64
	}
	at, step := now+delay, int64(1)
	switch {
	case delay > hour:
		step = second
	case delay > minute:
		step = second / 10
	}
	return (at + step - 1) / step * step
}

const (
	second = 1000
	minute = 60 * second
	hour   = 60 * minute
)

// Lane is one moment with the messages waiting for it.
type Lane struct {
	Due   int64
	First uint64 // position of its first message; means nothing once the lane has been opened by queue
	N     uint64 // messages not yet received
}

// waiting is the value of the ordered map; it has no pointers, so the garbage collector skips the nodes.
type waiting struct{ first, n uint64 }

// Set holds the lanes that have messages to give, now or later. The zero value is an empty set at time 0.
//
// Invariants: every lane has N > 0; ready is the sum over lanes with Due ≤ mark, total the sum over all.
type Set struct {
	lanes btree.Map[int64, waiting]
	mark  int64 // how far time has come, Unix milliseconds
	ready uint64
	total uint64
}

// Advance moves time forward to now; it never goes back.
func (s *Set) Advance(now int64) {
	if now > s.mark {
		s.ready += s.between(s.mark, now)
		s.mark = now
	}
}

// between counts the messages that fall due in (from, to].
func (s *Set) between(from, to int64) (n uint64) {
	if s.total == s.ready {
		return 0
	}
	s.lanes.Ascend(from+1, func(due int64, w waiting) bool {
		if due <= to {
			n += w.n
		}
		return due <= to
	})
	return n
}

// Get finds a lane.
func (s *Set) Get(due int64) (Lane, bool) {
	w, ok := s.lanes.Get(due)
	return Lane{Due: due, First: w.first, N: w.n}, ok
}

// Add puts n messages into a lane. The lane is made, with this first position, if it is not there.
func (s *Set) Add(due int64, first, n uint64) {
	if n == 0 {
		return
	}
	w, ok := s.lanes.Get(due)
	if !ok {
		w.first = first
	}
	w.n += n
	s.lanes.Set(due, w)
	s.total += n
	if due <= s.mark {
		s.ready += n
	}
}

// Take removes n messages from a lane, which must have them. The lane goes with its last message.
func (s *Set) Take(due int64, n uint64) {
	if n == 0 {
		return
	}
	w, _ := s.lanes.Get(due)
	if n > w.n {
		panic("BUG: taking more delayed messages than there are")
	}
	if w.n -= n; w.n == 0 {
		s.lanes.Delete(due)
	} else {
		s.lanes.Set(due, w)
	}
	s.total -= n
	if due <= s.mark {
		s.ready -= n
	}
}

// First gives the lane that fell due first, if one is due.
func (s *Set) First() (Lane, bool) {
	if s.ready == 0 {
		return Lane{}, false
	}
	due, w, _ := s.lanes.Min()
	return Lane{Due: due, First: w.first, N: w.n}, true
}

// Ready counts the messages that will be due at now, which may lie ahead of the set's time.
func (s *Set) Ready(now int64) uint64 {
	if now <= s.mark {
		return s.ready
	}
	return s.ready + s.between(s.mark, now)
}

// Total counts all messages, due or not.
func (s *Set) Total() uint64 { return s.total }

// Next gives the first moment after now at which a lane falls due, 0 if there is none.
func (s *Set) Next(now int64) (next int64) {
	now = max(now, s.mark)
	if s.total == s.ready || now == math.MaxInt64 {
		return 0
	}
	s.lanes.Ascend(now+1, func(due int64, _ waiting) bool {
		next = due
		return false
	})
	return next
}

// Lanes visits the lanes in the order they fall due, until yield returns false.
func (s *Set) Lanes(yield func(Lane) bool) { s.LanesFrom(math.MinInt64, yield) }

// LanesFrom visits the lanes that fall due at or after due in that order, until yield returns false.
func (s *Set) LanesFrom(due int64, yield func(Lane) bool) {
	s.lanes.Ascend(due, func(due int64, w waiting) bool {
		return yield(Lane{Due: due, First: w.first, N: w.n})
	})
}

// Len counts the lanes.
func (s *Set) Len() int { return s.lanes.Len() }

// Copy makes a set that stays as this one is now. It costs next to nothing, and the copy may be read by another
// goroutine.
func (s *Set) Copy() Set {
	c := *s
	c.lanes = *s.lanes.Copy()
	return c
}

// Clear removes all lanes; the time stays.
func (s *Set) Clear() { *s = Set{mark: s.mark} }
