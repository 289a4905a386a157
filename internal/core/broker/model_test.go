package broker

import (
	"cmp"
	"slices"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/core/command"
)

// The reference model: every message ever sent is an entry of a list, with its state written out, and every
// question is answered by looking at all of them. It shares nothing with the broker but the vocabulary, and is
// meant to be read against http-api.md section 3, not to be fast.

type state int

const (
	fresh    state = iota // can be received (when due) and is, or is again, as if never received
	locked                // received, lock running
	returned              // received, lock ended
	dead                  // on the way to the dead-letter queue
	deleted               // can be rewound
	gone
)

type message struct {
	lane     int64 // when it falls due; 0: sent without delay
	seq      uint64
	state    state
	handle   cmq.Handle
	deadline int64
	count    int
	first    int64
	number   uint64 // transfer number
}

// modelLane is what a lane is told from outside.
type modelLane struct{ low, floor, age, tail uint64 }

type modelShard struct {
	id       cmq.ShardID
	index    uint64
	a        cmq.ShardAttributes
	version  uint64
	sub      *cmq.Subscriber // nil: a queue's
	messages []*message
	lanes    map[int64]*modelLane
	sent     uint64
	handles  uint64
	numbers  uint64
	arrived  map[cmq.ShardID]uint64
	prepared []*modelHalf // in the order of ids
	sessions map[uint64]*modelSession
	opened   uint64
}

// modelHalf is a prepared message.
type modelHalf struct {
	id       cmq.MsgID
	bytes    uint32
	interval int64
	count    int
	next     int64 // when it is to be asked about, or was asked about for the last time and waited for
	last     bool  // nobody is asked any more
	origin   cmq.Origin
}

type model struct {
	index   uint64 // of the batch being applied
	time    int64
	shards  map[cmq.ShardID]*modelShard
	dropped map[cmq.ShardID]bool
}

func newModel() *model {
	return &model{shards: map[cmq.ShardID]*modelShard{}, dropped: map[cmq.ShardID]bool{}}
}

// apply carries out one operation whose first body is in slot first.
func (m *model) apply(now int64, op command.Op, first uint16) (Result, []Placed) {
	m.time = max(m.time, now)
	r := Result{Kind: op.Kind, Shard: op.Shard}
	s := m.shards[op.Shard]
	switch {
	case op.Kind == command.Drop:
		m.dropped[op.Shard] = true
		delete(m.shards, op.Shard)
		return r, nil
	case op.Kind == command.Publish:
		return m.publish(op, first, r)
	case op.Kind == command.Spread:
		return m.spread(op, first, r)
	case op.Kind == command.Open && s == nil && !m.dropped[op.Shard]:
		m.shards[op.Shard] = &modelShard{
			id: op.Shard, a: op.Attributes, version: op.Version, sub: op.Subscriber,
			lanes: map[int64]*modelLane{0: {}}, arrived: map[cmq.ShardID]uint64{},
		}
		return r, nil
	case s == nil:
		r.Err = cmq.ErrQueueNotExist
		return r, nil
	}
	s.settle(m.time)
	if op.Kind == command.Open || op.Kind == command.Set && op.Version <= s.version {
		return r, nil
	}
	if op.Kind == command.Transfer {
		if next := max(s.arrived[op.From], op.Base); op.Number > next {
			r.Err, r.Number = cmq.ErrParameters, next
			return r, nil
		}
	}
	if op.Kind == command.Move {
		return m.move(s, op, r)
	}
	s.index = m.index
	r, placed := s.apply(m.time, op, first, r)
	s.messages = slices.DeleteFunc(s.messages, func(m *message) bool { return m.state == gone })
	return r, placed
}

