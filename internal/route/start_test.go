package route_test

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/route"
)

// starting is a Router whose messages go through its Start methods, as those of a door with many requests do.
type starting struct{ *route.Router }

// answer is what a started request came to.
type answer[T any] struct {
	value T
	err   error
}

// await starts a request, cancels it with ctx and waits for its answer.
func await[T any](ctx context.Context, start func(done func(T, error)) cmq.Pending) (T, error) {
	ch := make(chan answer[T], 2)
	p := start(func(value T, err error) { ch <- answer[T]{value, err} })
	defer context.AfterFunc(ctx, p.Cancel)()
	a := <-ch
	return a.value, a.err
}

func (s starting) Send(ctx context.Context, owner, name string, bodies [][]byte, delay time.Duration) ([]cmq.MsgID, error) {
	return await(ctx, func(done func([]cmq.MsgID, error)) cmq.Pending { return s.StartSend(owner, name, bodies, delay, done) })
}

func (s starting) Receive(ctx context.Context, owner, name string, most int, wait *time.Duration, lock time.Duration) ([]cmq.Message, error) {
	return await(ctx, func(done func([]cmq.Message, error)) cmq.Pending {
		return s.StartReceive(owner, name, most, wait, lock, done)
	})
}

func (s starting) Delete(ctx context.Context, owner, name string, handles []cmq.Handle) ([]*cmq.Error, error) {
	return await(ctx, func(done func([]*cmq.Error, error)) cmq.Pending { return s.StartDelete(owner, name, handles, done) })
}

func (s starting) Relock(ctx context.Context, owner, name string, handles []cmq.Handle, lock time.Duration) ([]*cmq.Error, error) {
	return await(ctx, func(done func([]*cmq.Error, error)) cmq.Pending {
		return s.StartRelock(owner, name, handles, lock, done)
	})
}

// messages is what doors do with messages.
type messages interface {
	Send(ctx context.Context, owner, name string, bodies [][]byte, delay time.Duration) ([]cmq.MsgID, error)
	Receive(ctx context.Context, owner, name string, most int, wait *time.Duration, lock time.Duration) ([]cmq.Message, error)
	Delete(ctx context.Context, owner, name string, handles []cmq.Handle) ([]*cmq.Error, error)
	Relock(ctx context.Context, owner, name string, handles []cmq.Handle, lock time.Duration) ([]*cmq.Error, error)
}

