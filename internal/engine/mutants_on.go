//go:build mutants

package engine

import (
	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/mutant"
	"github.com/opencmq/cmq/internal/store/reflog"
)

// forgetLocks makes a new leader ignore the locks of the old one.
func (m *Machine) forgetLocks() {
	if mutant.On(mutant.LockIgnoredAfterLeaderChange) {
		m.b.ForgetLocks()
	}
}

// revealPrepared makes a new leader hand out what is not decided.
func (m *Machine) revealPrepared() {
	if !mutant.On(mutant.PreparedVisibleAfterLeaderChange) {
		return
	}
	for _, p := range m.b.CommitAlone() {
		k := reflog.Key{Shard: uint64(p.Shard), Lane: p.Lane}
		m.refs.Load().Add(k, p.Seq, p.Index, p.Slot, p.N, m.b.Time(), p.Bytes)
	}
}

// deleteUnreplicated carries out a delete in the leader's memory only.
func (m *Machine) deleteUnreplicated(c *Call) bool {
	if !mutant.On(mutant.DeleteNotReplicated) {
		return false
	}
	handles := inward(c.req)
	errs := make([]*cmq.Error, len(handles))
	for i, h := range handles {
		errs[i] = m.b.DeleteAlone(c.req.Shard, h)
	}
	c.finish(&Result{Reply: cmq.Reply{Errors: errs}}, nil)
	return true
}
