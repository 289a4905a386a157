package meta

import (
	"fmt"
	"math/bits"

	"github.com/tidwall/btree"

	"github.com/opencmq/cmq/internal/cmq"
)

// State is the metadata of a cluster. The zero value is not usable; see New. One goroutine owns it.
type State struct {
	tables
	// published is the snapshot of the version it says, kept so that equal versions share one.
	published *Table
}

// tables is everything a State holds. Values behind pointers and in slices are never changed once they are in:
// a change puts a new value in, so that a copy of the trees is a snapshot.
type tables struct {
	cluster    uint64 // 0: not bootstrapped
	maxQueues  int
	maxSources int
	maxTopics  int // of one owner

	maxSubscriptions int // of one topic

	version   uint64      // grows with every change
	nextQueue cmq.QueueID // never used so far, by a queue, topic or subscription; ids are not reused
	now       int64       // latest batch time, Unix milliseconds
	sum       uint64      // of all batches and what came of them, see State.Sum

	nodes  *btree.Map[cmq.NodeID, *cmq.Node]
	sets   *btree.Map[cmq.SetID, *cmq.Set]
	queues *btree.Map[cmq.QueueID, *cmq.Queue]
	keys   *btree.Map[string, *cmq.AccessKey]
	tasks  *btree.Map[cmq.ShardID, task]
	graves *btree.Map[cmq.QueueID, *Grave]

	topics        *btree.Map[cmq.TopicID, *cmq.Topic]
	subscriptions *btree.Map[cmq.SubscriptionID, *cmq.Subscription]

	// Derived from the above, not encoded.
	names   *btree.Map[string, cmq.QueueID]             // see nameKey
	owned   *btree.Map[string, *btree.Set[cmq.QueueID]] // by owner; the order of ids is that of creation
	sources *btree.Map[cmq.QueueID, []cmq.QueueID]      // queues bound to this dead-letter queue, by id
	load    *btree.Map[cmq.SetID, int]                  // shards in this set, those to be dropped included, and topics

	topicNames        *btree.Map[string, cmq.TopicID]                         // see nameKey
	topicsOf          *btree.Map[string, *btree.Set[cmq.TopicID]]             // by owner
	subscriptionNames *btree.Map[string, cmq.SubscriptionID]                  // see subscriptionKey
	subscribed        *btree.Map[cmq.TopicID, *btree.Set[cmq.SubscriptionID]] // by topic
	mourners          *btree.Map[cmq.QueueID, *btree.Set[cmq.SubscriptionID]] // that give up to this dead-letter queue
}

func newTables() tables {
	return tables{
		nextQueue: 1,
		nodes:     &btree.Map[cmq.NodeID, *cmq.Node]{},
		sets:      &btree.Map[cmq.SetID, *cmq.Set]{},
		queues:    &btree.Map[cmq.QueueID, *cmq.Queue]{},
		keys:      &btree.Map[string, *cmq.AccessKey]{},
		tasks:     &btree.Map[cmq.ShardID, task]{},
		graves:    &btree.Map[cmq.QueueID, *Grave]{},
		names:     &btree.Map[string, cmq.QueueID]{},
		owned:     &btree.Map[string, *btree.Set[cmq.QueueID]]{},
		sources:   &btree.Map[cmq.QueueID, []cmq.QueueID]{},
		load:      &btree.Map[cmq.SetID, int]{},

		topics:            &btree.Map[cmq.TopicID, *cmq.Topic]{},
		subscriptions:     &btree.Map[cmq.SubscriptionID, *cmq.Subscription]{},
		topicNames:        &btree.Map[string, cmq.TopicID]{},
		topicsOf:          &btree.Map[string, *btree.Set[cmq.TopicID]]{},
		subscriptionNames: &btree.Map[string, cmq.SubscriptionID]{},
		subscribed:        &btree.Map[cmq.TopicID, *btree.Set[cmq.SubscriptionID]]{},
		mourners:          &btree.Map[cmq.QueueID, *btree.Set[cmq.SubscriptionID]]{},
	}
}