func (s *modelShard) apply(now int64, op command.Op, first uint16, r Result) (Result, []Placed) {
	switch op.Kind {
	case command.Send:
		if op.Session.ID != 0 && s.repeated(op.Session, &r) {
			return r, nil
		}
		if max := s.a.MaxMsgHeapNum; max > 0 && int64(s.heap()+len(op.Bodies)) > max {
			r.Err = cmq.ErrHeapFull
			return r, nil
		}
		lane := int64(0)
		if op.Delay > 0 {
			lane = dueAt(now, op.Delay)
		}
		r.FirstSlot, r.N = first, len(op.Bodies)
		if e := s.sessions[op.Session.ID]; e != nil {
			e.done[op.Session.Number] = modelSent{s.index, first, len(op.Bodies)}
		}
		return r, s.place(lane, first, len(op.Bodies))
	case command.Transfer:
		next := max(s.arrived[op.From], op.Base)
		r.FirstSlot = first
		for i := range op.Bodies {
			if op.Number+uint64(i) < next {
				r.FirstSlot++
			} else {
				r.N++
			}
		}
		r.Number = next + uint64(r.N)
		s.arrived[op.From] = r.Number
		return r, s.place(0, r.FirstSlot, r.N)
	case command.Receive:
		r.Deliveries, r.Err = s.receive(now, op.Max, op.Lock)
	case command.Delete, command.Release:
		for _, h := range op.Handles {
			r.Errors = append(r.Errors, s.end(h, op.Kind == command.Release))
		}
	case command.Relock:
		for _, h := range op.Handles {
			r.Errors = append(r.Errors, s.relock(now, op.Lock, h))
		}
	case command.Rewind:
		if s.a.Rewind == 0 {
			r.Err = cmq.ErrNotRewindable
			return r, nil
		}
		for _, to := range op.To {
			s.rewind(to)
		}
	case command.OpenSession:
		if s.sessions == nil {
			s.sessions = map[uint64]*modelSession{}
		}
		s.opened++
		s.sessions[op.Session.ID] = &modelSession{epoch: s.opened, low: 1, done: map[uint64]modelSent{}}
		r.Number = s.opened
	case command.Prepare:
		r.Err = s.prepare(now, op, first)
		if r.Err == nil {
			r.FirstSlot, r.N = first, len(op.Bodies)
		}
	case command.Decide:
		placed := s.decide(op.Decisions, &r)
		return r, placed
	case command.Ask:
		r.Queries = s.ask(now, op.IDs)
	case command.Clear:
		s.prepared = nil
		for _, m := range s.messages {
			m.state = gone
		}
		for _, l := range s.lanes {
			l.low, l.floor = l.tail, l.tail
		}
	case command.Expire:
		for _, mark := range op.Marks {
			s.expire(mark)
		}
	case command.Set:
		s.set(op)
	case command.Forget:
		s.each(func(m *message) {
			if m.state == dead && m.number < op.Number {
				m.state = gone
			}
		})
	}
	return r, nil
}

// dueAt is when a message falls due: rounded up to 1 ms, 100 ms or 1 s.
func dueAt(now, delay int64) int64 {
	at, step := now+delay, int64(1)
	if delay > 60_000 {
		step = 100
	}
	if delay > 3600_000 {
		step = 1000
	}
	for at%step != 0 {
		at++
	}
	return at
}

// each visits all messages in the order of lanes and positions.
func (s *modelShard) each(visit func(*message)) {
	for _, m := range s.messages {
		visit(m)
	}
}

func (s *modelShard) count(is func(*message) bool) (n int) {
	s.each(func(m *message) {
		if is(m) {
			n++
		}
	})
	return n
}

func (s *modelShard) heap() int {
	return s.count(func(m *message) bool { return m.state < deleted }) + len(s.prepared)
}

// inUse says whether the lane has any message that is not gone.
func (s *modelShard) inUse(lane int64) bool {
	return lane == 0 || s.count(func(m *message) bool { return m.lane == lane && m.state != gone }) > 0
}

func (s *modelShard) place(lane int64, slot uint16, n int) []Placed {
	if n == 0 {
		return nil
	}
	if !s.inUse(lane) {
		s.lanes[lane] = &modelLane{s.sent, s.sent, s.sent, s.sent}
	}
	l := s.lanes[lane]
	p := Placed{Shard: s.id, Lane: lane, Seq: l.tail, Slot: slot, N: n}
	for range n {
		s.messages = append(s.messages, &message{lane: lane, seq: l.tail})
		l.tail++
		s.sent++
	}
	slices.SortFunc(s.messages, func(a, b *message) int {
		return cmp.Or(cmp.Compare(a.lane, b.lane), cmp.Compare(a.seq, b.seq))
	})
	return []Placed{p}
}

// cursor is the first position that can be received as new.
func (s *modelShard) cursor(lane int64) uint64 {
	c := s.lanes[lane].tail
	s.each(func(m *message) {
		if m.lane == lane && m.state == fresh {
			c = min(c, m.seq)
		}
	})
	return c
}

