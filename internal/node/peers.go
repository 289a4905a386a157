package node

import (
	"time"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/datadir"
	"github.com/opencmq/cmq/internal/set"
	"github.com/opencmq/cmq/internal/set/transport"
)

// peerHandler is what the transport sees of the node.
type peerHandler struct{ n *Node }

func (n *Node) startTransport() {
	if n.opt.Peer == nil {
		for _, id := range n.setIDs {
			n.campaign(id)
		}
		return
	}
	peers := make(map[cmq.NodeID]string)
	for i := range n.opt.Nodes {
		peers[n.opt.Nodes[i].ID] = n.opt.Nodes[i].Peer
	}
	n.transport.Store(transport.New(transport.Config{
		Node: n.opt.ID, Cluster: datadir.ClusterID(n.opt.Cluster), Listener: n.opt.Peer,
		Peers: peers, Handler: peerHandler{n}, Logger: n.log,
	}))
	if len(n.opt.Nodes) == 1 {
		for _, id := range n.setIDs {
			n.campaign(id)
		}
	}
}

// sender is how the replica of a set sends.
func (n *Node) sender(id cmq.SetID) func(set.Envelope) {
	return func(e set.Envelope) {
		if t := n.transport.Load(); t != nil {
			t.Send(e.To, id, e.Message)
		}
	}
}

// Receive implements transport.Handler.
func (p peerHandler) Receive(from cmq.NodeID, id cmq.SetID, m set.Message) {
	if h := p.n.sets[id]; h != nil {
		h.host.Deliver(from, m)
	}
}

// Call implements transport.Handler.
func (p peerHandler) Call(from cmq.NodeID, payload []byte, reply func([]byte, error) bool) cmq.Pending {
	return p.n.router.Serve(from, payload, reply)
}

// PeerUp implements transport.Handler: the natural leader of a set without a leader stands at once.
func (p peerHandler) PeerUp(cmq.NodeID) {
	for _, id := range p.n.setIDs {
		h := p.n.sets[id]
		if h.voters[0] == p.n.opt.ID && h.host.Leader() == 0 {
			p.n.campaign(id)
		}
	}
}

// PeerDown implements transport.Handler.
func (p peerHandler) PeerDown(id cmq.NodeID) {
	for _, s := range p.n.setIDs {
		p.n.sets[s].host.PeerDown(id)
	}
}

func (n *Node) campaign(id cmq.SetID) {
	h := n.sets[id]
	h.host.Exec(func(set.Now) { h.replica.Campaign() })
}

// balanceInterval is how often leaders of foreign sets look whether they can give them back.
const balanceInterval = 10 * time.Second

// balance gives leadership back to each set's natural leader, so that every node leads its share.
func (n *Node) balance() {
	ticker := time.NewTicker(balanceInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-n.ctx.Done():
			return
		}
		for _, id := range n.setIDs {
			h := n.sets[id]
			if natural := h.voters[0]; natural != n.opt.ID && h.host.Status().Leading {
				h.host.Exec(func(set.Now) { h.replica.GiveTo(natural) })
			}
		}
	}
}