// TestStartedRequestsEndLikeThoseThatWait: the same happens to both, whatever is in their way.
func TestStartedRequestsEndLikeThoseThatWait(t *testing.T) {
	send := func(m messages) string {
		ids, err := m.Send(context.Background(), "me", "q", bodies("x", "y"), 0)
		return fmt.Sprintf("%d ids, %v", len(ids), err)
	}
	receive := func(m messages) string {
		got, err := m.Receive(context.Background(), "me", "q", 2, ptr(30*time.Second), 0)
		return fmt.Sprintf("%v, %v", texts(got), err)
	}
	for name, way := range map[string]struct {
		shards  int
		prepare func(c *cluster, q *cmq.Queue)
		do      func(m messages) string
	}{
		"nothing":           {1, func(*cluster, *cmq.Queue) {}, send},
		"another node":      {1, func(c *cluster, _ *cmq.Queue) { c.lead(1, 2) }, send},
		"unknown queue":     {1, func(c *cluster, q *cmq.Queue) { c.meta.queues = nil }, send},
		"body too large":    {1, func(c *cluster, q *cmq.Queue) { q.Attributes.MaxMsgSize = 0 }, send},
		"no shards":         {0, func(*cluster, *cmq.Queue) {}, send},
		"shard not open":    {1, func(c *cluster, q *cmq.Queue) { delete(c.shards, q.Shards[0].ID) }, send},
		"shard dropped":     {1, func(c *cluster, q *cmq.Queue) { delete(c.shards, q.Shards[0].ID); c.dropped[q.Shards[0].ID] = true }, send},
		"one shard is full": {2, func(c *cluster, q *cmq.Queue) { c.shards[q.Shards[1].ID].attrs.MaxMsgHeapNum = 1 }, send},
		"all are full": {2, func(c *cluster, q *cmq.Queue) {
			for _, s := range q.Shards {
				c.shards[s.ID].attrs.MaxMsgHeapNum = 1
			}
		}, send},
		"election":       {1, func(c *cluster, _ *cmq.Queue) { c.lead(1, 0); time.AfterFunc(time.Second, func() { c.lead(1, 2) }) }, send},
		"no leader":      {1, func(c *cluster, _ *cmq.Queue) { c.lead(1, 0) }, send},
		"dead leader":    {1, func(c *cluster, _ *cmq.Queue) { c.kill(1); time.AfterFunc(time.Second, func() { c.lead(1, 2) }) }, send},
		"no replicas":    {1, func(c *cluster, _ *cmq.Queue) { delete(c.meta.sets, 1) }, send},
		"busy":           {1, func(c *cluster, _ *cmq.Queue) { c.before = once(cmq.ErrBusy) }, send},
		"failure":        {1, func(c *cluster, _ *cmq.Queue) { c.before = once(errors.New("disk of set 1 failed")) }, send},
		"dropped":        {1, func(c *cluster, _ *cmq.Queue) { c.before = once(cmq.ErrDropped) }, send},
		"answer lost":    {1, func(c *cluster, _ *cmq.Queue) { c.after = once(cmq.ErrUnknownOutcome) }, send},
		"receive":        {1, func(c *cluster, _ *cmq.Queue) { send(c.router(2)) }, receive},
		"receive later":  {1, func(c *cluster, _ *cmq.Queue) { time.AfterFunc(7*time.Second, func() { send(c.router(2)) }) }, receive},
		"receive none":   {1, func(*cluster, *cmq.Queue) {}, receive},
		"receive of two": {2, func(c *cluster, _ *cmq.Queue) { time.AfterFunc(7*time.Second, func() { send(c.router(2)) }) }, receive},
		"receive, leader changes": {1, func(c *cluster, _ *cmq.Queue) {
			time.AfterFunc(3*time.Second, func() { c.lead(1, 3) })
			time.AfterFunc(7*time.Second, func() { send(c.router(2)) })
		}, receive},
		"receive, leader hangs": {1, func(c *cluster, _ *cmq.Queue) {
			time.AfterFunc(3*time.Second, func() {
				c.mu.Lock()
				c.hung, c.leader[1] = 1, 2
				c.mu.Unlock()
				c.router(3).LeaderChanged(1, 2)
			})
			time.AfterFunc(7*time.Second, func() { send(c.router(2)) })
		}, receive},
		"receive, queue deleted": {1, func(c *cluster, _ *cmq.Queue) {
			time.AfterFunc(3*time.Second, func() { c.router(1).DeleteQueue(context.Background(), "me", "q") })
		}, receive},
		"delete":                {1, func(*cluster, *cmq.Queue) {}, deletes(0)},
		"delete of two":         {2, func(*cluster, *cmq.Queue) {}, deletes(0)},
		"delete what is not":    {1, func(*cluster, *cmq.Queue) {}, deletes(cmq.NewHandle(100, 1))},
		"delete nothing":        {1, func(c *cluster, q *cmq.Queue) { q.Attributes.MaxMsgSize = 0 }, deletes(0)},
		"delete, lost answer":   {1, func(c *cluster, _ *cmq.Queue) { c.after = onceOf(cmq.KindDelete, cmq.ErrUnknownOutcome) }, deletes(0)},
		"delete, unknown queue": {1, func(c *cluster, q *cmq.Queue) { c.meta.queues = nil }, deletes(7)},
	} {
		t.Run(name, func(t *testing.T) {
			var results []string
			for _, start := range []bool{false, true} {
				synctest.Test(t, func(t *testing.T) {
					c, q := withQueue(t, way.shards)
					way.prepare(c, q)
					began := time.Now()
					var m messages = c.router(3)
					if start {
						m = starting{c.router(3)}
					}
					got := fmt.Sprintf("%s after %d s", way.do(m), time.Since(began)/time.Second)
					c.mu.Lock()
					defer c.mu.Unlock()
					for _, s := range q.Shards {
						if s := c.shards[s.ID]; s != nil {
							got += fmt.Sprintf("; %d active, %d locked", len(s.active), len(s.locked))
						}
					}
					results = append(results, got)
				})
			}
			require.Equal(t, results[0], results[1])
		})
	}
}

