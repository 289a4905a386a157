package queue

import (
	"unique"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/core/delay"
)

// Shard is the state of one shard of one queue. All times are cluster time in Unix milliseconds and must
// not go back from one operation to the next, and Settle comes before the first of each batch; broker sees to both. It is
// used by one goroutine.
//
// Most shards of a large cluster are idle, so what they do not need is nil, and equal attributes are shared.
type Shard struct {
	attributes unique.Handle[cmq.ShardAttributes]
	counter    uint64 // of the last delivery
	sent       uint64 // messages ever sent; positions of a new lane begin here, so none is used twice
	now        int64  // of the last Settle

	main     lane
	delayed  *delayed // nil: there are no delayed lanes
	flights  *flights // nil: nothing is in flight
	returned returned
	dead     *deadList // nil: nothing ever died
	prepared *prepared // nil: nothing is prepared
	sessions *sessions // nil: nobody ever opened one

	ordinal uint8
	past    map[uint64]run // ended deliveries by counter; only kept by a mutant
}

// Delivery is one message handed out.
type Delivery struct {
	Lane     int64
	Seq      uint64
	Handle   cmq.Handle
	Count    int   // deliveries including this one
	First    int64 // time of the first delivery
	Deadline int64 // when the lock ends
}

// New makes an empty shard with this ordinal within its queue.
func New(ordinal uint8, a cmq.ShardAttributes) Shard {
	s := Shard{ordinal: ordinal}
	s.adopt(a)
	return s
}

func (s *Shard) adopt(a cmq.ShardAttributes) {
	if a.MaxInFlight <= 0 {
		a.MaxInFlight = cmq.DefaultMaxInFlight
	}
	s.attributes = unique.Make(a)
}

// Attributes are the settings in force.
func (s *Shard) Attributes() cmq.ShardAttributes { return s.attributes.Value() }

// rewinds reports whether deleted messages are kept for a while.
func (s *Shard) rewinds() bool { return s.attributes.Value().Rewind > 0 }

// heap counts the messages that are not deleted.
func (s *Shard) heap() uint64 {
	return s.main.pending() + s.delayed.total() + s.returned.n + uint64(s.flights.len()) + s.dead.len() + uint64(s.prepared.len())
}

// full reports whether n more messages would be more than MaxMsgHeapNum.
func (s *Shard) full(n int) bool {
	m := s.attributes.Value().MaxMsgHeapNum
	return m > 0 && s.heap()+uint64(n) > uint64(m)
}

// Room counts how many of n more messages MaxMsgHeapNum leaves room for.
func (s *Shard) Room(n int) int {
	m := s.attributes.Value().MaxMsgHeapNum
	if m <= 0 {
		return n
	}
	return int(min(uint64(n), uint64(m)-min(s.heap(), uint64(m))))
}

// maxLanding is how many locks a batch ends in a shard; the others have ended too, but their messages stay in the
// in-flight table until a later batch. Ten million locks that end while nobody looks would stop the replica for seconds.
// It bounds waits for answers as well.
const maxLanding = 4096

// Settle carries out what time has brought by now: lanes fall due, locks and waits for answers end. It comes before the
// first operation of every batch, whether that then changes anything or not.
func (s *Shard) Settle(now int64) {
	s.now = now
	s.delayed.advance(now)
	s.land(maxLanding)
	s.prepared.settle(now, maxLanding)
}

// land moves the messages of up to n locks that have ended, and reports whether it found as many.
func (s *Shard) land(n int) bool {
	for ; n > 0; n-- {
		f, ok := s.flights.expire(s.now)
		if !ok {
			return false
		}
		s.unlock(f)
	}
	return true
}

// Warm reports whether the shard holds more memory than it needs, as most do that were just used.
func (s *Shard) Warm() bool { return s.flights != nil || s.delayed != nil || s.returned.tree != nil }

