package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/opencmq/cmq/client"
)

// benchHead is the start of each body: 16 digits of base 16, the nanosecond it was made, for the time from send
// to receive.
const benchHead = 16

// longest is the largest latency the histograms tell apart; anything above counts as this.
const longest = 2 * time.Minute

// load runs senders and receivers.
type load struct {
	options  benchOptions
	clients  []*client.Client // one for each endpoint that messages go to
	manager  *client.Client   // makes queues; nil: there is no endpoint of HTTP
	progress io.Writer
	redraw   bool
	body     []byte // noise to cut bodies from

	measuring atomic.Bool
	sent      atomic.Int64 // messages, while measuring
	received  atomic.Int64
	planned   atomic.Int64 // open loop: requests taken from the plan
	left      atomic.Int64 // receive mode: messages of the backlog that were not deleted yet
	lastDone  atomic.Int64 // receive mode: Unix nanoseconds of the last delete

	mu    sync.Mutex
	errs  map[string]int // failures by text
	hists benchHists
}

// benchHists are latencies in microseconds.
type benchHists struct{ send, receive, delete, end *hdrhistogram.Histogram }

func newHists() benchHists {
	one := func() *hdrhistogram.Histogram { return hdrhistogram.New(1, longest.Microseconds(), 3) }
	return benchHists{one(), one(), one(), one()}
}

func (h benchHists) merge(o benchHists) {
	h.send.Merge(o.send)
	h.receive.Merge(o.receive)
	h.delete.Merge(o.delete)
	h.end.Merge(o.end)
}

func record(h *hdrhistogram.Histogram, d time.Duration) {
	// Cannot fail: the value is within the histogram's bounds.
	_ = h.RecordValue(min(max(d.Microseconds(), 1), longest.Microseconds()))
}

// newBody makes text that does not compress and needs no escaping, so that the encoding of the protocol adds
// nothing to what is measured.
func newBody(size int) []byte {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	r := rand.New(rand.NewPCG(1, 2))
	b := make([]byte, size+4096)
	for i := range b {
		b[i] = letters[r.IntN(len(letters))]
	}
	return b
}

// message makes a body that says when it was made.
func (l *load) message(buf []byte, now time.Time) string {
	buf = buf[:0]
	head := strconv.FormatInt(now.UnixNano(), 16)
	for range benchHead - len(head) {
		buf = append(buf, '0')
	}
	buf = append(buf, head...)
	from := int(now.UnixNano()/1000) % 4096
	return string(append(buf, l.body[from:from+l.options.size-benchHead]...))
}

