package engine

import (
	"context"

	"github.com/opencmq/cmq/internal/cmq"
)

// Loop is the goroutine that drives the machine's replica.
type Loop interface {
	// Exec runs call on the loop with the cluster time; false if the loop has ended.
	Exec(call func(now int64)) bool
	// ExecForNextEntry may put off a call that can have no effect before the next entry is cut.
	ExecForNextEntry(call func(now int64)) bool
}

// Service is a machine as callers on other goroutines see it.
type Service struct {
	Machine *Machine
	Loop    Loop
}

type outcome struct {
	result *Result
	err    error
}

// Do carries out a request on this replica, which must lead the set. When ctx ends, a waiting poll is taken back,
// and messages that were locked for it all the same are released, so that they are not hidden from others.
func (s *Service) Do(ctx context.Context, req *cmq.Request) (*cmq.Reply, error) {
	ch := make(chan outcome, 1)
	var call *Call
	exec := s.Loop.Exec
	if req.Kind == cmq.KindSend || req.Kind == cmq.KindDelete {
		exec = s.Loop.ExecForNextEntry
	}
	ok := exec(func(now int64) {
		call = s.Machine.Submit(now, req, func(r *Result, err error) { ch <- outcome{r, err} })
	})
	if !ok {
		return nil, cmq.ErrStopping
	}
	select {
	case o := <-ch:
		return s.answer(ctx, req, o)
	case <-ctx.Done():
	}
	if req.Kind == cmq.KindReceive {
		if !s.Loop.Exec(func(int64) { s.Machine.Cancel(call) }) {
			return nil, ctx.Err()
		}
		return s.answer(ctx, req, <-ch)
	}
	return nil, ctx.Err()
}

func (s *Service) answer(ctx context.Context, req *cmq.Request, o outcome) (*cmq.Reply, error) {
	if o.err != nil {
		return nil, o.err
	}
	if req.Kind == cmq.KindReceive && ctx.Err() != nil && len(o.result.Reply.Messages) > 0 {
		s.release(req, o.result)
		return nil, ctx.Err()
	}
	if err := s.Machine.Fill(o.result); err != nil {
		return nil, err
	}
	return &o.result.Reply, nil
}

// release undoes a receive nobody waits for.
func (s *Service) release(req *cmq.Request, r *Result) {
	undo := &cmq.Request{Kind: cmq.KindRelease, Shard: req.Shard}
	for i := range r.Reply.Messages {
		undo.Handles = append(undo.Handles, r.Reply.Messages[i].Handle)
	}
	s.Loop.Exec(func(now int64) { s.Machine.Submit(now, undo, nil) })
}
