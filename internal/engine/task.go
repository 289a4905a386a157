package engine

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/set"
)

// task is a request on its way through a Service.
//
//	Start ──► Run ──► (an entry) ──► answered ──┬──────────────────────► finish
//	           ▲                                └─► a reader: fill ──┬──► finish
//	           │  nothing was left to read                           └─► mend ──► finish
//	           └─────────────────────────────────────────────────────────┘
//
// Run, answered and mend run on the loop. Whoever sets settled gives the answer; messages that come later are
// released.
type task struct {
	s       *Service
	req     *cmq.Request
	done    func(*cmq.Reply, error)
	settled atomic.Bool

	call  *Call // the newest; belongs to the loop
	first Call  // room for the first one
	until int64 // cluster time until which a receive waits
	tries int
}

// maxEmpty is how often a receive is tried again whose messages had all gone, by the time they were read.
const maxEmpty = 16

// Run implements set.Timed: it hands the request to the machine.
func (t *task) Run(now int64) {
	if t.settled.Load() {
		return
	}
	t.tries++
	t.call = &t.first
	if t.tries > 1 {
		t.call = new(Call)
	}
	t.s.Machine.submit(now, t.call, t.remaining(now), t)
}

// remaining is the request with what is left of its wait.
func (t *task) remaining(now int64) *cmq.Request {
	if t.req.Kind != cmq.KindReceive || t.req.Wait <= 0 {
		return t.req
	}
	if t.until == 0 {
		t.until = now + t.req.Wait.Milliseconds()
		return t.req
	}
	left := *t.req
	left.Wait = time.Duration(max(t.until-now, 0)) * time.Millisecond
	return &left
}

// answered implements taker.
func (t *task) answered(r *Result, err error) {
	switch {
	case err != nil:
		t.finish(nil, err)
	case !r.Unread():
		t.finish(&r.Reply, nil)
	case t.settled.Load():
		t.release(&r.Reply)
	default:
		t.s.readers.add(t.s.Go, unread{t, r})
	}
}

// filled takes the result when its messages were read.
func (t *task) filled(r *Result) {
	t.undo(r.Surplus)
	switch {
	case r.Whole():
		t.complete(r)
	case !t.s.Loop.Exec(set.TimedFunc(func(int64) { t.s.Machine.Mend(r, func(err error) { t.mended(r, err) }) })):
		t.finish(nil, cmq.ErrStopping)
	}
}

func (t *task) mended(r *Result, err error) {
	if err != nil {
		t.finish(nil, err)
		return
	}
	t.complete(r)
}

// complete gives the answer, or tries again if none of the messages was left to read.
func (t *task) complete(r *Result) {
	if t.req.Kind == cmq.KindReceive && len(r.Reply.Messages) == 0 && t.tries < maxEmpty {
		if !t.s.Loop.Exec(t) {
			t.finish(nil, cmq.ErrStopping)
		}
		return
	}
	t.finish(&r.Reply, nil)
}

func (t *task) finish(reply *cmq.Reply, err error) {
	if t.settled.CompareAndSwap(false, true) {
		t.done(reply, err)
	} else if reply != nil {
		t.release(reply)
	}
}

// Cancel implements cmq.Pending.
func (t *task) Cancel() {
	if !t.settled.CompareAndSwap(false, true) {
		return
	}
	if t.req.Kind == cmq.KindReceive || t.req.Kind == cmq.KindQueries {
		t.s.Loop.Exec(set.TimedFunc(func(int64) {
			if t.call != nil {
				t.s.Machine.Cancel(t.call)
			}
		}))
	}
	t.done(nil, context.Canceled)
}

// release undoes a receive nobody waits for.
func (t *task) release(reply *cmq.Reply) {
	if t.req.Kind != cmq.KindReceive {
		return
	}
	handles := make([]cmq.Handle, len(reply.Messages))
	for i := range handles {
		handles[i] = reply.Messages[i].Handle
	}
	t.undo(handles)
}

// undo releases deliveries.
func (t *task) undo(handles []cmq.Handle) {
	if len(handles) == 0 {
		return
	}
	undo := &cmq.Request{Kind: cmq.KindRelease, Shard: t.req.Shard, Handles: handles}
	t.s.Loop.Exec(set.TimedFunc(func(now int64) { t.s.Machine.Submit(now, undo, nil) }))
}
