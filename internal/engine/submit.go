package engine

import (
	"math"
	"slices"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/core/broker"
	"github.com/opencmq/cmq/internal/core/command"
	"github.com/opencmq/cmq/internal/store/reflog"
)

// kindSweep is the engine's own request for housekeeping of a shard.
const kindSweep cmq.Kind = 255

// Submit takes a request on the leader. done is called exactly once, on the loop, possibly before Submit returns. now is
// cluster time in milliseconds.
func (m *Machine) Submit(now int64, req *cmq.Request, done func(*Result, error)) *Call {
	c := new(Call)
	if done == nil {
		m.submit(now, c, req, nil)
	} else {
		m.submit(now, c, req, takerFunc(done))
	}
	return c
}

// submit is Submit with a call, still empty, of the caller's.
func (m *Machine) submit(now int64, c *Call, req *cmq.Request, done taker) {
	c.req, c.done, c.size = req, done, sizeOf(req)
	if !m.leading {
		c.finish(nil, &cmq.NotLeaderError{Set: m.cfg.Set})
		return
	}
	m.now = max(m.now, now)
	if m.queue.refuses(c, m.now) {
		m.stats.Busy.Add(1)
		c.finish(nil, cmq.ErrBusy)
		return
	}
	if m.refuses(req.Kind) {
		m.refuseFull(c)
		return
	}
	switch req.Kind {
	case cmq.KindReceive:
		m.receive(c)
	case cmq.KindSend:
		m.send(c)
	case cmq.KindDelete:
		if !m.deleteUnreplicated(c) {
			m.enqueue(c)
		}
	case cmq.KindDecide:
		m.decide(c)
	case cmq.KindQueries:
		m.queries(c)
	case cmq.KindStatus:
		m.status(c)
	case cmq.KindPrepared:
		m.listPrepared(c)
	case cmq.KindDeadList:
		m.deadList(c)
	case cmq.KindPrepare, cmq.KindPublish, cmq.KindOpenSession, cmq.KindRelease, cmq.KindRelock, cmq.KindRewind, cmq.KindClear, cmq.KindOpenShard, cmq.KindSetShard, cmq.KindDropShard,
		cmq.KindTransfer, cmq.KindMove, cmq.KindSpread, cmq.KindForget:
		m.enqueue(c)
	default:
		c.refuse(cmq.ErrParameters)
	}
}

// Cancel says that nobody waits for the call any more. A parked poll ends with an empty result; a call that is on
// its way ends as it would.
func (m *Machine) Cancel(c *Call) {
	c.gone = true
	if c.parked {
		m.unpark(c)
		c.finish(&Result{}, nil)
	}
}

func (m *Machine) enqueue(c *Call) { m.queue.add(c, m.now) }

func (m *Machine) send(c *Call) {
	m.enqueue(c)
	if c.req.Delay <= 0 {
		s := m.shard(c.req.Shard)
		s.sends += int64(len(c.req.Bodies))
		m.feed(s)
	}
}

func (m *Machine) receive(c *Call) {
	if !m.b.Has(c.req.Shard) {
		// It may just not be applied yet; the answer must not be guessed.
		m.enqueue(c)
		return
	}
	if wait := c.req.Wait.Milliseconds(); wait > 0 {
		c.until = m.now + wait
	}
	s := m.shard(c.req.Shard)
	ready := m.ready(s)
	switch {
	case ready > 0 && s.parks() == 0:
		m.take(s, c, ready)
	case c.until > 0:
		m.park(s, c)
	default:
		m.stats.Empty.Add(1)
		c.finish(&Result{}, nil)
	}
}

// inward gives the request's handles as the state machine knows them. The request is left as it is: it may be put again.
func inward(req *cmq.Request) []cmq.Handle {
	queue := req.Shard.Queue()
	handles := make([]cmq.Handle, len(req.Handles))
	for i, h := range req.Handles {
		handles[i] = h.Inward(queue)
	}
	return handles
}

