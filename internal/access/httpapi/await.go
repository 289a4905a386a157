package httpapi

import (
	"context"
	"errors"
	"time"

	"github.com/opencmq/cmq/internal/cmq"
)

// Requests about messages are started, and their answers awaited here. A call that waits in the Backend would need a
// context that ends with its time, which costs as much as reading and verifying the request does, and keeps the stack of
// all the calls in between for as long as a poll waits.
//
//	start ──► Backend ──► outcome.take ──► call.came ──► wait
//	            ▲                                          │ time is up, the client has gone, the server stops
//	            └────────────── Cancel ◄───────────────────┘

// ends are the reasons to wait no longer, beside the answer.
type ends struct {
	after   time.Duration
	gone    <-chan struct{} // the client has gone; nil: it does not matter
	stopped <-chan struct{} // the server ends its polls; nil: it is no poll
}

// outcome is where the answer of a started request is put.
type outcome[T any] struct {
	came  chan<- struct{}
	value T
	err   error
}

func (o *outcome[T]) take(value T, err error) {
	o.value, o.err = value, err
	o.came <- struct{}{} // has room: it is called once, and wait takes it out
}

// await gives the answer of what start starts, or why it was not waited for any longer.
func await[T any](c *call, e ends, start func(done func(T, error)) cmq.Pending) (T, error) {
	o := &outcome[T]{came: c.came}
	ended := c.wait(start(o.take), e)
	if ended != nil && errors.Is(o.err, context.Canceled) {
		o.err = ended
	}
	return o.value, o.err
}

// wait returns when the answer is there. If it had to be taken back, it says why; the answer may have come all the same.
func (c *call) wait(pending cmq.Pending, e ends) (ended error) {
	c.timer.Reset(e.after)
	defer c.timer.Stop()
	select {
	case <-c.came:
		return nil
	case <-c.timer.C:
		ended = context.DeadlineExceeded
	case <-e.gone:
		ended = context.Canceled
	case <-e.stopped:
		ended = cmq.ErrNoMessage
	}
	pending.Cancel()
	<-c.came
	return ended
}

// ends of a request that does not wait for messages. What the client has asked for is done even if it goes away.
func (c *call) ends() ends { return ends{after: c.door.config.CallTimeout} }