func once(err error) func(cmq.NodeID, *cmq.Request) error { return onceOf(cmq.KindSend, err) }

// onceOf fails the first request of the kind.
func onceOf(kind cmq.Kind, err error) func(cmq.NodeID, *cmq.Request) error {
	var failed bool
	return func(_ cmq.NodeID, req *cmq.Request) error {
		if failed || req.Kind != kind {
			return nil
		}
		failed = true
		return err
	}
}

// deletes sends, receives and deletes, with one handle more if there is one.
func deletes(more cmq.Handle) func(m messages) string {
	return func(m messages) string {
		ctx := context.Background()
		m.Send(ctx, "me", "q", bodies("a"), 0)
		m.Send(ctx, "me", "q", bodies("b"), 0)
		var list []cmq.Handle
		for range 2 {
			got, _ := m.Receive(ctx, "me", "q", 16, ptr(time.Duration(0)), 0)
			list = append(list, handles(got)...)
		}
		if more != 0 {
			list = append(list, more)
		}
		relocked, err := m.Relock(ctx, "me", "q", list, time.Minute)
		errs, err2 := m.Delete(ctx, "me", "q", list)
		return fmt.Sprint(relocked, err, errs, err2)
	}
}

// TestStartedRequestWithoutTrouble: one attempt, and no goroutine of the router's.
func TestStartedRequestWithoutTrouble(t *testing.T) {
	c, _ := withQueue(t, 1)
	for range 3 {
		_, err := starting{c.router(1)}.Send(t.Context(), "me", "q", bodies("x"), 0)
		require.NoError(t, err)
	}
	require.Equal(t, []string{"1:1", "1:1", "1:1"}, c.asked)
}

// TestCancelledStartLocksNothing: wherever the receive is when nobody wants it any more.
func TestCancelledStartLocksNothing(t *testing.T) {
	for name, at := range map[string]struct {
		shards  int
		prepare func(c *cluster)
	}{
		"here":             {1, func(c *cluster) { c.lead(1, 3) }},
		"elsewhere":        {1, func(*cluster) {}},
		"looking":          {1, func(c *cluster) { c.lead(1, 0); time.AfterFunc(3*time.Second, func() { c.lead(1, 2) }) }},
		"at the new one":   {1, func(c *cluster) { time.AfterFunc(500*time.Millisecond, func() { c.lead(1, 2) }) }},
		"at several nodes": {3, func(*cluster) {}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, q := withQueue(t, at.shards)
				at.prepare(c)
				ctx, cancel := context.WithCancel(t.Context())
				time.AfterFunc(time.Second, cancel)
				began := time.Now()
				_, err := starting{c.router(3)}.Receive(ctx, "me", "q", 1, ptr(30*time.Second), 0)
				require.ErrorIs(t, err, context.Canceled)
				require.Equal(t, time.Second, time.Since(began), "cancelled means at once")
				<-time.After(5 * time.Second)
				_, err = c.router(3).Send(t.Context(), "me", "q", bodies("x"), 0)
				require.NoError(t, err)
				synctest.Wait()
				for _, s := range q.Shards {
					require.Zero(t, c.shards[s.ID].received)
				}
			})
		})
	}
}

