package main

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/opencmq/cmq/client"
)

// With one message in a request over TCP there are as many requests as messages, so they are started and not waited for, as
// a program with many of them does it: a goroutine for each would cost as much as the request.

// startedProducer sends without waiting. What is under way is bounded by who sends.
type startedProducer struct {
	c  *client.Client
	to *turn
}

func (w *startedProducer) Send(body []byte, done func(error)) {
	w.to.take().StartSend(context.Background(), text(body), func(_ string, err error) { done(err) })
}

func (w *startedProducer) Close() { w.c.Close() }

// startedConsumer has a receive under way for each message that it may hold. When a message was acknowledged and deleted,
// the next one is received.
type startedConsumer struct {
	c    *client.Client
	ctx  context.Context
	stop context.CancelFunc
	in   chan *startedDelivery
}

// startedDelivery is the place of one message: what a request brought, until it is deleted. Each keeps to one queue.
type startedDelivery struct {
	w       *startedConsumer
	q       *client.Queue
	message client.Message
	batch   *startedBatch // that is being acknowledged
}

func newStartedConsumer(c *client.Client, from *turn, prefetch int) *startedConsumer {
	w := &startedConsumer{c: c, in: make(chan *startedDelivery, prefetch)}
	w.ctx, w.stop = context.WithCancel(context.Background())
	for range prefetch {
		d := &startedDelivery{w: w, q: from.take()}
		d.receive()
	}
	return w
}

func (d *startedDelivery) receive() {
	d.q.StartReceive(d.w.ctx, client.ReceiveOptions{Wait: time.Second}, d.received)
}

func (d *startedDelivery) received(messages []client.Message, err error) {
	switch {
	case err == nil:
		d.message = messages[0]
		d.w.in <- d // has room for all
	case d.w.ctx.Err() == nil && !errors.Is(err, client.ErrClosed):
		d.receive() // nothing there, or a new leader is being looked for
	}
}

func (d *startedDelivery) deleted(err error) {
	d.batch.one(err)
	if d.w.ctx.Err() == nil {
		d.receive()
	}
}

func (w *startedConsumer) Receive(most int, wait time.Duration) (Batch, error) {
	b := &startedBatch{done: make(chan struct{})}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case d := <-w.in:
		b.list = append(b.list, d)
	case <-t.C:
		return b, nil
	}
	for {
		select {
		case d := <-w.in:
			b.list = append(b.list, d)
		default:
			return b, nil
		}
	}
}

func (w *startedConsumer) Close() { w.stop(); w.c.Close() }

type startedBatch struct {
	list []*startedDelivery
	left atomic.Int64
	err  atomic.Pointer[error]
	done chan struct{}
}

func (b *startedBatch) Len() int          { return len(b.list) }
func (b *startedBatch) Body(i int) []byte { return raw(b.list[i].message.Body) }

func (b *startedBatch) Ack() error {
	b.left.Store(int64(len(b.list)))
	for _, d := range b.list {
		d.batch = b
		d.q.StartDelete(d.w.ctx, d.message.Handle, d.deleted)
	}
	<-b.done
	if err := b.err.Load(); err != nil {
		return *err
	}
	return nil
}

// one counts a delete that has ended.
func (b *startedBatch) one(err error) {
	if err != nil {
		b.err.Store(&err)
	}
	if b.left.Add(-1) == 0 {
		close(b.done)
	}
}
