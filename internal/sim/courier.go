package sim

import (
	"time"

	"github.com/opencmq/cmq/internal/check"
	"github.com/opencmq/cmq/internal/cmq"
)

// offer is what an outbox has for the queue of its subscription, which is on another set.
type offer struct {
	m    *mover
	s    *subscription
	list *cmq.Reply
}

// courierKey names those of whom one courier carries the offers: outboxes of one set and node, queues of one set.
type courierKey struct {
	node        cmq.NodeID
	incarnation int
	from, to    cmq.SetID
}

// courierWait is how long a courier waits for more offers.
const courierWait = 20 * time.Millisecond

// offer lets a courier take what an outbox has, after a moment in which others may offer something.
func (v *movers) offer(o *offer) {
	key := courierKey{o.m.key.node, o.m.key.incarnation, o.m.set, o.s.to.set}
	v.offers[key] = append(v.offers[key], o)
	if len(v.offers[key]) == 1 {
		v.w.node(key.node).after(o.m.client.rng.between(0, courierWait), func() { v.spread(key) })
	}
}

// spread carries all offers with one request, in which each message is once.
func (v *movers) spread(key courierKey) {
	offers := v.offers[key]
	delete(v.offers, key)
	req := &cmq.Request{Kind: cmq.KindSpread}
	places := map[cmq.MsgID]uint16{}
	for _, o := range offers {
		share := cmq.Share{Shard: o.s.to.shard, From: o.m.key.shard, Base: o.list.Base, Number: o.list.Number}
		for i := range o.list.Messages {
			msg := &o.list.Messages[i]
			at, known := places[msg.ID]
			if !known {
				at = uint16(len(req.Bodies))
				places[msg.ID] = at
				req.IDs, req.Bodies = append(req.IDs, msg.ID), append(req.Bodies, msg.Body)
			} else {
				v.w.stats.hit("messages spread as one")
			}
			share.Places = append(share.Places, at)
		}
		req.Shares = append(req.Shares, share)
	}
	offers[0].m.client.call(key.to, req, moveTimeout, func(a answer) {
		for i, o := range offers {
			if a.outcome != check.OK || a.reply.Errors[i] != nil {
				o.m.wait()
				continue
			}
			v.w.stats.hit("forwarded by copy")
			o.m.forget(a.reply.Numbers[i])
		}
	})
}
