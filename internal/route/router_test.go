package route_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/route"
)

func bodies(texts ...string) (list [][]byte) {
	for _, s := range texts {
		list = append(list, []byte(s))
	}
	return list
}

func texts(messages []cmq.Message) (list []string) {
	for _, m := range messages {
		list = append(list, string(m.Body))
	}
	return list
}

func handles(messages []cmq.Message) (list []cmq.Handle) {
	for _, m := range messages {
		list = append(list, m.Handle)
	}
	return list
}

func ptr[T any](v T) *T { return &v }

// withQueue makes a cluster with the opened queue "q" of so many shards.
func withQueue(t *testing.T, shards int) (*cluster, *cmq.Queue) {
	c := newCluster()
	q, err := c.create("me", "q", shards, cmq.QueueSettings{})
	require.NoError(t, err)
	for _, s := range q.Shards {
		reply, err := c.nodes[1].router.Do(t.Context(), s.Set, &cmq.Request{Kind: cmq.KindOpenShard, Shard: s.ID, Version: 1})
		require.NoError(t, err)
		require.Nil(t, reply.Err)
	}
	c.asked = nil
	return c, q
}

func (c *cluster) router(id cmq.NodeID) *route.Router { return c.nodes[id].router }

func TestAnyNodeTakesAnyAction(t *testing.T) {
	for _, id := range members {
		c := newCluster()
		r := c.router(id)
		ctx := t.Context()
		qid, err := r.CreateQueue(ctx, "me", "Orders", cmq.QueueSettings{RewindSeconds: ptr[int64](60)})
		require.NoError(t, err)
		require.EqualValues(t, 1, c.done[qid.Shard(0)])
		_, err = r.CreateQueue(ctx, "me", "orders", cmq.QueueSettings{})
		require.ErrorIs(t, err, cmq.ErrQueueExists)

		ids, err := r.Send(ctx, "me", "orders", bodies("a", "b"), 0)
		require.NoError(t, err)
		require.Len(t, ids, 2)
		got, err := r.Receive(ctx, "me", "orders", 16, nil, 0)
		require.NoError(t, err)
		require.Equal(t, []string{"a", "b"}, texts(got))
		require.Equal(t, ids[0], got[0].ID)
		require.NoError(t, r.Release(ctx, "me", "orders", handles(got[1:])))
		errs, err := r.Delete(ctx, "me", "orders", []cmq.Handle{got[0].Handle, got[1].Handle})
		require.NoError(t, err)
		require.Nil(t, errs[0])
		require.ErrorIs(t, errs[1], cmq.ErrHandleInvalid, "it was released")

		q, status, err := r.QueueAttributes(ctx, "me", "orders")
		require.NoError(t, err)
		require.Equal(t, "Orders", q.Name)
		require.EqualValues(t, 1, status.Active)
		require.NoError(t, r.RewindQueue(ctx, "me", "orders", time.Now()))
		q, err = r.SetQueueAttributes(ctx, "me", "orders", cmq.QueueSettings{RewindSeconds: ptr[int64](0)})
		require.NoError(t, err)
		require.Zero(t, q.Attributes.Rewind)
		require.EqualValues(t, 2, c.done[qid.Shard(0)])
		require.ErrorIs(t, r.RewindQueue(ctx, "me", "orders", time.Now()), cmq.ErrNotRewindable)
		require.NoError(t, r.ClearQueue(ctx, "me", "orders"))
		got, err = r.Receive(ctx, "me", "orders", 16, nil, 0)
		require.NoError(t, err)
		require.Empty(t, got)

		require.NoError(t, r.DeleteQueue(ctx, "me", "orders"))
		require.EqualValues(t, 3, c.done[qid.Shard(0)])
		require.True(t, c.dropped[qid.Shard(0)])
		_, err = r.Send(ctx, "me", "orders", bodies("late"), 0)
		require.ErrorIs(t, err, cmq.ErrQueueNotExist)
	}
}

func TestUnknownQueueIsLookedForOnce(t *testing.T) {
	c := newCluster()
	_, err := c.router(1).Send(t.Context(), "me", "nothing", bodies("x"), 0)
	require.ErrorIs(t, err, cmq.ErrQueueNotExist)
	require.Equal(t, 1, c.nodes[1].syncs)
	require.Empty(t, c.asked)
}

func TestMessageOverTheQueuesSize(t *testing.T) {
	c, _ := withQueue(t, 1)
	_, err := c.router(1).Send(t.Context(), "me", "q", [][]byte{make([]byte, 65536), make([]byte, 65537)}, 0)
	require.ErrorIs(t, err, cmq.ErrMsgSize)
	require.Empty(t, c.asked)
	_, err = c.router(1).Send(t.Context(), "me", "q", [][]byte{make([]byte, 65536)}, 0)
	require.NoError(t, err)
}

