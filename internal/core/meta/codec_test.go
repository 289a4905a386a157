package meta

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/internal/cmq"
)

// commands has one of each kind, every field with a value that is not zero.
func commands() []Command {
	full := cmq.QueueSettings{
		MaxMsgHeapNum: ptr(int64(1)), PollingWaitSeconds: ptr(int64(2)), VisibilityTimeout: ptr(int64(3)),
		MaxMsgSize: ptr(int64(4)), MsgRetentionSeconds: ptr(int64(5)), RewindSeconds: ptr(int64(6)), Trace: ptr(true),
		Transaction: ptr(true), FirstQueryInterval: ptr(int64(9)), MaxQueryCount: ptr(int64(10)), MaxInFlight: ptr(int64(11)),
		DeadLetter: &cmq.DeadLetterSettings{Queue: "d", Policy: 1, MaxReceiveCount: 7, MaxTimeToLive: 8},
	}
	key := cmq.AccessKey{ID: "i", Secret: "s", Owner: "o", Enabled: true}
	node := cmq.Node{ID: 5, HTTP: "h", TCP: "t", Peer: "p", Admin: "a"}
	return []Command{
		&Bootstrap{
			Cluster: 1, MaxQueues: 2, MaxSources: 3, Nodes: []cmq.Node{node},
			Sets: []cmq.Set{{ID: 4, Replicas: []cmq.NodeID{5, 6}}}, Key: key, MaxTopics: 7, MaxSubscriptions: 8,
		},
		&PutNode{node},
		&CreateQueue{"o", "n", full, 9},
		&SetQueue{"o", "n", cmq.QueueSettings{RewindSeconds: ptr(int64(0))}},
		&SetQueue{"o", "n", full},
		&DeleteQueue{"o", "n"},
		&Unbind{"o", "n"},
		&Done{1 << 60, 2},
		&PutKey{key},
		&DeleteKey{"i"},
		&CreateTopic{"o", "t", fullTopicSettings()},
		&SetTopic{"o", "t", cmq.TopicSettings{Trace: ptr(false)}},
		&SetTopic{"o", "t", cmq.TopicSettings{MsgRetentionSeconds: ptr(int64(60))}},
		&Subscribe{"o", "t", "s", fullSubscriptionSettings()},
		&SetSubscription{"o", "t", "s", fullSubscriptionSettings()},
		&SetSubscription{"o", "t", "s", cmq.SubscriptionSettings{Tags: ptr([]string(nil))}},
		&Unsubscribe{"o", "t", "s"},
		&DeleteTopic{"o", "t"},
	}
}

func fullTopicSettings() cmq.TopicSettings {
	return cmq.TopicSettings{MaxMsgSize: ptr(int64(1)), MsgRetentionSeconds: ptr(int64(2)), Filter: ptr(cmq.FilterKeys), Trace: ptr(true)}
}

func fullSubscriptionSettings() cmq.SubscriptionSettings {
	return cmq.SubscriptionSettings{
		Protocol: ptr(cmq.ProtocolHTTP), Endpoint: ptr("http://e"), Strategy: ptr(cmq.BackoffRetry), Format: ptr(cmq.FormatCloudEvents),
		Tags: ptr([]string{"a", "b"}), Keys: ptr([]string{"k.*", "#"}), Secret: ptr("x"), Rate: ptr(int64(2)), Concurrency: ptr(int64(3)),
		Ordered: ptr(true), Paused: ptr(true), DeadLetter: ptr("d"), CA: ptr(strings.Repeat("c", maxString+1)), Agent: ptr("g"),
	}
}

