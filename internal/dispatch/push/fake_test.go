package push

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/internal/cmq"
)

// sets is all shards of subscriptions, as small as can be: messages in order, locks, counts, dead letters.
type sets struct {
	mu      sync.Mutex
	shards  map[cmq.ShardID]*shard
	handles cmq.Handle
	changed chan struct{}
	before  func(req *cmq.Request) error // asked before each request; nil: nothing fails
	after   func(req *cmq.Request) error // asked after each: the answer is lost
}

type shard struct {
	messages []*message
	inFlight int // MaxInFlight; 0: any
	tries    int // of the dead-letter policy; 0: none
	dead     []string
	deleted  []string
}

type message struct {
	id     cmq.MsgID
	body   string
	sent   time.Time
	count  int
	handle cmq.Handle
	locked time.Time
}

func newSets() *sets {
	return &sets{shards: make(map[cmq.ShardID]*shard), changed: make(chan struct{})}
}

func (s *sets) publish(id cmq.SubscriptionID, bodies ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sh := s.shards[id.Shard()]
	for _, b := range bodies {
		n := len(sh.messages) + len(sh.deleted) + len(sh.dead)
		sh.messages = append(sh.messages, &message{id: cmq.MsgID(uint64(id)<<32 + uint64(n) + 1), body: b, sent: time.Now()})
	}
	s.notify()
}

