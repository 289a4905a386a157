package engine

import (
	"slices"
	"sync/atomic"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/core/broker"
	"github.com/opencmq/cmq/internal/core/command"
)

// Stats counts what one machine did for callers while it led.
type Stats struct {
	Sent, Received, Deleted, Released, Empty, Busy atomic.Uint64

	Published   atomic.Uint64 // messages published to topics, each once
	Repeated    atomic.Uint64 // messages of producer sessions that were sent again and were stored already
	Full        atomic.Uint64 // requests refused because a disk is full
	Mended      atomic.Uint64 // messages that could not be read here and came from another replica
	Quarantined atomic.Uint64 // messages that no replica could give and that were therefore deleted

	Committed, RolledBack atomic.Uint64 // prepared messages that were decided
	Asked                 atomic.Uint64 // queries about prepared messages handed to doors
	Prepared              atomic.Int64  // messages not decided, as this replica has them
	Undecided             atomic.Int64  // of these, those nobody is asked about any more, while it leads
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
	case cmq.KindPublish:
		m.completePublish(c, index, r)
	case cmq.KindPrepare:
		m.completeSend(c, index, r)
	case cmq.KindDecide:
		m.completeDecide(c, r.Errors)
		c.finish(handled(r), nil)
	case cmq.KindQueries:
		if r.Err != nil {
			c.refuse(r.Err)
			return
		}
		m.completeQueries(c, r.Queries)
	case cmq.KindReceive:
		m.untake(c)
		m.completeReceive(c, r)
	case cmq.KindDelete:
		for _, e := range r.Errors {
			if e == nil {
				m.stats.Deleted.Add(1)
			}
		}
		c.finish(handled(r), nil)
	case cmq.KindRelock:
		c.finish(handled(r), nil)
	case cmq.KindRelease:
		m.stats.Released.Add(uint64(len(c.req.Handles)))
		c.finish(&Result{Reply: cmq.Reply{Err: r.Err}}, nil)
	case cmq.KindSpread:
		delete(m.shards, c.req.Shard) // it has none of its own
		c.finish(&Result{Reply: cmq.Reply{Errors: slices.Clone(r.Errors), Numbers: slices.Clone(r.Numbers)}}, nil)
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

// oneError is a result with room for the one error, or none, that an operation on one handle has.
type oneError struct {
	Result
	errors [1]*cmq.Error
}

// handled is the result of an operation on handles or decisions. The broker's own is good only until the next entry.
func handled(r *broker.Result) *Result {
	res := new(oneError)
	res.Reply.Err, res.Reply.Errors = r.Err, append(res.errors[:0], r.Errors...)
	return &res.Result
}

func (m *Machine) completeSend(c *Call, index uint64, r *broker.Result) {
	if r.Err != nil {
		c.refuse(r.Err)
		return
	}
	if r.Index != 0 {
		index = r.Index
		m.stats.Repeated.Add(uint64(r.N))
	} else {
		m.stats.Sent.Add(uint64(r.N))
	}
	m.stored(c, index, r)
}

func (m *Machine) completePublish(c *Call, index uint64, r *broker.Result) {
	delete(m.shards, c.req.Shard) // a topic has no shard, so nobody else looks at the view
	if r.Err != nil {
		c.refuse(r.Err)
		return
	}
	m.stats.Published.Add(uint64(r.N))
	m.stored(c, index, r)
}

// stored answers with the ids of messages that were stored.
func (m *Machine) stored(c *Call, index uint64, r *broker.Result) {
	res := new(oneID)
	ids := res.id[:]
	if r.N > 1 {
		ids = make([]cmq.MsgID, r.N)
	}
	for i := range ids {
		ids[i] = cmq.NewMsgID(m.cfg.Set, index, r.FirstSlot+uint16(i))
	}
	res.Reply.IDs = ids[:r.N]
	c.finish(&res.Result, nil)
}

// oneID is a result with room for the one id that most sends have.
type oneID struct {
	Result
	id [1]cmq.MsgID
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

// oneDelivery is a result with room for the one message that most receives bring.
type oneDelivery struct {
	Result
	at       [1]command.LaneSeq
	messages [1]cmq.Message
}

// newDelivery makes a result with room for n messages.
func newDelivery(n int) *Result {
	if n == 1 {
		one := new(oneDelivery)
		one.Result.at, one.Reply.Messages = one.at[:], one.messages[:]
		return &one.Result
	}
	return &Result{at: make([]command.LaneSeq, n), Reply: cmq.Reply{Messages: make([]cmq.Message, n)}}
}

func (m *Machine) deliver(c *Call, deliveries []broker.Delivery) {
	res := newDelivery(len(deliveries))
	res.shard, res.published = c.req.Shard, m.b.Subscriber(c.req.Shard) != nil
	for i := range deliveries {
		d := &deliveries[i]
		res.at[i] = command.LaneSeq{Lane: d.Lane, Seq: d.Seq}
		res.Reply.Messages[i] = cmq.Message{
			Handle: d.Handle.Outward(c.req.Shard.Queue()), DequeueCount: d.Count, FirstDequeue: at(d.First), NextVisible: at(d.Deadline),
		}
	}
	m.stats.Received.Add(uint64(len(deliveries)))
	c.finish(res, nil)
}
