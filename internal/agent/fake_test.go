package agent

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/client"
	"github.com/opencmq/cmq/internal/access/accesstest"
	"github.com/opencmq/cmq/internal/clock"
	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/dispatch/push"
	"github.com/opencmq/cmq/internal/dispatch/push/guard"
	"github.com/opencmq/cmq/internal/dispatch/push/web"
)

const owner = "1"

// service is the backend of doors in memory as an agent's client would bring it, without what is between them. It answers at
// once and in virtual time.
type service struct {
	*accesstest.Fake
	member uint64
	fails  func(call string) error // asked before each call; nil: nothing fails
}

func (s *service) fail(call string) error {
	if s.fails == nil {
		return nil
	}
	return s.fails(call)
}

func (s *service) Subscriptions(ctx context.Context, known string) (*client.AgentSubscriptions, error) {
	if err := s.fail("list"); err != nil {
		return nil, err
	}
	list, connected, err := s.AgentSupplies(ctx, owner, "plant", cmq.Presence{Member: s.member, Stay: time.Minute})
	if err != nil {
		return nil, err
	}
	out := &client.AgentSubscriptions{Agents: connected}
	for _, l := range list {
		p := &l.Subscription.Push
		out.Version += l.Subscription.ID.String() + strconv.FormatBool(p.Paused) + l.Subscription.Endpoint
		out.List = append(out.List, client.AgentSubscription{ID: l.Subscription.ID.String(), Name: l.Subscription.Name, Topic: l.Topic.Name, TopicOwner: l.Topic.Owner,
			Subscription: client.Subscription{Protocol: string(l.Subscription.Protocol), Endpoint: l.Subscription.Endpoint,
				NotifyStrategy: string(l.Subscription.Strategy), NotifyContentFormat: string(l.Subscription.Format),
				Push: client.PushSettings{Rate: &p.Rate, Concurrency: &p.Concurrency, Ordered: &p.Ordered, Paused: &p.Paused, DeadLetter: &p.DeadLetterName}}})
	}
	if out.Changed = out.Version != known; !out.Changed {
		out.List = nil
	}
	return out, nil
}

func (s *service) Leave(ctx context.Context) error {
	_, _, err := s.AgentSupplies(ctx, owner, "plant", cmq.Presence{Member: s.member})
	return err
}

func (s *service) call(ctx context.Context, name, id string, req *cmq.Request) (*cmq.Reply, error) {
	if err := s.fail(name); err != nil {
		return nil, err
	}
	number, _ := cmq.ParseSubscriptionID(id)
	reply, err := s.AgentCall(ctx, owner, "plant", number, req)
	switch {
	case err == cmq.ErrSubscriptionNotExist:
		return nil, client.ErrNotSubscribed
	case err == cmq.ErrTooMany:
		return nil, client.ErrTooMany
	case err != nil:
		return nil, err
	case len(reply.Errors) > 0 && reply.Errors[0] != nil:
		return nil, client.ErrHandleInvalid
	}
	return reply, nil
}

func (s *service) Receive(ctx context.Context, id string, o client.ReceiveOptions) (out []client.PublishedMessage, err error) {
	reply, err := s.call(ctx, "receive", id, &cmq.Request{Kind: cmq.KindReceive, Max: o.Max, Wait: o.Wait, Lock: o.Visibility})
	if err != nil {
		return nil, err
	}
	if len(reply.Messages) == 0 {
		return nil, client.ErrNoMessage
	}
	for _, m := range reply.Messages {
		out = append(out, client.PublishedMessage{ID: m.ID.String(), Handle: m.Handle.String(), Body: m.Body, Published: m.Enqueued,
			NextVisible: m.NextVisible, DequeueCount: m.DequeueCount, Tags: m.Publication.Tags, RoutingKey: m.Publication.RoutingKey})
	}
	return out, nil
}

func (s *service) settle(ctx context.Context, name, id, handle string, req cmq.Request) error {
	n, err := strconv.ParseUint(handle, 10, 64)
	if err != nil {
		return err
	}
	req.Handles = []cmq.Handle{cmq.Handle(n)}
	_, err = s.call(ctx, name, id, &req)
	return err
}

func (s *service) Delete(ctx context.Context, id, handle string) error {
	return s.settle(ctx, "delete", id, handle, cmq.Request{Kind: cmq.KindDelete})
}

func (s *service) ChangeVisibility(ctx context.Context, id, handle string, d time.Duration) error {
	return s.settle(ctx, "relock", id, handle, cmq.Request{Kind: cmq.KindRelock, Lock: d})
}

// seen is a try as the endpoint had it.
type seen struct {
	by   uint64 // which agent
	body string
	try  int
	at   time.Duration // since the beginning
}

