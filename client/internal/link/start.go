package link

import (
	"context"
	"time"

	"github.com/opencmq/cmq/client/internal/wire"
)

// Start is Do for a call that nobody waits for: its Done gets the error that Do would give. It does not wait either, and
// reports false, and has done nothing, if it would have to: the connection is over, too much is pending, ctx has ended.
//
//	caller ──Start──► out ──writer──► socket ──reader──► Done
//	ctx ends ──► giveUp, on a goroutine of its own ──► Done
func (c *Conn) Start(ctx context.Context, call *Call, timeout time.Duration) bool {
	ends := ctx.Done()
	if ends != nil && ctx.Err() != nil {
		return false
	}
	c.mu.Lock()
	if c.err != nil || c.retired || c.pendingLocked() >= maxPending {
		c.mu.Unlock()
		return false
	}
	call.started = true
	if ends != nil {
		c.watches.join(call, c, ctx)
	}
	c.seq++
	wake := c.beginLocked(call, c.seq, timeout)
	c.mu.Unlock()
	if wake {
		c.kick <- struct{}{}
	}
	return true
}

// watch is the end of one context, for all started calls that have it. To watch it for each of them would cost as much as
// their frames.
type watch struct {
	ends  <-chan struct{}
	calls int         // under way
	stop  func() bool // watches no more
}

// watches is those with calls, by their ends. The lock of the connection protects them.
type watches map[<-chan struct{}]*watch

// join has the end of ctx watched for call, which is put under way before the lock is let go.
func (all *watches) join(call *Call, c *Conn, ctx context.Context) {
	if *all == nil {
		*all = make(watches)
	}
	w := (*all)[ctx.Done()]
	if w == nil {
		w = &watch{ends: ctx.Done()}
		w.stop = context.AfterFunc(ctx, func() { c.giveUp(w, ctx.Err()) })
		(*all)[w.ends] = w
	}
	w.calls++
	call.watch = w
}

// leave notes that call is not under way any more.
func (all watches) leave(call *Call) {
	w := call.watch
	if w == nil {
		return
	}
	call.watch = nil
	if w.calls--; w.calls == 0 {
		w.stop()
		all.remove(w)
	}
}

// remove lets the next call with the same context have a watch of its own.
func (all watches) remove(w *watch) {
	if all[w.ends] == w {
		delete(all, w.ends)
	}
}

// giveUp is abandon of the started calls whose context has ended. From here on they are known by their numbers: a Call that
// is answered may be used again for something else.
func (c *Conn) giveUp(w *watch, why error) {
	var receives, others []int64
	c.mu.Lock()
	c.watches.remove(w)
	for seq, call := range c.calls {
		switch {
		case call.watch != w:
		case call.Request.Cmd == wire.Receive, call.Request.Cmd == wire.BatchReceive:
			receives = append(receives, seq)
		default:
			others = append(others, seq)
		}
	}
	c.mu.Unlock()
	for _, seq := range receives {
		c.post(wire.Request{Cmd: wire.StopWaiting, Waiting: seq})
	}
	if len(receives) > 0 {
		time.AfterFunc(farewell, func() { c.drop(receives, why) })
	}
	c.drop(others, why)
}

// drop ends calls without an answer, those that have none yet.
func (c *Conn) drop(seqs []int64, why error) {
	for _, seq := range seqs {
		c.mu.Lock()
		call := c.takeLocked(seq)
		done := c.doneLocked()
		c.mu.Unlock()
		if call != nil {
			call.err = &Error{Addr: c.addr, Sent: true, Err: why}
			call.finish()
		}
		if done {
			c.fail(ErrNotAuthorized)
		}
	}
}
