package engine

import (
	"context"
	"time"

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

// maxEmpty is how often a receive is tried again whose messages had all gone, by the time they were read.
const maxEmpty = 16

// Do carries out a request on this replica, which must lead the set. When ctx ends, a waiting poll is taken back,
// and messages that were locked for it all the same are released, so that they are not hidden from others.
func (s *Service) Do(ctx context.Context, req *cmq.Request) (*cmq.Reply, error) {
	until := int64(0)
	for tries := 1; ; tries++ {
		reply, again, err := s.try(ctx, req, &until)
		if !again || tries == maxEmpty {
			return reply, err
		}
	}
}

// try carries out a request once. Again says that a receive got messages of which none was left to read; it may wait for others
// until the time that is kept in until.
func (s *Service) try(ctx context.Context, req *cmq.Request, until *int64) (reply *cmq.Reply, again bool, err error) {
	ch := make(chan outcome, 1)
	var call *Call
	exec := s.Loop.Exec
	if req.Kind == cmq.KindSend || req.Kind == cmq.KindDelete || req.Kind == cmq.KindRelock {
		exec = s.Loop.ExecForNextEntry
	}
	ok := exec(func(now int64) {
		call = s.Machine.Submit(now, remaining(req, now, until), func(r *Result, err error) { ch <- outcome{r, err} })
	})
	if !ok {
		return nil, false, cmq.ErrStopping
	}
	select {
	case o := <-ch:
		return s.answer(ctx, req, o)
	case <-ctx.Done():
	}
	if req.Kind == cmq.KindReceive {
		if !s.Loop.Exec(func(int64) { s.Machine.Cancel(call) }) {
			return nil, false, ctx.Err()
		}
		return s.answer(ctx, req, <-ch)
	}
	return nil, false, ctx.Err()
}

// remaining is the request with what is left of its wait.
func remaining(req *cmq.Request, now int64, until *int64) *cmq.Request {
	if req.Kind != cmq.KindReceive || req.Wait <= 0 {
		return req
	}
	if *until == 0 {
		*until = now + req.Wait.Milliseconds()
		return req
	}
	left := *req
	left.Wait = time.Duration(max(*until-now, 0)) * time.Millisecond
	return &left
}

func (s *Service) answer(ctx context.Context, req *cmq.Request, o outcome) (reply *cmq.Reply, again bool, err error) {
	if o.err != nil {
		return nil, false, o.err
	}
	r := o.result
	if !r.Unread() {
		return &r.Reply, false, nil
	}
	if ctx.Err() != nil {
		s.release(req, handles(r))
		return nil, false, ctx.Err()
	}
	whole := s.Machine.Fill(r)
	s.release(req, r.Surplus)
	if !whole {
		err = s.mend(ctx, req, r)
	}
	if err != nil {
		return nil, false, err
	}
	return &r.Reply, req.Kind == cmq.KindReceive && len(r.Reply.Messages) == 0, nil
}

// mend waits for messages that this replica cannot read.
func (s *Service) mend(ctx context.Context, req *cmq.Request, r *Result) error {
	ch := make(chan error, 1)
	if !s.Loop.Exec(func(int64) { s.Machine.Mend(r, func(err error) { ch <- err }) }) {
		return cmq.ErrStopping
	}
	select {
	case err := <-ch:
		return err
	case <-ctx.Done():
		s.release(req, handles(r))
		return ctx.Err()
	}
}

// handles are those of the result's messages.
func handles(r *Result) []cmq.Handle {
	list := make([]cmq.Handle, len(r.Reply.Messages))
	for i := range list {
		list[i] = r.Reply.Messages[i].Handle
	}
	return list
}

// release undoes deliveries nobody waits for.
func (s *Service) release(req *cmq.Request, handles []cmq.Handle) {
	if req.Kind != cmq.KindReceive || len(handles) == 0 {
		return
	}
	s.Loop.Exec(func(now int64) {
		s.Machine.Submit(now, &cmq.Request{Kind: cmq.KindRelease, Shard: req.Shard, Handles: handles}, nil)
	})
}
