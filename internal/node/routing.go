package node

import (
	"context"
	"slices"
	"time"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/controller"
	"github.com/opencmq/cmq/internal/core/meta"
	"github.com/opencmq/cmq/internal/dispatch"
	"github.com/opencmq/cmq/internal/route"
)

// metadata shows the controller's service to the router.
type metadata struct{ *controller.Meta }

// Table implements route.Meta.
func (m metadata) Table() route.Table { return m.Meta.Table() }

// peerCalls lets the router call other nodes.
type peerCalls struct{ n *Node }

// Start implements route.Remote.
func (p peerCalls) Start(node cmq.NodeID, payload []byte, done func([]byte, error), late func([]byte)) cmq.Pending {
	t := p.n.transport.Load()
	if t == nil {
		done(nil, cmq.ErrDropped)
		return cmq.Answered{}
	}
	return t.Start(node, payload, done, late)
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
		return h.host.Leader()
	}
	return 0
}

// target says which shard takes what comes from the dead list of source (see dispatch.Target): always the same one of a
// queue, because it remembers how far the source's messages have arrived.
func (n *Node) target(ctx context.Context, queue cmq.QueueID, source cmq.ShardID) (dispatch.Destination, bool) {
	q, paused := takes(n.meta.Table(), queue, source)
	if q == nil && !paused && n.meta.Sync(ctx) == nil {
		q, _ = takes(n.meta.Table(), queue, source)
	}
	if q == nil {
		return dispatch.Destination{}, false
	}
	s := q.Shards[0]
	return dispatch.Destination{Set: s.Set, Shard: s.ID, MaxMsgSize: q.Attributes.MaxMsgSize}, true
}

// takes finds the queue with the number, or, if that is 0, the one that the subscription delivers to. Its name is looked up
// each time: it may be made after the subscription, or anew.
func takes(table *meta.Table, queue cmq.QueueID, source cmq.ShardID) (q *cmq.Queue, paused bool) {
	if queue != 0 {
		return table.QueueByID(queue), false
	}
	switch sub := table.SubscriptionByShard(source); {
	case sub == nil:
		return nil, false
	case sub.Push.Paused:
		return nil, true
	default:
		return table.Queue(sub.Owner, sub.Endpoint), false
	}
}

// self is this node with the addresses it advertises now.
func (n *Node) self() cmq.Node {
	return n.opt.Nodes[slices.IndexFunc(n.opt.Nodes, func(o cmq.Node) bool { return o.ID == n.opt.ID })]
}

// register puts this node's addresses as they are now into the metadata. It tries until it has succeeded.
func (n *Node) register() {
	self := n.self()
	for wait := firstTry; n.ctx.Err() == nil; wait = min(2*wait, lastTry) {
		changed := n.board.Changed()
		known := n.meta.Table().Node(n.opt.ID)
		if known != nil && *known == self {
			return
		}
		if known != nil || n.opt.Join {
			ctx, cancel := context.WithTimeout(n.ctx, callLimit)
			err := n.meta.PutNode(ctx, self)
			cancel()
			if err == nil {
				continue
			}
			n.log.Debug("this node's addresses could not be registered yet", "error", err)
			changed = nil
		}
		n.pause(changed, wait)
	}
}

// Waiting times of the node's own calls to the controller.
const (
	firstTry  = 100 * time.Millisecond
	lastTry   = 10 * time.Second
	callLimit = 10 * time.Second
	// refresh is how often a node without a replica of set 0 looks for news.
	refresh = 2 * time.Second
)

// pause waits for news, for d, or for the end of the node.
func (n *Node) pause(news <-chan struct{}, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-n.ctx.Done():
	case <-news:
	case <-timer.C:
	}
}

// followPeers connects to every node the metadata knows. The configured addresses come first: those in the metadata may
// be older.
func (n *Node) followPeers() {
	for n.ctx.Err() == nil {
		changed := n.board.Changed()
		n.connect(n.meta.Table().Nodes())
		n.pause(changed, time.Hour)
	}
}

// followTable asks for news of the metadata, on a node without a replica of set 0.
func (n *Node) followTable() {
	for n.ctx.Err() == nil {
		ctx, cancel := context.WithTimeout(n.ctx, callLimit)
		err := n.meta.Sync(ctx)
		cancel()
		if err != nil {
			n.log.Debug("no news of the metadata", "error", err) // the old table is the best there is
		}
		n.pause(nil, refresh)
	}
}

func (n *Node) connect(nodes []*cmq.Node) {
	t := n.transport.Load()
	if t == nil || len(nodes) == 0 {
		return
	}
	peers := make(map[cmq.NodeID]string)
	for _, o := range nodes {
		if o.Peer != "" {
			peers[o.ID] = o.Peer
		}
	}
	for i := range n.opt.Nodes {
		peers[n.opt.Nodes[i].ID] = n.opt.Nodes[i].Peer
	}
	t.SetPeers(peers)
}

// watchLeaders tells the router of each change of a set's leader, so that polls do not stay parked at a node that hangs,
// and says so if this node begins or ceases to lead.
func (n *Node) watchLeaders(h *hosted) {
	known, leads := cmq.NodeID(0), false
	for {
		changed := h.host.Changed()
		leader := h.host.Leader()
		if leader != 0 && leader != known {
			known = leader
			n.router.LeaderChanged(h.id, leader)
		}
		if (leader == n.opt.ID) != leads {
			leads = !leads
			if h.id == cmq.ControllerSet && leads {
				n.attendance.Begin()
			}
			select {
			case n.leads <- struct{}{}:
			default:
			}
		}
		select {
		case <-changed:
		case <-n.ctx.Done():
			return
		}
	}
}
