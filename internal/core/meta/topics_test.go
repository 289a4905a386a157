package meta

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/internal/cmq"
)

func createTopic(t testing.TB, s *State, name string, settings cmq.TopicSettings) *cmq.Topic {
	r := s.Apply(&CreateTopic{owner, name, settings}, start)
	require.Nil(t, r.Err)
	return r.Topic
}

func subscribe(t testing.TB, s *State, topic, name string, settings cmq.SubscriptionSettings) *cmq.Subscription {
	r := s.Apply(&Subscribe{owner, topic, name, settings}, start)
	require.Nil(t, r.Err)
	return r.Subscription
}

// toQueue is a subscription that delivers to the queue.
func toQueue(queue string) cmq.SubscriptionSettings {
	return cmq.SubscriptionSettings{Protocol: ptr(cmq.ProtocolQueue), Endpoint: &queue}
}

// toURL is a subscription that delivers to a URL.
func toURL() cmq.SubscriptionSettings {
	return cmq.SubscriptionSettings{Protocol: ptr(cmq.ProtocolHTTP), Endpoint: ptr("http://e")}
}

func TestTopicsHaveThePublishedDefaults(t *testing.T) {
	s := cluster(t)
	at := time.UnixMilli(start).UTC()
	require.Equal(t, &cmq.Topic{
		ID: 1, Name: "News", Owner: owner, Set: 1, Filter: cmq.FilterTags, MaxMsgSize: 65536, MsgRetention: 24 * time.Hour,
		Version: 1, Created: at, Modified: at,
	}, createTopic(t, s, "News", cmq.TopicSettings{}))
	require.Equal(t, &cmq.Subscription{
		ID: 2, Topic: 1, Name: "reader", Owner: owner, Protocol: cmq.ProtocolHTTP, Endpoint: "http://e", Strategy: cmq.ExponentialRetry,
		Format: cmq.FormatJSON, Version: 1, Created: at, Modified: at,
	}, subscribe(t, s, "news", "reader", toURL()))
	asked := toQueue("q")
	asked.Format = ptr(cmq.FormatJSON)
	require.Equal(t, cmq.FormatSimplified, subscribe(t, s, "news", "outbox", asked).Format, "queues get bodies, whatever a client asks for")
	require.Equal(t, s.Table().Topic(owner, "NEWS"), s.Table().TopicByID(1))
	require.Equal(t, 1, s.Table().TopicCount())
	require.Equal(t, 2, s.Table().SubscriptionCount())
	require.Len(t, s.Table().AllTopics(), 1)
	require.Len(t, s.Table().AllSubscriptions(), 2)
}

func TestTopicsAreSpreadOverTheSets(t *testing.T) {
	s := cluster(t)
	var sets []cmq.SetID
	for i := range 4 {
		sets = append(sets, createTopic(t, s, fmt.Sprint("t", i), cmq.TopicSettings{}).Set)
	}
	require.Equal(t, []cmq.SetID{1, 2, 3, 1}, sets, "though they have no shards")
	for i := range 3 {
		subscribe(t, s, "t1", fmt.Sprint("s", i), toURL())
	}
	require.Equal(t, cmq.SetID(3), create(t, s, "q", cmq.QueueSettings{}).Shards[0].Set, "subscriptions count where their topic is")
	require.Nil(t, s.Apply(&DeleteTopic{owner, "t0"}, start).Err)
	require.Nil(t, s.Apply(&DeleteTopic{owner, "t3"}, start).Err)
	require.Equal(t, cmq.SetID(1), createTopic(t, s, "t", cmq.TopicSettings{}).Set, "what is deleted does not count any more")
	require.Equal(t, cmq.ErrInternal, New().planTopicAnywhere())
}

// planTopicAnywhere tries to create a topic where there is no data set.
func (s *State) planTopicAnywhere() *cmq.Error {
	s.maxTopics = 1
	return s.Apply(&CreateTopic{Owner: owner, Name: "x"}, start).Err
}