func TestCommandsComeBackAsTheyWere(t *testing.T) {
	var encoded [][]byte
	for _, c := range commands() {
		b := Encode(c)
		got, err := Decode(b)
		require.NoError(t, err)
		require.Equal(t, c, got)
		for cut := range b {
			_, err := Decode(b[:cut])
			require.ErrorIs(t, err, ErrFormat, "%T cut to %d bytes", c, cut)
		}
		_, err = Decode(append(b, 0))
		require.ErrorIs(t, err, ErrFormat)
		encoded = append(encoded, b)
	}
	batch, err := ParseBatch(EncodeBatch(11, 12, 13, encoded))
	require.NoError(t, err)
	require.Equal(t, &Batch{Proposer: 11, Number: 12, Time: 13, Commands: commands()}, batch)
}

func TestBatchDetectsEveryFlippedByte(t *testing.T) {
	b := EncodeBatch(1, 2, 3, [][]byte{Encode(&DeleteKey{"i"})})
	for i := range b {
		damaged := append([]byte(nil), b...)
		damaged[i] ^= 0x40
		_, err := ParseBatch(damaged)
		require.ErrorIs(t, err, ErrFormat, "byte %d", i)
	}
	_, err := ParseBatch(b[:len(b)-1])
	require.ErrorIs(t, err, ErrFormat)
	empty, err := ParseBatch(EncodeBatch(1, 2, 3, nil))
	require.NoError(t, err)
	require.Empty(t, empty.Commands)
	_, err = ParseBatch(EncodeBatch(1, 2, 3, [][]byte{{commandVersion, 99}}))
	require.ErrorIs(t, err, ErrFormat)
}

func TestCommandTooLarge(t *testing.T) {
	_, err := Decode(make([]byte, MaxCommand+1))
	require.ErrorIs(t, err, ErrFormat)
}

func TestQueueComesBackAsItWas(t *testing.T) {
	q := &cmq.Queue{
		ID: 1, Name: "n", Owner: "o",
		Attributes: cmq.QueueAttributes{
			MaxMsgHeapNum: 2, PollingWait: 3 * time.Second, VisibilityTimeout: 4 * time.Second, MaxMsgSize: 5,
			MsgRetention: 6 * time.Second, Rewind: 7 * time.Second, Trace: true, MaxInFlight: 19,
			DeadLetter:  cmq.DeadLetterPolicy{Queue: 8, Policy: 1, MaxReceiveCount: 9, MaxTimeToLive: 10 * time.Second},
			Transaction: cmq.TransactionPolicy{On: true, FirstQueryInterval: 17 * time.Second, MaxQueryCount: 18},
		},
		Version: 11, Created: time.UnixMilli(12).UTC(), Modified: time.UnixMilli(13).UTC(),
		Shards: []cmq.Shard{{ID: 14, Set: 15, Epoch: 16}},
	}
	b := EncodeQueue(q)
	got, err := DecodeQueue(b)
	require.NoError(t, err)
	require.Equal(t, q, got)
	for cut := range b {
		_, err := DecodeQueue(b[:cut])
		require.ErrorIs(t, err, ErrFormat)
	}
	b[0] = 9
	_, err = DecodeQueue(b)
	require.ErrorIs(t, err, ErrFormat)
}

func TestTopicsAndSubscriptionsComeBackAsTheyWere(t *testing.T) {
	topic := &cmq.Topic{
		ID: 1, Name: "n", Owner: "o", Set: 2, Filter: cmq.FilterKeys, MaxMsgSize: 3, MsgRetention: 4 * time.Second, Trace: true,
		Version: 5, Created: time.UnixMilli(6).UTC(), Modified: time.UnixMilli(7).UTC(),
	}
	sub := &cmq.Subscription{
		ID: 8, Topic: 1, Name: "s", Owner: "o", Protocol: cmq.ProtocolMail, Endpoint: "e", Strategy: cmq.BackoffRetry,
		Format: cmq.FormatSimplified, Tags: []string{"t", "u"}, Keys: []string{"k"},
		Push: cmq.PushAttributes{
			Secret: "x", Rate: 14, Concurrency: 9, Ordered: true, Paused: true, DeadLetter: 10,
			CA: strings.Repeat("c", maxCertificates), Agent: "a",
		},
		Version: 11, Created: time.UnixMilli(12).UTC(), Modified: time.UnixMilli(13).UTC(),
	}
	for _, s := range []*cmq.Subscription{nil, sub} {
		b := EncodeTopic(topic, s)
		gotTopic, gotSub, err := DecodeTopic(b)
		require.NoError(t, err)
		require.Equal(t, topic, gotTopic)
		require.Equal(t, s, gotSub)
		for cut := 0; cut < len(b); cut += 1 + cut/64 {
			_, _, err := DecodeTopic(b[:cut])
			require.ErrorIs(t, err, ErrFormat)
		}
		_, _, err = DecodeTopic(append(b, 0))
		require.ErrorIs(t, err, ErrFormat)
		b[0] = 9
		_, _, err = DecodeTopic(b)
		require.ErrorIs(t, err, ErrFormat)
	}
	sub.Push.CA += "c"
	_, _, err := DecodeTopic(EncodeTopic(topic, sub))
	require.ErrorIs(t, err, ErrFormat, "more certificates than there may be")
}

