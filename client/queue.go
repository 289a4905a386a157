package client

import (
	"context"
	"time"
)

// Queue is the handle of one queue. Making one sends nothing and does not create the queue.
type Queue struct {
	c    *Client
	name string
}

// Queue gives the handle of the queue with this name.
func (c *Client) Queue(name string) *Queue { return &Queue{c: c, name: name} }

// Name is the name the handle was made with.
func (q *Queue) Name() string { return q.name }

// Send stores one message and returns its id. When it returns without an error, the message is on the disks of a
// majority. What an error means for the message says OutcomeOf.
//
// Refusals: ErrQueueNotExist, ErrMsgSize (the queue's MaxMsgSize, at most 1 MiB), ErrHeapFull, ErrDiskFull, ErrTooMany.
func (q *Queue) Send(ctx context.Context, body string) (string, error) {
	return q.send(ctx, body, &sendOptions{})
}

// SendDelayed is Send of a message that cannot be received before delay (whole seconds) is over.
func (q *Queue) SendDelayed(ctx context.Context, body string, delay time.Duration) (string, error) {
	return q.send(ctx, body, &sendOptions{delay: delay})
}

func (q *Queue) send(ctx context.Context, body string, o *sendOptions) (string, error) {
	ctx, op := q.begin(ctx, OpSend, 1)
	id, err := q.c.carrier.send(ctx, q.name, body, o)
	op.endMessage(ctx, id, err)
	return id, err
}

// BatchSend stores 1 to MaxBatch messages, all or none, and returns their ids in the same order. The bodies together
// may have 1 MiB. Errors are those of Send.
func (q *Queue) BatchSend(ctx context.Context, bodies []string, delay time.Duration) ([]string, error) {
	return q.batchSend(ctx, bodies, &sendOptions{delay: delay})
}

func (q *Queue) batchSend(ctx context.Context, bodies []string, o *sendOptions) ([]string, error) {
	ctx, op := q.begin(ctx, OpSend, len(bodies))
	ids, err := q.c.carrier.batchSend(ctx, q.name, bodies, o)
	op.end(ctx, err)
	return ids, err
}

// ReceiveOptions say what a receive wants.
type ReceiveOptions struct {
	// Max is how many messages there may be: up to MaxBatch, over TCP from cmq up to MaxWide. 0: one.
	Max int
	// Wait is how long to wait for the first one: 0 not at all, QueueWait as the queue is set, at most 30 s. It is
	// rounded up to whole seconds.
	Wait time.Duration
	// Visibility is how long the messages are locked, from 1 s to 12 h in whole seconds; 0: the queue's
	// VisibilityTimeout. Over HTTP only cmq has it; other services of this protocol pass it over.
	Visibility time.Duration
}

// Receive takes one message and locks it. If there is none it waits up to wait (0: not at all, QueueWait: as the
// queue is set) and then returns ErrNoMessage.
//
// When ctx ends during the wait the request is taken back, over TCP with a delay of at most 200 ms. A message that the
// service gave at the same moment stays locked for its visibility timeout, and comes again after it.
func (q *Queue) Receive(ctx context.Context, wait time.Duration) (*Message, error) {
	messages, err := q.ReceiveWith(ctx, ReceiveOptions{Wait: wait})
	if err != nil {
		return nil, err
	}
	return &messages[0], nil
}

// BatchReceive takes 1 to max messages, at most MaxBatch, over TCP from cmq at most MaxWide; it does not wait for more once
// it has one. For wait see Receive.
func (q *Queue) BatchReceive(ctx context.Context, max int, wait time.Duration) ([]Message, error) {
	return q.ReceiveWith(ctx, ReceiveOptions{Max: max, Wait: wait})
}

// ReceiveWith takes messages as o says. It returns at least one, or an error: ErrNoMessage if there was none in time,
// ErrTooMany if too many are locked already.
func (q *Queue) ReceiveWith(ctx context.Context, o ReceiveOptions) ([]Message, error) {
	ctx, op := q.begin(ctx, OpReceive, 0)
	messages, err := q.c.carrier.receive(ctx, q.name, o)
	op.received(ctx, messages, err)
	return messages, err
}

// Delete ends a delivery: the message is gone for good. ErrHandleInvalid means that the lock had ended or the
// message was deleted before. Repeating a delete does no harm.
func (q *Queue) Delete(ctx context.Context, handle string) error {
	ctx, op := q.begin(ctx, OpSettle, 1)
	err := q.c.carrier.delete(ctx, q.name, handle)
	op.end(ctx, err)
	return err
}

// BatchDelete deletes by any number of handles: up to MaxBatch in one request over HTTP, up to MaxWide over TCP. A
// *BatchError lists the refused ones; the others are deleted. If another error comes when some requests have been carried
// out, the rest is not tried; repeating all does no harm.
func (q *Queue) BatchDelete(ctx context.Context, handles []string) error {
	ctx, op := q.begin(ctx, OpSettle, len(handles))
	err := q.inParts(handles, func(some []string) error { return q.c.carrier.batchDelete(ctx, q.name, some) })
	op.end(ctx, err)
	return err
}

// ChangeVisibility lets the lock of a delivery end d from now (whole seconds, at most 12 h), later or earlier than it
// would. With 0 the message can be received again at once; this delivery counts. The handle is good until the new end.
// ErrHandleInvalid means that the lock had ended already.
//
// It is an extension of cmq. Other services refuse it: see Unsupported.
func (q *Queue) ChangeVisibility(ctx context.Context, handle string, d time.Duration) error {
	return q.BatchChangeVisibility(ctx, []string{handle}, d)
}

// BatchChangeVisibility is ChangeVisibility for any number of handles, in as many requests as BatchDelete. A *BatchError
// lists the refused ones.
func (q *Queue) BatchChangeVisibility(ctx context.Context, handles []string, d time.Duration) error {
	ctx, op := q.begin(ctx, OpSettle, len(handles))
	err := q.inParts(handles, func(some []string) error { return q.c.carrier.changeVisibility(ctx, q.name, some, d) })
	op.end(ctx, err)
	return err
}
