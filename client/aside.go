package client

import (
	"context"
	"errors"
	"sync"
)

// aside is the goroutines of calls that nobody waits for and that cannot go on without waiting. All of them end before
// Close does.
type aside struct {
	life context.Context // ends with Close
	over context.CancelFunc

	mu     sync.Mutex
	closed bool
	work   sync.WaitGroup
}

func (a *aside) init() { a.life, a.over = context.WithCancel(context.Background()) }

// end lets no more begin and ends the contexts of those that are there.
func (a *aside) end() {
	a.mu.Lock()
	a.closed = true
	a.mu.Unlock()
	a.over()
}

func (a *aside) wait() { a.work.Wait() }

// run has f called by a goroutine, with a context that ends with ctx and with Close. It reports false after Close.
func (a *aside) run(ctx context.Context, f func(ctx context.Context)) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return false
	}
	a.work.Go(func() {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(a.life, cancel)()
		f(ctx)
	})
	return true
}

// cause gives an error that Close is the reason of its name. ctx is that of the caller.
func (a *aside) cause(ctx context.Context, err error) error {
	var broken *TransportError
	if a.life.Err() == nil || ctx.Err() != nil || !errors.Is(err, context.Canceled) || !errors.As(err, &broken) {
		return err
	}
	ended := *broken
	ended.Err = ErrClosed
	return &ended
}
