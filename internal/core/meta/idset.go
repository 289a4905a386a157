package meta

import (
	"github.com/tidwall/btree"

	"github.com/opencmq/cmq/internal/cmq"
)

// id is what things are found by.
type id interface {
	cmq.NodeID | cmq.SetID | cmq.QueueID | cmq.ShardID | cmq.TopicID | cmq.SubscriptionID | string
}

// Maps from an id to a set of ids. A set that is in a map is never changed, so that a copy of the map is a snapshot, and
// is never empty.

// with gives a copy of the set under the key that has the id as well.
func with[K, V id](m *btree.Map[K, *btree.Set[V]], key K, id V) *btree.Set[V] {
	ids, ok := m.Get(key)
	if ok {
		ids = ids.Copy()
	} else {
		ids = &btree.Set[V]{}
	}
	ids.Insert(id)
	return ids
}

// without takes the id out of the set under the key, and the set out of the map if it was the last one.
func without[K, V id](m *btree.Map[K, *btree.Set[V]], key K, id V) {
	ids, ok := m.Get(key)
	if !ok {
		return
	}
	ids = ids.Copy()
	if ids.Delete(id); ids.Len() > 0 {
		m.Set(key, ids)
	} else {
		m.Delete(key)
	}
}

// lenOf is how many ids there are under the key.
func lenOf[K, V id](m *btree.Map[K, *btree.Set[V]], key K) int {
	if ids, ok := m.Get(key); ok {
		return ids.Len()
	}
	return 0
}
