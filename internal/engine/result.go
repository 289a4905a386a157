package engine

import (
	"fmt"
	"sync/atomic"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/core/broker"
	"github.com/opencmq/cmq/internal/core/command"
	"github.com/opencmq/cmq/internal/store/reflog"
)

// Stats counts what one machine did for callers while it led.
type Stats struct {
	Sent, Received, Deleted, Released, Empty, Busy atomic.Uint64
}

// complete gives a call the result of its operation.
func (m *Machine) complete(c *Call, index uint64, r *broker.Result) {
	s := m.shards[c.req.Shard]
	switch c.req.Kind {
	case cmq.KindSend:
		if s != nil && c.req.Delay <= 0 {
			s.sends -= int64(len(c.req.Bodies))
		}
		m.completeSend(c, index, r)
	case cmq.KindReceive:
		m.untake(c)
		m.completeReceive(c, r)
	case cmq.KindDelete:
		for _, e := range r.Errors {
			if e == nil {
				m.stats.Deleted.Add(1)
			}
		}
		c.finish(&Result{Reply: cmq.Reply{Err: r.Err, Errors: append([]*cmq.Error(nil), r.Errors...)}}, nil)
	case cmq.KindRelease:
		m.stats.Released.Add(uint64(len(c.req.Handles)))
		c.finish(&Result{Reply: cmq.Reply{Err: r.Err}}, nil)
	case cmq.KindStatus:
		m.answerStatus(c)
	case kindSweep:
		if s != nil {
			s.sweep = false
		}
	default:
		c.finish(&Result{Reply: cmq.Reply{Err: r.Err, Number: r.Number}}, nil)
	}
}

func (m *Machine) completeSend(c *Call, index uint64, r *broker.Result) {
	if r.Err != nil {
		c.refuse(r.Err)
		return
	}
	ids := make([]cmq.MsgID, r.N)
	for i := range ids {
		ids[i] = cmq.NewMsgID(m.cfg.Set, index, r.FirstSlot+uint16(i))
	}
	m.stats.Sent.Add(uint64(r.N))
	c.finish(&Result{Reply: cmq.Reply{IDs: ids}}, nil)
}

func (m *Machine) completeReceive(c *Call, r *broker.Result) {
	switch {
	case r.Err != nil:
		c.refuse(r.Err)
	case len(r.Deliveries) > 0:
		m.deliver(c, r.Deliveries)
	case c.gone || c.until == 0 || c.until <= m.now:
		m.stats.Empty.Add(1)
		c.finish(&Result{}, nil)
	case !m.leading:
		c.finish(nil, &cmq.NotLeaderError{Set: m.cfg.Set})
	default:
		// Somebody else was first; wait on.
		m.park(m.shard(c.req.Shard), c)
	}
}

func (m *Machine) deliver(c *Call, deliveries []broker.Delivery) {
	res := &Result{Refs: make([]Ref, len(deliveries))}
	res.Reply.Messages = make([]cmq.Message, len(deliveries))
	for i := range deliveries {
		d := &deliveries[i]
		ref, ok := m.resolve(c.req.Shard, d.Lane, d.Seq)
		if !ok {
			panic(fmt.Sprintf("BUG: set %d: shard %d has a message at lane %d, position %d, that is stored nowhere", m.cfg.Set, c.req.Shard, d.Lane, d.Seq))
		}
		res.Refs[i] = ref
		res.Reply.Messages[i] = cmq.Message{
			Handle: d.Handle, DequeueCount: d.Count, FirstDequeue: at(d.First), NextVisible: at(d.Deadline),
		}
	}
	m.stats.Received.Add(uint64(len(deliveries)))
	c.finish(res, nil)
}

func (m *Machine) resolve(id cmq.ShardID, lane int64, seq uint64) (Ref, bool) {
	ref, ok := m.refs.Resolve(reflog.Key{Shard: uint64(id), Lane: lane}, seq)
	return Ref{Index: ref.Index, Slot: ref.Slot}, ok
}

// Fill reads bodies, ids and send times of the result's messages from the log, checking each body's checksum. It may be
// called from any goroutine.
func (m *Machine) Fill(r *Result) error {
	var data []byte
	var index uint64
	for i, ref := range r.Refs {
		if data == nil || ref.Index != index {
			var err error
			if data, err = m.cfg.Bodies(ref.Index); err != nil {
				return fmt.Errorf("set %d: message at index %d: %w", m.cfg.Set, ref.Index, err)
			}
			index = ref.Index
		}
		st, err := command.ReadMessage(data, ref.Slot)
		if err != nil {
			return fmt.Errorf("set %d: message at index %d: %w", m.cfg.Set, ref.Index, err)
		}
		msg := &r.Reply.Messages[i]
		msg.Body, msg.ID, msg.Enqueued = st.Body, st.ID, at(st.Time)
		if msg.ID == 0 {
			msg.ID = cmq.NewMsgID(m.cfg.Set, ref.Index, ref.Slot)
		}
	}
	return nil
}
