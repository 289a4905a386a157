package queue

import (
	"math"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/core/delay"
)

// Send stores n messages, hidden for wait milliseconds, in consecutive positions from seq of the lane. It
// stores all of them or, when the shard would hold more than MaxMsgHeapNum, none.
func (s *Shard) Send(now, wait int64, n int) (lane int64, seq uint64, err *cmq.Error) {
	if s.full(n) {
		return 0, 0, cmq.ErrHeapFull
	}
	if wait > 0 {
		lane = delay.Due(now, wait)
	}
	return lane, s.place(lane, uint64(n)), nil
}

// Arrive stores n messages that died in another shard, whatever MaxMsgHeapNum says.
func (s *Shard) Arrive(n int) (seq uint64) {
	return s.place(0, uint64(n))
}

// Publish stores n messages that were published to the topic of which this is a subscription, whatever MaxMsgHeapNum
// says: one subscription that does not get rid of its messages must not keep them from the others.
func (s *Shard) Publish(n int) (seq uint64) {
	return s.place(0, uint64(n))
}

// Forward stores n messages as Publish does and lets them, and all else in the main lane that was not received, wait for
// another queue, as dead ones do.
func (s *Shard) Forward(n int) (seq uint64) {
	seq = s.place(0, uint64(n))
	s.pass(&s.main, s.main.tail)
	return seq
}

// place appends n messages to a lane, which is made if it is not there.
func (s *Shard) place(due int64, n uint64) (seq uint64) {
	first := s.sent
	s.sent += n
	if l := s.lane(due); l != nil {
		seq = l.tail
		l.tail += n
	} else if w, ok := s.delayed.get(due); ok {
		seq = w.First + w.N
	} else {
		seq = first
	}
	if due != 0 {
		s.makeDelayed().Add(due, first, n)
	}
	return seq
}

// Receive locks up to limit messages for lock milliseconds (0: the VisibilityTimeout) and appends them to
// out: returned ones first, then those of lanes that fell due, then of the main lane. When there is something to
// receive but the shard has MaxInFlight messages locked, the error is ErrTooMany.
func (s *Shard) Receive(now int64, limit int, lock int64, out []Delivery) ([]Delivery, *cmq.Error) {
	limit = max(limit, 0)
	for s.ready() < uint64(limit) && s.land(limit) {
	}
	n := min(uint64(limit), s.ready())
	if n == 0 {
		return out, nil
	}
	a := s.attributes.Value()
	room := a.MaxInFlight - s.flights.len()
	if room <= 0 {
		return out, cmq.ErrTooMany
	}
	n = min(n, uint64(room))
	if lock <= 0 {
		lock = a.VisibilityTimeout.Milliseconds()
	}
	return s.hand(now, until(now, lock), n, out), nil
}

// ready counts the messages that can be handed out at once.
func (s *Shard) ready() uint64 {
	return s.returned.n + s.delayed.ready(s.now) + s.main.pending()
}

// hand gives out the next n messages, which are there.
func (s *Shard) hand(now, deadline int64, n uint64, out []Delivery) []Delivery {
	for ; n > 0 && s.returned.n > 0; n-- {
		r := s.returned.pop()
		if r.first == 0 {
			r.first = now
		}
		out = append(out, s.deliver(r, deadline))
	}
	for n > 0 {
		l := &s.main
		if w, ok := s.delayed.first(); ok {
			l = s.open(w.Due)
		}
		k := min(n, l.pending())
		for range k {
			out = append(out, s.deliver(run{lane: l.due, seq: l.next(), first: now}, deadline))
		}
		if l.due != 0 {
			s.delayed.Take(l.due, k)
		}
		n -= k
	}
	return out
}

func (s *Shard) deliver(r run, deadline int64) Delivery {
	s.counter++
	f := flight{counter: s.counter, seq: r.seq, lane: r.lane, deadline: deadline, first: r.first, count: r.count + 1}
	s.fly(f)
	return Delivery{
		Lane: f.lane, Seq: f.seq, Handle: cmq.NewHandle(s.ordinal, f.counter),
		Count: int(f.count), First: f.first, Deadline: f.deadline,
	}
}

