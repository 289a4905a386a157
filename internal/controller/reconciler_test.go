package controller

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/internal/cmq"
)

// shards notes what the data sets are told, and fails as it is bidden.
type shards struct {
	mu   sync.Mutex
	told []string
	fail map[cmq.SetID]error
	hang map[cmq.SetID]bool
}

func (s *shards) do(ctx context.Context, set cmq.SetID, req *cmq.Request) (*cmq.Reply, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	names := map[cmq.Kind]string{cmq.KindOpenShard: "open", cmq.KindSetShard: "set", cmq.KindDropShard: "drop"}
	line := fmt.Sprintf("%s %d/%d v%d", names[req.Kind], set, req.Shard, req.Version)
	if req.Subscriber != nil {
		line += fmt.Sprintf(" of %d with %v", req.Subscriber.Topic, req.Subscriber.Tags)
	}
	s.told = append(s.told, line)
	if s.hang[set] {
		s.mu.Unlock()
		<-ctx.Done()
		s.mu.Lock()
		return nil, ctx.Err()
	}
	var refusal *cmq.Error
	if err := s.fail[set]; errors.As(err, &refusal) {
		return &cmq.Reply{Err: refusal}, nil
	} else if err != nil {
		return nil, err
	}
	return &cmq.Reply{}, nil
}

// will says what a set does from now on: hang until the caller gives up, fail, or work.
func (s *shards) will(set cmq.SetID, hang bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hang[set], s.fail[set] = hang, err
}

// take returns what was told since the last call.
func (s *shards) take() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	told := s.told
	s.told = nil
	return told
}

// tended is a world of one machine with a Reconciler.
type tended struct {
	*world
	*shards
	m *Meta
}

func (t *tended) do(ctx context.Context, set cmq.SetID, req *cmq.Request) (*cmq.Reply, error) {
	return t.world.do(ctx, set, req)
}

func tend(t *testing.T, test func(t *testing.T, w *tended)) {
	synctest.Test(t, func(t *testing.T) {
		w := &tended{world: newWorld(1), shards: &shards{fail: map[cmq.SetID]error{}, hang: map[cmq.SetID]bool{}}}
		w.world.sets = w.shards.do
		w.m = w.meta(0)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		r := NewReconciler(ReconcilerConfig{Board: w.machines[0].cfg.Board, Meta: w.m, Do: w.do})
		wg.Go(func() { r.Run(ctx) })
		test(t, w)
		cancel()
		wg.Wait()
	})
}

func (w *tended) create(t *testing.T, name string) *cmq.Queue {
	q, err := w.m.CreateQueue(t.Context(), owner, name, cmq.QueueSettings{})
	require.NoError(t, err)
	return q
}

// pass lets bubble time pass.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func TestTasksLeftOverAreCarriedOut(t *testing.T) {
	tend(t, func(t *testing.T, w *tended) {
		q := w.create(t, "q")
		shard := q.Shards[0]
		pass(grace / 2)
		require.Empty(t, w.take(), "route has its chance first")
		pass(grace)
		require.Equal(t, []string{fmt.Sprintf("open %d/%d v1", shard.Set, shard.ID)}, w.take())
		require.Empty(t, w.m.Table().Tasks())

		_, err := w.m.SetQueue(t.Context(), owner, "q", cmq.QueueSettings{VisibilityTimeout: ptr(int64(5))})
		require.NoError(t, err)
		pass(2 * grace)
		require.Equal(t, []string{fmt.Sprintf("set %d/%d v2", shard.Set, shard.ID)}, w.take())
		_, err = w.m.DeleteQueue(t.Context(), owner, "q")
		require.NoError(t, err)
		pass(2 * grace)
		require.Equal(t, []string{fmt.Sprintf("drop %d/%d v3", shard.Set, shard.ID)}, w.take())
		require.Empty(t, w.m.Table().Tasks())
		require.Empty(t, w.m.Table().Graves())
	})
}

