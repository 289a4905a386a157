package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/opencmq/cmq/client"
	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/dispatch/push"
	"github.com/opencmq/cmq/internal/dispatch/push/guard"
	"github.com/opencmq/cmq/internal/dispatch/push/web"
)

// Service is the cluster, as a client.Agent brings it.
type Service interface {
	Subscriptions(ctx context.Context, known string) (*client.AgentSubscriptions, error)
	Receive(ctx context.Context, subscriptionID string, o client.ReceiveOptions) ([]client.PublishedMessage, error)
	Delete(ctx context.Context, subscriptionID, handle string) error
	ChangeVisibility(ctx context.Context, subscriptionID, handle string, d time.Duration) error
	Leave(ctx context.Context) error
}

// Config says what an Agent needs.
type Config struct {
	Name    string // as subscriptions give it
	Service Service
	Allow   guard.Allowed    // addresses that may be delivered to; no others are, not even public ones
	Own     []netip.AddrPort // doors of the cluster: never delivered to, so that nothing goes in circles
	Logger  *slog.Logger
}

// Times of the questions for subscriptions.
const (
	// askEvery is the pause between two questions. The cluster takes an agent for gone after 15 s without one.
	askEvery   = 3 * time.Second
	askLimit   = 10 * time.Second // of one question
	firstPause = 100 * time.Millisecond
	lastPause  = 10 * time.Second
	// leaveLimit is for how long the cluster is told that the agent leaves. It finds out by itself.
	leaveLimit = 2 * time.Second
)

// Agent delivers what the subscriptions with its name have.
type Agent struct {
	cfg       Config
	log       *slog.Logger
	endpoints *web.Client
	pusher    *push.Dispatcher

	// The rest belongs to Run.
	version string // of list
	list    []client.AgentSubscription
	agents  int  // that share the work, at least 1
	lost    bool // the last question was not answered
}

// New makes an Agent that does nothing yet.
func New(cfg Config) *Agent {
	own := func() []netip.AddrPort { return cfg.Own }
	endpoints := web.NewClient(guard.New(guard.Config{Allow: cfg.Allow, Only: true, Own: own}), 0)
	return newAgent(cfg, endpoints, map[cmq.Protocol]push.Target{
		cmq.ProtocolHTTP:     web.NewEndpoints(endpoints),
		cmq.ProtocolFunction: web.NewFunctions(endpoints),
	})
}

func newAgent(cfg Config, endpoints *web.Client, targets map[cmq.Protocol]push.Target) *Agent {
	a := &Agent{cfg: cfg, log: cfg.Logger.With("agent", cfg.Name), endpoints: endpoints, agents: 1}
	a.pusher = push.New(push.Config{Do: a.do, Agent: cfg.Name, Logger: a.log, Targets: targets})
	return a
}

// Stats counts what was delivered.
func (a *Agent) Stats() *push.Stats { return a.pusher.Stats() }

// Run delivers until ctx ends, and then returns nil. It returns an error at once if the cluster refuses the first question
// for a reason that time does not cure, such as a wrong key. A cluster that cannot be reached is waited for. connected is
// called when it answered for the first time, with the number of subscriptions. Close has to be called afterwards.
func (a *Agent) Run(ctx context.Context, connected func(subscriptions int)) error {
	for known, failures := false, 0; ctx.Err() == nil; {
		err := a.ask(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil && !known:
			known = true
			connected(len(a.list))
		case err != nil && !known && !client.Temporary(err):
			return err
		case err != nil && !a.lost:
			a.lost = true
			a.log.Warn("the cluster does not say what to deliver; asking again until it does", "error", err)
		}
		failures++
		pause := min(firstPause<<min(failures, 10), lastPause)
		if err == nil {
			failures, pause = 0, askEvery
		}
		wait(ctx, pause/2+rand.N(pause/2+1)) // so that agents that were started at once do not ask at once
	}
	return nil
}

