package queue

import (
	"cmp"
	"encoding/binary"
	"errors"
	"slices"

	"github.com/opencmq/cmq/internal/core/command"
	"github.com/opencmq/cmq/internal/core/delay"
)

// The image of a shard. All numbers have the variable-length form of encoding/binary:
//
//	attributes, counter, sent
//	main lane
//	n, n × lane                 the delayed ones, by due time
//	n, n × flight               by counter
//	n, n × run                  the returned ones, by (lane, position)
//	next, n, n × (number, run)  the dead ones, by number
//	n, n × half                 the prepared ones, by id
//	opened, uses, n, n × session  by id; if none was ever opened: 0
//
//	lane    due, low, floor-low, age-low (two's complement), cursor-floor, tail-cursor, skip, gone
//	spans   n, n × (lo - end of the one before, length)
//	flight  counter, lane, seq, deadline, first, count
//	run     lane, seq, n, count, first
//	half    id - the one before, bytes, count, interval, next, phase, node, connection
//	session id - the one before, epoch, used, low, n, n × (number - the one before, index, slot, messages)
//
// It says nothing of how the tables are laid out: shards that went through the same operations have the same
// image, wherever and however often they were restored on the way.

// flightBytes is about what a flight of the main lane takes in the image.
const flightBytes = 24

// AppendImage appends the image to b.
func (s *Shard) AppendImage(b []byte) []byte {
	a := s.Attributes()
	b = command.AppendAttributes(b, &a)
	b = appendNumbers(b, s.counter, s.sent)
	b = appendLane(b, &s.main)
	b = s.appendLanes(b)
	b = appendNumbers(slices.Grow(b, flightBytes*s.flights.len()), uint64(s.flights.len()))
	s.flights.ascending(func(f *flight) {
		b = appendNumbers(b, f.counter, uint64(f.lane), f.seq, uint64(f.deadline), uint64(f.first), uint64(f.count))
	})
	return s.appendSessions(s.appendPrepared(s.appendRuns(b)))
}

func (s *Shard) appendLanes(b []byte) []byte {
	n := s.delayed.opened()
	if s.delayed != nil {
		s.delayed.Lanes(func(w delay.Lane) bool {
			if s.lane(w.Due) == nil {
				n++
			}
			return true
		})
	}
	b = appendNumbers(b, uint64(n))
	s.merged(1, func(l *lane) bool {
		b = appendLane(b, l)
		return true
	})
	return b
}

func (s *Shard) appendRuns(b []byte) []byte {
	n := 0
	s.returned.each(func(run) { n++ })
	b = appendNumbers(b, uint64(n))
	s.returned.each(func(r run) { b = appendRun(b, r) })
	dead := s.dead.list()
	b = appendNumbers(b, s.dead.number(), uint64(len(dead)))
	for _, r := range dead {
		b = appendRun(appendNumbers(b, r.number), r.run)
	}
	return b
}

func appendNumbers(b []byte, numbers ...uint64) []byte {
	for _, v := range numbers {
		b = binary.AppendUvarint(b, v)
	}
	return b
}

func appendRun(b []byte, r run) []byte {
	return appendNumbers(b, uint64(r.lane), r.seq, r.n, uint64(r.count), uint64(r.first))
}

func appendLane(b []byte, l *lane) []byte {
	b = appendNumbers(b, uint64(l.due), l.low, l.floor-l.low, l.age-l.low, l.cursor-l.floor, l.tail-l.cursor)
	return appendSpans(appendSpans(b, l.skip()), l.gone())
}

func appendSpans(b []byte, s spans) []byte {
	b = appendNumbers(b, uint64(len(s.list)))
	end := uint64(0)
	for _, p := range s.list {
		b = appendNumbers(b, p.lo-end, p.hi-p.lo)
		end = p.hi
	}
	return b
}

// errImage is for an image that no shard can have written.
var errImage = errors.New("image of a shard is damaged")

// ReadImage reads what AppendImage wrote. Damage that leaves the image readable but contradictory is found
// as far as positions and counts go. now is the time of the last operation or later.
func ReadImage(r *command.Reader, ordinal uint8, now int64) (Shard, error) {
	s := Shard{ordinal: ordinal, now: now}
	s.adopt(command.ReadAttributes(r))
	s.counter, s.sent = r.Uvarint(), r.Uvarint()
	if l := readLane(r); l.due == 0 {
		s.main = l
	} else {
		r.Fail()
	}
	last := int64(0)
	for n := r.Count(8); n > 0; n-- {
		l := readLane(r)
		if l.due <= last {
			r.Fail()
			break
		}
		last = l.due
		s.adoptLane(l)
	}
	s.readFlights(r)
	s.readRuns(r)
	s.readPrepared(r)
	s.readSessions(r)
	s.now = 0 // when the last operation was is not known
	if r.Bad() || !s.sound() {
		return Shard{}, errImage
	}
	return s, nil
}