// run measures. Workers are started, and after the warm-up counting begins.
func (l *load) run(ctx context.Context, queues []string) (*benchResult, error) {
	l.hists = newHists()
	if l.options.mode == "receive" {
		if err := l.fill(ctx, queues); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	begin := time.Now()
	l.measuring.Store(l.options.warmup == 0) // then the first request counts
	workers := max(l.options.outstanding/l.options.batch, 1)
	for i := range workers {
		c, queue := l.clients[i%len(l.clients)], queues[i%len(queues)]
		if l.options.mode != "receive" {
			wg.Go(func() { l.sender(ctx, c.Queue(queue), begin, workers) })
		}
		if l.options.mode != "send" {
			wg.Go(func() { l.receiver(ctx, c.Queue(queue), cancel) })
		}
	}
	r := l.measure(ctx)
	cancel()
	wg.Wait()
	l.finish(r)
	if r.Sent+r.Received == 0 {
		return nil, fmt.Errorf("nothing was done; %s", l.firstError())
	}
	return r, nil
}

// measure lets the warm-up pass and then the measured time, or less if the work or the context ends.
func (l *load) measure(ctx context.Context) *benchResult {
	l.wait(ctx, l.options.warmup, "warm-up")
	before := usageOf(l.options.pids)
	start := time.Now()
	l.measuring.Store(true)
	l.wait(ctx, l.options.duration, l.options.mode)
	l.measuring.Store(false)
	end := time.Now()
	if done := l.lastDone.Load(); l.options.mode == "receive" && l.left.Load() <= 0 && done > start.UnixNano() {
		end = time.Unix(0, done)
	}
	r := &benchResult{Mode: l.options.mode, Protocol: l.options.protocol, Size: l.options.size, Outstanding: l.options.outstanding, Batch: l.options.batch, Queues: l.options.queues,
		Endpoints: len(l.clients), Rate: l.options.rate, Seconds: end.Sub(start).Seconds(), Sent: l.sent.Load(), Received: l.received.Load()}
	if l.options.rate > 0 {
		due := int64(end.Sub(start).Seconds() * l.options.rate)
		r.Late = max(0, due-r.Sent)
	}
	usageOf(l.options.pids).since(before, r)
	return r
}

// wait shows the rates once a second for as long as d.
func (l *load) wait(ctx context.Context, d time.Duration, what string) {
	end := time.After(d)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	sent, received := l.sent.Load(), l.received.Load()
	for {
		select {
		case <-ctx.Done():
			return
		case <-end:
			if l.redraw {
				fmt.Fprint(l.progress, "\r\x1b[K")
			}
			return
		case <-tick.C:
			s, r := l.sent.Load(), l.received.Load()
			if l.redraw {
				fmt.Fprintf(l.progress, "\r\x1b[K%s: %d sent/s, %d received/s", what, s-sent, r-received)
			}
			sent, received = s, r
		}
	}
}

func (l *load) finish(r *benchResult) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r.SendLatency = latencyOf(l.hists.send)
	r.ReceiveLatency = latencyOf(l.hists.receive)
	r.DeleteLatency = latencyOf(l.hists.delete)
	r.EndToEnd = latencyOf(l.hists.end)
	r.Errors = l.errs
}

// fill stores the backlog of a receive run.
func (l *load) fill(ctx context.Context, queues []string) error {
	var next atomic.Int64
	var wg sync.WaitGroup
	var failed atomic.Pointer[error]
	total, take := int64(l.options.prefill), int64(min(client.MaxBatch, max(1, 1<<20/l.options.size)))
	for i := range 64 {
		q := l.clients[i%len(l.clients)].Queue(queues[i%len(queues)])
		wg.Go(func() {
			buf := make([]byte, 0, l.options.size)
			for failed.Load() == nil {
				n := min(take, total-next.Add(take)+take)
				if n <= 0 {
					return
				}
				bodies := make([]string, n)
				for j := range bodies {
					bodies[j] = l.message(buf, time.Now())
				}
				if _, err := q.BatchSend(ctx, bodies, 0); err != nil {
					failed.CompareAndSwap(nil, &err)
				}
			}
		})
	}
	wg.Wait()
	l.left.Store(total)
	if total == 0 {
		l.left.Store(math.MaxInt64)
	}
	if err := failed.Load(); err != nil {
		return fmt.Errorf("filling the queues: %w", *err)
	}
	return nil
}

// sender sends until ctx ends. In an open loop the k-th request of all senders is planned for begin + k·batch/rate.
func (l *load) sender(ctx context.Context, q *client.Queue, begin time.Time, senders int) {
	h := newHists()
	defer l.merge(h)
	n := l.batchOf()
	interval := time.Duration(0)
	if l.options.rate > 0 {
		interval = time.Duration(float64(n) / l.options.rate * float64(time.Second))
	}
	buf := make([]byte, 0, l.options.size)
	bodies := make([]string, n)
	for ctx.Err() == nil {
		at := time.Now()
		if interval > 0 {
			at = begin.Add(time.Duration(l.planned.Add(1)-1) * interval)
			if !sleepUntil(ctx, at) {
				return
			}
		}
		made := time.Now()
		for i := range bodies {
			bodies[i] = l.message(buf, made)
		}
		err := send(ctx, q, bodies)
		if err != nil {
			l.failed(ctx, err)
			continue
		}
		if l.measuring.Load() {
			l.sent.Add(int64(n))
			record(h.send, time.Since(at))
		}
	}
}