// snapshot is a copy that later changes of t do not reach. It takes O(1).
func (t *tables) snapshot() tables {
	c := *t
	c.nodes = t.nodes.Copy()
	c.sets = t.sets.Copy()
	c.queues = t.queues.Copy()
	c.keys = t.keys.Copy()
	c.tasks = t.tasks.Copy()
	c.graves = t.graves.Copy()
	c.names = t.names.Copy()
	c.owned = t.owned.Copy()
	c.sources = t.sources.Copy()
	c.load = t.load.Copy()
	c.topics = t.topics.Copy()
	c.subscriptions = t.subscriptions.Copy()
	c.topicNames = t.topicNames.Copy()
	c.topicsOf = t.topicsOf.Copy()
	c.subscriptionNames = t.subscriptionNames.Copy()
	c.subscribed = t.subscribed.Copy()
	c.mourners = t.mourners.Copy()
	return c
}

// New is the state of a cluster that was not bootstrapped yet.
func New() *State { return &State{tables: newTables()} }

// Result is the answer to one command.
type Result struct {
	Err *cmq.Error // a refusal; nothing was changed
	// Queue is the queue after the command; for DeleteQueue the queue as it was, with the version of the tasks
	// that drop its shards. Nil for commands that are not about a queue.
	Queue *cmq.Queue
	// Topic is the topic after the command, for DeleteTopic as it was; for commands about a subscription its topic.
	Topic *cmq.Topic
	// Subscription is the subscription after the command; for Unsubscribe as it was, with the version of the task that
	// drops its shard.
	Subscription *cmq.Subscription
}

// ApplyBatch carries out the commands of one entry, with one result for each.
func (s *State) ApplyBatch(b *Batch) []Result {
	s.now = max(s.now, b.Time)
	results := make([]Result, len(b.Commands))
	for i, c := range b.Commands {
		results[i] = s.Apply(c, b.Time)
		s.addUp(&results[i])
	}
	return results
}

// addUp takes the result of a command into the sum.
func (s *State) addUp(r *Result) {
	add := func(v uint64) {
		hi, lo := bits.Mul64(s.sum^v^0xD1B54A32D192ED03, 0x9E3779B97F4A7C15)
		s.sum = hi ^ lo
	}
	add(s.version)
	add(uint64(s.now))
	add(uint64(s.nextQueue))
	if r.Err != nil {
		add(uint64(r.Err.Module))
	}
	if r.Queue != nil {
		add(uint64(r.Queue.ID))
	}
	if r.Topic != nil {
		add(uint64(r.Topic.ID))
	}
	if r.Subscription != nil {
		add(uint64(r.Subscription.ID))
	}
}

// Sum is a hash of all commands that ApplyBatch carried out and of their results: equal on replicas that went the same
// way. It costs nothing, unlike Digest.
func (s *State) Sum() uint64 { return s.sum }

// Freeze is the state as it is now, for its image, which any goroutine may encode. It takes O(1).
func (s *State) Freeze() *Table { return &Table{tables: s.snapshot()} }

// Apply carries out one command. now is the time of its batch in Unix milliseconds; time does not go back if
// now does. The answer is the same on every replica, refusals included.
func (s *State) Apply(c Command, now int64) Result {
	s.now = max(s.now, now)
	switch c := c.(type) {
	case *Bootstrap:
		return s.bootstrap(c)
	case *PutNode:
		return s.putNode(c)
	case *CreateQueue:
		return s.createQueue(c)
	case *SetQueue:
		return s.setQueue(c)
	case *DeleteQueue:
		return s.deleteQueue(c)
	case *Unbind:
		return s.unbind(c)
	case *Done:
		return s.done(c)
	case *PutKey:
		return s.putKey(c)
	case *DeleteKey:
		return s.deleteKey(c)
	case *CreateTopic:
		return s.createTopic(c)
	case *SetTopic:
		return s.setTopic(c)
	case *DeleteTopic:
		return s.deleteTopic(c)
	case *Subscribe:
		return s.subscribe(c)
	case *SetSubscription:
		return s.setSubscription(c)
	case *Unsubscribe:
		return s.unsubscribe(c)
	}
	panic(fmt.Sprintf("BUG: command %T has no rule", c))
}