// lived is a state in which everything there is can be found: bindings, all kinds of tasks, graves, topics and
// subscriptions.
func lived(t testing.TB) *State {
	s := cluster(t)
	create(t, s, "dead", cmq.QueueSettings{})
	create(t, s, "source", deadLetter("dead"))
	gone := s.Apply(&CreateQueue{Owner: owner, Name: "gone", Shards: 3}, start+1).Queue
	require.Nil(t, s.Apply(&DeleteQueue{owner, "gone"}, start+2).Err)
	require.Nil(t, s.Apply(&Done{gone.Shards[1].ID, 2}, start+2).Err)
	settled := create(t, s, "settled", cmq.QueueSettings{})
	require.Nil(t, s.Apply(&Done{settled.Shards[0].ID, 1}, start+3).Err)
	require.Nil(t, s.Apply(&SetQueue{owner, "settled", cmq.QueueSettings{VisibilityTimeout: ptr(int64(9))}}, start+4).Err)
	createTopic(t, s, "news", fullTopicSettings())
	settings := fullSubscriptionSettings()
	settings.DeadLetter = ptr("dead")
	subscribe(t, s, "news", "reader", settings)
	require.Nil(t, s.Apply(&Done{subscribe(t, s, "news", "left", settings).ID.Shard(), 1}, start+5).Err)
	require.Nil(t, s.Apply(&Unsubscribe{owner, "news", "left"}, start+6).Err)
	return s
}

func TestImageComesBackAsItWas(t *testing.T) {
	s := lived(t)
	image := s.Encode()
	got, err := DecodeState(image)
	require.NoError(t, err)
	require.Equal(t, image, got.Encode())
	require.Equal(t, s.Digest(), got.Digest())
	require.Equal(t, s.Time(), got.Time())
	require.Equal(t, s.Version(), got.Version())
	require.Equal(t, s.Table().Tasks(), got.Table().Tasks())
	require.Equal(t, s.Table().Graves(), got.Table().Graves())
	require.Equal(t, s.Table().Queues(owner), got.Table().Queues(owner))
	dead := s.Table().Queue(owner, "dead").ID
	require.Equal(t, s.Table().Sources(dead), got.Table().Sources(dead))
	require.Equal(t, s.Table().Keys(), got.Table().Keys())
	require.Equal(t, s.Table().Topics(owner), got.Table().Topics(owner))
	news := s.Table().Topic(owner, "news").ID
	require.Equal(t, s.Table().Subscriptions(news), got.Table().Subscriptions(news))
	require.Equal(t, s.Table().Subscription(news, "READER"), got.Table().Subscription(news, "reader"))
	require.Equal(t, cmq.ErrDeadLetterInUse, got.Apply(&DeleteQueue{owner, "dead"}, start+6).Err)
	require.Equal(t, s.Table().Nodes(), got.Table().Nodes())
	require.Equal(t, s.Table().Sets(), got.Table().Sets())
	for _, set := range got.Table().Sets() {
		want, _ := s.load.Get(set.ID)
		have, _ := got.load.Get(set.ID)
		require.Equal(t, want, have, "shards in set %d", set.ID)
	}
	// Both go on alike.
	for i, c := range commands() {
		require.Equal(t, s.Apply(c, start+10), got.Apply(c, start+10), "command %d", i)
	}
	require.Equal(t, s.Digest(), got.Digest())
}

