package route_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/internal/cmq"
)

// publisher is a Router as the doors publish through it.
type publisher interface {
	Publish(ctx context.Context, owner, topic string, bodies [][]byte, publication cmq.Publication) ([]cmq.MsgID, error)
}

func (s starting) Publish(ctx context.Context, owner, topic string, bodies [][]byte, publication cmq.Publication) ([]cmq.MsgID, error) {
	return await(ctx, func(done func([]cmq.MsgID, error)) cmq.Pending {
		return s.StartPublish(owner, topic, bodies, publication, done)
	})
}

// bothWays runs the test with publishing that waits and with publishing that is started.
func bothWays(t *testing.T, test func(t *testing.T, c *cluster, via func(node cmq.NodeID) publisher)) {
	for name, wrap := range map[string]func(c *cluster, node cmq.NodeID) publisher{
		"waiting": func(c *cluster, node cmq.NodeID) publisher { return c.router(node) },
		"started": func(c *cluster, node cmq.NodeID) publisher { return starting{c.router(node)} },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster()
				test(t, c, func(node cmq.NodeID) publisher { return wrap(c, node) })
			})
		})
	}
}

// published are the ids of what waits in the subscription.
func (c *cluster) published(s cmq.SubscriptionID) (ids []cmq.MsgID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range c.shards[s.Shard()].active {
		ids = append(ids, m.ID)
	}
	return ids
}

// topicWith makes a topic with a subscription.
func topicWith(t *testing.T, c *cluster, name string, tags ...string) cmq.SubscriptionID {
	_, err := c.router(1).CreateTopic(t.Context(), "me", name, cmq.TopicSettings{})
	require.NoError(t, err)
	s, err := c.router(1).Subscribe(t.Context(), "me", name, "s", toURL(tags...))
	require.NoError(t, err)
	return s
}

func TestPublishAtAnyNode(t *testing.T) {
	bothWays(t, func(t *testing.T, c *cluster, via func(cmq.NodeID) publisher) {
		ctx := t.Context()
		red := topicWith(t, c, "News", "red")
		all, err := c.router(1).Subscribe(ctx, "me", "news", "all", toURL())
		require.NoError(t, err)
		var want []cmq.MsgID
		for _, id := range members {
			ids, err := via(id).Publish(ctx, "me", "NEWS", bodies("x", "y"), cmq.Publication{Tags: []string{"blue", "red"}})
			require.NoError(t, err)
			require.Len(t, ids, 2)
			want = append(want, ids...)
		}
		require.Equal(t, want, c.published(red))
		require.Equal(t, want, c.published(all))
	})
}

func TestPublishIsRefused(t *testing.T) {
	bothWays(t, func(t *testing.T, c *cluster, via func(cmq.NodeID) publisher) {
		ctx := t.Context()
		s := topicWith(t, c, "news", "red")
		_, err := c.router(1).CreateTopic(ctx, "me", "alone", cmq.TopicSettings{})
		require.NoError(t, err)
		c.change(func(tb *table) {
			tb.topics = append(tb.topics, &cmq.Topic{ID: 99, Owner: "me", Name: "keys", Set: 2, Filter: cmq.FilterKeys, MaxMsgSize: 1024})
		})
		for _, row := range []struct {
			owner, topic, body string
			publication        cmq.Publication
			want               error
		}{
			{"me", "none", "x", cmq.Publication{}, cmq.ErrTopicNotExist},
			{"you", "news", "x", cmq.Publication{}, cmq.ErrTopicNotExist},
			{"me", "alone", "x", cmq.Publication{}, cmq.ErrNoSubscription},
			{"me", "news", "x", cmq.Publication{}, cmq.ErrNoMatch},
			{"me", "news", strings.Repeat("x", 1025), cmq.Publication{Tags: []string{"red"}}, cmq.ErrMsgSize},
			{"me", "keys", "x", cmq.Publication{Tags: []string{"red"}}, cmq.ErrRoutingKey},
			{"me", "keys", "x", cmq.Publication{RoutingKey: "a"}, cmq.ErrNoSubscription},
		} {
			_, err := via(3).Publish(ctx, row.owner, row.topic, bodies(row.body), row.publication)
			require.ErrorIs(t, err, row.want, "%s/%s", row.owner, row.topic)
		}
		require.Empty(t, c.published(s))
	})
}

