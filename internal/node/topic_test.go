package node

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/internal/cmq"
)

// toQueue is a subscription that delivers to the queue, with tags.
func toQueue(queue string, tags ...string) cmq.SubscriptionSettings {
	protocol := cmq.ProtocolQueue
	return cmq.SubscriptionSettings{Protocol: &protocol, Endpoint: &queue, Tags: &tags}
}

// settled waits until the sets have been told everything, and node i knows it.
func (c *cluster) settled(ctx context.Context, i int) {
	n := c.nodes[i]
	for {
		changed := n.board.Changed()
		require.NoError(c.t, n.meta.Sync(ctx))
		if len(n.meta.Table().Tasks()) == 0 {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			require.NoError(c.t, ctx.Err(), "tasks: %v", n.meta.Table().Tasks())
		}
	}
}

func TestTopicsOfOneNode(t *testing.T) { testTopics(t, 1) }

func TestTopicsOfThreeNodes(t *testing.T) { testTopics(t, 3) }

// testTopics lets each node do everything there is to do with topics, each time with a namesake of the one before.
func testTopics(t *testing.T, nodes int) {
	c := startCluster(t, nodes)
	ctx := timeout(t, 60*time.Second)
	c.ready(ctx)
	seen := map[cmq.TopicID]bool{}
	for i := range c.nodes {
		r, other := c.nodes[i].router, c.nodes[(i+1)%nodes].router
		topic, err := r.CreateTopic(ctx, "1", "News", cmq.TopicSettings{})
		require.NoError(t, err)
		require.False(t, seen[topic], "every topic has an id of its own")
		seen[topic] = true
		_, err = other.CreateTopic(ctx, "1", "news", cmq.TopicSettings{})
		require.ErrorIs(t, err, cmq.ErrTopicExists)

		first, err := r.Subscribe(ctx, "1", "news", "reader", toQueue("orders", "a"))
		require.NoError(t, err)
		_, err = other.Subscribe(ctx, "1", "news", "Reader", toQueue("orders"))
		require.ErrorIs(t, err, cmq.ErrSubscriptionExists)
		require.NoError(t, other.SetSubscriptionAttributes(ctx, "1", "news", "reader", toQueue("others", "b")))
		sub, backlog, err := r.SubscriptionAttributes(ctx, "1", "news", "READER")
		require.NoError(t, err)
		require.Equal(t, []string{"b"}, sub.Tags)
		require.Equal(t, "others", sub.Endpoint)
		require.Zero(t, backlog)
		require.NoError(t, other.ClearFilterTags(ctx, "1", "news", "reader"))
		seconds := int64(60)
		require.NoError(t, other.SetTopicAttributes(ctx, "1", "news", cmq.TopicSettings{MsgRetentionSeconds: &seconds}))
		_, list, err := r.ListSubscriptions(ctx, "1", "news", "read", 0, 9)
		require.NoError(t, err)
		require.Len(t, list, 1)
		require.Empty(t, list[0].Tags)
		got, backlog, err := r.TopicAttributes(ctx, "1", "news")
		require.NoError(t, err)
		require.Equal(t, time.Minute, got.MsgRetention)
		require.Zero(t, backlog)
		addrs, err := other.TopicRoute(ctx, "1", "news")
		require.NoError(t, err)
		require.Len(t, addrs, nodes)
		c.settled(ctx, i)
		require.Equal(t, 1, readState(t, c, i).Metadata.Topics)
		require.Equal(t, 1, readState(t, c, i).Metadata.Subscriptions)

		require.ErrorIs(t, r.DeleteTopic(ctx, "1", "news"), cmq.ErrTopicInUse)
		require.NoError(t, other.Unsubscribe(ctx, "1", "news", "reader"))
		again, err := r.Subscribe(ctx, "1", "news", "reader", toQueue("orders"))
		require.NoError(t, err, "a name is free at once")
		require.NotEqual(t, first, again)
		require.NoError(t, r.Unsubscribe(ctx, "1", "news", "reader"))
		require.NoError(t, other.DeleteTopic(ctx, "1", "news"))
		total, _, err := r.ListTopics(ctx, "1", "", 0, 9)
		require.NoError(t, err)
		require.Zero(t, total)
	}
	c.settled(ctx, 0)
	require.Empty(t, c.nodes[0].meta.Table().Graves(), "no shard is left behind")
}

func TestLimitsOfTopics(t *testing.T) {
	limits := cmq.DefaultLimits()
	limits.TopicsPerOwner, limits.SubscriptionsPerTopic = 2, 3
	c := startCluster(t, 1, func(o *Options) { o.Limits = limits })
	ctx := timeout(t, 30*time.Second)
	c.ready(ctx)
	r := c.nodes[0].router
	for i := range 2 {
		_, err := r.CreateTopic(ctx, "1", fmt.Sprint("t", i), cmq.TopicSettings{})
		require.NoError(t, err)
	}
	_, err := r.CreateTopic(ctx, "1", "t2", cmq.TopicSettings{})
	require.ErrorIs(t, err, cmq.ErrTopicLimit)
	for i := range 3 {
		_, err := r.Subscribe(ctx, "1", "t0", fmt.Sprint("s", i), toQueue("q"))
		require.NoError(t, err)
	}
	_, err = r.Subscribe(ctx, "1", "t0", "s3", toQueue("q"))
	require.ErrorIs(t, err, cmq.ErrSubscriptionLimit)
	require.NoError(t, r.Unsubscribe(ctx, "1", "t0", "s1"))
	_, err = r.Subscribe(ctx, "1", "t0", "s3", toQueue("q"))
	require.NoError(t, err)
}
