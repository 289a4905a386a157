package route

import (
	"context"
	"errors"
	"time"

	"github.com/opencmq/cmq/internal/cmq"
)

// attendWait bounds the question who is there: the answer is worth no more.
const attendWait = 2 * time.Second

// AgentSupplies lists the subscriptions that the agent delivers, as of now, and notes that one of its processes is there.
// What fails of the latter is no failure: the next call says the same.
func (r *Router) AgentSupplies(ctx context.Context, owner, agent string, p cmq.Presence) ([]cmq.Supply, int, error) {
	if err := r.sync(ctx); err != nil {
		return nil, 0, err
	}
	var list []cmq.Supply
	table := r.cfg.Meta.Table()
	for _, s := range table.AllSubscriptions() {
		if s.Owner != owner || !names(s, agent) {
			continue
		}
		if t := table.TopicByID(s.Topic); t != nil {
			list = append(list, cmq.Supply{Topic: t, Subscription: r.namedSubscription(s)})
		}
	}
	return list, r.attend(ctx, owner, agent, p), nil
}

// names reports whether the subscription is one of the agent's.
func names(s *cmq.Subscription, agent string) bool {
	return s.ByAgent() && cmq.FoldName(s.Push.Agent) == cmq.FoldName(agent)
}

// attend says that a process of the agent is there, or only asks if p is of none, and gives how many are; -1: not known.
func (r *Router) attend(ctx context.Context, owner, agent string, p cmq.Presence) int {
	ctx, cancel := context.WithTimeout(ctx, attendWait)
	defer cancel()
	reply, err := refused(r.Do(ctx, cmq.ControllerSet, &cmq.Request{
		Kind: cmq.KindAttend, Payload: []byte(cmq.AgentGroup(owner, agent)), Number: p.Member, Lock: p.Stay,
	}))
	switch {
	case err != nil:
		r.log.Debug("which agents are connected is not known", "agent", agent, "err", err)
		return -1
	case reply.Base == 0:
		return -1
	}
	return int(reply.Number)
}

// AgentCall carries out a request on what a subscription has to deliver.
func (r *Router) AgentCall(ctx context.Context, owner, agent string, id cmq.SubscriptionID, req *cmq.Request) (*cmq.Reply, error) {
	topic, err := r.findSupply(ctx, owner, agent, id, req.Kind)
	if err != nil {
		return nil, err
	}
	one := *req
	one.Shard = id.Shard()
	reply, err := refused(r.Do(ctx, topic.Set, &one))
	if errors.Is(err, cmq.ErrQueueNotExist) {
		err = cmq.ErrSubscriptionNotExist
	}
	return reply, err
}

// findSupply gives the topic of a subscription that the agent may call for, looking once more in a fresh table if this one
// does not allow it.
func (r *Router) findSupply(ctx context.Context, owner, agent string, id cmq.SubscriptionID, kind cmq.Kind) (*cmq.Topic, error) {
	for fresh := false; ; fresh = true {
		table := r.cfg.Meta.Table()
		s := table.SubscriptionByShard(id.Shard())
		if s != nil && s.Owner == owner && (kind != cmq.KindReceive || names(s, agent)) {
			if t := table.TopicByID(s.Topic); t != nil {
				return t, nil
			}
		}
		if fresh {
			return nil, cmq.ErrSubscriptionNotExist
		}
		if err := r.sync(ctx); err != nil {
			return nil, err
		}
	}
}