func TestLeaderIsRemembered(t *testing.T) {
	c, _ := withQueue(t, 1)
	r := c.router(3)
	for range 3 {
		_, err := r.Send(t.Context(), "me", "q", bodies("x"), 0)
		require.NoError(t, err)
	}
	require.Equal(t, []string{"3:1", "1:1", "1:1", "1:1"}, c.asked, "own replica, its hint, then straight to the leader")
	c.lead(1, 2)
	c.asked = nil
	_, err := r.Send(t.Context(), "me", "q", bodies("x"), 0)
	require.NoError(t, err)
	require.Equal(t, []string{"1:1", "2:1"}, c.asked)
}

func TestTableOfAnotherNodeIsStale(t *testing.T) {
	c, q := withQueue(t, 1)
	n := c.nodes[3]
	old := n.Table()
	n.fresh = false

	t.Run("queue made elsewhere", func(t *testing.T) {
		_, err := c.router(1).CreateQueue(t.Context(), "me", "new", cmq.QueueSettings{})
		require.NoError(t, err)
		_, err = n.router.Send(t.Context(), "me", "new", bodies("x"), 0)
		require.NoError(t, err)
	})
	t.Run("queue deleted and made again elsewhere", func(t *testing.T) {
		require.NoError(t, c.router(1).DeleteQueue(t.Context(), "me", "q"))
		_, err := c.router(1).CreateQueue(t.Context(), "me", "q", cmq.QueueSettings{})
		require.NoError(t, err)
		n.table = old.(*table)
		ids, err := n.router.Send(t.Context(), "me", "q", bodies("x"), 0)
		require.NoError(t, err)
		require.Len(t, ids, 1)
		require.Nil(t, c.shards[q.Shards[0].ID], "the old incarnation stays dead")
	})
	t.Run("queue deleted elsewhere", func(t *testing.T) {
		require.NoError(t, c.router(1).DeleteQueue(t.Context(), "me", "q"))
		n.table = old.(*table)
		_, err := n.router.Receive(t.Context(), "me", "q", 1, nil, 0)
		require.ErrorIs(t, err, cmq.ErrQueueNotExist)
	})
}

// TestShardNotOpenedYet: who created the queue died between the metadata and the set.
func TestShardNotOpenedYet(t *testing.T) {
	c := newCluster()
	q, err := c.create("me", "q", 1, cmq.QueueSettings{VisibilityTimeout: ptr[int64](77)})
	require.NoError(t, err)
	_, err = c.router(2).Send(t.Context(), "me", "q", bodies("x"), 0)
	require.NoError(t, err)
	require.Equal(t, 77*time.Second, c.shards[q.Shards[0].ID].attrs.VisibilityTimeout)

	_, err = c.create("me", "q2", 1, cmq.QueueSettings{})
	require.NoError(t, err)
	_, err = c.router(2).SetQueueAttributes(t.Context(), "me", "q2", cmq.QueueSettings{VisibilityTimeout: ptr[int64](5)})
	require.NoError(t, err)
}

// TestMissingMetadataDeletesNothing: an empty table must not cost a message.
func TestMissingMetadataDeletesNothing(t *testing.T) {
	c, q := withQueue(t, 1)
	_, err := c.router(1).Send(t.Context(), "me", "q", bodies("x"), 0)
	require.NoError(t, err)
	whole := c.meta
	c.change(func(t *table) { t.queues = nil })
	_, err = c.router(1).Receive(t.Context(), "me", "q", 1, nil, 0)
	require.ErrorIs(t, err, cmq.ErrQueueNotExist)
	require.ErrorIs(t, c.router(1).DeleteQueue(t.Context(), "me", "q"), cmq.ErrQueueNotExist)
	require.ErrorIs(t, c.router(1).ClearQueue(t.Context(), "me", "q"), cmq.ErrQueueNotExist)
	c.meta = whole
	got, err := c.router(1).Receive(t.Context(), "me", "q", 1, nil, 0)
	require.NoError(t, err)
	require.Equal(t, []string{"x"}, texts(got))
	require.NotNil(t, c.shards[q.Shards[0].ID])
}

func TestElectionIsWaitedOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := withQueue(t, 1)
		c.lead(1, 0)
		began := time.Now()
		time.AfterFunc(3*time.Second, func() { c.lead(1, 2) })
		_, err := c.router(3).Send(t.Context(), "me", "q", bodies("x"), 0)
		require.NoError(t, err)
		require.InDelta(t, 3.1, time.Since(began).Seconds(), 0.11)
		require.Less(t, len(c.asked), 100, "waiting must not be asking all the time")
	})
}

func TestNoLeaderIsAnErrorInTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := withQueue(t, 1)
		c.lead(1, 0)
		began := time.Now()
		_, err := c.router(3).Send(t.Context(), "me", "q", bodies("x"), 0)
		var none *route.NoLeaderError
		require.ErrorAs(t, err, &none)
		require.EqualValues(t, 1, none.Set)
		require.InDelta(t, 8, time.Since(began).Seconds(), 0.3)

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = c.router(3).Send(ctx, "me", "q", bodies("x"), 0)
		require.ErrorIs(t, err, context.DeadlineExceeded)
	})
}

func TestDeadNodesArePassedOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := withQueue(t, 1)
		r := c.router(3)
		_, err := r.Send(t.Context(), "me", "q", bodies("x"), 0)
		require.NoError(t, err)
		c.kill(1)
		time.AfterFunc(time.Second, func() { c.lead(1, 2) })
		began := time.Now()
		_, err = r.Send(t.Context(), "me", "q", bodies("y"), 0)
		require.NoError(t, err)
		require.Less(t, time.Since(began), 1300*time.Millisecond)
	})
}

// TestUnknownOutcome: the leader carries the request out, the answer is lost.
func TestUnknownOutcome(t *testing.T) {
	rows := map[string]struct {
		do       func(c *cluster, r *route.Router) error
		repeated bool
	}{
		"send": {func(c *cluster, r *route.Router) error {
			_, err := r.Send(context.Background(), "me", "q", bodies("x"), 0)
			return err
		}, false},
		"clear": {func(c *cluster, r *route.Router) error { return r.ClearQueue(context.Background(), "me", "q") }, false},
		"rewind": {func(c *cluster, r *route.Router) error {
			return r.RewindQueue(context.Background(), "me", "q", time.Now())
		}, false},
		"receive": {func(c *cluster, r *route.Router) error {
			_, err := r.Receive(context.Background(), "me", "q", 1, nil, 0)
			return err
		}, true},
		"status": {func(c *cluster, r *route.Router) error {
			_, _, err := r.QueueAttributes(context.Background(), "me", "q")
			return err
		}, true},
		"release": {func(c *cluster, r *route.Router) error {
			return r.Release(context.Background(), "me", "q", []cmq.Handle{1})
		}, true},
		"set": {func(c *cluster, r *route.Router) error {
			_, err := r.SetQueueAttributes(context.Background(), "me", "q", cmq.QueueSettings{})
			return err
		}, true},
		"delete queue": {func(c *cluster, r *route.Router) error { return r.DeleteQueue(context.Background(), "me", "q") }, true},
		"meta": {func(c *cluster, r *route.Router) error {
			_, err := r.Do(context.Background(), 1, &cmq.Request{Kind: cmq.KindMeta, Shard: c.meta.queues[0].Shards[0].ID})
			return err
		}, false},
	}
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, _ := withQueue(t, 1)
				c.alter("me", "q", func(q *cmq.Queue) { q.Attributes.Rewind = time.Hour })
				for _, s := range c.shards {
					s.attrs.Rewind = time.Hour
				}
				lost := 0
				c.after = func(cmq.NodeID, *cmq.Request) error {
					if lost++; lost == 1 {
						return cmq.ErrUnknownOutcome
					}
					return nil
				}
				err := row.do(c, c.router(3))
				if row.repeated {
					require.NoError(t, err)
					require.GreaterOrEqual(t, lost, 2)
					return
				}
				require.ErrorIs(t, err, cmq.ErrUnknownOutcome)
				require.Equal(t, 1, lost)
			})
		})
	}
}

func TestDeleteRepeatedAfterALostAnswer(t *testing.T) {
	for name, executed := range map[string]bool{"first attempt deleted": true, "first attempt did not": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, _ := withQueue(t, 1)
				r := c.router(2)
				_, err := r.Send(t.Context(), "me", "q", bodies("x"), 0)
				require.NoError(t, err)
				got, err := r.Receive(t.Context(), "me", "q", 1, nil, 0)
				require.NoError(t, err)
				lost := false
				lose := func(cmq.NodeID, *cmq.Request) error {
					if !lost {
						lost = true
						return cmq.ErrUnknownOutcome
					}
					return nil
				}
				if executed {
					c.after = lose
				} else {
					c.before = lose
				}
				errs, err := r.Delete(t.Context(), "me", "q", handles(got))
				if executed {
					require.ErrorIs(t, err, cmq.ErrUnknownOutcome, "a valid handle must not be called invalid")
					return
				}
				require.NoError(t, err)
				require.Equal(t, []*cmq.Error{nil}, errs)
			})
		})
	}
}

