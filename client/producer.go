package client

import (
	"context"
	"sync"
	"time"
)

// ProducerOptions say how a Producer sends. Zero values stand for the defaults.
type ProducerOptions struct {
	Batch       int           // messages in one request, 1 to MaxBatch; default MaxBatch
	BatchBytes  int           // bytes of their bodies together; default 64 KiB, which every service takes
	Linger      time.Duration // how long an incomplete batch waits for more; default 0: it goes as soon as a request may
	InFlight    int           // requests under way at once; default 8. With 1 messages are stored in the order of the calls
	MaxMessages int           // accepted and not finished; default 10,000
	MaxBytes    int           // of their bodies; default 32 MiB
	RetryFor    time.Duration // how long a batch is tried; default 30 s, negative: it is tried once

	// Once opens a session with the queue, in which a message is stored once however often its request is repeated; so a
	// batch is repeated also when nobody knows whether it is stored. Only cmq has sessions; elsewhere every send fails, see
	// Unsupported. Topics have none.
	Once bool

	// RepeatUnknown also repeats a batch of which nobody knows whether it is stored. Nothing is lost then, but some
	// messages may be stored twice. By default the caller is told and decides.
	RepeatUnknown bool
}

func (o ProducerOptions) withDefaults() ProducerOptions {
	orElse(&o.Batch, MaxBatch)
	orElse(&o.BatchBytes, 64<<10)
	orElse(&o.InFlight, 8)
	if o.Once {
		o.InFlight = min(o.InFlight, maxUnanswered)
	}
	orElse(&o.MaxMessages, 10_000)
	orElse(&o.MaxBytes, 32<<20)
	if o.RetryFor == 0 {
		o.RetryFor = 30 * time.Second
	}
	return o
}

// orElse gives an option its default.
func orElse[T int | time.Duration](option *T, def T) {
	if *option <= 0 {
		*option = def
	}
}

// Producer sends messages in batches. Many goroutines may use one; it starts goroutines only while it has something to
// send. When MaxMessages or MaxBytes are reached, callers wait until older messages are finished.
//
// A batch is tried again for RetryFor, with pauses, as long as it certainly is not stored and the reason may pass. A
// batch that the service refuses because of one of its messages is sent message by message, so that only that one fails.
type Producer struct {
	c       *Client
	name    string
	o       ProducerOptions
	to      sender
	session *session        // nil: none
	ctx     context.Context // ends when Close gives up
	cancel  context.CancelFunc

	mu       sync.Mutex
	open     *batch   // takes messages; nil: the next one makes it
	ready    []*batch // full, or not to wait longer
	number   uint64   // of the last batch
	batches  int      // not finished
	workers  int
	idle     sync.WaitGroup // workers
	messages int            // accepted and not finished
	bytes    int
	room     chan struct{} // closed when something was finished; nil: nobody waits
	linger   *time.Timer   // closes open; nil while there is none
	flushes  []*flush
	closed   bool
}

// batch is messages that go in one request.
type batch struct {
	number uint64
	delay  time.Duration
	bodies []string
	bytes  int
	done   chan struct{} // closed when ids and errs are final
	ids    []string
	err    error
	errs   []error // of single messages; nil: err is that of all
}

// flush waits for all batches up to a number.
type flush struct {
	upTo uint64
	left int
	done chan struct{}
}

// sender is what a Producer sends to.
type sender interface {
	sendOne(ctx context.Context, body string, o *sendOptions) (string, error)
	sendAll(ctx context.Context, bodies []string, o *sendOptions) ([]string, error)
}

func (q *Queue) sendOne(ctx context.Context, body string, o *sendOptions) (string, error) {
	return q.send(ctx, body, o)
}

func (q *Queue) sendAll(ctx context.Context, bodies []string, o *sendOptions) ([]string, error) {
	return q.batchSend(ctx, bodies, o)
}

// publisher is a topic with what its messages are chosen by.
type publisher struct {
	t *Topic
	o PublishOptions
}

func (p publisher) sendOne(ctx context.Context, body string, _ *sendOptions) (string, error) {
	return p.t.Publish(ctx, body, p.o)
}

func (p publisher) sendAll(ctx context.Context, bodies []string, _ *sendOptions) ([]string, error) {
	return p.t.BatchPublish(ctx, bodies, p.o)
}

// NewProducer makes a producer for the queue.
func (q *Queue) NewProducer(o ProducerOptions) *Producer {
	p := newProducer(q.c, q.name, o, q)
	if o.Once {
		p.session = newSession(q)
	}
	return p
}

