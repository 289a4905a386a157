package meta

import (
	"cmp"
	"slices"
	"time"

	"github.com/tidwall/btree"

	"github.com/opencmq/cmq/internal/cmq"
)

// Table is an immutable snapshot of a State, safe for use by many goroutines. What its methods return is shared
// and must not be changed.
type Table struct{ tables }

// Version tells snapshots apart; a newer one has a larger number. 0: the cluster was not bootstrapped.
func (t *Table) Version() uint64 { return t.version }

// Cluster is the id of the cluster, 0 before Bootstrap.
func (t *Table) Cluster() uint64 { return t.cluster }

// Queue finds a queue by its owner and its name in any case; nil: there is none.
func (t *Table) Queue(owner, name string) *cmq.Queue { return t.find(owner, name) }

// QueueByID finds a queue by its number; nil: there is none.
func (t *Table) QueueByID(id cmq.QueueID) *cmq.Queue {
	q, _ := t.queues.Get(id)
	return q
}

// Queues lists the owner's queues by creation time, then by name.
func (t *Table) Queues(owner string) []*cmq.Queue {
	list := listed(t.owned, owner, t.queues)
	orderTies(list, func(q *cmq.Queue) (time.Time, string) { return q.Created, q.Name })
	return list
}

// orderTies orders things that are in the order of their creation by name where they were created in the same
// millisecond.
func orderTies[T any](list []T, key func(T) (created time.Time, name string)) {
	for lo, hi := 0, 0; lo < len(list); lo = hi {
		first, _ := key(list[lo])
		for hi = lo + 1; hi < len(list); hi++ {
			if at, _ := key(list[hi]); !at.Equal(first) {
				break
			}
		}
		slices.SortFunc(list[lo:hi], func(a, b T) int {
			_, one := key(a)
			_, other := key(b)
			return cmp.Compare(cmq.FoldName(one), cmq.FoldName(other))
		})
	}
}

// QueueCount is how many queues there are, of all owners.
func (t *Table) QueueCount() int { return t.queues.Len() }

// Sources lists the queues whose dead letters go to the queue dlq, by creation time, then by name.
func (t *Table) Sources(dlq cmq.QueueID) []*cmq.Queue {
	ids, _ := t.sources.Get(dlq)
	list := make([]*cmq.Queue, 0, len(ids))
	for _, id := range ids {
		q, _ := t.queues.Get(id)
		list = append(list, q)
	}
	orderTies(list, func(q *cmq.Queue) (time.Time, string) { return q.Created, q.Name })
	return list
}

// Topic finds a topic by its owner and its name in any case; nil: there is none.
func (t *Table) Topic(owner, name string) *cmq.Topic { return t.findTopic(owner, name) }

// TopicByID finds a topic by its number; nil: there is none.
func (t *Table) TopicByID(id cmq.TopicID) *cmq.Topic {
	topic, _ := t.topics.Get(id)
	return topic
}

// Topics lists the owner's topics by creation time, then by name.
func (t *Table) Topics(owner string) []*cmq.Topic {
	list := listed(t.topicsOf, owner, t.topics)
	orderTies(list, func(topic *cmq.Topic) (time.Time, string) { return topic.Created, topic.Name })
	return list
}

// AllTopics lists the topics of all owners by number.
func (t *Table) AllTopics() []*cmq.Topic { return t.topics.Values() }

// TopicCount is how many topics there are, of all owners.
func (t *Table) TopicCount() int { return t.topics.Len() }

// Subscription finds a subscription by its topic and its name in any case; nil: there is none.
func (t *Table) Subscription(topic cmq.TopicID, name string) *cmq.Subscription {
	return t.findSubscription(topic, name)
}

// SubscriptionByShard finds the subscription a shard belongs to; nil: none, as for the shards of queues.
func (t *Table) SubscriptionByShard(shard cmq.ShardID) *cmq.Subscription {
	sub, ok := t.subscriptions.Get(cmq.SubscriptionID(shard.Queue()))
	if !ok || sub.ID.Shard() != shard {
		return nil
	}
	return sub
}

// Subscriptions lists the topic's subscriptions by creation time, then by name.
func (t *Table) Subscriptions(topic cmq.TopicID) []*cmq.Subscription {
	list := listed(t.subscribed, topic, t.subscriptions)
	orderTies(list, func(sub *cmq.Subscription) (time.Time, string) { return sub.Created, sub.Name })
	return list
}

// AllSubscriptions lists the subscriptions of all topics by number.
func (t *Table) AllSubscriptions() []*cmq.Subscription { return t.subscriptions.Values() }

// SubscriptionCount is how many subscriptions there are, of all topics.
func (t *Table) SubscriptionCount() int { return t.subscriptions.Len() }

// listed gives the values of the ids under the key.
func listed[K, V id, T any](index *btree.Map[K, *btree.Set[V]], key K, values *btree.Map[V, T]) []T {
	ids, ok := index.Get(key)
	if !ok {
		return nil
	}
	list := make([]T, 0, ids.Len())
	ids.Scan(func(id V) bool {
		value, _ := values.Get(id)
		list = append(list, value)
		return true
	})
	return list
}

// Set finds a set by its number; nil: there is none.
func (t *Table) Set(id cmq.SetID) *cmq.Set {
	s, _ := t.sets.Get(id)
	return s
}

// Sets lists all sets by number, the controller's among them.
func (t *Table) Sets() []*cmq.Set { return t.sets.Values() }

// Node finds a node by its number; nil: there is none.
func (t *Table) Node(id cmq.NodeID) *cmq.Node {
	n, _ := t.nodes.Get(id)
	return n
}

// Nodes lists all nodes by number.
func (t *Table) Nodes() []*cmq.Node { return t.nodes.Values() }

// Key finds an access key by its id; nil: there is none. Whether it is enabled is for the caller to look at.
func (t *Table) Key(id string) *cmq.AccessKey {
	k, _ := t.keys.Get(id)
	return k
}

// Keys lists all access keys by id.
func (t *Table) Keys() []*cmq.AccessKey { return t.keys.Values() }

// Graves lists the deleted queues and subscriptions that have shards left to drop, by queue id.
func (t *Table) Graves() []*Grave { return t.graves.Values() }

// Tasks lists what the sets have still to be told, by shard id.
func (t *Table) Tasks() []Task {
	list := make([]Task, 0, t.tasks.Len())
	t.tasks.Scan(func(shard cmq.ShardID, pending task) bool {
		task := Task{Kind: pending.Kind, Shard: shard, Set: pending.Set, Version: pending.Version}
		if q, ok := t.queues.Get(shard.Queue()); ok {
			task.Attributes = q.Attributes.ShardAttributes()
		}
		if sub := t.SubscriptionByShard(shard); sub != nil {
			topic := t.TopicByID(sub.Topic)
			task.Attributes, task.Subscriber = sub.ShardAttributes(topic), sub.Subscriber(topic)
		}
		list = append(list, task)
		return true
	})
	return list
}
