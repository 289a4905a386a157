//go:build mutants

package queue

import (
	"math"

	"github.com/opencmq/cmq/internal/cmq"
)

// ForgetLocks ends all locks, as the mutant LockIgnoredAfterLeaderChange wants it.
func (s *Shard) ForgetLocks() { s.settleLocks(math.MaxInt64) }

// DeleteAlone deletes by handle on this replica only, as the mutant DeleteNotReplicated wants it.
func (s *Shard) DeleteAlone(h cmq.Handle) *cmq.Error {
	f, ok := s.land(h)
	if !ok {
		return cmq.ErrHandleInvalid
	}
	s.strike(run{lane: f.lane, seq: f.seq, n: 1})
	return nil
}