// adoptLane takes a delayed lane from an image. One that was only sent to needs no state of its own.
func (s *Shard) adoptLane(l lane) {
	d := s.makeDelayed()
	d.Add(l.due, l.low, l.pending())
	if l.cursor != l.low || l.age != l.low || l.holes != nil || l.pending() == 0 {
		d.lanes.Set(l.due, &l)
	}
}

func readLane(r *command.Reader) lane {
	l := lane{due: r.Int(), low: r.Uvarint()}
	l.floor = sum(r, l.low)
	l.age = l.low + r.Uvarint()
	l.cursor = sum(r, l.floor)
	l.tail = sum(r, l.cursor)
	skip := readSpans(r, l.cursor, l.tail)
	l.setHoles(skip, readSpans(r, l.floor, l.tail))
	if l.age > l.tail || len(skip.list) > 0 && skip.list[0].lo == l.cursor {
		r.Fail()
	}
	return l
}

// sum reads a number and adds it to base; too large a sum is damage.
func sum(r *command.Reader, base uint64) uint64 {
	v := base + r.Uvarint()
	if v < base || v > maxPosition {
		r.Fail()
		return 0
	}
	return v
}

// maxPosition leaves room above every position: no shard gets that far in any lifetime.
const maxPosition = 1 << 62

func readSpans(r *command.Reader, lo, hi uint64) spans {
	var s spans
	end := uint64(0)
	for n := r.Count(2); n > 0; n-- {
		at := sum(r, end)
		touching := len(s.list) > 0 && at == end
		end = sum(r, at)
		if touching || at < lo || at == end || end > hi {
			r.Fail()
			return spans{}
		}
		s.list = append(s.list, span{at, end})
		s.n += end - at
	}
	return s
}

func (s *Shard) readFlights(r *command.Reader) {
	last := uint64(0)
	for n := r.Count(6); n > 0; n-- {
		f := flight{
			counter: r.Uvarint(), lane: r.Int(), seq: r.Uvarint(),
			deadline: r.Int(), first: r.Int(), count: readCount(r),
		}
		if f.counter <= last || f.counter > s.counter || f.count == 0 {
			r.Fail()
			return
		}
		last = f.counter
		s.enlist(r, run{lane: f.lane, seq: f.seq, n: 1})
		s.fly(f)
	}
}

func (s *Shard) readRuns(r *command.Reader) {
	last := run{n: 1}
	for n := r.Count(5); n > 0; n-- {
		v := s.readRun(r)
		if last.compare(v) > 0 || last.lane == v.lane && last.seq+last.n > v.seq && s.returned.n > 0 {
			r.Fail()
			return
		}
		last = v
		s.returned.add(v)
	}
	s.readDead(r)
}

func (s *Shard) readDead(r *command.Reader) {
	dead := deadList{next: r.Uvarint()}
	end := uint64(0)
	for n := r.Count(6); n > 0; n-- {
		number := sum(r, 0)
		v := s.readRun(r)
		if number < end || number+v.n > dead.next {
			r.Fail()
			return
		}
		end = number + v.n
		dead.runs = append(dead.runs, deadRun{number, v})
		dead.n += v.n
	}
	if dead.next > 0 {
		s.dead = &dead
	}
}

func (s *Shard) readRun(r *command.Reader) run {
	v := run{lane: r.Int(), seq: r.Uvarint(), n: r.Uvarint(), count: readCount(r), first: r.Int()}
	s.enlist(r, v)
	return v
}

func readCount(r *command.Reader) uint32 {
	v := r.Uvarint()
	if v > 1<<32-1 {
		r.Fail()
	}
	return uint32(v)
}

// enlist counts positions read from an image as live, which they can be only between the floors and what the
// cursor has passed.
func (s *Shard) enlist(r *command.Reader, v run) {
	l := s.lane(v.lane)
	if r.Bad() || l == nil || v.n == 0 || v.n > l.tail || v.seq > l.tail-v.n || v.seq < l.low {
		r.Fail()
		return
	}
	l.enlist(v.seq, v.n)
	if v.seq < l.floor {
		l.under += min(v.n, l.floor-v.seq)
	}
}

// sound reports whether the tables and the lanes agree: no position is in two places, and the live ones are
// where the cursor has passed or is to pass over them.
func (s *Shard) sound() bool {
	lanes := s.opened()
	used := make([][]span, len(lanes))
	see := func(due int64, p span) {
		i, _ := slices.BinarySearchFunc(lanes, due, func(l *lane, due int64) int { return cmp.Compare(l.due, due) })
		used[i] = append(used[i], p)
	}
	s.flights.each(func(f *flight) { see(f.lane, span{f.seq, f.seq + 1}) })
	s.returned.each(func(r run) { see(r.lane, span{r.seq, r.seq + r.n}) })
	for _, r := range s.dead.list() {
		see(r.lane, span{r.seq, r.seq + r.n})
	}
	for i, l := range lanes {
		live := newSpans(used[i])
		if live.n != l.live || union(live, l.gone()).n != live.n+l.gone().n ||
			union(live, l.gone()).from(l.cursor).minus(l.skip()).n != 0 || l.tail > s.sent {
			return false
		}
	}
	return s.sent <= maxPosition && s.counter < 1<<56
}
