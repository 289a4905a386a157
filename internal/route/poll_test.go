package route_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/route"
)

func TestLongPollIsForwarded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := withQueue(t, 1)
		began := time.Now()
		time.AfterFunc(2*time.Second, func() { c.router(2).Send(context.Background(), "me", "q", bodies("x"), 0) })
		got, err := c.router(3).Receive(t.Context(), "me", "q", 1, ptr(5*time.Second), 0)
		require.NoError(t, err)
		require.Equal(t, []string{"x"}, texts(got))
		require.Equal(t, 2*time.Second, time.Since(began))

		got, err = c.router(3).Receive(t.Context(), "me", "q", 1, ptr(5*time.Second), 0)
		require.NoError(t, err)
		require.Empty(t, got)
		require.InDelta(t, 7, time.Since(began).Seconds(), 0.05)
	})
}

func TestQueuesOwnWaitIsTheDefault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := withQueue(t, 1)
		_, err := c.alter("me", "q", func(q *cmq.Queue) { q.Attributes.PollingWait = 20 * time.Second })
		require.NoError(t, err)
		began := time.Now()
		_, err = c.router(1).Receive(t.Context(), "me", "q", 1, nil, 0)
		require.NoError(t, err)
		require.InDelta(t, 20, time.Since(began).Seconds(), 0.05)
		_, err = c.router(1).Receive(t.Context(), "me", "q", 1, ptr(time.Duration(0)), 0)
		require.NoError(t, err)
		require.InDelta(t, 20, time.Since(began).Seconds(), 0.05)
	})
}

// TestLeaderChangesDuringAPoll: the poll goes on at the new leader, for the rest of its time.
func TestLeaderChangesDuringAPoll(t *testing.T) {
	for name, change := range map[string]func(c *cluster){
		"hand-over":             func(c *cluster) { c.lead(1, 2) },
		"election":              func(c *cluster) { c.lead(1, 0); time.AfterFunc(time.Second, func() { c.lead(1, 2) }) },
		"leader dies":           func(c *cluster) { c.kill(1); time.AfterFunc(time.Second, func() { c.lead(1, 2) }) },
		"twice":                 func(c *cluster) { c.lead(1, 3); time.AfterFunc(time.Second, func() { c.lead(1, 2) }) },
		"the asking node leads": func(c *cluster) { c.lead(1, 3) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, _ := withQueue(t, 1)
				began := time.Now()
				time.AfterFunc(10*time.Second, func() { change(c) })
				time.AfterFunc(20*time.Second, func() { c.router(2).Send(context.Background(), "me", "q", bodies("x"), 0) })
				got, err := c.router(3).Receive(t.Context(), "me", "q", 1, ptr(30*time.Second), 0)
				require.NoError(t, err)
				require.Equal(t, []string{"x"}, texts(got))
				require.Equal(t, 20*time.Second, time.Since(began))
			})
		})
	}
}

// TestPollsAreNotShort: the leader is asked to wait a little longer, for a clock that is fast; not at all if nobody waits.
func TestPollsAreNotShort(t *testing.T) {
	for _, wait := range []time.Duration{time.Second, 3 * time.Second, 30 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			c, _ := withQueue(t, 1)
			for name, receive := range map[string]func() ([]cmq.Message, error){
				"waiting": func() ([]cmq.Message, error) { return c.router(1).Receive(t.Context(), "me", "q", 1, &wait, 0) },
				"started": func() (got []cmq.Message, err error) {
					answered := make(chan struct{})
					c.router(1).StartReceive("me", "q", 1, &wait, 0, func(m []cmq.Message, e error) { got, err = m, e; close(answered) })
					<-answered
					return got, err
				},
			} {
				began := time.Now()
				got, err := receive()
				require.NoError(t, err)
				require.Empty(t, got)
				require.GreaterOrEqual(t, time.Since(began), wait+wait/1000+time.Millisecond, name)
				require.Less(t, time.Since(began), wait+50*time.Millisecond, name)
			}
			began := time.Now()
			_, err := c.router(1).Receive(t.Context(), "me", "q", 1, ptr(time.Duration(0)), 0)
			require.NoError(t, err)
			require.Zero(t, time.Since(began))
		})
	}
}

func TestPollEndsInTimeAcrossALeaderChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := withQueue(t, 1)
		began := time.Now()
		time.AfterFunc(10*time.Second, func() { c.lead(1, 2) })
		got, err := c.router(3).Receive(t.Context(), "me", "q", 1, ptr(30*time.Second), 0)
		require.NoError(t, err)
		require.Empty(t, got)
		require.InDelta(t, 30, time.Since(began).Seconds(), 0.05)
	})
}

func TestCancelledPollLocksNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, q := withQueue(t, 1)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		_, err := c.router(3).Receive(ctx, "me", "q", 1, ptr(30*time.Second), 0)
		require.ErrorIs(t, err, context.Canceled)
		_, err = c.router(3).Send(t.Context(), "me", "q", bodies("x"), 0)
		require.NoError(t, err)
		synctest.Wait()
		require.Zero(t, c.shards[q.Shards[0].ID].received)
	})
}

func TestQueueDeletedDuringAPoll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := withQueue(t, 1)
		time.AfterFunc(time.Second, func() { c.router(1).DeleteQueue(context.Background(), "me", "q") })
		began := time.Now()
		_, err := c.router(3).Receive(t.Context(), "me", "q", 1, ptr(30*time.Second), 0)
		require.ErrorIs(t, err, cmq.ErrQueueNotExist)
		require.Equal(t, time.Second, time.Since(began))
	})
}

func TestShardsTakeTurns(t *testing.T) {
	c, q := withQueue(t, 3)
	r := c.router(3)
	for range 9 {
		_, err := r.Send(t.Context(), "me", "q", bodies("x"), 0)
		require.NoError(t, err)
	}
	for _, s := range q.Shards {
		require.NotEmpty(t, c.shards[s.ID].active, "shard %d", s.ID.Ordinal())
	}
	_, status, err := r.QueueAttributes(t.Context(), "me", "q")
	require.NoError(t, err)
	require.Equal(t, cmq.ShardStatus{
		Active: 9, Delayed: 3, Rewindable: 6, MinMsgTime: time.UnixMilli(50), Now: time.UnixMilli(102),
	}, status)

	var all []cmq.Message
	for range 3 {
		got, err := r.Receive(t.Context(), "me", "q", 9, nil, 0)
		require.NoError(t, err)
		all = append(all, got...)
	}
	require.Len(t, all, 9)
	alien := []cmq.Handle{cmq.NewHandle(100, 1), 1 << 63}
	errs, err := r.Delete(t.Context(), "me", "q", append(handles(all), alien...))
	require.NoError(t, err)
	for i, e := range errs {
		if i < len(all) {
			require.Nil(t, e)
		} else {
			require.ErrorIs(t, e, cmq.ErrHandleInvalid)
		}
	}
}

func TestFullShardPassesTheTurnOn(t *testing.T) {
	c, q := withQueue(t, 2)
	for _, s := range q.Shards {
		c.shards[s.ID].attrs.MaxMsgHeapNum = 1
	}
	r := c.router(1)
	for range 2 {
		_, err := r.Send(t.Context(), "me", "q", bodies("x"), 0)
		require.NoError(t, err)
	}
	_, err := r.Send(t.Context(), "me", "q", bodies("x"), 0)
	require.ErrorIs(t, err, cmq.ErrHeapFull)
}

