package controller

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/core/meta"
)

// world is a group whose machine 0 leads and takes requests of many goroutines; sets tells what data sets do.
type world struct {
	*group
	mu    sync.Mutex
	calls atomic.Int32 // to set 0
	sets  func(ctx context.Context, set cmq.SetID, req *cmq.Request) (*cmq.Reply, error)
}

func newWorld(machines int) *world {
	w := &world{group: newGroup(machines, nil)}
	w.elect(0)
	w.run(0)
	return w
}

func (w *world) do(ctx context.Context, set cmq.SetID, req *cmq.Request) (*cmq.Reply, error) {
	if set != cmq.ControllerSet {
		return w.sets(ctx, set, req)
	}
	w.calls.Add(1)
	w.mu.Lock()
	defer w.mu.Unlock()
	a := submit(w.machines[0], req.Payload)
	w.run(0)
	return a.reply, a.err
}

func (w *world) meta(i int) *Meta {
	return NewMeta(MetaConfig{Board: w.machines[i].cfg.Board, Do: w.do, Replica: true})
}

func ptr[T any](v T) *T { return &v }

func TestMetaOnANodeWithReplica(t *testing.T) {
	w := newWorld(3)
	checkMeta(t, w.meta(1))
}

func TestMetaOnANodeWithoutReplica(t *testing.T) {
	w := newWorld(3)
	m := NewMeta(MetaConfig{Board: NewBoard(), Do: w.do})
	require.Zero(t, m.Table().Cluster())
	require.NoError(t, m.Sync(t.Context()))
	checkMeta(t, m)
	table := m.Table()
	require.NoError(t, m.Sync(t.Context()))
	require.Same(t, table, m.Table(), "nothing is fetched that is there")
}

// checkMeta does everything once; each change must be visible at once.
func checkMeta(t *testing.T, m *Meta) {
	ctx := t.Context()
	dead, err := m.CreateQueue(ctx, owner, "dead", cmq.QueueSettings{})
	require.NoError(t, err)
	require.Equal(t, dead, m.Table().Queue(owner, "DEAD"))
	settings := cmq.QueueSettings{DeadLetter: &cmq.DeadLetterSettings{Queue: "dead", MaxReceiveCount: 3}}
	q, err := m.CreateQueue(ctx, owner, "q", settings)
	require.NoError(t, err)
	require.Equal(t, dead.ID, q.Attributes.DeadLetter.Queue)
	_, err = m.CreateQueue(ctx, owner, "Q", cmq.QueueSettings{})
	require.Equal(t, cmq.ErrQueueExists, err)

	changed, err := m.SetQueue(ctx, owner, "q", cmq.QueueSettings{RewindSeconds: ptr(int64(60))})
	require.NoError(t, err)
	require.Equal(t, changed, m.Table().Queue(owner, "q"))
	require.NoError(t, m.Done(ctx, q.Shards[0].ID, changed.Version))
	require.NoError(t, m.Sync(ctx))
	require.Len(t, m.Table().Tasks(), 1, "that of the dead-letter queue")

	_, err = m.DeleteQueue(ctx, owner, "dead")
	require.Equal(t, cmq.ErrDeadLetterInUse, err)
	free, err := m.Unbind(ctx, owner, "q")
	require.NoError(t, err)
	require.Zero(t, free.Attributes.DeadLetter)
	gone, err := m.DeleteQueue(ctx, owner, "dead")
	require.NoError(t, err)
	require.Equal(t, dead.Shards, gone.Shards)
	require.Nil(t, m.Table().Queue(owner, "dead"))

	checkTopics(t, m)

	require.NoError(t, m.PutKey(ctx, cmq.AccessKey{ID: "k", Secret: "s", Owner: "o"}))
	require.Equal(t, "s", m.Table().Key("k").Secret)
	require.NoError(t, m.DeleteKey(ctx, "k"))
	require.Nil(t, m.Table().Key("k"))
	require.Equal(t, cmq.ErrKeyUnknown, m.DeleteKey(ctx, "k"))
	require.NoError(t, m.PutNode(ctx, cmq.Node{ID: 3, Peer: "new"}))
	require.Equal(t, "new", m.Table().Node(3).Peer)
}

// checkTopics does everything once that there is to do with topics.
func checkTopics(t *testing.T, m *Meta) {
	ctx := t.Context()
	topic, err := m.CreateTopic(ctx, owner, "news", cmq.TopicSettings{Trace: ptr(true)})
	require.NoError(t, err)
	require.Equal(t, topic, m.Table().Topic(owner, "NEWS"))
	_, err = m.CreateTopic(ctx, owner, "news", cmq.TopicSettings{})
	require.Equal(t, cmq.ErrTopicExists, err)
	asked := cmq.SubscriptionSettings{Protocol: ptr(cmq.ProtocolHTTP), Endpoint: ptr("http://e"), Tags: ptr([]string{"a"})}
	of, sub, err := m.Subscribe(ctx, owner, "news", "reader", asked)
	require.NoError(t, err)
	require.Equal(t, topic, of)
	require.Equal(t, sub, m.Table().Subscription(topic.ID, "READER"))
	_, _, err = m.Subscribe(ctx, owner, "news", "reader", asked)
	require.Equal(t, cmq.ErrSubscriptionExists, err)

	topic, err = m.SetTopic(ctx, owner, "news", cmq.TopicSettings{MsgRetentionSeconds: ptr(int64(60))})
	require.NoError(t, err)
	require.Equal(t, topic, m.Table().Topic(owner, "news"))
	of, sub, err = m.SetSubscription(ctx, owner, "news", "reader", cmq.SubscriptionSettings{Tags: ptr([]string{})})
	require.NoError(t, err)
	require.Equal(t, topic, of)
	require.Empty(t, sub.Tags)
	require.Equal(t, sub, m.Table().SubscriptionByShard(sub.ID.Shard()))
	require.Equal(t, cmq.ErrTopicInUse, m.DeleteTopic(ctx, owner, "news"))

	of, gone, err := m.Unsubscribe(ctx, owner, "news", "reader")
	require.NoError(t, err)
	require.Equal(t, topic, of)
	require.Equal(t, sub.Version+1, gone.Version)
	require.NoError(t, m.Done(ctx, gone.ID.Shard(), gone.Version))
	require.NoError(t, m.DeleteTopic(ctx, owner, "news"))
	require.Nil(t, m.Table().Topic(owner, "news"))
	_, err = m.SetTopic(ctx, owner, "news", cmq.TopicSettings{})
	require.Equal(t, cmq.ErrTopicNotExist, err)
}