// operation is the command for a request; later if the call was put aside until that can be told.
func (m *Machine) operation(c *Call, s *shard) (op command.Op, refusal *cmq.Error, later bool) {
	req := c.req
	op.Shard = req.Shard
	switch req.Kind {
	case cmq.KindSend:
		op.Kind, op.Delay, op.Session, op.Bodies = command.Send, req.Delay.Milliseconds(), req.Session, req.Bodies
	case cmq.KindReceive:
		op.Kind, op.Max, op.Lock = command.Receive, req.Max, req.Lock.Milliseconds()
	case cmq.KindDelete:
		op.Kind, op.Handles = command.Delete, inward(req)
	case cmq.KindRelease:
		op.Kind, op.Handles = command.Release, inward(req)
	case cmq.KindPublish:
		op.Kind, op.Bodies = command.Publish, req.Bodies
		if req.Publication != nil {
			op.Publication = *req.Publication
		}
	case cmq.KindPrepare:
		op.Kind, op.Bodies, op.Interval, op.Origin = command.Prepare, req.Bodies, req.Interval.Milliseconds(), req.Origin
	case cmq.KindOpenSession:
		op.Kind, op.Session = command.OpenSession, req.Session
	case cmq.KindDecide:
		op.Kind, op.Decisions = command.Decide, req.Decisions
	case cmq.KindQueries:
		op.Kind, op.IDs = command.Ask, c.ids
	case cmq.KindRelock:
		op.Kind, op.Handles, op.Lock = command.Relock, inward(req), req.Lock.Milliseconds()
	case cmq.KindClear:
		op.Kind = command.Clear
	case cmq.KindOpenShard:
		op.Kind, op.Version, op.Attributes, op.Subscriber = command.Open, req.Version, req.Attributes, req.Subscriber
	case cmq.KindSetShard:
		op.Kind, op.Version, op.Attributes, op.Subscriber = command.Set, req.Version, req.Attributes, req.Subscriber
		s.marksAt = 0
	case cmq.KindDropShard:
		op.Kind = command.Drop
	case cmq.KindTransfer:
		op.Kind, op.From, op.Base, op.Number = command.Transfer, req.From, req.Base, req.Number
		op.IDs, op.Sources, op.Bodies = req.IDs, req.Sources, req.Bodies
	case cmq.KindMove:
		if !m.movable(req) {
			return op, cmq.ErrParameters, false
		}
		op.Kind, op.From, op.Number, op.IDs, op.Sizes = command.Move, req.From, req.Number, req.IDs, req.Sizes
	case cmq.KindSpread:
		if !spreadable(req) {
			return op, cmq.ErrParameters, false
		}
		op.Kind, op.Shares, op.IDs, op.Bodies = command.Spread, req.Shares, req.IDs, req.Bodies
	case cmq.KindForget:
		op.Kind, op.Number = command.Forget, req.Number
	case cmq.KindRewind:
		return m.rewind(c, s)
	case cmq.KindStatus, kindSweep:
		op.Kind = command.Expire
		complete := false
		op.Marks, s.marksAt, complete = m.marks(s)
		if !complete && req.Kind == cmq.KindStatus && m.waits(c) {
			s.putAside(c)
			return op, nil, true
		}
	}
	return op, nil, false
}

// movable reports whether the ids of a move say where on this set the messages are.
func (m *Machine) movable(req *cmq.Request) bool {
	elsewhere := func(id cmq.MsgID) bool { return id.Set() != m.cfg.Set }
	return len(req.IDs) == len(req.Sizes) && !slices.ContainsFunc(req.IDs, elsewhere)
}

// spreadable reports whether the shares of a spread are of messages that it has.
func spreadable(req *cmq.Request) bool {
	n := len(req.Bodies)
	beyond := func(place uint16) bool { return int(place) >= n }
	return len(req.IDs) == n && n <= cmq.MaxSlots &&
		!slices.ContainsFunc(req.Shares, func(s cmq.Share) bool { return slices.ContainsFunc(s.Places, beyond) })
}

// rewind turns the moment into positions, lane by lane, and checks that it lies in the window of http-api.md 3.7.
func (m *Machine) rewind(c *Call, s *shard) (op command.Op, refusal *cmq.Error, later bool) {
	op = command.Op{Kind: command.Rewind, Shard: s.id}
	a, _, ok := m.b.Attributes(s.id)
	if !ok {
		return op, cmq.ErrQueueNotExist, false
	}
	if a.Rewind <= 0 {
		return op, cmq.ErrNotRewindable, false
	}
	l := m.lookup()
	from := c.req.Time.UnixMilli()
	// The window's beginning is counted in whole seconds, as the API does.
	oldest := (m.now/1000 - int64(a.Rewind.Seconds())) * 1000
	latest := m.minMsgTime(s.id, &l)
	m.b.LanesFrom(s.id, 0, func(i broker.LaneInfo) bool {
		if i.Passed == 0 {
			return true // nothing was ever received: nothing can be brought back
		}
		// Up to the tail, not the cursor: an earlier rewind may have left the cursor behind what was deleted since.
		k := reflog.Key{Shard: uint64(s.id), Lane: i.Lane}
		if to := l.seqAt(k, from, i.Tail); to < i.Tail {
			op.To = append(op.To, command.LaneSeq{Lane: i.Lane, Seq: to})
		}
		return true
	})
	switch {
	case from < oldest:
		return op, cmq.ErrRewindTime, false
	case len(l.wants) > 0 && m.waits(c):
		m.await(c, s, l)
		return op, nil, true
	case from > latest:
		return op, cmq.ErrRewindTime, false
	}
	return op, nil, false
}