// NewProducer makes a producer for the topic. All its messages have the same tags or routing key; they cannot be delayed,
// and Once is not looked at.
func (t *Topic) NewProducer(o ProducerOptions, p PublishOptions) *Producer {
	return newProducer(t.c, t.name, o, publisher{t, p})
}

func newProducer(c *Client, name string, o ProducerOptions, to sender) *Producer {
	p := &Producer{c: c, name: name, o: o.withDefaults(), to: to}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p
}

// Future is the outcome of a message that was accepted by SendAsync.
type Future struct {
	b *batch
	i int
}

// Done is closed when the outcome is known.
func (f Future) Done() <-chan struct{} { return f.b.done }

// Wait gives the message's id, or why it has none: an error of Queue.Send, or a *DeliveryError. OutcomeOf says whether
// the message is stored. When ctx ends first the message may still be stored, and the Future may be asked again.
func (f Future) Wait(ctx context.Context) (string, error) {
	select {
	case <-f.b.done:
		return f.result()
	default:
	}
	select {
	case <-f.b.done:
		return f.result()
	case <-ctx.Done():
		return "", &DeliveryError{Outcome: Unknown, Err: ctx.Err()}
	}
}

func (f Future) result() (string, error) {
	switch {
	case f.b.errs != nil && f.b.errs[f.i] != nil:
		return "", f.b.errs[f.i]
	case f.b.err != nil:
		return "", f.b.err
	}
	return f.b.ids[f.i], nil
}

// Send is SendAsync and Wait.
func (p *Producer) Send(ctx context.Context, body string) (string, error) {
	f, err := p.SendAsync(ctx, body)
	if err != nil {
		return "", err
	}
	return f.Wait(ctx)
}

// SendAsync accepts a message. It waits only while the producer is full, and then until ctx ends. An error means that
// the message was not accepted and is not stored: ErrClosed, or that of ctx.
func (p *Producer) SendAsync(ctx context.Context, body string) (Future, error) {
	return p.SendDelayedAsync(ctx, body, 0)
}

// SendDelayedAsync is SendAsync of a message that cannot be received before delay (whole seconds) is over. Messages with
// the same delay share a batch.
func (p *Producer) SendDelayedAsync(ctx context.Context, body string, delay time.Duration) (Future, error) {
	ctx, op := p.c.observe(ctx, OpCreate, p.name, 1)
	f, err := p.accept(ctx, body, delay)
	op.end(ctx, err)
	return f, err
}

func (p *Producer) accept(ctx context.Context, body string, delay time.Duration) (Future, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for !p.closed && p.messages > 0 && (p.messages >= p.o.MaxMessages || p.bytes+len(body) > p.o.MaxBytes) {
		if err := p.awaitRoomLocked(ctx); err != nil {
			return Future{}, &DeliveryError{Outcome: NotStored, Err: err}
		}
	}
	if p.closed {
		return Future{}, ErrClosed
	}
	b := p.batchLocked(len(body), delay)
	b.bodies = append(b.bodies, body)
	b.bytes += len(body)
	p.messages++
	p.bytes += len(body)
	if len(b.bodies) == p.o.Batch || b.bytes >= p.o.BatchBytes {
		p.closeBatchLocked()
	}
	p.workLocked()
	return Future{b, len(b.bodies) - 1}, nil
}

// awaitRoomLocked waits until a batch was finished.
func (p *Producer) awaitRoomLocked(ctx context.Context) error {
	if p.room == nil {
		p.room = make(chan struct{})
	}
	room := p.room
	p.mu.Unlock()
	defer p.mu.Lock()
	select {
	case <-room:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// batchLocked gives the open batch if a message fits in, or else a new one.
func (p *Producer) batchLocked(size int, delay time.Duration) *batch {
	if b := p.open; b != nil && (b.delay != delay || b.bytes+size > p.o.BatchBytes) {
		p.closeBatchLocked()
	}
	if p.open == nil {
		p.number++
		p.batches++
		p.open = &batch{number: p.number, delay: delay, done: make(chan struct{})}
		if p.o.Linger > 0 {
			b := p.open
			p.linger = time.AfterFunc(p.o.Linger, func() { p.lingered(b) })
		}
	}
	return p.open
}

// closeBatchLocked lets the open batch take no more messages.
func (p *Producer) closeBatchLocked() {
	if p.open == nil {
		return
	}
	p.ready = append(p.ready, p.open)
	p.open = nil
	if p.linger != nil {
		p.linger.Stop()
		p.linger = nil
	}
}

// lingered sends a batch whose time is over.
func (p *Producer) lingered(b *batch) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open == b {
		p.closeBatchLocked()
		p.workLocked()
	}
}

// workLocked starts a worker if there is something that may be sent.
func (p *Producer) workLocked() {
	if p.workers < p.o.InFlight && (len(p.ready) > 0 || p.open != nil && p.o.Linger == 0) {
		p.workers++
		p.idle.Go(p.work)
	}
}

// work sends one batch after the other until there is none.
func (p *Producer) work() {
	for {
		b := p.next()
		if b == nil {
			return
		}
		p.deliver(b)
		p.finished(b)
	}
}

func (p *Producer) next() *batch {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.ready) == 0 && p.o.Linger == 0 {
		p.closeBatchLocked()
	}
	if len(p.ready) == 0 {
		p.workers--
		return nil
	}
	b := p.ready[0]
	p.ready = p.ready[1:]
	return b
}