func TestBusyAndFailuresAreReportedAtOnce(t *testing.T) {
	c, _ := withQueue(t, 1)
	broken := errors.New("disk of set 1 failed")
	for _, want := range []error{cmq.ErrBusy, broken} {
		c.before = func(cmq.NodeID, *cmq.Request) error { return want }
		c.asked = nil
		_, err := c.router(1).Send(t.Context(), "me", "q", bodies("x"), 0)
		require.ErrorIs(t, err, want)
		require.Len(t, c.asked, 1)
		_, err = c.router(2).Send(t.Context(), "me", "q", bodies("x"), 0)
		require.ErrorContains(t, err, want.Error())
	}
	c.before = nil
	c.router(2).Serve(1, []byte("garbage"), func(_ []byte, err error) bool {
		require.Error(t, err)
		return true
	})
}

func TestLeaderOfOwnReplicaComesFirst(t *testing.T) {
	c, _ := withQueue(t, 1)
	r := route.New(route.Config{Node: 3, Meta: c.nodes[3], Local: c.nodes[3], Remote: remote{c.nodes[3]},
		Leader: func(cmq.SetID) cmq.NodeID { return 1 }})
	_, err := r.Send(t.Context(), "me", "q", bodies("x"), 0)
	require.NoError(t, err)
	require.Equal(t, []string{"1:1"}, c.asked)
}

func TestControllersAreAskedBeforeThereIsATable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster()
		q, err := c.create("me", "q", 1, cmq.QueueSettings{})
		require.NoError(t, err)
		open := &cmq.Request{Kind: cmq.KindOpenShard, Shard: q.Shards[0].ID}
		c.change(func(t *table) { t.sets = nil })
		r := route.New(route.Config{Node: 9, Meta: c.nodes[3], Local: c.nodes[3], Remote: remote{c.nodes[3]}, Controllers: []cmq.NodeID{2, 1}})
		_, err = r.Do(t.Context(), cmq.ControllerSet, open)
		require.NoError(t, err)
		_, err = r.Do(t.Context(), 1, open)
		var none *route.NoLeaderError
		require.ErrorAs(t, err, &none, "nobody knows where set 1 lives")
	})
}

func TestListsAndPages(t *testing.T) {
	c := newCluster()
	r := c.router(2)
	for _, name := range []string{"pay-1", "pay-2", "Pay-3", "ship-1"} {
		_, err := r.CreateQueue(t.Context(), "me", name, cmq.QueueSettings{})
		require.NoError(t, err)
	}
	_, err := r.CreateQueue(t.Context(), "you", "pay-9", cmq.QueueSettings{})
	require.NoError(t, err)
	names := func(search string, offset, limit int) (int, []string) {
		total, list, err := r.ListQueues(t.Context(), "me", search, offset, limit)
		require.NoError(t, err)
		var names []string
		for _, q := range list {
			names = append(names, q.Name)
		}
		return total, names
	}
	rows := []struct {
		search        string
		offset, limit int
		total         int
		names         []string
	}{
		{"", 0, 20, 4, []string{"pay-1", "pay-2", "Pay-3", "ship-1"}},
		{"pay", 0, 20, 3, []string{"pay-1", "pay-2", "Pay-3"}},
		{"PAY", 1, 1, 3, []string{"pay-2"}},
		{"y-", 3, 5, 3, nil},
		{".*", 0, 5, 0, nil},
	}
	for _, row := range rows {
		total, got := names(row.search, row.offset, row.limit)
		require.Equal(t, row.total, total)
		require.Equal(t, row.names, got)
	}

	dead := c.meta.Queue("me", "ship-1").ID
	for _, name := range []string{"pay-1", "Pay-3"} {
		_, err := c.alter("me", name, func(q *cmq.Queue) { q.Attributes.DeadLetter.Queue = dead })
		require.NoError(t, err)
	}
	total, list, err := r.DeadLetterSources(t.Context(), "me", "SHIP-1", "", 1, 10)
	require.NoError(t, err)
	require.Equal(t, 2, total)
	require.Equal(t, "Pay-3", list[0].Name)
	require.Equal(t, "ship-1", list[0].DeadLetterName)
	require.Empty(t, c.meta.Queue("me", "pay-1").DeadLetterName, "what is published is not changed")
	require.NoError(t, r.UnbindDeadLetter(t.Context(), "me", "pay-1"))
	total, _, err = r.DeadLetterSources(t.Context(), "me", "ship-1", "", 0, 10)
	require.NoError(t, err)
	require.Equal(t, 1, total)
	_, _, err = r.DeadLetterSources(t.Context(), "me", "none", "", 0, 10)
	require.ErrorIs(t, err, cmq.ErrQueueNotExist)
}

func TestQueueRouteBeginsWithTheLeader(t *testing.T) {
	c, _ := withQueue(t, 1)
	c.lead(1, 2)
	r := c.router(3)
	_, err := r.Send(t.Context(), "me", "q", bodies("x"), 0)
	require.NoError(t, err)
	addrs, err := r.QueueRoute(t.Context(), "me", "q")
	require.NoError(t, err)
	require.Equal(t, []string{"node2:7671", "node1:7671", "node3:7671"}, addrs)
}