// held is a Remote that keeps answers until the test lets them go.
type held struct {
	remote
	mu      sync.Mutex
	answers []func()
}

func (h *held) Start(to cmq.NodeID, payload []byte, done func([]byte, error), late func([]byte)) cmq.Pending {
	return h.remote.Start(to, payload, func(reply []byte, err error) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.answers = append(h.answers, func() { done(reply, err) })
	}, late)
}

// TestMessagesThatComeTooLateAreReleased: they were locked, and their receiver was cancelled before it heard of them.
func TestMessagesThatComeTooLateAreReleased(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, q := withQueue(t, 1)
		h := &held{remote: remote{c.nodes[3]}}
		r := route.New(route.Config{Node: 3, Meta: c.nodes[3], Local: c.nodes[3], Remote: h, Leader: func(cmq.SetID) cmq.NodeID { return 1 }})
		_, err := c.router(1).Send(t.Context(), "me", "q", bodies("x"), 0)
		require.NoError(t, err)
		answers := 0
		p := r.StartReceive("me", "q", 1, ptr(time.Minute), 0, func(_ []cmq.Message, err error) {
			answers++
			require.ErrorIs(t, err, context.Canceled)
		})
		synctest.Wait()
		require.Len(t, c.shards[q.Shards[0].ID].locked, 1)
		p.Cancel()
		require.Equal(t, 1, answers)
		h.answers[0]()
		synctest.Wait()
		require.Equal(t, 1, answers)
		require.Empty(t, c.shards[q.Shards[0].ID].locked)
		require.Len(t, c.shards[q.Shards[0].ID].active, 1)
	})
}

func TestStartedRelease(t *testing.T) {
	for _, shards := range []int{1, 2} {
		synctest.Test(t, func(t *testing.T) {
			c, q := withQueue(t, shards)
			r := c.router(3)
			var list []cmq.Handle
			for range shards {
				_, err := r.Send(t.Context(), "me", "q", bodies("x"), 0)
				require.NoError(t, err)
			}
			for range shards {
				got, err := r.Receive(t.Context(), "me", "q", 16, nil, 0)
				require.NoError(t, err)
				list = append(list, handles(got)...)
			}
			c.lead(1, 0)
			time.AfterFunc(time.Second, func() { c.lead(1, 2) })
			released := make(chan error, 1)
			r.StartRelease("me", "q", list, func(err error) { released <- err })
			require.NoError(t, <-released)
			r.StartRelease("me", "nothing", list, func(err error) { released <- err })
			require.ErrorIs(t, <-released, cmq.ErrQueueNotExist)
			for _, s := range q.Shards {
				require.Len(t, c.shards[s.ID].active, 1)
			}
		})
	}
}

func TestStartedReceiveAsksForItsLock(t *testing.T) {
	c, _ := withQueue(t, 1)
	locks := make(chan time.Duration, 1)
	c.before = func(_ cmq.NodeID, req *cmq.Request) error { locks <- req.Lock; return nil }
	p := c.router(1).StartReceive("me", "q", 1, ptr(time.Duration(0)), 90*time.Second, func([]cmq.Message, error) {})
	require.Equal(t, 90*time.Second, <-locks)
	p.Cancel()
}

