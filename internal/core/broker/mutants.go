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

// DeleteAlone deletes by handle on this replica only, as the mutant DeleteNotReplicated wants it.
func (b *Broker) DeleteAlone(id cmq.ShardID, h cmq.Handle) *cmq.Error {
	s := b.shards[id]
	if s == nil {
		return cmq.ErrQueueNotExist
	}
	return s.DeleteAlone(h)
}