// settle ends the locks in the order in which they end.
func (s *modelShard) settle(now int64) {
	var ended []*message
	s.each(func(m *message) {
		if m.state == locked && m.deadline <= now {
			ended = append(ended, m)
		}
	})
	slices.SortFunc(ended, func(a, b *message) int {
		return cmp.Or(cmp.Compare(a.deadline, b.deadline), cmp.Compare(a.handle, b.handle))
	})
	for _, m := range ended {
		if s.dies(m) {
			s.die(m)
		} else {
			m.state = returned
		}
	}
}

// dies says whether the end of its lock is the end of the message.
func (s *modelShard) dies(m *message) bool {
	d := s.a.DeadLetter
	return d.Queue != 0 && (d.Policy != cmq.PolicyAge && m.count >= d.MaxReceiveCount || s.old(m))
}

func (s *modelShard) old(m *message) bool {
	d := s.a.DeadLetter
	return d.Queue != 0 && d.Policy != cmq.PolicyReceives && m.seq < s.lanes[m.lane].age
}

func (s *modelShard) die(m *message) {
	m.state, m.number = dead, s.numbers
	s.numbers++
}

// remove deletes a message: kept for a rewind if there may be one.
func (s *modelShard) remove(m *message) {
	if s.a.Rewind > 0 && m.seq >= s.lanes[m.lane].floor {
		m.state = deleted
	} else {
		m.state = gone
	}
}

func (s *modelShard) receive(now int64, limit int, lock int64) ([]Delivery, *cmq.Error) {
	var list []*message
	take := func(is func(*message) bool) {
		s.each(func(m *message) {
			if is(m) {
				list = append(list, m)
			}
		})
	}
	take(func(m *message) bool { return m.state == returned })
	take(func(m *message) bool { return m.state == fresh && m.lane > 0 && m.lane <= now })
	take(func(m *message) bool { return m.state == fresh && m.lane == 0 })
	room := s.a.MaxInFlight - s.count(func(m *message) bool { return m.state == locked })
	if len(list) > 0 && limit > 0 && room <= 0 {
		return nil, cmq.ErrTooMany
	}
	if lock == 0 {
		lock = s.a.VisibilityTimeout.Milliseconds()
	}
	var out []Delivery
	for _, m := range list[:max(min(len(list), limit, room), 0)] {
		s.handles++
		if m.state == fresh {
			m.count, m.first = 0, 0
		}
		if m.first == 0 {
			m.first = now
		}
		m.state, m.handle, m.deadline, m.count = locked, cmq.NewHandle(s.id.Ordinal(), s.handles), now+lock, m.count+1
		out = append(out, Delivery{Lane: m.lane, Seq: m.seq, Handle: m.handle, Count: m.count, First: m.first, Deadline: m.deadline})
	}
	return out, nil
}

// end deletes or releases the message with this handle.
func (s *modelShard) end(h cmq.Handle, release bool) *cmq.Error {
	for _, m := range s.messages {
		if m.state != locked || m.handle != h {
			continue
		}
		if !release {
			s.remove(m)
			return nil
		}
		if m.count--; m.count == 0 {
			m.first = 0
		}
		if m.state = returned; s.old(m) {
			s.die(m)
		}
		return nil
	}
	return cmq.ErrHandleInvalid
}

// relock changes when the lock of the message with this handle ends.
func (s *modelShard) relock(now, lock int64, h cmq.Handle) *cmq.Error {
	for _, m := range s.messages {
		if m.state != locked || m.handle != h {
			continue
		}
		m.deadline = now + lock
		if lock <= 0 {
			m.deadline = now
			s.settle(now)
		}
		return nil
	}
	return cmq.ErrHandleInvalid
}

func (s *modelShard) rewind(to command.LaneSeq) {
	s.each(func(m *message) {
		if m.lane == to.Lane && m.seq >= to.Seq && m.state == deleted {
			m.state, m.count, m.first = fresh, 0, 0
		}
	})
	s.age(to.Lane)
}

func (s *modelShard) expire(mark command.Mark) {
	if !s.inUse(mark.Lane) {
		return
	}
	l := s.lanes[mark.Lane]
	l.low = max(l.low, min(mark.Low, l.tail))
	l.floor = max(l.floor, l.low)
	s.cut(mark.Lane, func(m *message) bool { return m.seq < l.low })
	if s.a.Rewind > 0 {
		l.floor = max(l.floor, min(mark.Floor, s.cursor(mark.Lane)))
		s.cut(mark.Lane, func(m *message) bool { return m.state == deleted && m.seq < l.floor })
	}
	if d := s.a.DeadLetter; d.Queue != 0 && d.Policy != cmq.PolicyReceives {
		l.age = max(l.age, min(mark.Age, l.tail))
		s.age(mark.Lane)
	}
}

