package client

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"
)

// Handler works on one message. When it returns nil the message is deleted; after an error, or a panic, it is given
// back and comes again.
//
// ctx ends when the lock of the message is over (cause ErrLockLost), when HandlerTimeout is (ErrHandlerTimeout), or when
// the Consumer stops and StopTimeout is (ErrStopping). A handler must stop to work on the message then: another
// consumer may have it. It returns soon after; what it returns does not matter any more.
type Handler func(ctx context.Context, m *Message) error

// Causes with which a Handler's context ends; see context.Cause.
var (
	ErrLockLost       = errors.New("the lock of the message is over")
	ErrHandlerTimeout = errors.New("the handler took too long")
	ErrStopping       = errors.New("the consumer stops")
)

// ConsumerOptions say how a Consumer works. Zero values stand for the defaults.
type ConsumerOptions struct {
	Concurrency int // handlers at once; default 16
	Prefetch    int // messages received and waiting for a handler; default Concurrency, negative: none
	Polls       int // receives at once; default 1. Each brings up to Batch messages
	Settlers    int // requests at once that delete or give back, each up to Batch messages; default 2

	// Batch is how many messages one request may be about, as far as Concurrency and Prefetch let so many be held; default
	// MaxBatch, which every service takes. Over TCP cmq takes up to MaxWide: then a message costs less than half as much.
	Batch int

	// Wait is how long a receive waits for a message; default 10 s, at most 30 s. A third of the visibility timeout is the
	// most that is used, because a lock may have begun at any time during the wait.
	Wait time.Duration

	// Visibility is how long a receive locks its messages, in whole seconds from 1 s to 12 h; default: the queue's
	// VisibilityTimeout, or 30 s if the Client has no endpoint of HTTP to ask. Over HTTP only cmq locks for another time
	// than the queue's.
	Visibility time.Duration

	// NoExtend lets a lock end when its time is over although the handler still works. Else it is prolonged, for as long
	// as HandlerTimeout allows, if the service has ChangeVisibility.
	NoExtend bool

	HandlerTimeout time.Duration // how long one handler may take; default 0: as long as its lock can be kept
	StopTimeout    time.Duration // how long handlers may go on after ctx of Run has ended; default 30 s

	// RetryDelay is how long a message stays away after its handler failed; default: 1 s, doubled with each receive, up to
	// 5 minutes. A negative one leaves the lock as it is. Without ChangeVisibility the message comes when its lock ends.
	RetryDelay func(m *Message, err error) time.Duration
}

func (o ConsumerOptions) withDefaults() ConsumerOptions {
	orElse(&o.Concurrency, 16)
	if o.Prefetch < 0 {
		o.Prefetch = 0
	} else {
		orElse(&o.Prefetch, o.Concurrency)
	}
	orElse(&o.Polls, 1)
	orElse(&o.Settlers, 2)
	orElse(&o.Batch, MaxBatch)
	o.Batch = min(o.Batch, MaxWide)
	orElse(&o.Wait, 10*time.Second)
	orElse(&o.StopTimeout, 30*time.Second)
	if o.RetryDelay == nil {
		o.RetryDelay = func(m *Message, _ error) time.Duration {
			return min(time.Second<<min(max(m.DequeueCount-1, 0), 20), 5*time.Minute)
		}
	}
	return o
}

// Consumer receives messages of a queue and has a Handler work on each, several at once. It keeps their locks while
// handlers work, deletes what is done in batches and gives back what failed.
//
// A message may come more than once: after a handler failed, after a lock could not be kept, and when the answer to a
// delete was lost. It never is with two handlers at a time, as long as handlers end with their contexts: the end of a
// lock is counted from when the receive was sent, which is before the service locked, and a little is taken off for
// clocks that run differently.
//
//	receive ──► arrived ──► handlers ──► settled: delete, give back
//	                 locks: prolong at half time, end contexts
type Consumer struct {
	q       *Queue
	handler Handler
	o       ConsumerOptions

	slots   chan struct{} // a value for each message that may be held
	arrived chan *delivery
	done    chan *delivery // handled
	locks   locks

	visibility time.Duration
	base       context.Context // parent of the handlers' contexts
	stop       context.CancelCauseFunc

	mu    sync.Mutex
	fatal error // why the consumer cannot go on
}

// NewConsumer makes a consumer for the queue. It does nothing before Run.
func (q *Queue) NewConsumer(h Handler, o ConsumerOptions) *Consumer {
	o = o.withDefaults()
	if _, http := q.c.carrier.(httpCarrier); http {
		o.Batch = min(o.Batch, MaxBatch)
	}
	return &Consumer{q: q, handler: h, o: o}
}

// Consume is NewConsumer and Run.
func (q *Queue) Consume(ctx context.Context, h Handler, o ConsumerOptions) error {
	return q.NewConsumer(h, o).Run(ctx)
}