// Version grows with every change.
func (s *State) Version() uint64 { return s.version }

// Time is the latest batch time in Unix milliseconds, 0 before the first.
func (s *State) Time() int64 { return s.now }

// Bootstrapped reports whether the cluster was made.
func (s *State) Bootstrapped() bool { return s.cluster != 0 }

// Table is an immutable snapshot. It takes O(1), and nothing if there was no change since the last call.
func (s *State) Table() *Table {
	if s.published == nil || s.published.version != s.version {
		s.published = &Table{tables: s.snapshot()}
	}
	return s.published
}

func (s *State) changed() { s.version++ }

func (s *State) bootstrap(c *Bootstrap) Result {
	if s.cluster != 0 {
		return Result{}
	}
	if !c.valid() {
		return Result{Err: cmq.ErrParameters}
	}
	limits := cmq.DefaultLimits()
	s.cluster = c.Cluster
	s.maxQueues = orDefault(c.MaxQueues, limits.QueuesPerOwner)
	s.maxSources = orDefault(c.MaxSources, limits.SourcesPerDeadLetterQueue)
	s.maxTopics = orDefault(c.MaxTopics, limits.TopicsPerOwner)
	s.maxSubscriptions = orDefault(c.MaxSubscriptions, limits.SubscriptionsPerTopic)
	for _, n := range c.Nodes {
		s.nodes.Set(n.ID, &n)
	}
	for _, set := range c.Sets {
		s.sets.Set(set.ID, &set)
	}
	if c.Key.ID != "" {
		key := c.Key
		s.keys.Set(key.ID, &key)
	}
	s.changed()
	return Result{}
}

func orDefault(v, otherwise int) int {
	if v == 0 {
		return otherwise
	}
	return v
}

// valid reports whether ids are set and unique, and every replica is on one of the nodes.
func (c *Bootstrap) valid() bool {
	var nodes btree.Set[cmq.NodeID]
	for i := range c.Nodes {
		if c.Nodes[i].ID == 0 || nodes.Contains(c.Nodes[i].ID) {
			return false
		}
		nodes.Insert(c.Nodes[i].ID)
	}
	var sets btree.Set[cmq.SetID]
	for i := range c.Sets {
		if sets.Contains(c.Sets[i].ID) || len(c.Sets[i].Replicas) == 0 {
			return false
		}
		sets.Insert(c.Sets[i].ID)
		for _, id := range c.Sets[i].Replicas {
			if !nodes.Contains(id) {
				return false
			}
		}
	}
	key := c.Key == (cmq.AccessKey{}) || validKey(&c.Key)
	limits := c.MaxQueues >= 0 && c.MaxSources >= 0 && c.MaxTopics >= 0 && c.MaxSubscriptions >= 0
	return c.Cluster != 0 && limits && key
}

func (s *State) putNode(c *PutNode) Result {
	if c.Node.ID == 0 {
		return Result{Err: cmq.ErrParameters}
	}
	if old, ok := s.nodes.Get(c.Node.ID); ok && *old == c.Node {
		return Result{}
	}
	node := c.Node
	s.nodes.Set(node.ID, &node)
	s.changed()
	return Result{}
}

func validKey(k *cmq.AccessKey) bool { return k.ID != "" && k.Secret != "" && validOwner(k.Owner) }

func (s *State) putKey(c *PutKey) Result {
	if !validKey(&c.Key) {
		return Result{Err: cmq.ErrParameters}
	}
	if old, ok := s.keys.Get(c.Key.ID); ok && *old == c.Key {
		return Result{}
	}
	key := c.Key
	s.keys.Set(key.ID, &key)
	s.changed()
	return Result{}
}

func (s *State) deleteKey(c *DeleteKey) Result {
	if _, ok := s.keys.Delete(c.ID); !ok {
		return Result{Err: cmq.ErrKeyUnknown}
	}
	s.changed()
	return Result{}
}
