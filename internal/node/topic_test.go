package node

import (
	"context"
	"errors"
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
	ctx := timeout(t)
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
	ctx := timeout(t)
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

// take receives and deletes until n messages have come, and gives their bodies and ids in the order of their coming.
func (c *cluster) take(ctx context.Context, i int, queue string, n int) (bodies []string, ids []cmq.MsgID) {
	wait := 20 * time.Second
	for len(bodies) < n {
		got, err := c.nodes[i].router.Receive(ctx, "1", queue, 16, &wait, 0)
		require.NoError(c.t, err)
		require.NotEmpty(c.t, got, "%d of %d messages came to %s", len(bodies), n, queue)
		var handles []cmq.Handle
		for _, m := range got {
			require.Nil(c.t, m.Publication, "consumers of a queue do not see what a topic chose by")
			require.Nil(c.t, m.Source, "it did not die anywhere")
			bodies, ids, handles = append(bodies, string(m.Body)), append(ids, m.ID), append(handles, m.Handle)
		}
		_, err = c.nodes[i].router.Delete(ctx, "1", queue, handles)
		require.NoError(c.t, err)
	}
	got, err := c.nodes[i].router.Receive(ctx, "1", queue, 16, zero(), 0)
	require.NoError(c.t, err)
	require.Empty(c.t, got, "more came to %s than were published for it", queue)
	return bodies, ids
}

// delivered waits until nothing waits to be delivered any more.
func (c *cluster) delivered(ctx context.Context, i int, topic string) {
	for {
		_, backlog, err := c.nodes[i].router.TopicAttributes(ctx, "1", topic)
		require.NoError(c.t, err)
		if backlog == 0 {
			return
		}
	}
}

func TestPublishOnOneNode(t *testing.T) { testPublish(t, 1) }

func TestPublishOnThreeNodes(t *testing.T) { testPublish(t, 3) }

// testPublish publishes through each node to queues, which are on all sets.
func testPublish(t *testing.T, nodes int) {
	c := startCluster(t, nodes)
	ctx := timeout(t)
	c.ready(ctx)
	r := c.nodes[0].router
	_, err := r.CreateTopic(ctx, "1", "news", cmq.TopicSettings{})
	require.NoError(t, err)
	publish := func(i int, tag string, bodies ...string) ([]cmq.MsgID, error) {
		var list [][]byte
		for _, b := range bodies {
			list = append(list, []byte(b))
		}
		return c.nodes[i].router.Publish(ctx, "1", "news", list, cmq.Publication{Tags: []string{tag}})
	}
	_, err = publish(0, "a", "x")
	require.ErrorIs(t, err, cmq.ErrNoSubscription)
	for _, q := range []string{"all", "as", "bs"} {
		_, err := r.CreateQueue(ctx, "1", q, cmq.QueueSettings{})
		require.NoError(t, err)
	}
	for name, settings := range map[string]cmq.SubscriptionSettings{"all": toQueue("ALL"), "as": toQueue("as", "a"), "bs": toQueue("bs", "b")} {
		_, err := r.Subscribe(ctx, "1", "news", name, settings)
		require.NoError(t, err)
	}

	var sent []cmq.MsgID
	for i := range c.nodes {
		ids, err := publish(i, "a", "a1", "a2")
		require.NoError(t, err)
		sent = append(sent, ids...)
		ids, err = publish(i, "b", "b1")
		require.NoError(t, err)
		sent = append(sent, ids...)
	}
	bodies, ids := c.take(ctx, 0, "all", 3*nodes)
	require.Equal(t, []string{"a1", "a2", "b1"}, bodies[:3])
	require.Equal(t, sent, ids, "a message keeps its id, and the order of publishing")
	bodies, _ = c.take(ctx, nodes-1, "as", 2*nodes)
	require.Equal(t, []string{"a1", "a2"}, bodies[:2])
	c.take(ctx, nodes/2, "bs", nodes)
	c.delivered(ctx, 0, "news")

	require.NoError(t, r.Unsubscribe(ctx, "1", "news", "all"))
	_, err = publish(nodes-1, "c", "x")
	require.ErrorIs(t, err, cmq.ErrNoMatch)
	require.NoError(t, r.SetSubscriptionAttributes(ctx, "1", "news", "as", toQueue("as", "c")))
	_, err = publish(nodes-1, "c", "c1")
	require.NoError(t, err, "the change is known where the topic is when it is answered")
	bodies, _ = c.take(ctx, 0, "as", 1)
	require.Equal(t, []string{"c1"}, bodies)
}

// What is published for a queue that is not there, or for a paused subscription, waits.
func TestPublishedMessagesWaitForTheirQueue(t *testing.T) {
	c := startCluster(t, 1)
	ctx := timeout(t)
	c.ready(ctx)
	r := c.nodes[0].router
	_, err := r.CreateTopic(ctx, "1", "news", cmq.TopicSettings{})
	require.NoError(t, err)
	_, err = r.Subscribe(ctx, "1", "news", "early", toQueue("late"))
	require.NoError(t, err)
	_, err = r.CreateQueue(ctx, "1", "there", cmq.QueueSettings{})
	require.NoError(t, err)
	paused := toQueue("there")
	paused.Paused = new(true)
	_, err = r.Subscribe(ctx, "1", "news", "paused", paused)
	require.NoError(t, err)
	_, err = r.Publish(ctx, "1", "news", [][]byte{[]byte("x"), []byte("y")}, cmq.Publication{})
	require.NoError(t, err)
	_, backlog, err := r.TopicAttributes(ctx, "1", "news")
	require.NoError(t, err)
	require.EqualValues(t, 4, backlog)

	_, err = r.CreateQueue(ctx, "1", "late", cmq.QueueSettings{})
	require.NoError(t, err)
	bodies, _ := c.take(ctx, 0, "late", 2)
	require.Equal(t, []string{"x", "y"}, bodies)
	_, backlog, err = r.SubscriptionAttributes(ctx, "1", "news", "paused")
	require.NoError(t, err)
	require.EqualValues(t, 2, backlog)
	require.NoError(t, r.SetSubscriptionAttributes(ctx, "1", "news", "paused", cmq.SubscriptionSettings{Paused: new(false)}))
	c.take(ctx, 0, "there", 2)
	c.delivered(ctx, 0, "news")
}

// What was published before the node ended is delivered after it has started again.
func TestPublishedMessagesOutliveTheNode(t *testing.T) {
	c := startCluster(t, 1)
	ctx := timeout(t)
	c.ready(ctx)
	_, err := c.nodes[0].router.CreateTopic(ctx, "1", "news", cmq.TopicSettings{})
	require.NoError(t, err)
	_, err = c.nodes[0].router.Subscribe(ctx, "1", "news", "reader", toQueue("late", "a"))
	require.NoError(t, err)
	_, err = c.nodes[0].router.Publish(ctx, "1", "news", [][]byte{[]byte("x")}, cmq.Publication{Tags: []string{"a"}})
	require.NoError(t, err)
	c.stop(0)
	c.start(0, listen(t, c.addrs[0]))
	c.ready(ctx)
	_, err = c.nodes[0].router.CreateQueue(ctx, "1", "late", cmq.QueueSettings{})
	require.NoError(t, err)
	bodies, _ := c.take(ctx, 0, "late", 1)
	require.Equal(t, []string{"x"}, bodies)
	_, err = c.nodes[0].router.Publish(ctx, "1", "news", [][]byte{[]byte("y")}, cmq.Publication{Tags: []string{"b"}})
	require.ErrorIs(t, err, cmq.ErrNoMatch, "what a subscription filters by is kept")
}

// Each queue gets each message once, also when the node that moves them ends in the middle of it.
func TestQueuesGetEachMessageOnceThroughAChangeOfLeader(t *testing.T) {
	const queues, messages = 4, 120
	c := startCluster(t, 3)
	ctx := timeout(t)
	c.ready(ctx)
	_, err := c.nodes[0].router.CreateTopic(ctx, "1", "news", cmq.TopicSettings{})
	require.NoError(t, err)
	for i := range queues {
		name := fmt.Sprint("q", i)
		_, err := c.nodes[0].router.CreateQueue(ctx, "1", name, cmq.QueueSettings{})
		require.NoError(t, err)
		_, err = c.nodes[0].router.Subscribe(ctx, "1", "news", name, toQueue(name))
		require.NoError(t, err)
	}
	leader := c.leaderOfTopic(ctx, "news")
	r := c.nodes[(leader+1)%3].router
	confirmed := map[string]cmq.MsgID{}
	for i := range messages {
		if i == messages/2 {
			c.stop(leader)
		}
		body := fmt.Sprint("m", i)
		ids, err := r.Publish(ctx, "1", "news", [][]byte{[]byte(body)}, cmq.Publication{})
		if errors.Is(err, cmq.ErrUnknownOutcome) {
			continue
		}
		require.NoError(t, err)
		confirmed[body] = ids[0]
	}
	require.Greater(t, len(confirmed), messages/2)
	c.delivered(ctx, (leader+1)%3, "news")
	for i := range queues {
		came := map[string]cmq.MsgID{}
		for {
			got, err := r.Receive(ctx, "1", fmt.Sprint("q", i), 16, zero(), time.Hour)
			require.NoError(t, err)
			if len(got) == 0 {
				break
			}
			for _, m := range got {
				require.NotContains(t, came, string(m.Body), "it came twice to queue %d", i)
				came[string(m.Body)] = m.ID
			}
		}
		for body, id := range confirmed { // others may have been stored, of which nobody was told
			require.Equal(t, id, came[body], "message %s in queue %d", body, i)
		}
	}
}

// leaderOfTopic is the place of the node that leads the topic's set.
func (c *cluster) leaderOfTopic(ctx context.Context, topic string) int {
	return c.awaitLeader(ctx, func(n *Node) (cmq.SetID, bool) {
		t := n.meta.Table().Topic("1", topic)
		if t == nil {
			return 0, false
		}
		return t.Set, true
	})
}

// A hundred subscriptions of both kinds get each message once, and it is stored once.
func TestOnePublishForAHundredSubscriptions(t *testing.T) {
	const each, messages, size = 50, 40, 60_000
	c := startCluster(t, 1, allowLoopback)
	ctx := timeout(t)
	c.ready(ctx)
	r, endpoint := c.nodes[0].router, newReceiver(t)
	_, err := r.CreateTopic(ctx, "1", "news", cmq.TopicSettings{})
	require.NoError(t, err)
	for i := range each {
		name := fmt.Sprint("q", i)
		_, err := r.CreateQueue(ctx, "1", name, cmq.QueueSettings{})
		require.NoError(t, err)
		_, err = r.Subscribe(ctx, "1", "news", name, toQueue(name))
		require.NoError(t, err)
		_, err = r.Subscribe(ctx, "1", "news", fmt.Sprint("h", i), toHTTP(endpoint.URL))
		require.NoError(t, err)
	}
	bodies, before := map[string]bool{}, c.nodes[0].sets[1].written.Load()
	for i := range messages {
		body := fmt.Sprintf("%0*d", size, i)
		bodies[body] = true
		_, err := r.Publish(ctx, "1", "news", [][]byte{[]byte(body)}, cmq.Publication{})
		require.NoError(t, err)
	}
	c.delivered(ctx, 0, "news")
	for i := range each {
		got, _ := c.take(ctx, 0, fmt.Sprint("q", i), messages)
		require.Len(t, got, messages)
		for _, body := range got {
			require.True(t, bodies[body])
		}
	}
	for body, count := range endpoint.wait(ctx, t, messages) {
		require.True(t, bodies[body])
		require.Equal(t, each, count, "each endpoint once")
	}
	written := c.nodes[0].sets[1].written.Load() - before
	require.Greater(t, written, uint64(messages*size))
	require.Less(t, written, uint64(2*messages*size), "one body and a hundred references to it, not a hundred bodies")
}

// Queues on all sets get each message once, and each set stores it once: not once for each queue.
func TestOneBodyOnEachSet(t *testing.T) {
	const queues, messages, size = 30, 20, 60_000
	c := startCluster(t, 3)
	ctx := timeout(t)
	c.ready(ctx)
	r := c.nodes[0].router
	_, err := r.CreateTopic(ctx, "1", "news", cmq.TopicSettings{})
	require.NoError(t, err)
	for i := range queues {
		name := fmt.Sprint("q", i)
		_, err := r.CreateQueue(ctx, "1", name, cmq.QueueSettings{})
		require.NoError(t, err)
		_, err = r.Subscribe(ctx, "1", "news", name, toQueue(name))
		require.NoError(t, err)
	}
	on := map[cmq.SetID]int{}
	for i := range queues {
		on[c.nodes[0].meta.Table().Queue("1", fmt.Sprint("q", i)).Shards[0].Set]++
	}
	require.Greater(t, len(on), 1, "queues are on several sets")
	for i := range messages {
		_, err := r.Publish(ctx, "1", "news", [][]byte{[]byte(fmt.Sprintf("%0*d", size, i))}, cmq.Publication{})
		require.NoError(t, err)
	}
	for i := range queues {
		got, _ := c.take(ctx, 0, fmt.Sprint("q", i), messages)
		require.Len(t, got, messages)
	}
	for id, set := range c.nodes[0].sets {
		log, archive := set.store.Size()
		require.Less(t, log+archive, int64(4*messages*size), "set %d with %d queues", id, on[id])
	}
}