// Run works until ctx ends and returns nil then, or until the service refuses to give messages for a reason that time
// does not change, such as ErrQueueNotExist or ErrSignature, and returns that. Everything else is tried again, with
// pauses of up to several seconds.
//
// When ctx ends nothing more is received. Handlers that work may finish within StopTimeout; messages that wait are
// given back, or handled if it is known that the service has no ChangeVisibility. Run returns when all handlers have returned and the
// service knows what became of their messages. It may be called once.
func (c *Consumer) Run(ctx context.Context) error {
	if err := c.learn(ctx); err != nil || ctx.Err() != nil {
		return err
	}
	c.prepare(ctx)
	receiving, stopReceiving := context.WithCancel(ctx)
	defer stopReceiving()
	var pollers, handlers, settlers sync.WaitGroup
	for range c.o.Settlers {
		settlers.Go(c.settle)
	}
	for range c.o.Concurrency {
		handlers.Go(func() { c.handle(receiving) })
	}
	for range c.o.Polls {
		pollers.Go(func() {
			if err := c.poll(receiving); err != nil {
				c.fail(err)
				stopReceiving()
			}
		})
	}
	locked := make(chan struct{})
	go func() {
		defer close(locked)
		c.locks.keep()
	}()

	pollers.Wait()
	patience := time.AfterFunc(c.o.StopTimeout, func() { c.stop(ErrStopping) })
	close(c.arrived)
	handlers.Wait()
	patience.Stop()
	close(c.done)
	settlers.Wait()
	c.locks.close()
	<-locked
	c.stop(ErrStopping)
	return c.fatal
}

// fail notes why the consumer cannot go on. The first reason counts.
func (c *Consumer) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fatal == nil {
		c.fatal = err
	}
}

// learn finds out how long locks are. It gives up without an error when ctx ends.
func (c *Consumer) learn(ctx context.Context) error {
	c.visibility = c.o.Visibility
	for attempt := 0; c.visibility == 0; attempt++ {
		a, err := c.q.Attributes(ctx)
		switch needs := (*NeedsEndpointError)(nil); {
		case err == nil:
			c.visibility = a.VisibilityTimeout
		case errors.As(err, &needs):
			c.visibility = 30 * time.Second
		case ctx.Err() != nil:
			return nil
		case !Temporary(err):
			return err
		default:
			pause(ctx, attempt)
		}
	}
	c.visibility = time.Duration(wholeSeconds(c.visibility)) * time.Second
	return nil
}

// prepare makes what Run needs.
func (c *Consumer) prepare(ctx context.Context) {
	held := c.o.Concurrency + c.o.Prefetch
	c.slots, c.arrived, c.done = make(chan struct{}, held), make(chan *delivery, held), make(chan *delivery, held)
	c.give(held)
	c.base, c.stop = context.WithCancelCause(context.WithoutCancel(ctx))
	c.locks.init(c)
}

// poll receives until ctx ends or the service refuses for good.
func (c *Consumer) poll(ctx context.Context) error {
	for failures, empty := 0, 0; ; {
		n := c.take(ctx)
		if n == 0 {
			return nil
		}
		begun := time.Now()
		messages, err := c.q.ReceiveWith(ctx, ReceiveOptions{Max: n, Wait: c.wait(), Visibility: c.visibility})
		c.arrive(messages, begun)
		c.give(n - len(messages))
		switch {
		case len(messages) > 0:
			failures, empty = 0, 0
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, ErrNoMessage):
			failures = 0
			if empty++; c.wait() == 0 { // the locks are too short for waiting
				pause(ctx, min(empty, 5))
			}
		case !Temporary(err):
			return err
		default:
			c.q.c.log.Warn("messages cannot be received; trying again", "queue", c.q.name, "error", err)
			pause(ctx, failures)
			failures++
		}
	}
}

// wait is how long a receive may wait, in whole seconds.
func (c *Consumer) wait() time.Duration {
	return min(c.o.Wait, maxWait, c.visibility/3).Truncate(time.Second)
}

// take waits until a message may be held and takes the right to up to Batch. It gives 0 when ctx ends.
func (c *Consumer) take(ctx context.Context) (n int) {
	if ctx.Err() != nil {
		return 0
	}
	select {
	case <-c.slots:
		n = 1
	case <-ctx.Done():
		return 0
	}
	for n < c.o.Batch {
		select {
		case <-c.slots:
			n++
			continue
		default:
		}
		break
	}
	return n
}

func (c *Consumer) give(n int) {
	for range n {
		c.slots <- struct{}{}
	}
}

// arrive takes messages whose receive was begun at this time.
func (c *Consumer) arrive(messages []Message, begun time.Time) {
	for i := range messages {
		d := &delivery{m: &messages[i], ends: begun.Add(c.visibility)}
		c.locks.add(d)
		c.arrived <- d
	}
}

// handle is one of the goroutines on which handlers run.
func (c *Consumer) handle(receiving context.Context) {
	for d := range c.arrived {
		if receiving.Err() != nil && c.locks.canChange() {
			d.err = ErrStopping
		} else {
			c.work(d)
		}
		c.done <- d
	}
}

// work runs the handler on one message.
func (c *Consumer) work(d *delivery) {
	ctx, cancel := context.WithCancelCause(c.base)
	defer cancel(nil)
	if !c.locks.begin(d, cancel) {
		d.err = ErrLockLost
		return
	}
	ctx, op := c.q.c.start(ctx, Operation{Kind: OpProcess, Destination: c.q.name, Count: 1, MessageID: d.m.ID, Message: d.m})
	d.err = c.call(ctx, d.m)
	if lost := c.locks.ended(d); lost != nil && d.err != nil {
		d.err = lost
	}
	op.end(ctx, d.err)
	if d.err != nil {
		c.q.c.log.Warn("a handler failed", "queue", c.q.name, "msg_id", d.m.ID, "receives", d.m.DequeueCount, "error", d.err)
	}
}

// call turns a panic into an error.
func (c *Consumer) call(ctx context.Context, m *Message) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the handler panicked: %v", r)
			c.q.c.log.Error("a handler panicked", "queue", c.q.name, "msg_id", m.ID, "panic", r, "stack", string(debug.Stack()))
		}
	}()
	return c.handler(ctx, m)
}