// world is a backend, endpoints, and any number of agents, in a bubble of virtual time.
type world struct {
	t     *testing.T
	fake  *accesstest.Fake
	began time.Time

	workers []*worker

	mu     sync.Mutex
	seen   []seen
	answer func(ctx context.Context) error // of all endpoints; nil: every message is taken
}

func bubble(t *testing.T, f func(t *testing.T, w *world)) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, fake: accesstest.New(clock.Real()), began: time.Now()}
		_, err := w.fake.CreateTopic(t.Context(), owner, "news", cmq.TopicSettings{})
		require.NoError(t, err)
		defer w.end()
		f(t, w)
	})
}

// end stops the agents that the test has not stopped, because it failed.
func (w *world) end() {
	over, cancel := context.WithCancel(context.Background())
	cancel()
	for _, a := range w.workers {
		a.stop()
		a.Close(over)
	}
}

func (w *world) subscribe(name, endpoint string, change ...func(*cmq.SubscriptionSettings)) {
	protocol, agent := cmq.ProtocolHTTP, "plant"
	s := cmq.SubscriptionSettings{Protocol: &protocol, Endpoint: &endpoint, Agent: &agent}
	for _, f := range change {
		f(&s)
	}
	_, err := w.fake.Subscribe(w.t.Context(), owner, "news", name, s)
	require.NoError(w.t, err)
}

func (w *world) publish(bodies ...string) {
	for _, b := range bodies {
		_, err := w.fake.Publish(w.t.Context(), owner, "news", [][]byte{[]byte(b)}, cmq.Publication{Tags: []string{"a"}})
		require.NoError(w.t, err)
	}
}

// waiting is how much the subscription has still to deliver.
func (w *world) waiting(name string) int64 {
	_, n, err := w.fake.SubscriptionAttributes(w.t.Context(), owner, "news", name)
	require.NoError(w.t, err)
	return n
}

// connected is how many agents there are.
func (w *world) connected(name string) int {
	s, _, err := w.fake.SubscriptionAttributes(w.t.Context(), owner, "news", name)
	require.NoError(w.t, err)
	return s.Push.Agents
}

// pass lets time go on and everything happen that is to happen by then.
func (w *world) pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// answers says what endpoints do from now on.
func (w *world) answers(f func(ctx context.Context) error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answer = f
}

// faults are the calls of the service that are not answered.
type faults struct {
	mu   sync.Mutex
	down map[string]bool
}

func (f *faults) set(calls ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.down = make(map[string]bool)
	for _, c := range calls {
		f.down[c] = true
	}
}

func (f *faults) of(call string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down[call] {
		return &client.TransportError{Action: call, Sent: call == "delete", Err: errors.New("no route")}
	}
	return nil
}

// target is the network of one agent.
type target struct {
	w  *world
	by uint64
}

func (t target) Deliver(ctx context.Context, d *push.Delivery) error {
	t.w.mu.Lock()
	t.w.seen = append(t.w.seen, seen{t.by, string(d.Message.Body), d.Message.DequeueCount, time.Since(t.w.began)})
	answer := t.w.answer
	t.w.mu.Unlock()
	if answer == nil {
		return nil
	}
	return answer(ctx)
}

func (w *world) tries() []seen {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]seen(nil), w.seen...)
}

// worker is one agent.
type worker struct {
	*Agent
	service   *service
	log       *bytes.Buffer
	connected int // subscriptions at first; -1: not yet
	stop      context.CancelFunc
	ended     chan error
}

// start begins an agent that may deliver to 10.0.0.0/8.
func (w *world) start(member uint64, fails func(string) error) *worker {
	allow, err := guard.ParseAllowed([]string{"10.0.0.0/8"})
	require.NoError(w.t, err)
	a := &worker{service: &service{Fake: w.fake, member: member, fails: fails}, log: new(bytes.Buffer), connected: -1, ended: make(chan error, 1)}
	cfg := Config{Name: "plant", Service: a.service, Logger: slog.New(slog.NewTextHandler(a.log, nil))}
	a.Agent = newAgent(cfg, web.NewClient(guard.New(guard.Config{Allow: allow, Only: true}), 0), map[cmq.Protocol]push.Target{cmq.ProtocolHTTP: target{w, member}})
	ctx, cancel := context.WithCancel(w.t.Context())
	a.stop = cancel
	w.workers = append(w.workers, a)
	go func() { a.ended <- a.Run(ctx, func(n int) { a.connected = n }) }()
	return a
}

// close ends the agent as its command does.
func (a *worker) close(ctx context.Context) error {
	a.stop()
	err := <-a.ended
	a.Close(ctx)
	return err
}
