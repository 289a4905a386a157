package sim

import (
	"fmt"
	"time"

	"github.com/opencmq/cmq/internal/check"
	"github.com/opencmq/cmq/internal/cmq"
)

// movers move dead messages, and what subscriptions have for queues, as package dispatch does on every node: list, transfer,
// forget, as long as there are any.
type movers struct {
	w      *world
	active map[moverKey]bool // true: notified again meanwhile
	offers map[courierKey][]*offer
}

type moverKey struct {
	node        cmq.NodeID
	incarnation int
	shard       cmq.ShardID
}

const (
	moveBatch   = 4
	moveRetry   = 50 * time.Millisecond
	moveTimeout = 2 * time.Second
)

// notify is the machine's notice on the leader's node.
func (v *movers) notify(p *replica, shard cmq.ShardID) {
	key := moverKey{p.node.id, p.node.incarnation, shard}
	if _, running := v.active[key]; running {
		v.active[key] = true
		return
	}
	v.active[key] = false
	n := p.node
	m := &mover{v: v, key: key, set: p.set, client: &client{
		w: v.w, id: n.id, rng: newStream(v.w.cfg.Seed, fmt.Sprint("mover ", key)), hint: map[cmq.SetID]cmq.NodeID{},
		alive: func() bool { return n.up && n.incarnation == key.incarnation },
	}}
	n.after(0, m.list)
}

// mover works on one shard.
type mover struct {
	v      *movers
	key    moverKey
	set    cmq.SetID
	client *client
}

// wait tries again after a moment.
func (m *mover) wait() { m.v.w.node(m.key.node).after(moveRetry, m.list) }

func (m *mover) list() {
	req := &cmq.Request{Kind: cmq.KindDeadList, Shard: m.key.shard, Max: moveBatch}
	m.client.call(m.set, req, moveTimeout, func(a answer) {
		switch {
		case a.outcome == check.OK && len(a.reply.Messages) > 0:
			m.transfer(a.reply)
		case a.outcome == check.OK && !m.v.active[m.key], a.reply != nil && a.reply.Err == cmq.ErrQueueNotExist:
			delete(m.v.active, m.key)
		default:
			m.v.active[m.key] = false
			m.wait()
		}
	})
}

func (m *mover) transfer(dead *cmq.Reply) {
	if s := m.v.w.outbox(m.key.shard); s != nil {
		switch {
		case dead.Overdue > 0:
			dead.Messages = dead.Messages[:dead.Overdue]
			m.v.w.stats.hit("overdue in an outbox")
		case s.patience > 0 && s.to.set != m.set && m.client.rng.chance(5): // it is too long for the queue
			dead.Messages = dead.Messages[:1]
			m.v.w.stats.hit("too long in an outbox")
		default:
			m.forward(s, dead)
			return
		}
	}
	target := m.v.w.queueByID(dead.Queue)
	if target == nil {
		m.wait()
		return
	}
	req := &cmq.Request{Kind: cmq.KindTransfer, Shard: target.shard, From: m.key.shard, Base: dead.Base, Number: dead.Number}
	for i := range dead.Messages {
		msg := &dead.Messages[i]
		req.Bodies = append(req.Bodies, msg.Body)
		req.IDs = append(req.IDs, msg.ID)
		req.Sources = append(req.Sources, cmq.Source{Queue: m.key.shard.Queue(), Enqueued: msg.Enqueued, DequeueCount: msg.DequeueCount})
	}
	m.client.call(target.set, req, moveTimeout, func(a answer) {
		if a.outcome != check.OK {
			m.wait()
			return
		}
		m.v.w.stats.hit("dead-letter transfers")
		m.forget(a.reply.Number)
	})
}

func (m *mover) forget(number uint64) {
	req := &cmq.Request{Kind: cmq.KindForget, Shard: m.key.shard, Number: number}
	m.client.call(m.set, req, moveTimeout, func(a answer) {
		if a.outcome != check.OK {
			m.wait()
			return
		}
		m.list()
	})
}