func TestTopicRefusals(t *testing.T) {
	s := cluster(t)
	create(t, s, "dead", cmq.QueueSettings{})
	create(t, s, "source", deadLetter("dead"))
	create(t, s, "bank", cmq.QueueSettings{Transaction: ptr(true)})
	createTopic(t, s, "tags", cmq.TopicSettings{})
	createTopic(t, s, "keys", cmq.TopicSettings{Filter: ptr(cmq.FilterKeys)})
	subscribe(t, s, "tags", "Reader", toURL())
	with := func(change func(*cmq.SubscriptionSettings)) cmq.SubscriptionSettings {
		settings := toURL()
		change(&settings)
		return settings
	}
	tooMany := []string{"1", "2", "3", "4", "5", "6"}
	rows := []struct {
		name    string
		command Command
		err     *cmq.Error
	}{
		{"topic of that name in other case", &CreateTopic{Name: "TAGS"}, cmq.ErrTopicExists},
		{"name of a topic", &CreateTopic{Name: "1"}, cmq.ErrTopicName},
		{"filter", &CreateTopic{Name: "x", Settings: cmq.TopicSettings{Filter: ptr(cmq.FilterType(3))}}, cmq.ErrParameterRange("")},
		{"retention overflows", &CreateTopic{Name: "x", Settings: cmq.TopicSettings{MsgRetentionSeconds: ptr(int64(1) << 60)}}, cmq.ErrParameterRange("")},
		{"size below 0", &SetTopic{Name: "tags", Settings: cmq.TopicSettings{MaxMsgSize: ptr(int64(-1))}}, cmq.ErrParameterRange("")},
		{"no topic to set", &SetTopic{Name: "none"}, cmq.ErrTopicNotExist},
		{"no topic to delete", &DeleteTopic{Name: "none"}, cmq.ErrTopicNotExist},
		{"topic with subscriptions", &DeleteTopic{Name: "tags"}, cmq.ErrTopicInUse},
		{"no topic to subscribe", &Subscribe{Topic: "none", Name: "x"}, cmq.ErrTopicNotExist},
		{"name of a subscription", &Subscribe{Topic: "tags", Name: "a b", Settings: toURL()}, cmq.ErrSubscriptionName},
		{"subscription of that name in other case", &Subscribe{Topic: "tags", Name: "rEADER", Settings: toURL()}, cmq.ErrSubscriptionExists},
		{"no protocol", &Subscribe{Topic: "tags", Name: "x"}, cmq.ErrProtocol},
		{"no endpoint", &Subscribe{Topic: "tags", Name: "x", Settings: cmq.SubscriptionSettings{Protocol: ptr(cmq.ProtocolHTTP)}}, cmq.ErrEndpointFormat},
		{"no binding key", &Subscribe{Topic: "keys", Name: "x", Settings: toURL()}, cmq.ErrBindingKey},
		{"strategy", &Subscribe{Topic: "tags", Name: "x", Settings: with(func(s *cmq.SubscriptionSettings) { s.Strategy = ptr(cmq.Strategy("x")) })}, cmq.ErrStrategy},
		{"format", &Subscribe{Topic: "tags", Name: "x", Settings: with(func(s *cmq.SubscriptionSettings) { s.Format = ptr(cmq.Format("x")) })}, cmq.ErrFormat},
		{"too many tags", &Subscribe{Topic: "tags", Name: "x", Settings: with(func(s *cmq.SubscriptionSettings) { s.Tags = &tooMany })}, cmq.ErrFilterTags},
		{"too many keys", &Subscribe{Topic: "tags", Name: "x", Settings: with(func(s *cmq.SubscriptionSettings) { s.Keys = &tooMany })}, cmq.ErrBindingKeys},
		{"rate below 0", &Subscribe{Topic: "tags", Name: "x", Settings: with(func(s *cmq.SubscriptionSettings) { s.Rate = ptr(int64(-1)) })}, cmq.ErrParameterRange("")},
		{"rate overflows", &Subscribe{Topic: "tags", Name: "x", Settings: with(func(s *cmq.SubscriptionSettings) { s.Rate = ptr(int64(1) << 40) })}, cmq.ErrParameterRange("")},
		{"concurrency below 0", &Subscribe{Topic: "tags", Name: "x", Settings: with(func(s *cmq.SubscriptionSettings) { s.Concurrency = ptr(int64(-1)) })}, cmq.ErrParameterRange("")},
		{"an agent for a queue", &Subscribe{Topic: "tags", Name: "x", Settings: with(func(s *cmq.SubscriptionSettings) { s.Protocol, s.Agent = ptr(cmq.ProtocolQueue), ptr("plant") })}, cmq.ErrParameterRange("")},
		{"an agent for mail", &Subscribe{Topic: "tags", Name: "x", Settings: with(func(s *cmq.SubscriptionSettings) { s.Protocol, s.Agent = ptr(cmq.ProtocolMail), ptr("plant") })}, cmq.ErrParameterRange("")},
		{"no such dead-letter queue", &Subscribe{Topic: "tags", Name: "x", Settings: with(func(s *cmq.SubscriptionSettings) { s.DeadLetter = ptr("none") })}, cmq.ErrDeadLetterNotExist},
		{"dead-letter queue has a policy", &Subscribe{Topic: "tags", Name: "x", Settings: with(func(s *cmq.SubscriptionSettings) { s.DeadLetter = ptr("source") })}, cmq.ErrDeadLetterNest},
		{"dead-letter queue is transactional", &Subscribe{Topic: "tags", Name: "x", Settings: with(func(s *cmq.SubscriptionSettings) { s.DeadLetter = ptr("bank") })}, cmq.ErrDeadLetterParams},
		{"another protocol", &SetSubscription{Topic: "tags", Name: "reader", Settings: toQueue("q")}, cmq.ErrProtocol},
		{"endpoint taken away", &SetSubscription{Topic: "tags", Name: "reader", Settings: cmq.SubscriptionSettings{Endpoint: ptr("")}}, cmq.ErrEndpointFormat},
		{"topic of the subscription to set", &SetSubscription{Topic: "none", Name: "reader"}, cmq.ErrTopicNotExist},
		{"no subscription to set", &SetSubscription{Topic: "tags", Name: "none"}, cmq.ErrSubscriptionNotExist},
		{"subscription of another topic", &Unsubscribe{Topic: "keys", Name: "reader"}, cmq.ErrSubscriptionNotExist},
		{"topic of the subscription to end", &Unsubscribe{Topic: "none", Name: "reader"}, cmq.ErrTopicNotExist},
	}
	before := s.Digest()
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			switch c := row.command.(type) {
			case *CreateTopic:
				c.Owner = owner
			case *SetTopic:
				c.Owner = owner
			case *DeleteTopic:
				c.Owner = owner
			case *Subscribe:
				c.Owner = owner
			case *SetSubscription:
				c.Owner = owner
			case *Unsubscribe:
				c.Owner = owner
			}
			require.ErrorIs(t, s.Apply(row.command, start).Err, row.err)
			require.Equal(t, before, s.Digest(), "a refusal changes nothing")
		})
	}
	require.Equal(t, cmq.ErrParameters, s.Apply(&CreateTopic{Owner: "a\x00b", Name: "x"}, start).Err)
	require.Equal(t, cmq.ErrTopicNotExist, s.Apply(&DeleteTopic{owner + "1", "tags"}, start).Err, "topic of another owner")
}

