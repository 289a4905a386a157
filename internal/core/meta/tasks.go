package meta

import (
	"time"

	"github.com/opencmq/cmq/internal/cmq"
)

// TaskKind says what is to be done with a shard.
type TaskKind uint8

const (
	OpenShard TaskKind = iota + 1 // it must exist, with the attributes of Version or newer
	SetShard                      // it exists and must get the attributes of Version or newer
	DropShard                     // it must be deleted with its messages, and never come back
)

// String is the word for logs.
func (k TaskKind) String() string {
	switch k {
	case OpenShard:
		return "open"
	case SetShard:
		return "set"
	case DropShard:
		return "drop"
	}
	return "unknown"
}

// task is what a shard's set has still to be told. A shard has at most one: newer decisions replace older ones.
//
//	CreateQueue ─► open ──SetQueue──► open (newer) ──Done(older)──► set ──Done──► none
//	SetQueue    ─► set  ──SetQueue──► set (newer)                    any ──DeleteQueue──► drop ──Done──► none
//
// Subscribe, SetSubscription and Unsubscribe do the same with the one shard of a subscription.
type task struct {
	Kind    TaskKind
	Set     cmq.SetID
	Version uint64 // version of the queue or subscription that the shard's set must have heard of
}

// Task is something to be carried out in the shard's set, until Done{Shard, Version} is applied.
type Task struct {
	Kind       TaskKind
	Shard      cmq.ShardID
	Set        cmq.SetID
	Version    uint64
	Attributes cmq.ShardAttributes // for OpenShard and SetShard: those of Version or newer
	Subscriber *cmq.Subscriber     // likewise, for the shard of a subscription; nil: the shard is a queue's
}

// Grave is what stays of a deleted queue or subscription until all its shards are dropped.
type Grave struct {
	Queue   cmq.QueueID // or the number of the subscription
	Topic   cmq.TopicID // of the subscription; 0: it was a queue
	Owner   string
	Name    string
	Deleted time.Time
	Shards  int // not dropped yet
}

// changeShard leaves a task to tell the shard the new attributes of its queue or subscription.
func (s *State) changeShard(shard cmq.Shard, version uint64) {
	kind := SetShard
	if t, ok := s.tasks.Get(shard.ID); ok && t.Kind == OpenShard {
		kind = OpenShard
	}
	s.tasks.Set(shard.ID, task{Kind: kind, Set: shard.Set, Version: version})
}

// done ends the shard's task. News of an older version only tells that the shard exists.
func (s *State) done(c *Done) Result {
	t, ok := s.tasks.Get(c.Shard)
	switch {
	case !ok:
		return Result{}
	case c.Version >= t.Version:
		s.tasks.Delete(c.Shard)
		if t.Kind == DropShard {
			s.dropped(c.Shard, t.Set)
		}
	case t.Kind == OpenShard:
		t.Kind = SetShard
		s.tasks.Set(c.Shard, t)
	default:
		return Result{}
	}
	s.changed()
	return Result{}
}

// dropped notes that the set has no such shard any more; the last one ends the grave.
func (s *State) dropped(shard cmq.ShardID, set cmq.SetID) {
	s.addLoad(set, -1)
	old, ok := s.graves.Get(shard.Queue())
	if !ok {
		return
	}
	if old.Shards == 1 {
		s.graves.Delete(old.Queue)
		return
	}
	g := *old
	g.Shards--
	s.graves.Set(g.Queue, &g)
}
