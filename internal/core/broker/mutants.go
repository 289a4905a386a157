//go:build mutants

package broker

import "github.com/opencmq/cmq/internal/cmq"

// ForgetLocks ends all locks on this replica, as the mutant LockIgnoredAfterLeaderChange wants it.
func (b *Broker) ForgetLocks() {
	b.order.Scan(func(id cmq.ShardID) bool {
		b.shards[id].ForgetLocks()
		return true
	})
}

// CommitAlone commits every prepared message on this replica, as the mutant PreparedVisibleAfterLeaderChange wants it.
func (b *Broker) CommitAlone() (placed []Placed) {
	b.order.Scan(func(id cmq.ShardID) bool {
		var held []cmq.MsgID
		b.shards[id].Held(func(id cmq.MsgID, _ uint32) bool {
			held = append(held, id)
			return true
		})
		for _, h := range held {
			seq, bytes, _ := b.shards[id].Decide(h, true)
			placed = append(placed, Placed{Shard: id, Seq: seq, Index: h.Index(), Slot: h.Slot(), N: 1, Bytes: bytes})
		}
		return true
	})
	b.held = 0
	return placed
}

// DeleteAlone deletes by handle on this replica only, as the mutant DeleteNotReplicated wants it.
func (b *Broker) DeleteAlone(id cmq.ShardID, h cmq.Handle) *cmq.Error {
	s := b.shards[id]
	if s == nil {
		return cmq.ErrQueueNotExist
	}
	return s.DeleteAlone(h)
}