// Rest gives up the memory that the shard holds and does not need. It may come at any time between two operations; the
// next ones will be a little slower.
func (s *Shard) Rest() {
	if s.flights != nil {
		if s.flights.fit(); s.flights.n == 0 {
			s.flights = nil
		}
	}
	if s.delayed != nil && s.delayed.empty() {
		s.delayed = nil
	}
	if s.returned.n == 0 {
		s.returned.tree = nil
	}
}

// unlock sends a message whose lock has ended back, or to the dead ones.
func (s *Shard) unlock(f flight) {
	s.remember(f)
	r := run{lane: f.lane, seq: f.seq, n: 1, count: f.count, first: f.first}
	if s.worn(f.count) || s.aged(s.lane(f.lane), f.seq) {
		s.die(r)
	} else {
		s.returned.add(r)
	}
}

// die puts messages on the dead list.
func (s *Shard) die(r run) {
	if s.dead == nil {
		s.dead = &deadList{}
	}
	s.dead.add(r)
}

// worn says whether the dead-letter policy ends a message after this many deliveries.
func (s *Shard) worn(count uint32) bool {
	p := s.attributes.Value().DeadLetter
	return p.Counts() && int64(count) >= int64(p.MaxReceiveCount)
}

// aged says whether the dead-letter policy ends the message at this position because of its age.
func (s *Shard) aged(l *lane, seq uint64) bool { return s.ages() && seq < l.age }

func (s *Shard) ages() bool {
	p := s.attributes.Value().DeadLetter
	return p.Ages()
}

// lane finds a lane that something has happened to, nil if there is none of that name.
func (s *Shard) lane(due int64) *lane {
	if due == 0 {
		return &s.main
	}
	if s.delayed == nil {
		return nil
	}
	l, _ := s.delayed.lanes.Get(due)
	return l
}

// open finds a lane and, if it was only sent to so far, gives it a state of its own. nil: no such lane.
func (s *Shard) open(due int64) *lane {
	if l := s.lane(due); l != nil {
		return l
	}
	w, ok := s.delayed.get(due)
	if !ok {
		return nil
	}
	l := newLane(w)
	s.delayed.lanes.Set(due, l)
	return l
}

func newLane(w delay.Lane) *lane {
	return &lane{due: w.Due, low: w.First, floor: w.First, age: w.First, cursor: w.First, tail: w.First + w.N}
}

// changed tells the delay set that the pending messages of a lane were so many before.
func (s *Shard) changed(l *lane, before uint64) {
	if l.due == 0 {
		return
	}
	if after := l.pending(); after > before {
		s.delayed.Add(l.due, 0, after-before)
	} else {
		s.delayed.Take(l.due, before-after)
	}
}

// tidy forgets a lane of which nothing is left.
func (s *Shard) tidy(l *lane) {
	if l.due != 0 && l.cursor == l.tail && l.live == 0 && (!s.rewinds() || l.deleted() == 0) {
		s.delayed.lanes.Delete(l.due)
	}
}

// opened lists the main lane and all lanes that have a state of their own; it may be walked while they change.
func (s *Shard) opened() []*lane {
	list := make([]*lane, 1, 1+s.delayed.opened())
	list[0] = &s.main
	if s.delayed != nil {
		s.delayed.lanes.Scan(func(_ int64, l *lane) bool {
			list = append(list, l)
			return true
		})
	}
	return list
}

// strike removes live positions from the books: deleted, moved away or expired.
func (s *Shard) strike(r run) {
	l := s.lane(r.lane)
	l.strike(r.seq, r.n)
	s.tidy(l)
}

// eachLive visits the positions of the lane that are in flight, returned or dead, in no particular order.
func (s *Shard) eachLive(due int64, visit func(span)) {
	s.flights.each(func(f *flight) {
		if f.lane == due {
			visit(span{f.seq, f.seq + 1})
		}
	})
	s.returned.each(func(r run) {
		if r.lane == due {
			visit(span{r.seq, r.seq + r.n})
		}
	})
	for _, r := range s.dead.list() {
		if r.lane == due {
			visit(span{r.seq, r.seq + r.n})
		}
	}
}
