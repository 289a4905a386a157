package engine

import (
	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/set"
)

// Loop is the goroutine that drives the machine's replica.
type Loop interface {
	// Exec runs call on the loop with the cluster time; false if the loop has ended.
	Exec(call set.Timed) bool
	// ExecForNextEntry may put off a call that can have no effect before the next entry is cut.
	ExecForNextEntry(call set.Timed) bool
}

// Service is a machine as callers on other goroutines see it.
type Service struct {
	Machine *Machine
	Loop    Loop
	// Go runs a function on a goroutine that is waited for when the replica stops.
	Go func(func())

	readers readers
}

// Start carries out a request on this replica, which must lead the set. done gets the outcome, see cmq.Pending. It is
// called on the loop or on a goroutine that reads messages, and delays others if it takes its time.
//
// A waiting poll that is cancelled is taken back, and messages that were locked for it all the same are released, so
// that they are not hidden from others.
func (s *Service) Start(req *cmq.Request, done func(*cmq.Reply, error)) cmq.Pending {
	t := &task{s: s, req: req, done: done}
	exec := s.Loop.Exec
	switch req.Kind {
	case cmq.KindSend, cmq.KindPrepare, cmq.KindPublish, cmq.KindDelete, cmq.KindRelock:
		exec = s.Loop.ExecForNextEntry
	case cmq.KindReceive:
		if req.Wait > 0 { // one that does not wait and finds nothing is answered at once
			exec = s.Loop.ExecForNextEntry
		}
	}
	if !exec(t) {
		t.finish(nil, cmq.ErrStopping)
	}
	return t
}
