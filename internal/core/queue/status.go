package queue

import (
	"math"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/core/command"
	"github.com/opencmq/cmq/internal/core/delay"
)

// Status counts the shard's messages as they are at now, which must not be before the last operation.
// MinMsgTime is left empty: send times are not known here.
func (s *Shard) Status(now int64) cmq.ShardStatus {
	back := int64(s.flights.landing(now) - s.doom(now))
	due := int64(s.delayed.ready(now))
	st := cmq.ShardStatus{
		Active:   int64(s.main.pending()+s.returned.n) + due + back,
		Inactive: int64(s.flights.len()) + int64(s.dead.len()) - back,
		Delayed:  int64(s.delayed.total()) - due,
	}
	st.Prepared, st.Undecided = s.Prepared(now)
	if s.rewinds() {
		for _, l := range s.opened() {
			st.Rewindable += int64(l.deleted())
		}
	}
	return st
}

// mortal reports whether a message whose lock ends may have to die.
func (s *Shard) mortal() bool { return s.attributes.Value().DeadLetter.Queue != 0 }

// doomed reports whether the message dies when its lock ends.
func (s *Shard) doomed(f *flight) bool { return s.worn(f.count) || s.aged(s.lane(f.lane), f.seq) }

// doom counts the messages whose lock has ended at now and which will be dead.
func (s *Shard) doom(now int64) (dead int) {
	if s.mortal() {
		s.flights.ended(now, func(f *flight) bool {
			if s.doomed(f) {
				dead++
			}
			return true
		})
	}
	return dead
}

// enough is how many messages whose lock has ended Ready counts at least, if there are as many; no receive asks for more.
const enough = maxLanding

// back counts the messages whose lock has ended at now and which can be received again, but where some of them will be
// dead no more than enough.
func (s *Shard) back(now int64) (back int) {
	if !s.mortal() {
		return s.flights.landing(now)
	}
	s.flights.ended(now, func(f *flight) bool {
		if !s.doomed(f) {
			back++
		}
		return back < enough
	})
	return back
}

// Ready counts the messages that a receive at now could be given, were there no MaxInFlight; if thousands of locks have
// ended, it may leave some out.
func (s *Shard) Ready(now int64) int64 {
	return int64(s.main.pending()+s.returned.n+s.delayed.ready(now)) + int64(s.back(now))
}

// Dying reports whether locks have ended at now whose messages move to the dead ones with a coming operation on the
// shard, whichever it is.
func (s *Shard) Dying(now int64) (dying bool) {
	if s.mortal() {
		s.flights.ended(now, func(f *flight) bool {
			dying = s.doomed(f)
			return !dying
		})
	}
	return dying
}

// Landing reports whether locks had ended before the last operation whose messages are still in the in-flight table:
// they were too many for one batch, and an operation is needed to go on.
func (s *Shard) Landing() bool { return s.flights.landing(s.now) > 0 }

// NextWake is the first moment after now at which a lock ends or a lane falls due; 0: none.
func (s *Shard) NextWake(now int64) int64 {
	wake := s.flights.nextEnd(now)
	if wake == math.MaxInt64 {
		wake = 0
	}
	if due := s.delayed.next(now); due != 0 && (wake == 0 || due < wake) {
		wake = due
	}
	return wake
}

// Dead counts the messages waiting for the dead-letter queue.
func (s *Shard) Dead() int64 { return int64(s.dead.len()) }

// Dead is a message on its way to the dead-letter queue.
type Dead struct {
	command.LaneSeq
	Count int // deliveries
}

