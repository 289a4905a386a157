package access

import (
	"context"
	"sync/atomic"
	"time"
)

// Polls counts the requests of all doors that may be waiting for a message, and bounds them: each costs a
// connection, a goroutine and a place with the queue's leader. When the server stops it ends them all.
type Polls struct {
	max  int64 // 0: no bound
	open atomic.Int64
	ctx  context.Context // ends with End
	end  context.CancelFunc
}

// NewPolls allows max polls at a time; 0 means any number.
func NewPolls(max int) *Polls {
	ctx, end := context.WithCancel(context.Background())
	return &Polls{max: int64(max), ctx: ctx, end: end}
}

// End ends all waits, now and from now on: the server stops, and clients ask again elsewhere.
func (p *Polls) End() { p.end() }

// Done is closed by End.
func (p *Polls) Done() <-chan struct{} { return p.ctx.Done() }

// Ended reports whether End was called.
func (p *Polls) Ended() bool { return p.ctx.Err() != nil }

// Bound gives a context that ends with ctx and with End. The caller calls cancel when its wait is over.
func (p *Polls) Bound(ctx context.Context) (bound context.Context, cancel context.CancelFunc) {
	bound, stop := context.WithCancel(ctx)
	forget := context.AfterFunc(p.ctx, stop)
	return bound, func() { forget(); stop() }
}

// Enter takes a place, which the caller gives back with Leave. It fails when all are taken.
func (p *Polls) Enter() bool {
	if n := p.open.Add(1); p.max > 0 && n > p.max {
		p.open.Add(-1)
		return false
	}
	return true
}

// Leave gives a place back.
func (p *Polls) Leave() { p.open.Add(-1) }

// Open says how many places are taken.
func (p *Polls) Open() int { return int(p.open.Load()) }

// ClampWait gives how long a poll may wait: a client asks for that many seconds, but one of them sends
// milliseconds for "as long as possible", so more than the limit is the limit and no error.
func ClampWait(seconds, limit int64) time.Duration {
	return time.Duration(min(seconds, limit)) * time.Second
}
