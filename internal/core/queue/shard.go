package queue

import (
	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/core/delay"
	"github.com/tidwall/btree"
)

// Shard is the state of one shard of one queue. All times are cluster time in Unix milliseconds and must
// not go back from one operation to the next, and Settle comes before each; broker sees to both. It is used by
// one goroutine.
type Shard struct {
	ordinal    uint8
	attributes cmq.ShardAttributes
	lock       int64  // VisibilityTimeout in milliseconds
	counter    uint64 // of the last delivery
	sent       uint64 // messages ever sent; positions of a new lane begin here, so none is used twice

	main     lane
	lanes    btree.Map[int64, *lane] // delayed lanes something has happened to
	delay    delay.Set               // pending messages of all delayed lanes; lanes that were only sent to are only here
	flights  flights
	returned returned
	dead     deadList

	past map[uint64]run // ended deliveries by counter; only kept by a mutant
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
func New(ordinal uint8, a cmq.ShardAttributes) *Shard {
	s := &Shard{ordinal: ordinal}
	s.adopt(a)
	return s
}

func (s *Shard) adopt(a cmq.ShardAttributes) {
	if a.MaxInFlight <= 0 {
		a.MaxInFlight = cmq.DefaultMaxInFlight
	}
	s.attributes = a
	s.lock = a.VisibilityTimeout.Milliseconds()
}

// Attributes are the settings in force.
func (s *Shard) Attributes() cmq.ShardAttributes { return s.attributes }

// rewinds reports whether deleted messages are kept for a while.
func (s *Shard) rewinds() bool { return s.attributes.Rewind > 0 }

// heap counts the messages that are not deleted.
func (s *Shard) heap() uint64 {
	return s.main.pending() + s.delay.Total() + s.returned.n + uint64(s.flights.len()) + s.dead.n
}

// Settle carries out what time has brought by now: lanes fall due and locks end. It comes before every
// operation, whether that then changes anything or not.
func (s *Shard) Settle(now int64) {
	s.delay.Advance(now)
	s.settleLocks(now)
}

// settleLocks moves the messages whose lock has ended at now.
func (s *Shard) settleLocks(now int64) {
	for {
		f, ok := s.flights.expire(now)
		if !ok {
			return
		}
		s.unlock(f)
	}
}

// unlock sends a message whose lock has ended back, or to the dead ones.
func (s *Shard) unlock(f flight) {
	s.remember(f)
	r := run{lane: f.lane, seq: f.seq, n: 1, count: f.count, first: f.first}
	if s.worn(f.count) || s.aged(s.lane(f.lane), f.seq) {
		s.dead.add(r)
	} else {
		s.returned.add(r)
	}
}

// worn says whether dead-letter policy 0 ends a message after this many deliveries.
func (s *Shard) worn(count uint32) bool {
	p := &s.attributes.DeadLetter
	return p.Queue != 0 && p.Policy == cmq.PolicyReceives && int64(count) >= int64(p.MaxReceiveCount)
}

// aged says whether dead-letter policy 1 ends the message at this position.
func (s *Shard) aged(l *lane, seq uint64) bool { return s.ages() && seq < l.age }

func (s *Shard) ages() bool {
	p := &s.attributes.DeadLetter
	return p.Queue != 0 && p.Policy == cmq.PolicyAge
}

// lane finds a lane that something has happened to, nil if there is none of that name.
func (s *Shard) lane(due int64) *lane {
	if due == 0 {
		return &s.main
	}
	l, _ := s.lanes.Get(due)
	return l
}

// open finds a lane and, if it was only sent to so far, gives it a state of its own. nil: no such lane.
func (s *Shard) open(due int64) *lane {
	if l := s.lane(due); l != nil {
		return l
	}
	w, ok := s.delay.Get(due)
	if !ok {
		return nil
	}
	l := newLane(w)
	s.lanes.Set(due, l)
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
		s.delay.Add(l.due, 0, after-before)
	} else {
		s.delay.Take(l.due, before-after)
	}
}

// tidy forgets a lane of which nothing is left.
func (s *Shard) tidy(l *lane) {
	if l.due != 0 && l.cursor == l.tail && l.live == 0 && (!s.rewinds() || l.deleted() == 0) {
		s.lanes.Delete(l.due)
	}
}

// opened lists the main lane and all lanes that have a state of their own; it may be walked while they change.
func (s *Shard) opened() []*lane {
	list := make([]*lane, 1, 1+s.lanes.Len())
	list[0] = &s.main
	s.lanes.Scan(func(_ int64, l *lane) bool {
		list = append(list, l)
		return true
	})
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
	for _, r := range s.dead.runs {
		if r.lane == due {
			visit(span{r.seq, r.seq + r.n})
		}
	}
}