// DeadHead gives the transfer number of the first message waiting for the dead-letter queue, and it with
// up to max-1 messages with the numbers after it. Every lower number is settled.
func (s *Shard) DeadHead(max int) (number uint64, at []Dead) {
	if s.dead.len() == 0 {
		return s.dead.number(), nil
	}
	number = s.dead.runs[0].number
	next := number
	for _, r := range s.dead.runs {
		if r.number != next || len(at) >= max {
			break
		}
		k := min(r.n, uint64(max-len(at)))
		for i := range k {
			at = append(at, Dead{command.LaneSeq{Lane: r.lane, Seq: r.seq + i}, int(r.count)})
		}
		next += r.n
	}
	return number, at
}

// LaneInfo describes one lane for those who keep its messages.
type LaneInfo struct {
	Lane   int64
	Low    uint64 // positions below it are gone
	Floor  uint64 // what was deleted below it stays deleted
	Age    uint64
	Cursor uint64
	Tail   uint64
	Oldest uint64 // first position not deleted: pending, in flight, returned or dead; Tail: none
	Needed uint64 // first position that may ever be delivered or moved again; Tail: none
	Passed uint64 // messages that are in flight, returned, dead, or deleted and can be rewound
}

// Lanes visits all lanes, the main one first, then the others as they fall due, until yield returns false.
// A lane that is not visited has nothing left. It costs as much as there are messages in flight and lanes.
func (s *Shard) Lanes(yield func(LaneInfo) bool) {
	s.survey()
	s.LanesFrom(0, yield)
}

// LanesFrom visits the lanes that fall due at or after due, the main one first if due is 0, until yield returns
// false. It costs as much as what it visits: Oldest and Needed may be lower than the true ones.
func (s *Shard) LanesFrom(due int64, yield func(LaneInfo) bool) {
	s.merged(due, func(l *lane) bool { return yield(s.info(l)) })
}

// merged visits the main lane, if due is 0, and then all delayed ones that fall due from due on, those included
// that have no state of their own, until yield returns false.
func (s *Shard) merged(due int64, yield func(*lane) bool) {
	if due <= 0 && !yield(&s.main) {
		return
	}
	if s.delayed == nil {
		return
	}
	own := s.delayed.lanes.Iter()
	more, going := own.Seek(due), true
	next := func() {
		l := own.Value()
		more = own.Next()
		going = yield(l)
	}
	s.delayed.LanesFrom(due, func(w delay.Lane) bool {
		for going && more && own.Key() < w.Due {
			next()
		}
		switch {
		case !going:
		case more && own.Key() == w.Due:
			next()
		default:
			going = yield(newLane(w))
		}
		return going
	})
	for going && more {
		next()
	}
}

// Lane describes one lane, without Oldest and Needed being exact: they may be lower than the true ones.
func (s *Shard) Lane(due int64) (LaneInfo, bool) {
	if l := s.lane(due); l != nil {
		return s.info(l), true
	}
	if w, ok := s.delayed.get(due); ok {
		return s.info(newLane(w)), true
	}
	return LaneInfo{}, false
}

// survey makes the bound oldest of every lane exact.
func (s *Shard) survey() {
	for _, l := range s.opened() {
		if l.live > 0 {
			l.oldest = l.tail
		}
	}
	l := &s.main
	see := func(due int64, seq uint64) {
		if l.due != due {
			l = s.lane(due)
		}
		l.oldest = min(l.oldest, seq)
	}
	s.flights.each(func(f *flight) { see(f.lane, f.seq) })
	s.returned.each(func(r run) { see(r.lane, r.seq) })
	for _, r := range s.dead.list() {
		see(r.lane, r.seq)
	}
}

func (s *Shard) info(l *lane) LaneInfo {
	i := LaneInfo{
		Lane: l.due, Low: l.low, Floor: l.floor, Age: l.age, Cursor: l.cursor, Tail: l.tail,
		Oldest: l.cursor,
	}
	if l.live > 0 {
		i.Oldest = min(i.Oldest, l.oldest)
	}
	i.Needed, i.Passed = i.Oldest, l.live
	if s.rewinds() {
		i.Needed = min(i.Needed, l.floor)
		i.Passed += l.deleted()
	}
	return i
}
