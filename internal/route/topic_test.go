package route_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/internal/cmq"
)

// toURL is a subscription with tags.
func toURL(tags ...string) cmq.SubscriptionSettings {
	return cmq.SubscriptionSettings{Protocol: ptr(cmq.ProtocolHTTP), Endpoint: ptr("http://e"), Tags: &tags}
}

// subscriber is what the set knows of a subscription, and which version the controller knows it to have.
func (c *cluster) subscriber(s cmq.SubscriptionID) (*cmq.Subscriber, cmq.ShardAttributes, uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	shard := c.shards[s.Shard()]
	if shard == nil {
		return nil, cmq.ShardAttributes{}, 0
	}
	return shard.sub, shard.attrs, c.done[s.Shard()]
}

func TestAnyNodeTakesAnyActionOnTopics(t *testing.T) {
	for _, id := range members {
		c, dead := withQueue(t, 1)
		r, ctx := c.router(id), t.Context()
		topic, err := r.CreateTopic(ctx, "me", "News", cmq.TopicSettings{})
		require.NoError(t, err)
		_, err = r.CreateTopic(ctx, "me", "news", cmq.TopicSettings{})
		require.ErrorIs(t, err, cmq.ErrTopicExists)

		settings := toURL("a")
		settings.DeadLetter = &dead.Name
		sub, err := r.Subscribe(ctx, "me", "news", "Reader", settings)
		require.NoError(t, err)
		known, attributes, told := c.subscriber(sub)
		require.Equal(t, &cmq.Subscriber{Topic: topic.Shard(), Filter: cmq.FilterTags, Tags: []string{"a"}}, known, "the set knows it when Subscribe answers")
		require.Equal(t, cmq.DefaultTopicRetention, attributes.DeadLetter.MaxTimeToLive)
		require.Equal(t, dead.ID, attributes.DeadLetter.Queue)
		require.EqualValues(t, 1, told)
		_, err = r.Subscribe(ctx, "me", "news", "reader", settings)
		require.ErrorIs(t, err, cmq.ErrSubscriptionExists)

		require.NoError(t, r.SetSubscriptionAttributes(ctx, "me", "news", "reader", cmq.SubscriptionSettings{Ordered: ptr(true)}))
		known, attributes, told = c.subscriber(sub)
		require.Equal(t, []string{"a"}, known.Tags)
		require.Equal(t, 1, attributes.MaxInFlight)
		require.EqualValues(t, 2, told)
		require.NoError(t, r.ClearFilterTags(ctx, "me", "news", "reader"))
		known, _, _ = c.subscriber(sub)
		require.Empty(t, known.Tags)
		require.NoError(t, r.SetTopicAttributes(ctx, "me", "news", cmq.TopicSettings{MsgRetentionSeconds: ptr[int64](60)}))
		_, attributes, told = c.subscriber(sub)
		require.Equal(t, time.Minute, attributes.DeadLetter.MaxTimeToLive)
		require.EqualValues(t, 4, told)

		s, n, err := r.SubscriptionAttributes(ctx, "me", "news", "READER")
		require.NoError(t, err)
		require.Equal(t, "q", s.Push.DeadLetterName)
		require.EqualValues(t, 1, n, "the fake has one delayed message in every shard")
		got, n, err := r.TopicAttributes(ctx, "me", "NEWS")
		require.NoError(t, err)
		require.Equal(t, time.Minute, got.MsgRetention)
		require.EqualValues(t, 1, n)

		require.ErrorIs(t, r.DeleteTopic(ctx, "me", "news"), cmq.ErrTopicInUse)
		require.NoError(t, r.Unsubscribe(ctx, "me", "news", "reader"))
		require.True(t, c.dropped[sub.Shard()])
		require.EqualValues(t, 5, c.done[sub.Shard()])
		require.NoError(t, r.DeleteTopic(ctx, "me", "news"))
		require.ErrorIs(t, r.DeleteTopic(ctx, "me", "news"), cmq.ErrTopicNotExist)
	}
}

