package controller

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/core/meta"
)

// Do carries out a request at the leader of a set, wherever that is, until the context ends.
type Do func(ctx context.Context, set cmq.SetID, req *cmq.Request) (*cmq.Reply, error)

// MetaConfig says what Meta needs.
type MetaConfig struct {
	Board *Board
	Do    Do
	// Replica says that this node has a replica of set 0, whose Machine keeps the board up to date. Otherwise
	// Meta fetches the table from the leader.
	Replica bool
}

// Meta is the metadata as the rest of the node sees it, on any node. Its methods may be called by many
// goroutines. Refusals are *cmq.Error; other errors are those of Do and of the context.
//
// A change is visible in Table when the call that made it returns, unless the context ended before.
type Meta struct {
	cfg MetaConfig

	mu      sync.Mutex
	running *round // the round that began last, perhaps over
	next    *round // waits for the running one; can still be joined
}

// round is one question to the leader that serves everybody who asked before it began.
type round struct {
	before *round
	done   chan struct{}
	err    error // valid when done is closed
}

// NewMeta makes the service; it has no goroutines.
func NewMeta(cfg MetaConfig) *Meta { return &Meta{cfg: cfg} }

// Table is this node's newest table. It may be behind the leader's, see Sync.
func (m *Meta) Table() *meta.Table { return m.cfg.Board.Table() }