func TestStartedConfirmation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := withQueue(t, 2)
		on := true
		_, err := c.nodes[1].SetQueue(t.Context(), "me", "q", cmq.QueueSettings{Transaction: &on})
		require.NoError(t, err)
		r := c.router(3)
		ids, err := await(t.Context(), func(done func([]cmq.MsgID, error)) cmq.Pending {
			return r.StartPrepare("me", "q", bodies("a", "b"), time.Minute, 7, done)
		})
		require.NoError(t, err)
		confirm := func(queue string, decisions ...cmq.Decision) ([]*cmq.Error, error) {
			return await(t.Context(), func(done func([]*cmq.Error, error)) cmq.Pending { return r.StartConfirm("me", queue, decisions, done) })
		}
		errs, err := confirm("q", cmq.Decision{ID: ids[0], Commit: true}, cmq.Decision{ID: ids[1]}, cmq.Decision{ID: 5})
		require.NoError(t, err)
		require.Equal(t, []*cmq.Error{nil, nil, cmq.ErrNotPrepared}, errs)
		got, err := r.Receive(t.Context(), "me", "q", 16, nil, 0)
		require.NoError(t, err)
		require.Equal(t, []string{"a"}, texts(got))
		_, err = confirm("none", cmq.Decision{ID: ids[0]})
		require.ErrorIs(t, err, cmq.ErrQueueNotExist)

		c.lead(1, 0)
		c.lead(2, 0)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = await(ctx, func(done func([]*cmq.Error, error)) cmq.Pending {
			return r.StartConfirm("me", "q", []cmq.Decision{{ID: ids[0]}}, done)
		})
		require.ErrorIs(t, err, context.Canceled)
	})
}

// atOnce is a Local that answers at once.
type atOnce struct{ reply cmq.Reply }

func (l *atOnce) Start(_ cmq.SetID, _ *cmq.Request, done func(*cmq.Reply, error)) cmq.Pending {
	done(&l.reply, nil)
	return cmq.Answered{}
}

// BenchmarkStartSend is what a send to a queue that this node leads costs on its way there.
func BenchmarkStartSend(b *testing.B) {
	c := newCluster()
	c.change(func(t *table) {
		t.queues = append(t.queues, &cmq.Queue{ID: 7, Owner: "me", Name: "q", Attributes: cmq.DefaultQueueAttributes(),
			Shards: []cmq.Shard{{ID: cmq.QueueID(7).Shard(0), Set: 1}}})
	})
	r := route.New(route.Config{Node: 1, Meta: c.nodes[1], Local: &atOnce{cmq.Reply{IDs: []cmq.MsgID{1}}}, Remote: remote{c.nodes[1]},
		Leader: func(cmq.SetID) cmq.NodeID { return 1 }})
	body := bodies("x")
	b.ReportAllocs()
	for range b.N {
		r.StartSend("me", "q", body, 0, func(ids []cmq.MsgID, err error) {
			if err != nil || len(ids) != 1 {
				b.Fatal(ids, err)
			}
		})
	}
}

// TestRefusalOfAnOverloadedSetCostsNoGoroutine: the first attempt's answer is passed on as it is.
func TestRefusalOfAnOverloadedSetCostsNoGoroutine(t *testing.T) {
	for name, way := range map[string]struct {
		prepare func(c *cluster, q *cmq.Queue)
		want    error
	}{
		"busy": {func(c *cluster, _ *cmq.Queue) { c.before = once(cmq.ErrBusy) }, cmq.ErrBusy},
		"full": {func(c *cluster, q *cmq.Queue) { c.shards[q.Shards[0].ID].attrs.MaxMsgHeapNum = 1 }, cmq.ErrHeapFull},
	} {
		for leader := range cmq.NodeID(2) {
			t.Run(fmt.Sprint(name, leader+1), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c, q := withQueue(t, 1)
					c.lead(1, leader+1)
					r := c.router(1)
					_, err := r.Send(t.Context(), "me", "q", bodies("x"), 0) // it learns who leads
					require.NoError(t, err)
					way.prepare(c, q)
					type outcome struct {
						err   error
						stack string
					}
					ch := make(chan outcome, 1)
					r.StartSend("me", "q", bodies("x", "y"), 0, func(_ []cmq.MsgID, err error) { ch <- outcome{err, string(debug.Stack())} })
					o := <-ch
					require.ErrorIs(t, o.err, way.want)
					require.NotContains(t, o.stack, "goOn")
				})
			})
		}
	}
}