// TestPublishToANamesake: the node has not heard that the topic is gone, and that there is another one with its name.
func TestPublishToANamesake(t *testing.T) {
	bothWays(t, func(t *testing.T, c *cluster, via func(cmq.NodeID) publisher) {
		ctx := t.Context()
		topicWith(t, c, "news")
		c.nodes[3].fresh = false
		require.NoError(t, c.router(1).Unsubscribe(ctx, "me", "news", "s"))
		require.NoError(t, c.router(1).DeleteTopic(ctx, "me", "news"))
		s := topicWith(t, c, "news")
		ids, err := via(3).Publish(ctx, "me", "news", bodies("x"), cmq.Publication{})
		require.NoError(t, err)
		require.Equal(t, ids, c.published(s))

		c.nodes[3].fresh = false
		require.NoError(t, c.router(1).Unsubscribe(ctx, "me", "news", "s"))
		require.NoError(t, c.router(1).DeleteTopic(ctx, "me", "news"))
		_, err = via(3).Publish(ctx, "me", "news", bodies("x"), cmq.Publication{})
		require.ErrorIs(t, err, cmq.ErrTopicNotExist)
	})
}

// TestPublishInTrouble: what is in the way of a send is in the way of this, and ends the same way; nothing is put twice of
// which nobody knows what became.
func TestPublishInTrouble(t *testing.T) {
	failure := errors.New("disk of set 2 failed")
	for name, row := range map[string]struct {
		prepare func(c *cluster)
		want    error
		stored  int
	}{
		"another leader": {func(c *cluster) { c.lead(2, 3) }, nil, 1},
		"election":       {func(c *cluster) { c.lead(2, 0); time.AfterFunc(time.Second, func() { c.lead(2, 3) }) }, nil, 1},
		"dead leader":    {func(c *cluster) { c.kill(2); time.AfterFunc(time.Second, func() { c.lead(2, 3) }) }, nil, 1},
		"dropped":        {func(c *cluster) { c.before = onceOf(cmq.KindPublish, cmq.ErrDropped) }, nil, 1},
		"busy":           {func(c *cluster) { c.before = onceOf(cmq.KindPublish, cmq.ErrBusy) }, cmq.ErrBusy, 0},
		"failure":        {func(c *cluster) { c.before = onceOf(cmq.KindPublish, failure) }, failure, 0},
		"answer lost":    {func(c *cluster) { c.after = onceOf(cmq.KindPublish, cmq.ErrUnknownOutcome) }, cmq.ErrUnknownOutcome, 1},
	} {
		t.Run(name, func(t *testing.T) {
			bothWays(t, func(t *testing.T, c *cluster, via func(cmq.NodeID) publisher) {
				s := topicWith(t, c, "news")
				row.prepare(c)
				ids, err := via(1).Publish(t.Context(), "me", "news", bodies("x"), cmq.Publication{})
				if row.want == nil {
					require.NoError(t, err)
				} else {
					require.ErrorContains(t, err, row.want.Error())
				}
				require.Len(t, c.published(s), row.stored)
				if err == nil {
					require.Equal(t, ids, c.published(s), fmt.Sprint(ids))
				}
			})
		})
	}
}

// TestPublishCancelled: whoever cancels is answered at once and once.
func TestPublishCancelled(t *testing.T) {
	bothWays(t, func(t *testing.T, c *cluster, via func(cmq.NodeID) publisher) {
		topicWith(t, c, "news")
		c.lead(2, 0)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		_, err := via(1).Publish(ctx, "me", "news", bodies("x"), cmq.Publication{})
		require.Error(t, err)
		require.Equal(t, time.Second, time.Since(began))
	})
}