func TestMetaPassesFailuresOn(t *testing.T) {
	failure := errors.New("no leader")
	m := NewMeta(MetaConfig{Board: NewBoard(), Do: func(context.Context, cmq.SetID, *cmq.Request) (*cmq.Reply, error) {
		return nil, failure
	}})
	require.Equal(t, failure, m.Sync(t.Context()))
	_, err := m.CreateQueue(t.Context(), owner, "q", cmq.QueueSettings{})
	require.Equal(t, failure, err)

	m = NewMeta(MetaConfig{Board: NewBoard(), Do: func(context.Context, cmq.SetID, *cmq.Request) (*cmq.Reply, error) {
		return &cmq.Reply{Number: 1, Payload: []byte("no image, no queue")}, nil
	}})
	require.ErrorIs(t, m.Sync(t.Context()), meta.ErrFormat)
	_, err = m.CreateQueue(t.Context(), owner, "q", cmq.QueueSettings{})
	require.ErrorIs(t, err, meta.ErrFormat)
	_, err = m.CreateTopic(t.Context(), owner, "t", cmq.TopicSettings{})
	require.ErrorIs(t, err, meta.ErrFormat)
}

func TestSyncWaitsForTheLocalReplica(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		board := NewBoard()
		state := meta.New()
		state.Apply(plan(), 1)
		m := NewMeta(MetaConfig{Board: board, Replica: true, Do: func(context.Context, cmq.SetID, *cmq.Request) (*cmq.Reply, error) {
			return &cmq.Reply{Number: 1}, nil
		}})
		result := make(chan error, 1)
		go func() { result <- m.Sync(t.Context()) }()
		synctest.Wait()
		require.Empty(t, result)
		board.put(state.Table())
		require.NoError(t, <-result)

		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			_, err := board.Wait(ctx, 2)
			result <- err
		}()
		synctest.Wait()
		cancel()
		require.Equal(t, context.Canceled, <-result)
	})
}

// gate is a leader whose answers wait to be let through one by one.
type gate struct {
	asked atomic.Int32
	open  chan struct{}
}

func (g *gate) do(ctx context.Context, _ cmq.SetID, _ *cmq.Request) (*cmq.Reply, error) {
	g.asked.Add(1)
	select {
	case <-g.open:
		return &cmq.Reply{}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func TestSyncsShareQuestions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gate{open: make(chan struct{})}
		m := NewMeta(MetaConfig{Board: NewBoard(), Do: g.do, Replica: true})
		var finished atomic.Int32
		var wg sync.WaitGroup
		ask := func(ctx context.Context) {
			wg.Go(func() {
				if m.Sync(ctx) == nil {
					finished.Add(1)
				}
			})
			synctest.Wait()
		}
		ask(t.Context())
		for range 50 {
			ask(t.Context())
		}
		require.Equal(t, int32(1), g.asked.Load(), "those who came later wait for the next question")
		g.open <- struct{}{}
		synctest.Wait()
		require.Equal(t, int32(1), finished.Load(), "the first answer may be too old for the others")
		require.Equal(t, int32(2), g.asked.Load())
		g.open <- struct{}{}
		wg.Wait()
		require.Equal(t, int32(51), finished.Load())
		require.Equal(t, int32(2), g.asked.Load())
	})
}

func TestSyncGoesOnWhenItsOwnerGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gate{open: make(chan struct{})}
		m := NewMeta(MetaConfig{Board: NewBoard(), Do: g.do, Replica: true})
		impatient, cancel := context.WithCancel(t.Context())
		results := make([]error, 4)
		var wg sync.WaitGroup
		ask := func(i int, ctx context.Context) {
			wg.Go(func() { results[i] = m.Sync(ctx) })
			synctest.Wait()
		}
		ask(0, t.Context()) // asks
		ask(1, impatient)   // will ask next
		ask(2, t.Context()) // shares that question
		ask(3, impatient)   // so does this one
		cancel()
		synctest.Wait()
		g.open <- struct{}{}
		g.open <- struct{}{}
		wg.Wait()
		require.NoError(t, results[0])
		require.Equal(t, context.Canceled, results[1])
		require.NoError(t, results[2])
		require.Equal(t, context.Canceled, results[3])
	})
}

func TestBoardKeepsTheNewest(t *testing.T) {
	state := meta.New()
	old := state.Table()
	state.Apply(plan(), 1)
	b := NewBoard()
	changed := b.Changed()
	b.put(state.Table())
	<-changed
	changed = b.Changed()
	b.put(old)
	b.put(state.Table())
	b.setLeading(false)
	select {
	case <-changed:
		t.Fatal("there was no news")
	default:
	}
	require.Same(t, state.Table(), b.Table())
	b.setLeading(true)
	<-changed
	require.True(t, b.Leading())
}