func TestImageDetectsEveryFlippedByte(t *testing.T) {
	image := lived(t).Encode()
	for i := range image {
		damaged := append([]byte(nil), image...)
		damaged[i] ^= 1
		_, err := DecodeState(damaged)
		require.ErrorIs(t, err, ErrFormat, "byte %d", i)
	}
	for cut := range image {
		_, err := DecodeState(image[:cut])
		require.ErrorIs(t, err, ErrFormat, "%d bytes", cut)
	}
}

// An image whose checksum is right but whose parts do not fit together is refused as well.
func TestImageMustFitTogether(t *testing.T) {
	rows := map[string]func(s *State){
		"queue id not given out": func(s *State) { s.nextQueue = 1 },
		"bound to nothing":       func(s *State) { s.queues.Delete(s.find(owner, "dead").ID); s.tasks.Delete(cmq.QueueID(1).Shard(0)) },
		"shard in unknown set":   func(s *State) { s.sets.Delete(1) },
		"grave without task":     func(s *State) { s.tasks.Delete(cmq.QueueID(3).Shard(0)) },
		"drop without grave":     func(s *State) { s.graves.Delete(3) },
		"task of unknown shard":  func(s *State) { s.tasks.Set(cmq.QueueID(1).Shard(5), task{OpenShard, 1, 1}) },
		"task of unknown queue":  func(s *State) { s.tasks.Set(cmq.QueueID(9).Shard(0), task{SetShard, 1, 1}) },
		"task of unknown kind":   func(s *State) { s.tasks.Set(cmq.QueueID(1).Shard(0), task{7, 1, 1}) },
		"drop of a living shard": func(s *State) { s.tasks.Set(cmq.QueueID(1).Shard(0), task{DropShard, 1, 1}) },
		"two queues of one name": func(s *State) { spoil(s, func(q *cmq.Queue) { q.Name = "SOURCE" }) },
		"name that is none":      func(s *State) { spoil(s, func(q *cmq.Queue) { q.Name = "" }) },
		"owner that is none":     func(s *State) { spoil(s, func(q *cmq.Queue) { q.Owner = "a\x00" }) },
		"queue without shards":   func(s *State) { spoil(s, func(q *cmq.Queue) { q.Shards = nil }) },
		"shard of another queue": func(s *State) { spoil(s, func(q *cmq.Queue) { q.Shards = []cmq.Shard{{ID: 1, Set: 1}} }) },
		"topic id not given out": func(s *State) { spoilTopic(s, func(t *cmq.Topic) { t.ID = 99 }) },
		"topic id of a queue":    func(s *State) { spoilTopic(s, func(t *cmq.Topic) { t.ID = 1 }) },
		"name of a topic":        func(s *State) { spoilTopic(s, func(t *cmq.Topic) { t.Name = "" }) },
		"topic on unknown set":   func(s *State) { spoilTopic(s, func(t *cmq.Topic) { t.Set = 9 }) },
		"subscription, no id":    func(s *State) { spoilSubscription(s, func(t *cmq.Subscription) { t.ID = 0 }) },
		"id of a topic":          func(s *State) { spoilSubscription(s, func(t *cmq.Subscription) { t.ID = cmq.SubscriptionID(t.Topic) }) },
		"name of a subscription": func(s *State) { spoilSubscription(s, func(t *cmq.Subscription) { t.Name = "-" }) },
		"subscription, no topic": func(s *State) { spoilSubscription(s, func(t *cmq.Subscription) { t.Topic++ }) },
		"subscription, owner":    func(s *State) { spoilSubscription(s, func(t *cmq.Subscription) { t.Owner += "1" }) },
		"gives up to nothing":    func(s *State) { spoilSubscription(s, func(t *cmq.Subscription) { t.Push.DeadLetter = 99 }) },
		"task of another shard": func(s *State) {
			s.tasks.Set(cmq.QueueID(s.Table().Subscriptions(5)[0].ID).Shard(1), task{OpenShard, 1, 1})
		},
		"two subscriptions alike": func(s *State) {
			sub := *s.Table().Subscriptions(5)[0]
			sub.ID = cmq.SubscriptionID(s.nextQueue)
			s.nextQueue++
			s.subscriptions.Set(sub.ID, &sub)
		},
		"two topics alike": func(s *State) {
			topic := *s.Table().TopicByID(5)
			topic.ID = cmq.TopicID(s.nextQueue)
			s.nextQueue++
			s.topics.Set(topic.ID, &topic)
		},
		"text longer than it may": func(s *State) { s.keys.Set("x", &cmq.AccessKey{ID: "x", Secret: string(make([]byte, maxString+1))}) },
	}
	for name, change := range rows {
		t.Run(name, func(t *testing.T) {
			s := lived(t)
			change(s)
			_, err := DecodeState(s.Encode())
			require.ErrorIs(t, err, ErrFormat)
		})
	}
}