func TestLimitsOfTopicsAndSubscriptions(t *testing.T) {
	s, b := New(), threeNodes()
	b.MaxTopics, b.MaxSubscriptions = 2, 2
	require.Nil(t, s.Apply(b, start).Err)
	createTopic(t, s, "a", cmq.TopicSettings{})
	createTopic(t, s, "b", cmq.TopicSettings{})
	third := &CreateTopic{Owner: owner, Name: "c"}
	require.Equal(t, cmq.ErrTopicLimit, s.Apply(third, start).Err)
	require.Nil(t, s.Apply(&CreateTopic{Owner: "other", Name: "c"}, start).Err)

	subscribe(t, s, "a", "x", toURL())
	subscribe(t, s, "a", "y", toURL())
	require.Equal(t, cmq.ErrSubscriptionLimit, s.Apply(&Subscribe{owner, "a", "z", toURL()}, start).Err)
	subscribe(t, s, "b", "x", toURL())
	require.Nil(t, s.Apply(&Unsubscribe{owner, "a", "x"}, start).Err)
	subscribe(t, s, "a", "z", toURL())

	require.Nil(t, s.Apply(&Unsubscribe{owner, "b", "x"}, start).Err)
	require.Nil(t, s.Apply(&DeleteTopic{owner, "b"}, start).Err)
	require.Nil(t, s.Apply(third, start).Err)
}