func TestShardsOfSubscriptionsAreToldWhatTheyFilter(t *testing.T) {
	tend(t, func(t *testing.T, w *tended) {
		topic, err := w.m.CreateTopic(t.Context(), owner, "news", cmq.TopicSettings{})
		require.NoError(t, err)
		settings := cmq.SubscriptionSettings{Protocol: ptr(cmq.ProtocolHTTP), Endpoint: ptr("http://e"), Tags: ptr([]string{"a", "b"})}
		_, sub, err := w.m.Subscribe(t.Context(), owner, "news", "reader", settings)
		require.NoError(t, err)
		place := fmt.Sprintf("%d/%d", topic.Set, sub.ID.Shard())
		pass(2 * grace)
		require.Equal(t, []string{fmt.Sprintf("open %s v1 of %d with [a b]", place, topic.ID.Shard())}, w.take())
		_, _, err = w.m.SetSubscription(t.Context(), owner, "news", "reader", cmq.SubscriptionSettings{Tags: ptr([]string(nil))})
		require.NoError(t, err)
		_, err = w.m.SetTopic(t.Context(), owner, "news", cmq.TopicSettings{MsgRetentionSeconds: ptr(int64(60))})
		require.NoError(t, err)
		pass(2 * grace)
		require.Equal(t, []string{fmt.Sprintf("set %s v3 of %d with []", place, topic.ID.Shard())}, w.take())
		_, _, err = w.m.Unsubscribe(t.Context(), owner, "news", "reader")
		require.NoError(t, err)
		pass(2 * grace)
		require.Equal(t, []string{"drop " + place + " v4"}, w.take())
		require.Empty(t, w.m.Table().Tasks())
		require.Empty(t, w.m.Table().Graves())
	})
}

func TestDoneInTimeLeavesNothingToDo(t *testing.T) {
	tend(t, func(t *testing.T, w *tended) {
		q := w.create(t, "q")
		require.NoError(t, w.m.Done(t.Context(), q.Shards[0].ID, q.Version))
		pass(time.Hour)
		require.Empty(t, w.take())
	})
}

func TestOpenOfANewerVersionSetsAsWell(t *testing.T) {
	tend(t, func(t *testing.T, w *tended) {
		q := w.create(t, "q")
		_, err := w.m.SetQueue(t.Context(), owner, "q", cmq.QueueSettings{VisibilityTimeout: ptr(int64(5))})
		require.NoError(t, err)
		pass(2 * grace)
		at := fmt.Sprintf("%d/%d v2", q.Shards[0].Set, q.Shards[0].ID)
		require.Equal(t, []string{"open " + at, "set " + at}, w.take())
	})
}

func TestFailingSetDoesNotHoldUpOthers(t *testing.T) {
	tend(t, func(t *testing.T, w *tended) {
		a, b := w.create(t, "a"), w.create(t, "b")
		require.NotEqual(t, a.Shards[0].Set, b.Shards[0].Set)
		w.will(a.Shards[0].Set, true, nil)
		pass(2 * grace)
		require.Len(t, w.take(), 2)
		tasks := w.m.Table().Tasks()
		require.Len(t, tasks, 1)
		require.Equal(t, a.Shards[0].ID, tasks[0].Shard)

		// The attempt ends after its time; the next ones come after growing pauses.
		w.will(a.Shards[0].Set, false, errors.New("no leader"))
		pass(attemptTimeout)
		pass(time.Minute)
		tries := len(w.take())
		require.Greater(t, tries, 5)
		require.Less(t, tries, 20)
		w.will(a.Shards[0].Set, false, nil)
		pass(maxBackoff + grace)
		require.Empty(t, w.m.Table().Tasks())
	})
}

func TestRefusedTaskDoesNotHoldUpItsSet(t *testing.T) {
	tend(t, func(t *testing.T, w *tended) {
		w.will(1, false, cmq.ErrQueueNotExist)
		var refused []string
		for i := range 6 {
			if s := w.create(t, fmt.Sprintf("q%d", i)).Shards[0]; s.Set == 1 {
				refused = append(refused, fmt.Sprintf("open 1/%d v1", s.ID))
			}
		}
		require.Len(t, refused, 2)
		pass(3 * grace)
		told := w.take()
		for _, attempt := range refused {
			require.Contains(t, told, attempt)
		}
		require.Len(t, w.m.Table().Tasks(), 2, "those of other sets are done")
	})
}

func TestDropOfAShardThatIsGoneIsDone(t *testing.T) {
	tend(t, func(t *testing.T, w *tended) {
		q := w.create(t, "q")
		_, err := w.m.DeleteQueue(t.Context(), owner, "q")
		require.NoError(t, err)
		w.will(q.Shards[0].Set, false, cmq.ErrQueueNotExist)
		pass(2 * grace)
		require.Empty(t, w.m.Table().Tasks())
	})
}

func TestOnlyTheLeadersNodeCarriesOut(t *testing.T) {
	tend(t, func(t *testing.T, w *tended) {
		w.create(t, "q")
		board := w.machines[0].cfg.Board
		board.setLeading(false)
		pass(time.Hour)
		require.Empty(t, w.take())
		board.setLeading(true)
		pass(2 * grace)
		require.Len(t, w.take(), 1)
	})
}

func TestReconcilerStopsInTheMiddleOfAnAttempt(t *testing.T) {
	tend(t, func(t *testing.T, w *tended) {
		q := w.create(t, "q")
		w.will(q.Shards[0].Set, true, nil)
		pass(2 * grace)
		require.Len(t, w.take(), 1)
	})
}
