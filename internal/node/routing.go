package node

import (
	"context"
	"slices"
	"time"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/controller"
	"github.com/opencmq/cmq/internal/route"
)

// metadata shows the controller's service to the router.
type metadata struct{ *controller.Meta }

// Table implements route.Meta.
func (m metadata) Table() route.Table { return m.Meta.Table() }

// peerCalls lets the router call other nodes.
type peerCalls struct{ n *Node }

// Call implements route.Remote.
func (p peerCalls) Call(ctx context.Context, node cmq.NodeID, payload []byte) ([]byte, error) {
	t := p.n.transport.Load()
	if t == nil {
		return nil, cmq.ErrDropped
	}
	return t.Call(ctx, node, payload)
}

func (n *Node) newRouter() *route.Router {
	var controllers []cmq.NodeID
	for _, s := range n.plan.Sets {
		if s.ID == cmq.ControllerSet {
			controllers = s.Replicas
		}
	}
	return route.New(route.Config{
		Node: n.opt.ID, Meta: metadata{n.meta}, Local: n, Remote: peerCalls{n},
		Leader: n.leader, Controllers: controllers, Logger: n.log,
	})
}

// leader is who leads the set as far as this node's replica knows.
func (n *Node) leader(id cmq.SetID) cmq.NodeID {
	if h := n.sets[id]; h != nil && h.host != nil {
		return h.host.Status().Leader
	}
	return 0
}

// deadLetterTarget says which shard of a dead-letter queue takes what comes from source: always the same one, because
// it remembers how far the source's messages have arrived.
func (n *Node) deadLetterTarget(ctx context.Context, queue cmq.QueueID, source cmq.ShardID) (cmq.SetID, cmq.ShardID, bool) {
	q := n.meta.Table().QueueByID(queue)
	if q == nil {
		if n.meta.Sync(ctx) != nil {
			return 0, 0, false
		}
		if q = n.meta.Table().QueueByID(queue); q == nil {
			return 0, 0, false
		}
	}
	s := q.Shards[0]
	return s.Set, s.ID, true
}

// register keeps this node's addresses in the metadata as they are now, until it has succeeded.
func (n *Node) register() {
	self := n.plan.Nodes[slices.IndexFunc(n.plan.Nodes, func(o cmq.Node) bool { return o.ID == n.opt.ID })]
	for wait := time.Second; ; wait = min(2*wait, time.Minute) {
		changed := n.board.Changed()
		if known := n.meta.Table().Node(n.opt.ID); known != nil {
			if *known == self || n.meta.PutNode(n.ctx, self) == nil {
				return
			}
		}
		timer := time.NewTimer(wait)
		select {
		case <-n.ctx.Done():
			timer.Stop()
			return
		case <-changed:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// watchLeaders tells the router of each change of a set's leader, so that polls do not stay parked at a node that hangs.
func (n *Node) watchLeaders(h *hosted) {
	known := cmq.NodeID(0)
	for {
		changed := h.host.Changed()
		if leader := h.host.Status().Leader; leader != 0 && leader != known {
			known = leader
			n.router.LeaderChanged(h.id, leader)
		}
		select {
		case <-changed:
		case <-n.ctx.Done():
			return
		}
	}
}