// cut ends messages for good.
func (s *modelShard) cut(lane int64, is func(*message) bool) {
	s.each(func(m *message) {
		if m.lane == lane && is(m) {
			m.state = gone
		}
	})
}

// age lets die what is too old and not locked: first what was received, then what never was.
func (s *modelShard) age(lane int64) {
	for _, st := range []state{returned, fresh} {
		s.each(func(m *message) {
			if m.lane == lane && m.state == st && s.old(m) {
				if st == fresh {
					m.count, m.first = 0, 0
				}
				s.die(m)
			}
		})
	}
}

func (s *modelShard) set(op command.Op) {
	was := s.a
	s.a, s.version = op.Attributes, op.Version
	if s.sub != nil && op.Subscriber != nil {
		changed := *op.Subscriber
		changed.Topic, changed.Forward = s.sub.Topic, s.sub.Forward
		s.sub = &changed
	}
	forwards := s.sub != nil && s.sub.Forward
	if was.DeadLetter != s.a.DeadLetter {
		for _, l := range s.lanes {
			l.age = 0
		}
	}
	s.each(func(m *message) {
		if m.state == dead && s.a.DeadLetter.Queue == 0 && !forwards {
			m.state = returned
		}
		if m.state == deleted && s.a.Rewind == 0 {
			m.state = gone
		}
	})
	if was.Rewind == 0 && s.a.Rewind > 0 {
		for lane, l := range s.lanes {
			l.floor = max(l.floor, s.cursor(lane))
		}
	}
}

// The questions, answered for a time that no operation has seen yet. Locks that have ended by then count as
// ended; the copy is settled, the original is not.

func (s *modelShard) settled(now int64) *modelShard {
	c := *s
	c.messages = nil
	for _, m := range s.messages {
		copied := *m
		c.messages = append(c.messages, &copied)
	}
	c.settle(now)
	return &c
}

func (s *modelShard) status(now int64) [4]int64 {
	s = s.settled(now)
	n := func(is func(*message) bool) int64 { return int64(s.count(is)) }
	return [4]int64{
		n(func(m *message) bool { return m.state == returned || m.state == fresh && m.lane <= now }),
		n(func(m *message) bool { return m.state == locked || m.state == dead }),
		n(func(m *message) bool { return m.state == fresh && m.lane > now }),
		n(func(m *message) bool { return m.state == deleted }),
	}
}

// dying says whether a message is dead at now that no operation has put into the dead list.
func (s *modelShard) dying(now int64) bool { return s.settled(now).numbers > s.numbers }

func (s *modelShard) wake(now int64) (at int64) {
	s.each(func(m *message) {
		t := m.deadline
		if m.state == fresh {
			t = m.lane
		}
		if (m.state == fresh || m.state == locked) && t > now && (at == 0 || t < at) {
			at = t
		}
	})
	return at
}

// deadHead lists the first messages in the dead list whose numbers have no gap.
func (s *modelShard) deadHead(limit int) (uint64, []Dead) {
	var list []*message
	s.each(func(m *message) {
		if m.state == dead {
			list = append(list, m)
		}
	})
	if len(list) == 0 {
		return s.numbers, nil
	}
	slices.SortFunc(list, func(a, b *message) int { return cmp.Compare(a.number, b.number) })
	var at []Dead
	for i, m := range list {
		if m.number != list[0].number+uint64(i) || len(at) == limit {
			break
		}
		at = append(at, Dead{LaneSeq: command.LaneSeq{Lane: m.lane, Seq: m.seq}, Count: m.count})
	}
	return list[0].number, at
}

// extent gives the first position of a lane that is not deleted, and the first that may be needed.
func (s *modelShard) extent(lane int64) (oldest, needed uint64) {
	oldest = s.lanes[lane].tail
	s.each(func(m *message) {
		if m.lane == lane && m.state < deleted {
			oldest = min(oldest, m.seq)
		}
	})
	if s.a.Rewind > 0 {
		return oldest, min(oldest, s.lanes[lane].floor)
	}
	return oldest, oldest
}
