package route

import (
	"context"
	"errors"
	"sync"

	"github.com/opencmq/cmq/internal/cmq"
)

// flight is what started requests have in common. It is large, and there is one for each request of a door with many on one
// connection: what is in it is there once.
type flight struct {
	r           *Router
	owner, name string
	call        call

	first   search // its request is what is asked for
	attempt attempt
	opening opening

	mu     sync.Mutex
	now    cmq.Pending        // the first attempt
	cancel context.CancelFunc // ends the call that waits
	ended  bool               // answered or cancelled
	gone   bool               // cancelled
}

// call is one kind of request. Whoever ends the flight calls one of the methods that answer.
type call interface {
	goOn(ctx context.Context, o *opening) // the call that waits
	answer(*cmq.Reply)                    // the first attempt succeeded
	fail(error)                           // it was refused for good, or is cancelled
}

// try makes the first attempt, at the first of the shards.
func (f *flight) try(q *cmq.Queue, shards []cmq.Shard) cmq.Pending {
	f.first.req.Shard = shards[0].ID
	f.first.begin(f.r, shards[0].Set)
	f.opening = opening{queue: q, shards: shards, first: &f.first}
	if f.first.next() == 0 {
		return f.await(nil)
	}
	f.keep(f.first.start(&f.attempt, f.tried))
	return f
}

// tried takes the outcome of the first attempt.
func (f *flight) tried(reply *cmq.Reply, err error) {
	switch refusal := f.refusal(reply, err); {
	case refusal != nil:
		if f.end() {
			f.call.fail(refusal)
		}
	case err != nil || reply.Err != nil:
		f.first.opening = &outcome{reply, err}
		f.await(&f.opening)
	case f.end():
		f.call.answer(reply)
	default:
		f.undo(reply)
	}
}

// refusal is what an overloaded or full set answered, if that stands: there is no other shard to ask. Then there are many
// of them, and no goroutine is begun to find out the same. What is to be released is tried once more.
func (f *flight) refusal(reply *cmq.Reply, err error) error {
	switch {
	case f.first.req.Kind == cmq.KindRelease:
		return nil
	case errors.Is(err, cmq.ErrBusy):
		return err
	case err != nil || reply.Err == nil || len(f.opening.shards) > 1:
		return nil
	}
	for _, full := range []*cmq.Error{cmq.ErrHeapFull, cmq.ErrTooMany, cmq.ErrDiskFull} {
		if errors.Is(reply.Err, full) {
			return reply.Err
		}
	}
	return nil
}

// await goes on with the call that waits, in a goroutine, unless nobody needs it any more.
func (f *flight) await(o *opening) cmq.Pending {
	ctx, cancel := context.WithCancel(context.Background())
	f.mu.Lock()
	f.cancel = cancel
	gone := f.gone
	f.mu.Unlock()
	if gone {
		cancel()
		return f
	}
	go func() {
		defer cancel()
		f.call.goOn(ctx, o)
	}()
	return f
}

// keep remembers the first attempt for Cancel.
func (f *flight) keep(p cmq.Pending) {
	f.mu.Lock()
	f.now = p
	gone := f.gone
	f.mu.Unlock()
	if gone {
		p.Cancel()
	}
}

// end reports whether the caller is the one to answer.
func (f *flight) end() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	first := !f.ended
	f.ended = true
	return first
}

// Cancel implements cmq.Pending.
func (f *flight) Cancel() {
	f.mu.Lock()
	first := !f.ended
	f.ended, f.gone = true, true
	now, cancel := f.now, f.cancel
	f.mu.Unlock()
	if !first {
		return
	}
	if now != nil {
		now.Cancel()
	}
	if cancel != nil {
		cancel()
	}
	f.call.fail(context.Canceled)
}

// undo releases what the first attempt of a cancelled receive brought.
func (f *flight) undo(reply *cmq.Reply) {
	s := &f.first
	undo(&s.req, reply, func(undo *cmq.Request) {
		a := &attempt{r: f.r, set: s.set, node: s.node, req: undo, done: func(*cmq.Reply, error) {}}
		a.start()
	})
}

// release undoes a cancelled receive.
func (f *flight) release(messages []cmq.Message) {
	f.r.StartRelease(f.owner, f.name, handlesOf(messages), func(err error) {
		if err != nil {
			f.r.log.Info("messages stay locked", "queue", f.name, "count", len(messages), "err", err)
		}
	})
}
