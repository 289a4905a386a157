package meta

import (
	"cmp"
	"slices"

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
	owned, ok := t.owned.Get(owner)
	if !ok {
		return nil
	}
	list := make([]*cmq.Queue, 0, owned.Len())
	owned.Scan(func(id cmq.QueueID) bool {
		q, _ := t.queues.Get(id)
		list = append(list, q)
		return true
	})
	orderTies(list)
	return list
}

// orderTies orders queues that are in the order of their creation by name where they were created in the same
// millisecond.
func orderTies(list []*cmq.Queue) {
	for lo, hi := 0, 0; lo < len(list); lo = hi {
		for hi = lo + 1; hi < len(list) && list[hi].Created.Equal(list[lo].Created); hi++ {
		}
		slices.SortFunc(list[lo:hi], func(a, b *cmq.Queue) int { return cmp.Compare(cmq.FoldName(a.Name), cmq.FoldName(b.Name)) })
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
	orderTies(list)
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

// Graves lists the deleted queues that have shards left to drop, by queue id.
func (t *Table) Graves() []*Grave { return t.graves.Values() }

// Tasks lists what the sets have still to be told, by shard id.
func (t *Table) Tasks() []Task {
	list := make([]Task, 0, t.tasks.Len())
	t.tasks.Scan(func(shard cmq.ShardID, pending task) bool {
		task := Task{Kind: pending.Kind, Shard: shard, Set: pending.Set, Version: pending.Version}
		if q, ok := t.queues.Get(shard.Queue()); ok {
			task.Attributes = q.Attributes.ShardAttributes()
		}
		list = append(list, task)
		return true
	})
	return list
}