// batchOf is the number of messages in one request; 1 MiB together is what the service takes.
func (l *load) batchOf() int { return min(l.options.batch, max(1, 1<<20/l.options.size)) }

func send(ctx context.Context, q *client.Queue, bodies []string) (err error) {
	if len(bodies) == 1 {
		_, err = q.Send(ctx, bodies[0])
	} else {
		_, err = q.BatchSend(ctx, bodies, 0)
	}
	return err
}

func sleepUntil(ctx context.Context, at time.Time) bool {
	d := time.Until(at)
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// receiver receives and deletes until ctx ends; in a receive run done is called when the backlog is gone.
func (l *load) receiver(ctx context.Context, q *client.Queue, done context.CancelFunc) {
	h := newHists()
	defer l.merge(h)
	handles := make([]string, 0, l.options.batch)
	wait := time.Second
	for ctx.Err() == nil {
		t0 := time.Now()
		messages, err := receive(ctx, q, l.options.batch, wait)
		t1 := time.Now()
		if errors.Is(err, client.ErrNoMessage) {
			if l.options.mode == "receive" && l.options.prefill == 0 {
				done() // what was there is drained
			}
			continue
		}
		if err != nil {
			l.failed(ctx, err)
			continue
		}
		handles = handles[:0]
		for i := range messages {
			handles = append(handles, messages[i].Handle)
		}
		if err := remove(ctx, q, handles); err != nil {
			l.failed(ctx, err)
			continue
		}
		t2 := time.Now()
		if l.measuring.Load() {
			l.received.Add(int64(len(messages)))
			record(h.receive, t1.Sub(t0))
			record(h.delete, t2.Sub(t1))
			if l.options.mode == "both" {
				l.recordEnd(h.end, messages, t1)
			}
		}
		if l.options.mode == "receive" {
			l.lastDone.Store(t2.UnixNano())
			if l.left.Add(-int64(len(messages))) <= 0 {
				done()
			}
		}
	}
}

func (l *load) recordEnd(h *hdrhistogram.Histogram, messages []client.Message, now time.Time) {
	for _, m := range messages {
		if len(m.Body) < benchHead {
			continue // not ours
		}
		if made, err := strconv.ParseInt(m.Body[:benchHead], 16, 64); err == nil {
			record(h, time.Duration(now.UnixNano()-made))
		}
	}
}

func receive(ctx context.Context, q *client.Queue, max int, wait time.Duration) ([]client.Message, error) {
	if max > 1 {
		return q.BatchReceive(ctx, max, wait)
	}
	m, err := q.Receive(ctx, wait)
	if err != nil {
		return nil, err
	}
	return []client.Message{*m}, nil
}

func remove(ctx context.Context, q *client.Queue, handles []string) error {
	if len(handles) == 1 {
		return q.Delete(ctx, handles[0])
	}
	return q.BatchDelete(ctx, handles)
}

func (l *load) merge(h benchHists) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hists.merge(h)
}

// failed counts an error, and waits a little so that a service that is away is not asked in a tight loop.
func (l *load) failed(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	text := err.Error()
	var refused *client.Error
	if errors.As(err, &refused) {
		text = fmt.Sprintf("%s: %s (module %d)", refused.Action, refused.Message, refused.Module)
	}
	l.mu.Lock()
	if l.errs[text] > 0 || len(l.errs) < 20 {
		l.errs[text]++
	} else {
		l.errs["other errors"]++
	}
	l.mu.Unlock()
	sleepUntil(ctx, time.Now().Add(10*time.Millisecond))
}

func (l *load) firstError() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	for text := range l.errs {
		return text
	}
	return "the measured time was too short"
}