// Sync returns when Table shows every change that was answered before the call.
func (m *Meta) Sync(ctx context.Context) error {
	for {
		r, own := m.join()
		if own {
			return m.run(ctx, r)
		}
		select {
		case <-r.done:
		case <-ctx.Done():
			return ctx.Err()
		}
		if !errors.Is(r.err, context.Canceled) && !errors.Is(r.err, context.DeadlineExceeded) {
			return r.err
		}
		// The one who asked for all gave up; that is no reason for us.
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// join finds the round that has not begun, or makes one, which the caller has to run.
func (m *Meta) join() (r *round, own bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.next != nil {
		return m.next, false
	}
	m.next = &round{before: m.running, done: make(chan struct{})}
	return m.next, true
}

// run waits for the round before, closes r for those who come later, and asks.
func (m *Meta) run(ctx context.Context, r *round) error {
	defer close(r.done)
	if r.before != nil {
		select {
		case <-r.before.done:
		case <-ctx.Done():
			r.err = ctx.Err()
		}
	}
	m.mu.Lock()
	m.next = nil
	if r.err == nil {
		m.running, r.before = r, nil
	}
	m.mu.Unlock()
	if r.err == nil {
		r.err = m.ask(ctx)
	}
	return r.err
}

// ask brings the board to the leader's version.
func (m *Meta) ask(ctx context.Context) error {
	if !m.cfg.Replica {
		return m.fetch(ctx)
	}
	reply, err := m.do(ctx, query{kind: querySync}.encode())
	if err != nil {
		return err
	}
	_, err = m.cfg.Board.Wait(ctx, reply.Number)
	return err
}

// fetch gets the leader's table if it is another than ours. The first table of all may come from a follower, so that
// this node learns where the leader is; it is then asked for a newer one.
func (m *Meta) fetch(ctx context.Context) error {
	if m.Table().Version() == 0 {
		if err := m.fetchOnce(ctx); err != nil {
			return err
		}
	}
	return m.fetchOnce(ctx)
}

func (m *Meta) fetchOnce(ctx context.Context) error {
	reply, err := m.do(ctx, query{kind: queryTable, have: m.Table().Version()}.encode())
	if err != nil || len(reply.Payload) == 0 {
		return err
	}
	state, err := meta.DecodeState(reply.Payload)
	if err != nil {
		return fmt.Errorf("table from the leader: %w", err)
	}
	m.cfg.Board.put(state.Table())
	return nil
}

// do sends one payload to the leader of set 0.
func (m *Meta) do(ctx context.Context, payload []byte) (*cmq.Reply, error) {
	reply, err := m.cfg.Do(ctx, cmq.ControllerSet, &cmq.Request{Kind: cmq.KindMeta, Payload: payload})
	if err != nil {
		return nil, err
	}
	if reply.Err != nil {
		return nil, reply.Err
	}
	return reply, nil
}

// command carries out a change and waits for it to be on the board.
func (m *Meta) command(ctx context.Context, c meta.Command) (*cmq.Reply, error) {
	reply, err := m.do(ctx, meta.Encode(c))
	if err != nil {
		return nil, err
	}
	// The change is made. That the table comes too late for the context does not make it a failure.
	if m.cfg.Replica {
		_, _ = m.cfg.Board.Wait(ctx, reply.Number)
	} else if m.Table().Version() < reply.Number {
		_ = m.fetch(ctx)
	}
	return reply, nil
}

// change carries out a change of a queue.
func (m *Meta) change(ctx context.Context, c meta.Command) (*cmq.Queue, error) {
	reply, err := m.command(ctx, c)
	if err != nil {
		return nil, err
	}
	q, err := meta.DecodeQueue(reply.Payload)
	if err != nil {
		return nil, fmt.Errorf("answer of the leader: %w", err)
	}
	return q, nil
}

// CreateQueue makes a queue of one shard. Its shard is not open yet: the caller opens it with the queue's
// version and reports Done, or the Reconciler does.
func (m *Meta) CreateQueue(ctx context.Context, owner, name string, settings cmq.QueueSettings) (*cmq.Queue, error) {
	return m.change(ctx, &meta.CreateQueue{Owner: owner, Name: name, Settings: settings, Shards: 1})
}

// SetQueue changes a queue's attributes and returns it as it is then. Its shards have to be told as after
// CreateQueue.
func (m *Meta) SetQueue(ctx context.Context, owner, name string, settings cmq.QueueSettings) (*cmq.Queue, error) {
	return m.change(ctx, &meta.SetQueue{Owner: owner, Name: name, Settings: settings})
}

// DeleteQueue deletes a queue. What it returns is the queue as it was, but with the version under which its
// shards have to be dropped.
func (m *Meta) DeleteQueue(ctx context.Context, owner, name string) (*cmq.Queue, error) {
	return m.change(ctx, &meta.DeleteQueue{Owner: owner, Name: name})
}

// Unbind takes away the queue's dead-letter policy and returns the queue as it is then.
func (m *Meta) Unbind(ctx context.Context, owner, name string) (*cmq.Queue, error) {
	return m.change(ctx, &meta.Unbind{Owner: owner, Name: name})
}

// changeTopic carries out a change of a topic or of one of its subscriptions.
func (m *Meta) changeTopic(ctx context.Context, c meta.Command) (*cmq.Topic, *cmq.Subscription, error) {
	reply, err := m.command(ctx, c)
	if err != nil {
		return nil, nil, err
	}
	topic, sub, err := meta.DecodeTopic(reply.Payload)
	if err != nil {
		return nil, nil, fmt.Errorf("answer of the leader: %w", err)
	}
	return topic, sub, nil
}

// CreateTopic makes a topic.
func (m *Meta) CreateTopic(ctx context.Context, owner, name string, settings cmq.TopicSettings) (*cmq.Topic, error) {
	topic, _, err := m.changeTopic(ctx, &meta.CreateTopic{Owner: owner, Name: name, Settings: settings})
	return topic, err
}

// SetTopic changes a topic's attributes and returns it as it is then. If its retention is another one, the shards of its
// subscriptions have to be told, under the versions that these then have.
func (m *Meta) SetTopic(ctx context.Context, owner, name string, settings cmq.TopicSettings) (*cmq.Topic, error) {
	topic, _, err := m.changeTopic(ctx, &meta.SetTopic{Owner: owner, Name: name, Settings: settings})
	return topic, err
}

// DeleteTopic deletes a topic that has no subscriptions.
func (m *Meta) DeleteTopic(ctx context.Context, owner, name string) error {
	_, _, err := m.changeTopic(ctx, &meta.DeleteTopic{Owner: owner, Name: name})
	return err
}

// Subscribe makes a subscription and returns it with its topic. Its shard, on the topic's set, has to be opened as after
// CreateQueue.
func (m *Meta) Subscribe(ctx context.Context, owner, topic, name string, settings cmq.SubscriptionSettings) (*cmq.Topic, *cmq.Subscription, error) {
	return m.changeTopic(ctx, &meta.Subscribe{Owner: owner, Topic: topic, Name: name, Settings: settings})
}

// SetSubscription changes a subscription and returns it as it is then, with its topic. Its shard has to be told as after
// Subscribe.
func (m *Meta) SetSubscription(ctx context.Context, owner, topic, name string, settings cmq.SubscriptionSettings) (*cmq.Topic, *cmq.Subscription, error) {
	return m.changeTopic(ctx, &meta.SetSubscription{Owner: owner, Topic: topic, Name: name, Settings: settings})
}

// Unsubscribe deletes a subscription. What it returns is the subscription as it was, but with the version under which its
// shard has to be dropped.
func (m *Meta) Unsubscribe(ctx context.Context, owner, topic, name string) (*cmq.Topic, *cmq.Subscription, error) {
	return m.changeTopic(ctx, &meta.Unsubscribe{Owner: owner, Topic: topic, Name: name})
}

// Done reports that the shard's set has carried out what the metadata decided up to this version of the queue or
// subscription.
func (m *Meta) Done(ctx context.Context, shard cmq.ShardID, version uint64) error {
	_, err := m.do(ctx, meta.Encode(&meta.Done{Shard: shard, Version: version}))
	return err
}

// PutNode adds a node or changes its addresses.
func (m *Meta) PutNode(ctx context.Context, node cmq.Node) error {
	_, err := m.command(ctx, &meta.PutNode{Node: node})
	return err
}

// PutKey adds an access key or replaces the one with the same id.
func (m *Meta) PutKey(ctx context.Context, key cmq.AccessKey) error {
	_, err := m.command(ctx, &meta.PutKey{Key: key})
	return err
}

// DeleteKey removes an access key.
func (m *Meta) DeleteKey(ctx context.Context, id string) error {
	_, err := m.command(ctx, &meta.DeleteKey{ID: id})
	return err
}
