package meta

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"

	"github.com/tidwall/btree"

	"github.com/opencmq/cmq/internal/cmq"
)

// Image of the whole state. It depends on nothing but the state, so equal states have equal images.
//
//	offset  size
//	     0     4  magic "CMQI", little endian
//	     4     1  version
//	     5        cluster, limits, table version, next id, time, sum
//	              then each a count and that many, in ascending order of their ids:
//	              nodes | sets | access keys | queues | topics | subscriptions | graves | tasks
//	   n-4     4  CRC32C of everything before it, little endian
const (
	imageMagic   = 0x49514d43 // "CMQI"
	imageVersion = 5
)

// Encode gives the image of the whole state.
func (t *tables) Encode() []byte {
	b := binary.LittleEndian.AppendUint32(nil, imageMagic)
	b = append(b, imageVersion)
	b = appendUint(b, t.cluster)
	b = appendInt(b, int64(t.maxQueues))
	b = appendInt(b, int64(t.maxSources))
	b = appendInt(b, int64(t.maxTopics))
	b = appendInt(b, int64(t.maxSubscriptions))
	b = appendUint(b, t.version)
	b = appendUint(b, uint64(t.nextQueue))
	b = appendInt(b, t.now)
	b = appendUint(b, t.sum)
	b = appendTree(b, t.nodes, func(b []byte, _ cmq.NodeID, n *cmq.Node) []byte { return appendNode(b, n) })
	b = appendTree(b, t.sets, func(b []byte, _ cmq.SetID, s *cmq.Set) []byte { return appendSet(b, s) })
	b = appendTree(b, t.keys, func(b []byte, _ string, k *cmq.AccessKey) []byte { return appendKey(b, k) })
	b = appendTree(b, t.queues, func(b []byte, _ cmq.QueueID, q *cmq.Queue) []byte { return appendQueue(b, q) })
	b = appendTree(b, t.topics, func(b []byte, _ cmq.TopicID, topic *cmq.Topic) []byte { return appendTopic(b, topic) })
	b = appendTree(b, t.subscriptions, func(b []byte, _ cmq.SubscriptionID, sub *cmq.Subscription) []byte { return appendSubscription(b, sub) })
	b = appendTree(b, t.graves, func(b []byte, _ cmq.QueueID, g *Grave) []byte { return appendGrave(b, g) })
	b = appendTree(b, t.tasks, appendTask)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// Digest is the same for equal states only.
func (t *tables) Digest() [32]byte { return sha256.Sum256(t.Encode()) }

func appendTree[K id, V any](b []byte, m *btree.Map[K, V], one func([]byte, K, V) []byte) []byte {
	b = appendUint(b, uint64(m.Len()))
	m.Scan(func(k K, v V) bool {
		b = one(b, k, v)
		return true
	})
	return b
}

func appendGrave(b []byte, g *Grave) []byte {
	b = appendUint(b, uint64(g.Queue))
	b = appendUint(b, uint64(g.Topic))
	b = appendString(b, g.Owner)
	b = appendString(b, g.Name)
	b = appendTime(b, g.Deleted)
	return appendUint(b, uint64(g.Shards))
}

func (r *reader) grave() *Grave {
	return &Grave{
		Queue: cmq.QueueID(r.uint()), Topic: cmq.TopicID(r.uint()), Owner: r.string(), Name: r.string(), Deleted: r.time(),
		Shards: int(r.uintTo(cmq.MaxShards, "number of shards")),
	}
}

func appendTask(b []byte, shard cmq.ShardID, t task) []byte {
	b = appendUint(b, uint64(shard))
	b = append(b, byte(t.Kind))
	b = appendUint(b, uint64(t.Set))
	return appendUint(b, t.Version)
}

// DecodeState reads what Encode wrote. Errors wrap ErrFormat: the bytes are damaged or of another version.
func DecodeState(data []byte) (*State, error) {
	if len(data) < 9 || binary.LittleEndian.Uint32(data) != imageMagic {
		return nil, fmt.Errorf("%w: %d bytes are no image of the controller", ErrFormat, len(data))
	}
	if data[4] != imageVersion {
		return nil, fmt.Errorf("%w: image of version %d, this program knows %d", ErrFormat, data[4], imageVersion)
	}
	body, sum := data[:len(data)-4], binary.LittleEndian.Uint32(data[len(data)-4:])
	if got := crc32.Checksum(body, castagnoli); got != sum {
		return nil, fmt.Errorf("%w: checksum of the image is %08x, it says %08x", ErrFormat, got, sum)
	}
	s, r := New(), &reader{data: body[5:]}
	r.tables(&s.tables)
	if err := r.end(); err != nil {
		return nil, err
	}
	return s, nil
}

// tables reads everything, checks that it fits together and builds the indexes.
func (r *reader) tables(t *tables) {
	t.cluster = r.uint()
	t.maxQueues = r.intRange()
	t.maxSources = r.intRange()
	t.maxTopics = r.intRange()
	t.maxSubscriptions = r.intRange()
	t.version = r.uint()
	t.nextQueue = cmq.QueueID(r.uint())
	t.now = r.int()
	t.sum = r.uint()
	readTree(r, "nodes", t.nodes, func() (cmq.NodeID, *cmq.Node) {
		n := r.node()
		return n.ID, &n
	})
	readTree(r, "sets", t.sets, func() (cmq.SetID, *cmq.Set) {
		s := r.set()
		return s.ID, &s
	})
	readTree(r, "keys", t.keys, func() (string, *cmq.AccessKey) {
		k := r.key()
		return k.ID, &k
	})
	readTree(r, "queues", t.queues, func() (cmq.QueueID, *cmq.Queue) {
		q := r.queue()
		if r.err == nil {
			r.admit(t, q)
		}
		return q.ID, q
	})
	readTree(r, "topics", t.topics, func() (cmq.TopicID, *cmq.Topic) {
		topic := r.topic()
		if r.err == nil {
			r.admitTopic(t, topic)
		}
		return topic.ID, topic
	})
	readTree(r, "subscriptions", t.subscriptions, func() (cmq.SubscriptionID, *cmq.Subscription) {
		sub := r.subscription()
		if r.err == nil {
			r.admitSubscription(t, sub)
		}
		return sub.ID, sub
	})
	readTree(r, "graves", t.graves, func() (cmq.QueueID, *Grave) {
		g := r.grave()
		return g.Queue, g
	})
	readTree(r, "tasks", t.tasks, func() (cmq.ShardID, task) {
		shard := cmq.ShardID(r.uint())
		pending := task{Kind: TaskKind(r.byte()), Set: r.setID(), Version: r.uint()}
		r.admitTask(t, shard, pending)
		return shard, pending
	})
	if r.err == nil {
		r.checkReferences(t)
	}
}

// readTree reads a count and that many values, whose keys must ascend.
func readTree[K id, V any](r *reader, what string, m *btree.Map[K, V], one func() (K, V)) {
	var last K
	count := r.count("number of " + what)
	for i := 0; i < count && r.err == nil; i++ {
		k, v := one()
		if i > 0 && cmp.Compare(k, last) <= 0 {
			r.fail("order of " + what)
			return
		}
		last = k
		m.Set(k, v)
	}
}

// admit checks the queue by itself and puts it into the indexes.
func (r *reader) admit(t *tables, q *cmq.Queue) {
	if q.ID == 0 || q.ID >= t.nextQueue || !cmq.ValidName(q.Name) || !validOwner(q.Owner) {
		r.fail("id or name of a queue")
		return
	}
	if t.find(q.Owner, q.Name) != nil || len(q.Shards) == 0 || len(q.Shards) > cmq.MaxShards {
		r.fail("name or shards of a queue")
		return
	}
	for _, shard := range q.Shards {
		if _, ok := t.sets.Get(shard.Set); !ok || shard.ID.Queue() != q.ID {
			r.fail("shard of a queue")
			return
		}
	}
	t.insert(q)
}

// admitTopic checks the topic by itself and puts it into the indexes.
func (r *reader) admitTopic(t *tables, topic *cmq.Topic) {
	_, queue := t.queues.Get(cmq.QueueID(topic.ID))
	if topic.ID == 0 || cmq.QueueID(topic.ID) >= t.nextQueue || queue || !cmq.ValidName(topic.Name) || !validOwner(topic.Owner) {
		r.fail("id or name of a topic")
		return
	}
	if _, ok := t.sets.Get(topic.Set); !ok || t.findTopic(topic.Owner, topic.Name) != nil {
		r.fail("name or set of a topic")
		return
	}
	t.addTopic(topic)
}

// admitSubscription checks the subscription by itself and puts it into the indexes.
func (r *reader) admitSubscription(t *tables, sub *cmq.Subscription) {
	_, queue := t.queues.Get(cmq.QueueID(sub.ID))
	_, other := t.topics.Get(cmq.TopicID(sub.ID))
	if sub.ID == 0 || cmq.QueueID(sub.ID) >= t.nextQueue || queue || other || !cmq.ValidName(sub.Name) {
		r.fail("id or name of a subscription")
		return
	}
	topic, ok := t.topics.Get(sub.Topic)
	if !ok || topic.Owner != sub.Owner || t.findSubscription(sub.Topic, sub.Name) != nil {
		r.fail("topic or name of a subscription")
		return
	}
	t.addSubscription(topic, sub)
}

// admitTask checks that the task is about a shard the table knows.
func (r *reader) admitTask(t *tables, shard cmq.ShardID, pending task) {
	place, ok := t.shard(shard)
	switch pending.Kind {
	case DropShard:
		if _, buried := t.graves.Get(shard.Queue()); !buried || ok {
			r.fail("task to drop a shard")
		}
		t.addLoad(pending.Set, 1)
	case OpenShard, SetShard:
		if !ok || place != pending.Set {
			r.fail("task of a shard")
		}
	default:
		r.fail("kind of a task")
	}
}

// shard finds the set of a shard that a queue or a subscription has.
func (t *tables) shard(shard cmq.ShardID) (cmq.SetID, bool) {
	if sub, ok := t.subscriptions.Get(cmq.SubscriptionID(shard.Queue())); ok && sub.ID.Shard() == shard {
		topic, _ := t.topics.Get(sub.Topic)
		return topic.Set, true
	}
	if q, ok := t.queues.Get(shard.Queue()); ok {
		if i := slices.IndexFunc(q.Shards, func(s cmq.Shard) bool { return s.ID == shard }); i >= 0 {
			return q.Shards[i].Set, true
		}
	}
	return 0, false
}

// checkReferences checks what can be checked only when everything is read.
func (r *reader) checkReferences(t *tables) {
	t.queues.Scan(func(_ cmq.QueueID, q *cmq.Queue) bool {
		if dlq := q.Attributes.DeadLetter.Queue; dlq != 0 {
			if _, ok := t.queues.Get(dlq); !ok {
				r.fail("dead-letter queue")
			}
		}
		return r.err == nil
	})
	t.subscriptions.Scan(func(_ cmq.SubscriptionID, sub *cmq.Subscription) bool {
		if dlq := sub.Push.DeadLetter; dlq != 0 {
			if _, ok := t.queues.Get(dlq); !ok {
				r.fail("dead-letter queue of a subscription")
			}
		}
		return r.err == nil
	})
	left := 0
	t.graves.Scan(func(_ cmq.QueueID, g *Grave) bool {
		left += g.Shards
		return true
	})
	t.tasks.Scan(func(_ cmq.ShardID, pending task) bool {
		if pending.Kind == DropShard {
			left--
		}
		return true
	})
	if left != 0 {
		r.fail("shards of deleted queues")
	}
}