// deliver sends a batch until its outcome is final.
func (p *Producer) deliver(b *batch) {
	b.ids, b.err = p.try(b.bodies, b.delay)
	if b.err == nil || len(b.bodies) == 1 || OutcomeOf(b.err) != NotStored || Temporary(b.err) || p.ctx.Err() != nil {
		return
	}
	b.ids, b.errs = make([]string, len(b.bodies)), make([]error, len(b.bodies))
	b.err = nil
	for i, body := range b.bodies {
		ids, err := p.try([]string{body}, b.delay)
		if b.errs[i] = err; err == nil {
			b.ids[i] = ids[0]
		}
	}
}

// try sends bodies in one request and repeats that as far as the options allow.
func (p *Producer) try(bodies []string, delay time.Duration) ([]string, error) {
	o := &sendOptions{delay: delay}
	ids, err := p.attempts(bodies, o)
	if o.session != nil {
		p.session.done(o.session, err)
	}
	return ids, err
}

func (p *Producer) attempts(bodies []string, o *sendOptions) ([]string, error) {
	begun, outcome := time.Now(), NotStored
	for attempt := 0; ; attempt++ {
		ids, err := p.send(bodies, o)
		if err == nil {
			return ids, nil
		}
		if OutcomeOf(err) == Unknown {
			outcome = Unknown
		}
		may := Temporary(err) && (outcome == NotStored || p.o.RepeatUnknown || o.session != nil)
		if !may || time.Since(begun) >= p.o.RetryFor || !pause(p.ctx, attempt) {
			if attempt > 0 {
				err = &DeliveryError{Attempts: attempt + 1, Outcome: outcome, Err: err}
			}
			return nil, err
		}
		p.c.log.Info("a batch is sent again", "to", p.name, "messages", len(bodies), "attempt", attempt+2, "error", err)
	}
}

// send makes one attempt. The first one in a session is given its number, which all have.
func (p *Producer) send(bodies []string, o *sendOptions) (ids []string, err error) {
	if p.ctx.Err() != nil {
		return nil, ErrClosed
	}
	if p.session != nil && o.session == nil {
		if o.session, err = p.session.next(p.ctx); err != nil {
			return nil, err
		}
	}
	if len(bodies) > 1 {
		return p.to.sendAll(p.ctx, bodies, o)
	}
	id, err := p.to.sendOne(p.ctx, bodies[0], o)
	return []string{id}, err
}

// finished makes the outcome known and room for others.
func (p *Producer) finished(b *batch) {
	close(b.done)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.batches--
	p.messages -= len(b.bodies)
	p.bytes -= b.bytes
	if p.room != nil {
		close(p.room)
		p.room = nil
	}
	waiting := p.flushes[:0]
	for _, f := range p.flushes {
		if b.number <= f.upTo {
			f.left--
		}
		if f.left == 0 {
			close(f.done)
		} else {
			waiting = append(waiting, f)
		}
	}
	clear(p.flushes[len(waiting):])
	p.flushes = waiting
}

// Flush sends what is there without waiting for more, and waits until the outcome of everything accepted so far is
// known. The outcomes are in the Futures; the error is that of ctx.
func (p *Producer) Flush(ctx context.Context) error {
	p.mu.Lock()
	p.closeBatchLocked()
	f := &flush{upTo: p.number, left: p.batches, done: make(chan struct{})}
	if f.left > 0 {
		p.flushes = append(p.flushes, f)
	} else {
		close(f.done)
	}
	p.workLocked()
	p.mu.Unlock()
	select {
	case <-f.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close takes no more messages and waits, like Flush, for those that were accepted. When ctx ends first the rest is
// given up: requests under way end with an unknown outcome, the others with ErrClosed.
func (p *Producer) Close(ctx context.Context) error {
	p.mu.Lock()
	p.closed = true
	if p.room != nil {
		close(p.room)
		p.room = nil
	}
	p.mu.Unlock()
	err := p.Flush(ctx)
	p.cancel()
	p.idle.Wait()
	return err
}