// spoil changes the queue created last.
func spoil(s *State, change func(*cmq.Queue)) {
	id, q, _ := s.queues.Max()
	c := *q
	change(&c)
	s.queues.Set(id, &c)
}

// spoilTopic changes the topic created last.
func spoilTopic(s *State, change func(*cmq.Topic)) {
	id, topic, _ := s.topics.Max()
	c := *topic
	change(&c)
	s.topics.Set(id, &c)
}

// spoilSubscription changes the subscription made last.
func spoilSubscription(s *State, change func(*cmq.Subscription)) {
	id, sub, _ := s.subscriptions.Max()
	c := *sub
	change(&c)
	s.subscriptions.Set(id, &c)
}

func FuzzDecode(f *testing.F) {
	for _, c := range commands() {
		f.Add(Encode(c))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Decode(data)
		if err != nil {
			require.ErrorIs(t, err, ErrFormat)
			return
		}
		again, err := Decode(Encode(c))
		require.NoError(t, err)
		require.Equal(t, c, again)
		s := cluster(t)
		s.Apply(c, start)
		New().Apply(c, start)
		_, err = DecodeState(s.Encode())
		require.NoError(t, err, "whatever a command does, the state can be stored")
	})
}

func FuzzParseBatch(f *testing.F) {
	for _, c := range commands() {
		f.Add(EncodeBatch(1, 2, 3, [][]byte{Encode(c)}), uint32(1))
	}
	f.Fuzz(func(t *testing.T, data []byte, count uint32) {
		if _, err := ParseBatch(data); err != nil {
			require.ErrorIs(t, err, ErrFormat)
		}
		// Past the checksum, too.
		if err := new(Batch).parseCommands(data, count); err != nil {
			require.ErrorIs(t, err, ErrFormat)
		}
	})
}

func FuzzDecodeState(f *testing.F) {
	f.Add(lived(f).Encode())
	f.Add(New().Encode())
	f.Fuzz(func(t *testing.T, data []byte) {
		_, err := DecodeState(data)
		if err != nil {
			require.ErrorIs(t, err, ErrFormat)
		}
		// Past the checksum, too.
		if len(data) < 9 {
			return
		}
		s, r := New(), &reader{data: data[5 : len(data)-4]}
		r.tables(&s.tables)
		if r.end() == nil {
			_, err := DecodeState(s.Encode())
			require.NoError(t, err)
			s.Table().Tasks()
			s.Table().Queues(owner)
			for _, topic := range s.Table().Topics(owner) {
				s.Table().Subscriptions(topic.ID)
			}
		}
	})
}
