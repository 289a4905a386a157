package engine

import (
	"math"

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
	c := &Call{req: req, done: done, size: sizeOf(req)}
	if !m.leading {
		c.finish(nil, &cmq.NotLeaderError{Set: m.cfg.Set})
		return c
	}
	m.now = max(m.now, now)
	if m.queued > maxQueued {
		m.stats.Busy.Add(1)
		c.finish(nil, cmq.ErrBusy)
		return c
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
	case cmq.KindStatus:
		m.status(c)
	case cmq.KindDeadList:
		m.deadList(c)
	case cmq.KindRelease, cmq.KindRewind, cmq.KindClear, cmq.KindOpenShard, cmq.KindSetShard, cmq.KindDropShard,
		cmq.KindTransfer, cmq.KindForget:
		m.enqueue(c)
	default:
		c.refuse(cmq.ErrParameters)
	}
	return c
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

func (m *Machine) enqueue(c *Call) {
	m.queue = append(m.queue, c)
	m.queued += c.size
}

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
	case ready > 0 && len(s.parked) == 0:
		m.take(s, c, ready)
	case c.until > 0:
		m.park(s, c)
	default:
		m.stats.Empty.Add(1)
		c.finish(&Result{}, nil)
	}
}

// operation is the command for a request.
func (m *Machine) operation(c *Call, s *shard) (command.Op, *cmq.Error) {
	req := c.req
	op := command.Op{Shard: req.Shard}
	switch req.Kind {
	case cmq.KindSend:
		op.Kind, op.Delay, op.Bodies = command.Send, req.Delay.Milliseconds(), req.Bodies
	case cmq.KindReceive:
		op.Kind, op.Max, op.Lock = command.Receive, req.Max, req.Lock.Milliseconds()
	case cmq.KindDelete:
		op.Kind, op.Handles = command.Delete, req.Handles
	case cmq.KindRelease:
		op.Kind, op.Handles = command.Release, req.Handles
	case cmq.KindClear:
		op.Kind = command.Clear
	case cmq.KindOpenShard:
		op.Kind, op.Version, op.Attributes = command.Open, req.Version, req.Attributes
	case cmq.KindSetShard:
		op.Kind, op.Version, op.Attributes = command.Set, req.Version, req.Attributes
		s.marksAt = 0
	case cmq.KindDropShard:
		op.Kind = command.Drop
	case cmq.KindTransfer:
		op.Kind, op.From, op.Base, op.Number, op.IDs, op.Bodies = command.Transfer, req.From, req.Base, req.Number, req.IDs, req.Bodies
	case cmq.KindForget:
		op.Kind, op.Number = command.Forget, req.Number
	case cmq.KindRewind:
		return m.rewind(req)
	case cmq.KindStatus, kindSweep:
		op.Kind = command.Expire
		op.Marks, s.marksAt = m.marks(req.Shard)
	}
	return op, nil
}

// rewind turns the moment into positions, lane by lane, and checks that it lies in the window of http-api.md 3.7.
func (m *Machine) rewind(req *cmq.Request) (command.Op, *cmq.Error) {
	op := command.Op{Kind: command.Rewind, Shard: req.Shard}
	a, _, ok := m.b.Attributes(req.Shard)
	if !ok {
		return op, cmq.ErrQueueNotExist
	}
	if a.Rewind <= 0 {
		return op, cmq.ErrNotRewindable
	}
	from := req.Time.UnixMilli()
	// The window's beginning is counted in whole seconds, as the API does.
	oldest := (m.now/1000 - int64(a.Rewind.Seconds())) * 1000
	if from < oldest || from > m.minMsgTime(req.Shard) {
		return op, cmq.ErrRewindTime
	}
	m.b.Lanes(req.Shard, func(l broker.LaneInfo) bool {
		k := reflog.Key{Shard: uint64(req.Shard), Lane: l.Lane}
		// Up to the tail, not the cursor: an earlier rewind may have left the cursor behind what was deleted since.
		if to := m.refs.SeqAt(k, from, l.Tail); to < l.Tail {
			op.To = append(op.To, command.LaneSeq{Lane: l.Lane, Seq: to})
		}
		return true
	})
	return op, nil
}

// minMsgTime is the send time of the oldest message that is not deleted, now if there is none.
func (m *Machine) minMsgTime(id cmq.ShardID) int64 {
	oldest := int64(math.MaxInt64)
	m.b.Lanes(id, func(l broker.LaneInfo) bool {
		if l.Oldest >= l.Tail {
			return true
		}
		if sent, ok := m.refs.TimeAt(reflog.Key{Shard: uint64(id), Lane: l.Lane}, l.Oldest); ok {
			oldest = min(oldest, sent)
		}
		return true
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

func (m *Machine) answerStatus(c *Call) {
	st, refusal := m.Status(m.now, c.req.Shard)
	c.finish(&Result{Reply: cmq.Reply{Err: refusal, Status: st}}, nil)
}

// Status reads the counters of a shard as this replica has them, at the cluster time now.
func (m *Machine) Status(now int64, id cmq.ShardID) (cmq.ShardStatus, *cmq.Error) {
	m.now = max(m.now, now)
	st, ok := m.b.Status(id, m.now)
	if !ok {
		return st, cmq.ErrQueueNotExist
	}
	st.MinMsgTime, st.Now = at(m.minMsgTime(id)), at(m.now)
	return st, nil
}

// deadList answers the mover's question for messages that wait for the dead-letter queue.
func (m *Machine) deadList(c *Call) {
	a, _, ok := m.b.Attributes(c.req.Shard)
	if !ok {
		c.refuse(cmq.ErrQueueNotExist)
		return
	}
	number, positions := m.b.DeadHead(c.req.Shard, c.req.Max)
	r := &Result{Reply: cmq.Reply{Queue: a.DeadLetter.Queue, Number: number, Base: number}}
	for _, pos := range positions {
		ref, ok := m.resolve(c.req.Shard, pos.Lane, pos.Seq)
		if !ok {
			break
		}
		r.Refs = append(r.Refs, ref)
		r.Reply.Messages = append(r.Reply.Messages, cmq.Message{})
	}
	c.finish(r, nil)
}
