package accesstest

import (
	"context"
	"time"

	"github.com/opencmq/cmq/internal/access"
	"github.com/opencmq/cmq/internal/clock"
	"github.com/opencmq/cmq/internal/cmq"
)

// AgentSupplies lists the subscriptions of an agent. A member is there until it leaves.
func (f *Fake) AgentSupplies(_ context.Context, owner, agent string, p cmq.Presence) (list []cmq.Supply, connected int, err error) {
	err = f.enter(access.ListSubscriptionByAgent)
	defer f.mu.Unlock()
	if err != nil {
		return nil, 0, err
	}
	for _, t := range f.topics {
		for _, s := range t.subscriptions {
			if s.Owner == owner && s.delivers(agent) {
				topic, subscription := t.Topic, s.Subscription
				subscription.Push.DeadLetterName = f.nameOf(s.Push.DeadLetter)
				list = append(list, cmq.Supply{Topic: &topic, Subscription: &subscription})
			}
		}
	}
	group := cmq.AgentGroup(owner, agent)
	if f.agents[group] == nil {
		f.agents[group] = make(map[uint64]bool)
	}
	if f.agents[group][p.Member] = true; p.Stay <= 0 {
		delete(f.agents[group], p.Member)
	}
	return list, f.connected(owner, agent), nil
}

func (s *subscription) delivers(agent string) bool {
	return s.ByAgent() && cmq.FoldName(s.Push.Agent) == cmq.FoldName(agent)
}

func (f *Fake) connected(owner, agent string) int {
	return len(f.agents[cmq.AgentGroup(owner, agent)])
}

// backlog is how many messages the subscription has still to deliver.
func (f *Fake) backlog(s *subscription) int64 {
	at := f.status(&s.kept)
	return s.waiting + at.Active + at.Inactive
}

// AgentCall works on the messages of a subscription. A receive that waits gets a message whose lock ends meanwhile.
func (f *Fake) AgentCall(ctx context.Context, owner, agent string, id cmq.SubscriptionID, req *cmq.Request) (*cmq.Reply, error) {
	var end clock.Timer
	for {
		reply, changed, due, err := f.agentCall(owner, agent, id, req)
		if err != nil || req.Kind != cmq.KindReceive || len(reply.Messages) > 0 || req.Wait == 0 {
			return reply, err
		}
		if end == nil {
			end = f.Clock.NewTimer(req.Wait)
			defer end.Stop()
			notify(f.Waiting, id.String())
		}
		var unlocked <-chan time.Time
		if !due.IsZero() {
			timer := f.Clock.NewTimer(due.Sub(f.Clock.Now()))
			defer timer.Stop()
			unlocked = timer.C()
		}
		select {
		case <-changed:
		case <-unlocked:
		case <-end.C():
			return reply, nil
		case <-ctx.Done():
			notify(f.Cancelled, id.String())
			return nil, ctx.Err()
		}
	}
}

func (f *Fake) agentCall(owner, agent string, id cmq.SubscriptionID, req *cmq.Request) (reply *cmq.Reply, changed chan struct{}, due time.Time, err error) {
	err = f.enter(agentAction(req.Kind))
	defer f.mu.Unlock()
	if err != nil {
		return nil, nil, due, err
	}
	s := f.supply(owner, id)
	if s == nil || req.Kind == cmq.KindReceive && !s.delivers(agent) {
		return nil, nil, due, cmq.ErrSubscriptionNotExist
	}
	reply = new(cmq.Reply)
	if req.Kind == cmq.KindReceive {
		s.kept.Attributes.MaxInFlight, s.kept.Attributes.VisibilityTimeout = cmq.DefaultMaxInFlight, agentLock
		if s.InOrder() {
			s.kept.Attributes.MaxInFlight = 1
		}
		reply.Messages, err = f.take(&s.kept, req.Max, req.Lock)
		for _, m := range s.kept.messages {
			if m.locked && !m.deleted && (due.IsZero() || m.NextVisible.Before(due)) {
				due = m.NextVisible
			}
		}
		return reply, f.changed, due, err
	}
	for _, handle := range req.Handles {
		reply.Errors = append(reply.Errors, f.settle(s, handle, req))
	}
	f.wake()
	if req.Kind == cmq.KindRelease && f.Released != nil {
		f.Released <- req.Handles
	}
	return reply, nil, due, nil
}

// agentLock is for how long an agent's message is locked if it does not say.
const agentLock = 30 * time.Second

func agentAction(kind cmq.Kind) access.Action {
	switch kind {
	case cmq.KindReceive, cmq.KindRelease:
		return access.ReceiveSubscriptionMessage
	case cmq.KindDelete:
		return access.DeleteSubscriptionMessage
	}
	return access.ChangeSubscriptionMessageVisibility
}

func (f *Fake) settle(s *subscription, handle cmq.Handle, req *cmq.Request) *cmq.Error {
	m := f.locked(&s.kept, handle)
	switch {
	case m == nil:
		return cmq.ErrHandleInvalid
	case req.Kind == cmq.KindDelete:
		m.deleted = true
	case req.Kind == cmq.KindRelock:
		m.NextVisible = f.Clock.Now().Add(req.Lock)
	case req.Kind == cmq.KindRelease:
		m.locked = false
		m.DequeueCount--
	}
	return nil
}

func (f *Fake) supply(owner string, id cmq.SubscriptionID) *subscription {
	for _, t := range f.topics {
		for _, s := range t.subscriptions {
			if s.Owner == owner && s.ID == id {
				return s
			}
		}
	}
	return nil
}