// fly puts a message into the in-flight table.
func (s *Shard) fly(f flight) {
	if s.flights == nil {
		s.flights = &flights{}
	}
	s.flights.add(f)
}

// Delete ends the message whose newest delivery, still locked, has this handle. For any other handle the
// error is ErrHandleInvalid.
func (s *Shard) Delete(h cmq.Handle) *cmq.Error {
	f, ok := s.take(s.newer(h))
	if !ok {
		return cmq.ErrHandleInvalid
	}
	s.strike(run{lane: f.lane, seq: f.seq, n: 1})
	return nil
}

// Release undoes the delivery with this handle: the lock ends and the delivery does not count.
func (s *Shard) Release(h cmq.Handle) *cmq.Error {
	f, ok := s.take(h)
	if !ok {
		return cmq.ErrHandleInvalid
	}
	if f.count--; f.count == 0 {
		f.first = 0
	}
	r := run{lane: f.lane, seq: f.seq, n: 1, count: f.count, first: f.first}
	if s.aged(s.lane(f.lane), f.seq) {
		s.die(r)
	} else {
		s.returned.add(r)
	}
	return nil
}

// Relock lets the lock of the delivery with this handle end lock milliseconds from now, earlier or later than it would
// have. With 0 or less it ends now, as if its time were over: the delivery counts. For a handle that is not that of
// the newest delivery, still locked, the error is ErrHandleInvalid.
func (s *Shard) Relock(now, lock int64, h cmq.Handle) *cmq.Error {
	if lock > 0 {
		if !s.Holds(h) {
			return cmq.ErrHandleInvalid
		}
		s.flights.move(s.counterOf(h), until(now, lock))
		return nil
	}
	f, ok := s.take(h)
	if !ok {
		return cmq.ErrHandleInvalid
	}
	s.unlock(f)
	return nil
}

// until is lock milliseconds after now, or the end of time.
func until(now, lock int64) int64 {
	if lock < math.MaxInt64-now {
		return now + lock
	}
	return math.MaxInt64
}

// counterOf is the counter of the delivery with this handle; 0, which no delivery has, if it is not this shard's.
func (s *Shard) counterOf(h cmq.Handle) uint64 {
	counter := uint64(h) & (1<<56 - 1)
	if cmq.NewHandle(s.ordinal, counter) != h {
		return 0
	}
	return counter
}

// take takes the message with this handle out of the in-flight table, if its lock holds.
func (s *Shard) take(h cmq.Handle) (flight, bool) {
	if !s.Holds(h) {
		return flight{}, false
	}
	return s.flights.remove(s.counterOf(h))
}

// Clear ends every message, also those that could be rewound and those that are not decided.
func (s *Shard) Clear() {
	t := s.main.tail
	s.main = lane{low: t, floor: t, age: t, cursor: t, tail: t}
	s.delayed, s.flights, s.returned, s.prepared = nil, nil, returned{}, nil
	s.noneDead()
}

// noneDead empties the dead list; its numbers go on.
func (s *Shard) noneDead() {
	if s.dead != nil {
		s.dead = &deadList{next: s.dead.next}
	}
}

// Waits reports whether the message with this transfer number waits for another queue, and whether it has become too old for
// any but a dead-letter queue.
func (s *Shard) Waits(number uint64) (waits, overdue bool) {
	lane, seq, waits := s.dead.find(number)
	return waits, waits && s.aged(s.lane(lane), seq)
}

// Forget ends the dead messages numbered below number: they have arrived at the dead-letter queue. They are not
// deleted but elsewhere, so no rewind brings them back here.
func (s *Shard) Forget(number uint64) {
	s.dead.forget(number, func(r run) {
		if l := s.lane(r.lane); l != nil && s.rewinds() {
			l.setGone(union(l.gone(), newSpans([]span{{max(r.seq, l.floor), r.seq + r.n}})))
		}
		s.strike(r)
	})
}
