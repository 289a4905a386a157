package node

import "github.com/opencmq/cmq/internal/cmq"

// attend answers which agents are there, from the memory of set 0's leader.
func (n *Node) attend(h *hosted, req *cmq.Request) (*cmq.Reply, error) {
	if leader := h.host.Status().Leader; leader != n.opt.ID {
		return nil, &cmq.NotLeaderError{Set: h.id, Leader: leader}
	}
	return n.attendance.Attend(req), nil
}

// agents says how many agents are connected, and how many subscriptions wait for one because none of the name that they
// give is, as far as this node knows: only set 0's leader does, the others say 0.
func (n *Node) agents() (connected, waiting int) {
	if n.leader(cmq.ControllerSet) != n.opt.ID {
		return 0, 0
	}
	for _, s := range n.meta.Table().AllSubscriptions() {
		if !s.ByAgent() {
			continue
		}
		if there, known := n.attendance.Count(cmq.AgentGroup(s.Owner, s.Push.Agent)); known && there == 0 {
			waiting++
		}
	}
	return n.attendance.Members(), waiting
}