func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// Close receives no more, waits for deliveries under way, and takes leave of the cluster. When ctx ends, what is left is cut
// off, and comes again to another agent when its lock ends.
func (a *Agent) Close(ctx context.Context) {
	a.pusher.Close(ctx)
	a.endpoints.Close()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveLimit)
	defer cancel()
	if err := a.cfg.Service.Leave(ctx); err != nil {
		a.log.Debug("the cluster does not know that this agent has gone", "error", err)
	}
}

// ask gets the subscriptions and lets them be delivered. If that fails, those known are delivered further.
func (a *Agent) ask(ctx context.Context) error {
	asking, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	answer, err := a.cfg.Service.Subscriptions(asking, a.version)
	if err != nil {
		return err
	}
	if a.lost {
		a.log.Info("the cluster answers again")
	}
	a.lost = false
	agents := a.agents
	if answer.Agents > 0 {
		agents = answer.Agents
	}
	if !answer.Changed && agents == a.agents {
		return nil
	}
	if answer.Changed {
		a.version, a.list = answer.Version, answer.List
	}
	if agents != a.agents {
		a.log.Info("the work is shared", "agents", agents)
	}
	a.agents = agents
	a.pusher.Update(a.outlets(answer.Changed))
	return nil
}

// outlets are the subscriptions that are delivered from here. Of one whose endpoint is surely not allowed nothing is
// received: its messages wait, for another agent or until this one may deliver them. say whether to log which.
func (a *Agent) outlets(say bool) (list []push.Outlet) {
	for i := range a.list {
		s := &a.list[i]
		outlet, err := a.outlet(s)
		if err == nil {
			err = a.endpoints.Check(s.Endpoint)
		}
		switch {
		case err == nil:
			list = append(list, outlet)
		case say:
			a.log.Warn("a subscription is left alone", "topic", s.Topic, "subscription", s.Name, "error", err)
		}
	}
	if say {
		a.log.Info("delivering", "subscriptions", len(list), "left_alone", len(a.list)-len(list))
	}
	return list
}

func (a *Agent) outlet(s *client.AgentSubscription) (push.Outlet, error) {
	id, ok := cmq.ParseSubscriptionID(s.ID)
	if !ok {
		return push.Outlet{}, fmt.Errorf("the cluster calls it %q, which is no id of a subscription", s.ID)
	}
	protocol := cmq.Protocol(s.Protocol)
	if !protocol.Agents() {
		return push.Outlet{}, errors.New("this program does not deliver with protocol " + s.Protocol)
	}
	p := &s.Push
	sub := &cmq.Subscription{
		ID: id, Name: s.Name, Owner: s.TopicOwner, Protocol: protocol, Endpoint: s.Endpoint,
		Strategy: cmq.Strategy(s.NotifyStrategy), Format: cmq.Format(s.NotifyContentFormat),
		Push: cmq.PushAttributes{
			Secret: valueOf(p.Secret), Rate: a.part(valueOf(p.Rate)), Concurrency: a.part(valueOf(p.Concurrency)),
			Ordered: valueOf(p.Ordered), Paused: valueOf(p.Paused), CA: valueOf(p.CA), Agent: a.cfg.Name,
		},
	}
	if valueOf(p.DeadLetter) != "" {
		sub.Push.DeadLetter = someQueue
	}
	return push.Outlet{Topic: &cmq.Topic{Name: s.Topic, Owner: s.TopicOwner}, Subscription: sub, Shared: a.agents > 1}, nil
}

// someQueue stands for the dead-letter queue: push only asks whether there is one, the cluster knows which.
const someQueue cmq.QueueID = 1

// part is this agent's part of a bound, at least 1; no bound stays none.
func (a *Agent) part(most int) int {
	if most == 0 {
		return 0
	}
	return max(1, most/a.agents)
}

func valueOf[T any](p *T) (value T) {
	if p != nil {
		value = *p
	}
	return value
}