func TestWhatIsMissingOfATopicIsSaid(t *testing.T) {
	c := newCluster()
	r, ctx := c.router(1), t.Context()
	_, err := r.CreateTopic(ctx, "me", "news", cmq.TopicSettings{})
	require.NoError(t, err)
	for _, row := range []struct {
		topic string
		err   *cmq.Error
	}{{"none", cmq.ErrTopicNotExist}, {"news", cmq.ErrSubscriptionNotExist}} {
		require.ErrorIs(t, r.SetSubscriptionAttributes(ctx, "me", row.topic, "x", cmq.SubscriptionSettings{}), row.err)
		require.ErrorIs(t, r.ClearFilterTags(ctx, "me", row.topic, "x"), row.err)
		require.ErrorIs(t, r.Unsubscribe(ctx, "me", row.topic, "x"), row.err)
		_, _, err := r.SubscriptionAttributes(ctx, "me", row.topic, "x")
		require.ErrorIs(t, err, row.err)
	}
	_, err = r.Subscribe(ctx, "me", "none", "x", toURL())
	require.ErrorIs(t, err, cmq.ErrTopicNotExist)
	_, _, err = r.ListSubscriptions(ctx, "me", "none", "", 0, 9)
	require.ErrorIs(t, err, cmq.ErrTopicNotExist)
	_, _, err = r.TopicAttributes(ctx, "you", "news")
	require.ErrorIs(t, err, cmq.ErrTopicNotExist)
	_, err = r.TopicRoute(ctx, "me", "none")
	require.ErrorIs(t, err, cmq.ErrTopicNotExist)
	require.ErrorIs(t, r.SetTopicAttributes(ctx, "me", "none", cmq.TopicSettings{}), cmq.ErrTopicNotExist)
}

// A subscription whose set did not hear of it is told of as an error, and is there all the same.
func TestSubscriptionTheSetDidNotHearOf(t *testing.T) {
	c := newCluster()
	r, ctx := c.router(2), t.Context()
	_, err := r.CreateTopic(ctx, "me", "news", cmq.TopicSettings{})
	require.NoError(t, err)
	failure := errors.New("cannot")
	c.before = func(_ cmq.NodeID, req *cmq.Request) error {
		if req.Kind == cmq.KindOpenShard {
			return failure
		}
		return nil
	}
	sub, err := r.Subscribe(ctx, "me", "news", "reader", toURL("a"))
	require.ErrorIs(t, err, failure)
	require.NotZero(t, sub)
	known, _, told := c.subscriber(sub)
	require.Nil(t, known)
	require.Zero(t, told, "so that the controller opens it")
	_, n, err := r.SubscriptionAttributes(ctx, "me", "news", "reader")
	require.NoError(t, err)
	require.Zero(t, n)
	c.before = nil
	require.NoError(t, r.SetSubscriptionAttributes(ctx, "me", "news", "reader", cmq.SubscriptionSettings{Paused: ptr(true)}))
	known, _, told = c.subscriber(sub)
	require.Equal(t, []string{"a"}, known.Tags, "a shard that is not open is opened")
	require.EqualValues(t, 2, told)
}

// A change that comes after the end of the subscription does not bring it back.
func TestSubscriptionThatHasEndedMeanwhile(t *testing.T) {
	c := newCluster()
	r, ctx := c.router(1), t.Context()
	_, err := r.CreateTopic(ctx, "me", "news", cmq.TopicSettings{})
	require.NoError(t, err)
	var subs []cmq.SubscriptionID
	for i := range 40 {
		sub, err := r.Subscribe(ctx, "me", "news", fmt.Sprint("s", i), toURL())
		require.NoError(t, err)
		subs = append(subs, sub)
	}
	drop := func(s cmq.SubscriptionID) {
		_, err := r.Do(ctx, 2, &cmq.Request{Kind: cmq.KindDropShard, Shard: s.Shard()})
		require.NoError(t, err)
	}
	drop(subs[7])
	require.NoError(t, r.SetTopicAttributes(ctx, "me", "news", cmq.TopicSettings{MsgRetentionSeconds: ptr[int64](60)}))
	_, n, err := r.TopicAttributes(ctx, "me", "news")
	require.NoError(t, err)
	require.EqualValues(t, 39, n)
	for i, s := range subs {
		_, attributes, _ := c.subscriber(s)
		require.Equal(t, i != 7, attributes.MsgRetention == time.Minute)
	}
	require.ErrorIs(t, r.SetSubscriptionAttributes(ctx, "me", "news", "s7", cmq.SubscriptionSettings{}), cmq.ErrSubscriptionNotExist)
	require.NoError(t, r.Unsubscribe(ctx, "me", "news", "s7"), "it is gone, as was asked for")
}

