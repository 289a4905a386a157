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
//	ctx ends ──► abandon, on a goroutine of its own ──► Done
func (c *Conn) Start(ctx context.Context, call *Call, timeout time.Duration) bool {
	watched := ctx.Done() != nil
	if watched && ctx.Err() != nil {
		return false
	}
	call.started, call.unwatch = true, nil
	c.mu.Lock()
	c.seq++
	seq := c.seq
	if watched {
		// Who watches must know the number, and must be there before the answer is, which takes it away again.
		c.mu.Unlock()
		call.unwatch = context.AfterFunc(ctx, func() { c.giveUp(seq, ctx.Err()) })
		c.mu.Lock()
	}
	if c.err != nil || c.retired || c.pendingLocked() >= maxPending {
		c.mu.Unlock()
		if watched {
			call.unwatch()
		}
		return false
	}
	wake := c.beginLocked(call, seq, timeout)
	c.mu.Unlock()
	if wake {
		c.kick <- struct{}{}
	}
	if watched && ctx.Err() != nil {
		go c.giveUp(seq, ctx.Err()) // it may have ended before there was anything to give up
	}
	return true
}

// giveUp is abandon of a started call. Such a one is known by its number only: it may have been answered, and be used
// again for something else.
func (c *Conn) giveUp(seq int64, why error) {
	c.mu.Lock()
	call := c.calls[seq]
	receive := call != nil && (call.Request.Cmd == wire.Receive || call.Request.Cmd == wire.BatchReceive)
	c.mu.Unlock()
	if receive && c.post(wire.Request{Cmd: wire.StopWaiting, Waiting: seq}) {
		time.AfterFunc(farewell, func() { c.drop(seq, why) })
		return
	}
	c.drop(seq, why)
}

// drop ends a started call without an answer, unless it has one.
func (c *Conn) drop(seq int64, why error) {
	c.mu.Lock()
	call := c.calls[seq]
	delete(c.calls, seq)
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