// The shard of a subscription goes through all tasks, with what it is to know each time.
func TestTasksOfASubscription(t *testing.T) {
	s := cluster(t)
	dead := create(t, s, "dead", cmq.QueueSettings{})
	require.Nil(t, s.Apply(&Done{dead.Shards[0].ID, 1}, start).Err)
	topic := createTopic(t, s, "news", cmq.TopicSettings{})
	settings := toURL()
	settings.Tags, settings.DeadLetter = ptr([]string{"a"}), ptr("dead")
	sub := subscribe(t, s, "news", "reader", settings)
	shard := sub.ID.Shard()
	only := func() Task {
		t.Helper()
		tasks := s.Table().Tasks()
		require.Len(t, tasks, 1)
		require.Equal(t, shard, tasks[0].Shard)
		require.Equal(t, topic.Set, tasks[0].Set)
		return tasks[0]
	}
	done := func(version uint64) { require.Nil(t, s.Apply(&Done{shard, version}, start).Err) }
	set := func(settings cmq.SubscriptionSettings) *cmq.Subscription {
		r := s.Apply(&SetSubscription{owner, "news", "READER", settings}, start+1)
		require.Nil(t, r.Err)
		return r.Subscription
	}

	open := only()
	require.Equal(t, Task{
		Kind: OpenShard, Shard: shard, Set: topic.Set, Version: 1,
		Attributes: cmq.ShardAttributes{
			MaxMsgHeapNum: 1_000_000_000, VisibilityTimeout: 30 * time.Second, MsgRetention: 48 * time.Hour, MaxInFlight: cmq.DefaultMaxInFlight,
			DeadLetter: cmq.DeadLetterPolicy{Queue: dead.ID, Policy: cmq.PolicyEither, MaxReceiveCount: 177, MaxTimeToLive: 24 * time.Hour},
		},
		Subscriber: &cmq.Subscriber{Topic: topic.ID.Shard(), Filter: cmq.FilterTags, Tags: []string{"a"}},
	}, open)
	done(1)
	require.Equal(t, uint64(2), set(cmq.SubscriptionSettings{Endpoint: ptr("http://other"), Paused: ptr(true)}).Version)
	require.Empty(t, s.Table().Tasks(), "the shard does not care where its messages go")

	require.Empty(t, set(cmq.SubscriptionSettings{Tags: ptr([]string{})}).Tags)
	require.Equal(t, SetShard, only().Kind)
	require.Empty(t, only().Subscriber.Tags)
	done(2)
	require.Equal(t, uint64(3), only().Version)
	done(3)
	set(cmq.SubscriptionSettings{Strategy: ptr(cmq.BackoffRetry)})
	require.Equal(t, 1, only().Attributes.MaxInFlight, "one at a time")
	require.Equal(t, 4, only().Attributes.DeadLetter.MaxReceiveCount)
	done(4)

	require.Nil(t, s.Apply(&SetTopic{owner, "news", cmq.TopicSettings{MaxMsgSize: ptr(int64(2048))}}, start+2).Err)
	require.Empty(t, s.Table().Tasks())
	r := s.Apply(&SetTopic{owner, "news", cmq.TopicSettings{MsgRetentionSeconds: ptr(int64(60))}}, start+3)
	require.Equal(t, uint64(3), r.Topic.Version)
	require.Equal(t, time.Minute, only().Attributes.DeadLetter.MaxTimeToLive, "retention is that of the topic")
	require.Equal(t, time.Minute+24*time.Hour, only().Attributes.MsgRetention, "and a day more to reach the dead-letter queue")
	require.Equal(t, uint64(5), only().Version)
	require.Equal(t, time.UnixMilli(start+1).UTC(), s.Table().SubscriptionByShard(shard).Modified)
	done(5)

	gone := s.Apply(&Unsubscribe{owner, "news", "reader"}, start+4).Subscription
	require.Equal(t, Task{Kind: DropShard, Shard: shard, Set: topic.Set, Version: gone.Version}, only())
	require.Nil(t, s.Table().SubscriptionByShard(shard))
	require.Nil(t, s.Table().SubscriptionByShard(dead.Shards[0].ID))
	require.Equal(t, []*Grave{{Queue: cmq.QueueID(sub.ID), Topic: topic.ID, Owner: owner, Name: "reader", Deleted: time.UnixMilli(start + 4).UTC(), Shards: 1}}, s.Table().Graves())
	done(gone.Version)
	require.Empty(t, s.Table().Tasks())
	require.Empty(t, s.Table().Graves())
}