// maxLanesTimed is how many lanes are asked for the send time of their oldest message. With more of them that are
// delayed, which fall due later and were therefore mostly sent later, the oldest of all may be missed: to ask all
// of a million lanes would mean to read all of their references.
const maxLanesTimed = 1024

// minMsgTime is the send time of the oldest message that is not deleted, now if there is none.
func (m *Machine) minMsgTime(id cmq.ShardID, l *lookup) int64 {
	oldest, n := int64(math.MaxInt64), 0
	m.b.Lanes(id, func(i broker.LaneInfo) bool {
		if n++; i.Oldest < i.Tail {
			if sent, ok := l.timeAt(reflog.Key{Shard: uint64(id), Lane: i.Lane}, i.Oldest); ok {
				oldest = min(oldest, sent)
			}
		}
		return n < maxLanesTimed
	})
	if oldest == math.MaxInt64 {
		return m.now
	}
	return oldest
}

// status answers a reading of the counters: after a round of heartbeats, or through the log when messages have
// reached their age that the state still counts.
func (m *Machine) status(c *Call) {
	if s := m.shards[c.req.Shard]; s == nil || s.marksAt <= m.now {
		m.enqueue(c)
		return
	}
	m.cfg.Read(func(err error) {
		if err != nil {
			c.finish(nil, err)
			return
		}
		m.answerStatus(c)
	})
}

// answerStatus answers with the counters, once the send time of the oldest message is in memory.
func (m *Machine) answerStatus(c *Call) {
	l := m.lookup()
	st, refusal := m.counters(c.req.Shard, &l)
	if s := m.shards[c.req.Shard]; s != nil && len(l.wants) > 0 && m.waits(c) {
		c.asked = true
		m.await(c, s, l)
		return
	}
	c.finish(&Result{Reply: cmq.Reply{Err: refusal, Status: st}}, nil)
}

// Status reads the counters of a shard as this replica has them, at the cluster time now. MinMsgTime may be earlier than
// it should be.
func (m *Machine) Status(now int64, id cmq.ShardID) (cmq.ShardStatus, *cmq.Error) {
	m.now = max(m.now, now)
	l := m.lookup()
	return m.counters(id, &l)
}

func (m *Machine) counters(id cmq.ShardID, l *lookup) (cmq.ShardStatus, *cmq.Error) {
	st, ok := m.b.Status(id, m.now)
	if !ok {
		return st, cmq.ErrQueueNotExist
	}
	st.MinMsgTime, st.Now = at(m.minMsgTime(id, l)), at(m.now)
	return st, nil
}

// deadList answers the mover's question for messages that wait for the dead-letter queue.
func (m *Machine) deadList(c *Call) {
	a, _, ok := m.b.Attributes(c.req.Shard)
	if !ok {
		c.refuse(cmq.ErrQueueNotExist)
		return
	}
	number, dead := m.b.DeadHead(c.req.Shard, c.req.Max)
	r := &Result{Reply: cmq.Reply{Queue: a.DeadLetter.Queue, Number: number, Base: number}, shard: c.req.Shard, dead: true}
	if m.b.Dead(r.shard) == int64(len(dead)) {
		r.Reply.Upto = cmq.NewMsgID(m.cfg.Set, m.b.Index(), cmq.MaxSlots-1)
	}
	r.published = m.b.Subscriber(r.shard) != nil
	r.at, r.Reply.Messages = make([]command.LaneSeq, len(dead)), make([]cmq.Message, len(dead))
	for i := range dead {
		r.at[i], r.Reply.Messages[i].DequeueCount = dead[i].LaneSeq, dead[i].Count
	}
	if sub := m.b.Subscriber(r.shard); sub != nil && sub.Forward && a.DeadLetter.Ages() {
		main, _ := m.b.Lane(r.shard, 0)
		for r.Reply.Overdue < len(dead) && dead[r.Reply.Overdue].Seq < main.Age {
			r.Reply.Overdue++
		}
	}
	c.finish(r, nil)
}
