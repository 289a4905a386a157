//go:build mutants

package queue

import (
	"math"

	"github.com/opencmq/cmq/internal/cmq"
)

// ForgetLocks ends all locks, as the mutant LockIgnoredAfterLeaderChange wants it.
func (s *Shard) ForgetLocks() {
	now := s.now
	s.now = math.MaxInt64
	for s.land(maxLanding) {
	}
	s.now = now
}

// DeleteAlone deletes by handle on this replica only, as the mutant DeleteNotReplicated wants it.
func (s *Shard) DeleteAlone(h cmq.Handle) *cmq.Error {
	f, ok := s.take(h)
	if !ok {
		return cmq.ErrHandleInvalid
	}
	s.strike(run{lane: f.lane, seq: f.seq, n: 1})
	return nil
}