// Names are free at once: the namesake has another id, and another shard.
func TestNamesakesOfTopicsAndSubscriptions(t *testing.T) {
	s := cluster(t)
	topic := createTopic(t, s, "news", cmq.TopicSettings{})
	old := subscribe(t, s, "news", "reader", toURL())
	require.Nil(t, s.Apply(&Unsubscribe{owner, "news", "reader"}, start).Err)
	renewed := subscribe(t, s, "news", "READER", toURL())
	require.NotEqual(t, old.ID, renewed.ID)
	tasks := s.Table().Tasks()
	require.Equal(t, []TaskKind{DropShard, OpenShard}, []TaskKind{tasks[0].Kind, tasks[1].Kind})
	require.Nil(t, s.Apply(&Unsubscribe{owner, "news", "reader"}, start).Err)
	require.Nil(t, s.Apply(&DeleteTopic{owner, "news"}, start).Err)
	require.NotEqual(t, topic.ID, createTopic(t, s, "news", cmq.TopicSettings{}).ID)
	require.Len(t, s.Table().Tasks(), 2, "those to drop the shards are there after their topic")
	_, err := DecodeState(s.Encode())
	require.NoError(t, err)
}

func TestQueuesThatSubscriptionsGiveUpTo(t *testing.T) {
	s := cluster(t)
	create(t, s, "dead", cmq.QueueSettings{})
	create(t, s, "dead2", cmq.QueueSettings{})
	createTopic(t, s, "news", cmq.TopicSettings{})
	settings := toURL()
	settings.DeadLetter = ptr("DEAD")
	for i := range 8 {
		subscribe(t, s, "news", fmt.Sprint("s", i), settings) // more than queues may share one
	}
	refused := func(c Command, err *cmq.Error) {
		t.Helper()
		require.Equal(t, err, s.Apply(c, start).Err)
	}
	refused(&DeleteQueue{owner, "dead"}, cmq.ErrDeadLetterInUse)
	refused(&SetQueue{owner, "dead", deadLetter("dead2")}, cmq.ErrDeadLetterNest)
	refused(&SetQueue{owner, "dead", cmq.QueueSettings{Transaction: ptr(true)}}, cmq.ErrNotAllowed)
	create(t, s, "source", deadLetter("dead"))
	require.Nil(t, s.Apply(&DeleteQueue{owner, "source"}, start).Err)
	for i := range 7 {
		require.Nil(t, s.Apply(&Unsubscribe{owner, "news", fmt.Sprint("s", i)}, start).Err)
	}
	refused(&DeleteQueue{owner, "dead"}, cmq.ErrDeadLetterInUse)
	require.Nil(t, s.Apply(&SetSubscription{owner, "news", "s7", cmq.SubscriptionSettings{DeadLetter: ptr("dead2")}}, start).Err)
	require.Nil(t, s.Apply(&DeleteQueue{owner, "dead"}, start).Err)
	refused(&DeleteQueue{owner, "dead2"}, cmq.ErrDeadLetterInUse)
	require.Nil(t, s.Apply(&SetSubscription{owner, "news", "s7", cmq.SubscriptionSettings{DeadLetter: ptr("")}}, start).Err)
	require.Nil(t, s.Apply(&DeleteQueue{owner, "dead2"}, start).Err)
}

func TestTopicsAreListedByCreationThenName(t *testing.T) {
	s := cluster(t)
	for i, name := range []string{"zeta", "beta", "Alpha", "omega"} {
		at := start + int64(i+1)/2
		require.Nil(t, s.Apply(&CreateTopic{Owner: owner, Name: name}, at).Err)
		require.Nil(t, s.Apply(&Subscribe{owner, "zeta", name, toURL()}, at).Err)
	}
	var topics, subs []string
	for _, topic := range s.Table().Topics(owner) {
		topics = append(topics, topic.Name)
	}
	for _, sub := range s.Table().Subscriptions(s.Table().Topic(owner, "zeta").ID) {
		subs = append(subs, sub.Name)
	}
	require.Equal(t, []string{"zeta", "Alpha", "beta", "omega"}, topics)
	require.Equal(t, topics, subs)
	require.Empty(t, s.Table().Topics("nobody"))
	require.Empty(t, s.Table().Subscriptions(99))
}
