package access

import (
	"context"

	"github.com/opencmq/cmq/internal/cmq"
)

// Agents is the part of a Backend for agents: processes that deliver what subscriptions have, from within networks that the
// cluster does not reach. An agent has a name, and any number of processes share its work. Names are compared without case.
type Agents interface {
	// AgentSupplies lists the owner's subscriptions that name the agent, by id, and notes that one of its processes is there
	// as p says. connected is how many of them there are, this one included; less than 0: that is not known at the moment.
	AgentSupplies(ctx context.Context, owner, agent string, p cmq.Presence) (list []cmq.Supply, connected int, err error)

	// AgentCall carries out a request on what a subscription has to deliver: KindReceive, KindDelete, KindRelock or
	// KindRelease, whose Shard it fills in. It refuses with ErrSubscriptionNotExist if the owner has no subscription with
	// this id, and a receive also if the subscription does not name the agent: what an agent has received it may settle,
	// whoever delivers the next message.
	AgentCall(ctx context.Context, owner, agent string, id cmq.SubscriptionID, req *cmq.Request) (*cmq.Reply, error)
}