// What one of many subscriptions fails with is told.
func TestFailureOfOneSubscription(t *testing.T) {
	c := newCluster()
	r, ctx := c.router(2), t.Context()
	_, err := r.CreateTopic(ctx, "me", "news", cmq.TopicSettings{})
	require.NoError(t, err)
	var subs []cmq.SubscriptionID
	for i := range 20 {
		sub, err := r.Subscribe(ctx, "me", "news", fmt.Sprint("s", i), toURL())
		require.NoError(t, err)
		subs = append(subs, sub)
	}
	failure := errors.New("cannot")
	c.before = func(_ cmq.NodeID, req *cmq.Request) error {
		if req.Shard == subs[3].Shard() {
			return failure
		}
		return nil
	}
	require.ErrorIs(t, r.SetTopicAttributes(ctx, "me", "news", cmq.TopicSettings{MsgRetentionSeconds: ptr[int64](60)}), failure)
	_, _, err = r.TopicAttributes(ctx, "me", "news")
	require.ErrorIs(t, err, failure)
	require.NoError(t, r.SetTopicAttributes(ctx, "me", "news", cmq.TopicSettings{Trace: ptr(true)}), "no subscription has to be told")
}

func TestListsOfTopicsAndSubscriptions(t *testing.T) {
	c := newCluster()
	r, ctx := c.router(3), t.Context()
	for _, name := range []string{"Alpha", "beta", "alphabet"} {
		_, err := r.CreateTopic(ctx, "me", name, cmq.TopicSettings{})
		require.NoError(t, err)
		_, err = r.Subscribe(ctx, "me", "Alpha", name, toURL())
		require.NoError(t, err)
	}
	c.nodes[3].fresh = false
	_, err := c.router(1).CreateTopic(ctx, "me", "omega", cmq.TopicSettings{})
	require.NoError(t, err)
	for _, row := range []struct {
		search        string
		offset, limit int
		total         int
		names         []string
	}{
		{"", 0, 9, 4, []string{"Alpha", "beta", "alphabet", "omega"}},
		{"ALPHA", 0, 9, 2, []string{"Alpha", "alphabet"}},
		{"alpha", 1, 1, 2, []string{"alphabet"}},
		{"a", 9, 9, 4, nil},
	} {
		total, topics, err := r.ListTopics(ctx, "me", row.search, row.offset, row.limit)
		require.NoError(t, err)
		require.Equal(t, row.total, total)
		var names []string
		for _, topic := range topics {
			names = append(names, topic.Name)
		}
		require.Equal(t, row.names, names)
	}
	total, subs, err := r.ListSubscriptions(ctx, "me", "alpha", "ALPHA", 1, 5)
	require.NoError(t, err)
	require.Equal(t, 2, total)
	require.Len(t, subs, 1)
	require.Equal(t, "alphabet", subs[0].Name)
}

func TestTopicRouteBeginsWithTheLeader(t *testing.T) {
	c := newCluster()
	r, ctx := c.router(1), t.Context()
	_, err := r.CreateTopic(ctx, "me", "news", cmq.TopicSettings{})
	require.NoError(t, err)
	c.lead(2, 3)
	_, err = r.Subscribe(ctx, "me", "news", "reader", toURL())
	require.NoError(t, err)
	addrs, err := r.TopicRoute(ctx, "me", "news")
	require.NoError(t, err)
	require.Equal(t, "node3:7671", addrs[0])
	require.ElementsMatch(t, []string{"node1:7671", "node2:7671", "node3:7671"}, addrs)
}