func (s *sets) notify() {
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *sets) do(ctx context.Context, _ cmq.SetID, req *cmq.Request) (*cmq.Reply, error) {
	until := time.Now().Add(req.Wait)
	for {
		if s.before != nil {
			if err := s.before(req); err != nil {
				return nil, err
			}
		}
		s.mu.Lock()
		reply, next := s.carryOut(req)
		changed := s.changed
		s.mu.Unlock()
		if s.after != nil {
			if err := s.after(req); err != nil {
				return nil, err
			}
		}
		if req.Kind != cmq.KindReceive || reply.Err != nil || len(reply.Messages) > 0 || !time.Now().Before(until) {
			return reply, nil
		}
		wait := time.Until(until)
		if !next.IsZero() {
			wait = min(wait, time.Until(next))
		}
		select {
		case <-time.After(wait):
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// carryOut does it and says when the next lock ends.
func (s *sets) carryOut(req *cmq.Request) (reply *cmq.Reply, next time.Time) {
	sh := s.shards[req.Shard]
	if sh == nil {
		return &cmq.Reply{Err: cmq.ErrQueueNotExist}, next
	}
	now := time.Now()
	locked := sh.expire(now)
	reply = &cmq.Reply{}
	switch req.Kind {
	case cmq.KindStatus:
		reply.Status.Inactive = int64(locked)
	case cmq.KindReceive:
		if sh.inFlight > 0 && locked >= sh.inFlight && locked < len(sh.messages) {
			return &cmq.Reply{Err: cmq.ErrTooMany}, next
		}
		for _, returned := range []bool{true, false} {
			for _, m := range sh.messages {
				if m.handle == 0 && (m.count > 0) == returned && len(reply.Messages) < req.Max && (sh.inFlight == 0 || len(reply.Messages) < sh.inFlight) {
					s.handles++
					m.handle, m.locked, m.count = s.handles, now.Add(req.Lock), m.count+1
					reply.Messages = append(reply.Messages, cmq.Message{ID: m.id, Handle: m.handle, Body: []byte(m.body), Enqueued: m.sent, NextVisible: m.locked, DequeueCount: m.count})
				}
			}
		}
		for _, m := range sh.messages {
			if m.handle != 0 && (next.IsZero() || m.locked.Before(next)) {
				next = m.locked
			}
		}
	case cmq.KindDelete, cmq.KindRelock:
		for _, h := range req.Handles {
			reply.Errors = append(reply.Errors, sh.onHandle(req, h, now))
		}
		s.notify()
	default:
		panic(fmt.Sprint("a dispatcher has no reason to ask for kind ", req.Kind))
	}
	return reply, next
}

// expire ends locks whose time is over and counts the others.
func (sh *shard) expire(now time.Time) (locked int) {
	kept := sh.messages[:0]
	for _, m := range sh.messages {
		if m.handle != 0 && !now.Before(m.locked) {
			m.handle = 0
			if sh.tries > 0 && m.count >= sh.tries {
				sh.dead = append(sh.dead, m.body)
				continue
			}
		}
		if m.handle != 0 {
			locked++
		}
		kept = append(kept, m)
	}
	sh.messages = kept
	return locked
}

func (sh *shard) onHandle(req *cmq.Request, h cmq.Handle, now time.Time) *cmq.Error {
	for i, m := range sh.messages {
		if m.handle != h {
			continue
		}
		if req.Kind == cmq.KindDelete {
			sh.deleted = append(sh.deleted, m.body)
			sh.messages = append(sh.messages[:i:i], sh.messages[i+1:]...)
			return nil
		}
		m.locked = now.Add(req.Lock)
		sh.expire(now)
		return nil
	}
	return cmq.ErrHandleInvalid
}

// endpoint answers tries by their message, and writes them down.
type endpoint struct {
	mu     sync.Mutex
	answer func(ctx context.Context, body string, try int) error
	seen   []seen
	now    int // tries under way
	most   int // of them at once
}

type seen struct {
	body string
	try  int
	at   time.Duration // since the beginning of the bubble
}

// begin is when the bubbles of synctest begin.
var begin = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

func (e *endpoint) deliver(ctx context.Context, d *Delivery) error {
	body := string(d.Message.Body)
	e.mu.Lock()
	e.seen = append(e.seen, seen{body, d.Message.DequeueCount, time.Since(begin)})
	e.now++
	e.most = max(e.most, e.now)
	e.mu.Unlock()
	defer func() {
		e.mu.Lock()
		e.now--
		e.mu.Unlock()
	}()
	return e.answer(ctx, body, d.Message.DequeueCount)
}

// of gives the times of the tries of one message.
func (e *endpoint) of(body string) (at []time.Duration) {
	for _, s := range e.seen {
		if s.body == body {
			at = append(at, s.at)
		}
	}
	return at
}

// byURL finds the endpoint of each delivery.
type byURL map[string]*endpoint

func (b byURL) Deliver(ctx context.Context, d *Delivery) error {
	return b[d.Subscription.Endpoint].deliver(ctx, d)
}

func good(context.Context, string, int) error { return nil }

func bad(context.Context, string, int) error { return &Failure{Reason: Answered, Status: 500} }

// hang is an endpoint that takes all the time it has.
func hang(ctx context.Context, _ string, _ int) error {
	select {
	case <-time.After(15 * time.Second):
		return &Failure{Reason: TimedOut}
	case <-ctx.Done():
		return &Failure{Reason: Unreachable, Err: ctx.Err()}
	}
}

// rig is a dispatcher with its surroundings.
type rig struct {
	*Dispatcher
	sets    *sets
	urls    byURL
	outlets []Outlet
}

// Test is a trial of which only the failure is looked at.
func (r *rig) Test(ctx context.Context, o Outlet, body []byte) *Failure {
	return r.test(ctx, o, body, new(Record))
}

func newRig() *rig {
	r := &rig{sets: newSets(), urls: byURL{}}
	r.Dispatcher = r.dispatcher()
	return r
}

// dispatcher makes one more, as on another node.
func (r *rig) dispatcher() *Dispatcher {
	return New(Config{Do: r.sets.do, Targets: map[cmq.Protocol]Target{cmq.ProtocolHTTP: r.urls}, Logger: slog.New(slog.DiscardHandler)})
}

// subscribe adds a subscription and its endpoint.
func (r *rig) subscribe(strategy cmq.Strategy, answer func(context.Context, string, int) error, change ...func(*cmq.Subscription)) (cmq.SubscriptionID, *endpoint) {
	id := cmq.SubscriptionID(len(r.outlets) + 1)
	s := &cmq.Subscription{ID: id, Name: fmt.Sprint("s", id), Protocol: cmq.ProtocolHTTP, Endpoint: fmt.Sprint("http://", id), Strategy: strategy}
	for _, f := range change {
		f(s)
	}
	sh := &shard{}
	if s.InOrder() {
		sh.inFlight = 1
	}
	if s.Push.DeadLetter != 0 {
		sh.tries = strategy.Tries()
	}
	e := &endpoint{answer: answer}
	r.sets.shards[id.Shard()], r.urls[s.Endpoint] = sh, e
	r.outlets = append(r.outlets, Outlet{Set: 1, Topic: &cmq.Topic{Name: "t"}, Subscription: s})
	return id, e
}

func (r *rig) shard(id cmq.SubscriptionID) *shard { return r.sets.shards[id.Shard()] }

// after takes its time.
func after(d time.Duration) { <-time.After(d) }

// touch takes the lock and lets it go.
func touch(l sync.Locker) {
	l.Lock()
	defer l.Unlock()
}

// pass lets the bubble's time go on, and everything happen that is to happen by then. The locks order what the test has
// read so far before what happens now.
func (r *rig) pass(d time.Duration) {
	touch(&r.sets.mu)
	for _, e := range r.urls {
		touch(&e.mu)
	}
	after(d)
	synctest.Wait()
}

func bodies(prefix string, n int) (out []string) {
	for i := range n {
		out = append(out, fmt.Sprint(prefix, i))
	}
	return out
}

// near wants each time to be within a second of the other list's.
func near(t *testing.T, want, got []time.Duration) {
	t.Helper()
	require.Len(t, got, len(want))
	for i := range want {
		require.InDelta(t, want[i].Seconds(), got[i].Seconds(), 1, "try %d", i+1)
	}
}