// TestPollOfManyShards: wherever the message comes, it ends the poll at once, and nothing stays locked.
func TestPollOfManyShards(t *testing.T) {
	for ordinal := range 3 {
		synctest.Test(t, func(t *testing.T) {
			c, q := withQueue(t, 3)
			began := time.Now()
			shard := q.Shards[ordinal]
			time.AfterFunc(2*time.Second, func() {
				c.router(1).Do(context.Background(), shard.Set, &cmq.Request{Kind: cmq.KindSend, Shard: shard.ID, Bodies: bodies("x")})
			})
			got, err := c.router(3).Receive(t.Context(), "me", "q", 1, ptr(5*time.Second), 0)
			require.NoError(t, err)
			require.Equal(t, []string{"x"}, texts(got))
			require.Equal(t, 2*time.Second, time.Since(began))
			got, err = c.router(3).Receive(t.Context(), "me", "q", 1, ptr(5*time.Second), 0)
			require.NoError(t, err)
			require.Empty(t, got)
		})
	}
}

// together is a Local at which all polls end in the same moment, cancelled or not.
type together struct {
	*node
	polls sync.WaitGroup
}

func (l *together) Start(set cmq.SetID, req *cmq.Request, done func(*cmq.Reply, error)) cmq.Pending {
	if req.Kind != cmq.KindReceive || req.Wait <= 0 {
		return l.node.Start(set, req, done)
	}
	l.polls.Done()
	go func() {
		l.polls.Wait()
		done(l.do(context.Background(), set, req))
	}()
	return cmq.Answered{}
}

// TestSurplusIsPutBack: messages arrive at all shards in the same moment, fewer were asked for.
func TestSurplusIsPutBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, q := withQueue(t, 3)
		c.lead(1, 3)
		c.lead(2, 3)
		local := &together{node: c.nodes[3]}
		local.polls.Add(3)
		r := route.New(route.Config{Node: 3, Meta: c.nodes[3], Local: local, Remote: remote{c.nodes[3]}})
		c.before = func(_ cmq.NodeID, req *cmq.Request) error {
			if req.Kind == cmq.KindReceive && req.Wait > 0 {
				c.shards[req.Shard].active = []cmq.Message{{Body: []byte("x")}, {Body: []byte("y")}}
			}
			return nil
		}
		got, err := r.Receive(t.Context(), "me", "q", 3, ptr(5*time.Second), 0)
		require.NoError(t, err)
		require.Len(t, got, 3)
		active, locked := 0, 0
		for _, s := range q.Shards {
			active += len(c.shards[s.ID].active)
			locked += len(c.shards[s.ID].locked)
		}
		require.Equal(t, 3, active)
		require.Equal(t, 3, locked)
	})
}

// TestPollComesHomeFromAHungLeader: the old leader hangs and says nothing, the other two elect a new one.
func TestPollComesHomeFromAHungLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := withQueue(t, 1)
		r := c.router(3)
		began := time.Now()
		time.AfterFunc(time.Second, func() {
			c.mu.Lock()
			c.hung = 1
			c.leader[1] = 2
			c.mu.Unlock()
			r.LeaderChanged(1, 0)
			r.LeaderChanged(1, 2)
		})
		time.AfterFunc(2*time.Second, func() { c.router(2).Send(context.Background(), "me", "q", bodies("x"), 0) })
		got, err := r.Receive(t.Context(), "me", "q", 1, ptr(30*time.Second), 0)
		require.NoError(t, err)
		require.Equal(t, []string{"x"}, texts(got))
		require.Equal(t, 2*time.Second, time.Since(began))
	})
}

// TestPollOfTheLeaderStays: news of the leader it waits at takes nothing back.
func TestPollOfTheLeaderStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := withQueue(t, 1)
		r := c.router(3)
		time.AfterFunc(time.Second, func() { r.LeaderChanged(1, 1); r.LeaderChanged(2, 3) })
		_, err := r.Receive(t.Context(), "me", "q", 1, ptr(5*time.Second), 0)
		require.NoError(t, err)
		require.Equal(t, []string{"3:2", "1:2"}, c.asked)
	})
}
