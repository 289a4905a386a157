package main

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"
	"unsafe"

	"github.com/opencmq/cmq/client"
)

// cmq by its own SDK: single-message requests, as many under way as messages are outstanding. Options: batch=N puts up
// to N messages into a request; receive=N asks for up to N messages at a time and deletes them at once, however they are
// sent; http=true speaks HTTP, one request at a time on each connection; queues and sets see cmq_queues.go.
func init() {
	register("cmq", func(c Config) (Peer, error) { return newCMQ(c) })
}

const (
	cmqID  = "AKIDbench"
	cmqKey = "bench-secret-key"
)

type cmqPeer struct {
	Config
	batch   int // messages in a send
	receive int // messages in a receive and in a delete
	http    bool
	queues  int // how many
	sets    int // 1: all queues on one set
	names   []string
	fed     time.Time // when feed began
	admin   *client.Client
}

func newCMQ(c Config) (*cmqPeer, error) {
	p := &cmqPeer{Config: c, http: c.Opt["http"] == "true"}
	var err error
	if p.batch, err = count(c.Opt, "batch", 1, client.MaxBatch); err != nil {
		return nil, err
	}
	if p.receive, err = count(c.Opt, "receive", p.batch, maxReceive); err != nil {
		return nil, err
	}
	if p.queues, err = count(c.Opt, "queues", 1, 10_000); err != nil {
		return nil, err
	}
	p.sets, p.names = 0, []string{c.Queue}
	if c.Opt["sets"] == "1" {
		p.sets = 1
	}
	p.admin, err = p.client()
	return p, err
}

// maxReceive is how many messages a receive over TCP may bring.
const maxReceive = 256

// count reads a number of messages.
func count(opt options, name string, missing, most int) (int, error) {
	text := opt[name]
	if text == "" {
		return missing, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > most {
		return 0, fmt.Errorf("%s=%s: from 1 to %d are possible", name, text, most)
	}
	return n, nil
}

// client connects to the leader's node: over TCP the SDK asks where that is, over HTTP we do.
func (p *cmqPeer) client() (*client.Client, error) {
	opts := []client.Option{client.WithTimeout(p.Timeout)}
	first, more := p.Addrs[0], p.Addrs[1:]
	if p.http {
		opts = append(opts, client.WithTransport(client.NewLeanTransport()))
		if k, err := p.leading(); err == nil {
			first, more = p.Addrs[k], append(append([]string{}, p.Addrs[:k]...), p.Addrs[k+1:]...)
		}
	} else {
		opts = append(opts, client.WithTCP())
	}
	for _, a := range more {
		opts = append(opts, client.WithEndpoints("http://"+a))
	}
	return client.New("http://"+first, cmqID, cmqKey, opts...)
}

// leading is which of the addresses is the leader's node.
func (p *cmqPeer) leading() (int, error) {
	if len(p.Addrs) == 1 {
		return 0, nil
	}
	name, err := p.Leader()
	if err != nil {
		return 0, err
	}
	return int(name[1] - '1'), nil
}

func (p *cmqPeer) call(f func(context.Context, *client.Queue) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	return f(ctx, p.admin.Queue(p.names[0]))
}

// Setup makes the queues, or empties those that are there.
func (p *cmqPeer) Setup() error { return p.setup() }

// Depth is what all queues hold.
func (p *cmqPeer) Depth() (int64, error) {
	depths := make([]int64, len(p.names))
	err := inParallel(len(p.names), func(i int) error {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		a, err := p.admin.Queue(p.names[i]).Attributes(ctx)
		if err == nil {
			depths[i] = a.ActiveMsgNum + a.InactiveMsgNum + a.DelayMsgNum
		}
		return err
	})
	sum := int64(0)
	for _, d := range depths {
		sum += d
	}
	return sum, err
}

// Leader is told by the queue's route, whose first address is the leader's. The launch script gives node i the TCP
// port 7720+i.
func (p *cmqPeer) Leader() (name string, err error) {
	if p.admin == nil {
		return "", fmt.Errorf("not connected")
	}
	err = p.call(func(ctx context.Context, q *client.Queue) error {
		addrs, err := q.Route(ctx)
		if err == nil {
			name = "n" + addrs[0][len(addrs[0])-1:]
		}
		return err
	})
	return name, err
}

func (p *cmqPeer) Close() { p.admin.Close() }

// cmqProducer sends batches, or over HTTP, with so many goroutines as requests may be under way.
type cmqProducer struct {
	c  *client.Client
	in chan pending
	wg sync.WaitGroup
}

func (p *cmqPeer) Producer(i, window int) (Producer, error) {
	c, err := p.client()
	if err != nil {
		return nil, err
	}
	n := p.requests(window, p.batch)
	if p.batch == 1 && !p.http {
		return &startedProducer{c, p.turn(c, i*n)}, nil
	}
	w := &cmqProducer{c: c, in: make(chan pending, window)}
	for k := range n {
		to := p.turn(c, i*n+k)
		w.wg.Go(func() { w.work(to, p.batch) })
	}
	return w, nil
}

// requests is how many are under way at once for so many outstanding messages, with so many in each.
func (p *cmqPeer) requests(window, each int) int {
	if p.http {
		return 1
	}
	return max(1, window/each)
}

func (w *cmqProducer) work(to *turn, batch int) {
	group := make([]pending, 0, batch)
	bodies := make([]string, 0, batch)
	for x := range w.in {
		group, bodies = append(group[:0], x), append(bodies[:0], text(x.body))
	more:
		for len(group) < batch {
			select {
			case x, ok := <-w.in:
				if !ok {
					break more
				}
				group, bodies = append(group, x), append(bodies, text(x.body))
			default:
				break more
			}
		}
		var err error
		if q := to.take(); len(bodies) == 1 {
			_, err = q.Send(context.Background(), bodies[0])
		} else {
			_, err = q.BatchSend(context.Background(), bodies, 0)
		}
		for _, x := range group {
			x.done(err)
		}
	}
}

// text and raw let bodies pass without a copy: nobody changes one while it is sent or after it was received.
func text(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
func raw(s string) []byte  { return unsafe.Slice(unsafe.StringData(s), len(s)) }

func (w *cmqProducer) Send(body []byte, done func(error)) { w.in <- pending{body, done} }

func (w *cmqProducer) Close() { close(w.in); w.wg.Wait(); w.c.Close() }

// cmqConsumer receives with many goroutines. Each waits with its messages until they are acknowledged, deletes them, and
// receives again, so that no more than the prefetch are held.
type cmqConsumer struct {
	c    *client.Client
	in   chan *cmqDelivery
	stop context.CancelFunc
	wg   sync.WaitGroup
}

// cmqDelivery is what one request brought.
type cmqDelivery struct {
	messages []client.Message
	bodies   [][]byte
	ack      chan struct{} // the messages may be deleted
	done     chan error    // they are
}

func (p *cmqPeer) Consumer(i, prefetch int) (Consumer, error) {
	c, err := p.client()
	if err != nil {
		return nil, err
	}
	n := p.requests(prefetch, p.receive)
	if p.receive == 1 && !p.http {
		return newStartedConsumer(c, p.turn(c, i*n), prefetch), nil
	}
	ctx, stop := context.WithCancel(context.Background())
	w := &cmqConsumer{c: c, stop: stop, in: make(chan *cmqDelivery, n)}
	for k := range n {
		from := p.turn(c, i*n+k)
		w.wg.Go(func() { w.work(ctx, from, min(p.receive, prefetch)) })
	}
	return w, nil
}

func (w *cmqConsumer) work(ctx context.Context, from *turn, batch int) {
	d := &cmqDelivery{ack: make(chan struct{}, 1), done: make(chan error, 1)}
	for ctx.Err() == nil {
		q := from.take()
		messages, err := receive(ctx, q, batch)
		if err != nil {
			continue // nothing there, or a new leader is being looked for
		}
		d.messages, d.bodies = messages, d.bodies[:0]
		for i := range messages {
			d.bodies = append(d.bodies, raw(messages[i].Body))
		}
		select {
		case w.in <- d:
		case <-ctx.Done():
			return
		}
		select {
		case <-d.ack:
			d.done <- w.remove(ctx, q, messages)
		case <-ctx.Done():
			d.done <- ctx.Err()
			return
		}
	}
}

// receive asks for one message or for several, which are two commands.
func receive(ctx context.Context, q *client.Queue, most int) ([]client.Message, error) {
	o := client.ReceiveOptions{Wait: time.Second}
	if most > 1 {
		o.Max = most
	}
	return q.ReceiveWith(ctx, o)
}

func (w *cmqConsumer) remove(ctx context.Context, q *client.Queue, messages []client.Message) error {
	if len(messages) == 1 {
		return q.Delete(ctx, messages[0].Handle)
	}
	handles := make([]string, len(messages))
	for i := range messages {
		handles[i] = messages[i].Handle
	}
	return q.BatchDelete(ctx, handles)
}

func (w *cmqConsumer) Receive(most int, wait time.Duration) (Batch, error) {
	var b cmqBatch
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case d := <-w.in:
		b.add(d)
	case <-t.C:
		return b, nil
	}
	for {
		select {
		case d := <-w.in:
			b.add(d)
		default:
			return b, nil
		}
	}
}

func (w *cmqConsumer) Close() { w.stop(); w.wg.Wait(); w.c.Close() }

type cmqBatch struct {
	deliveries []*cmqDelivery
	bodies     [][]byte
}

func (b *cmqBatch) add(d *cmqDelivery) {
	b.deliveries = append(b.deliveries, d)
	b.bodies = append(b.bodies, d.bodies...)
}

func (b cmqBatch) Len() int          { return len(b.bodies) }
func (b cmqBatch) Body(i int) []byte { return b.bodies[i] }

func (b cmqBatch) Ack() (err error) {
	for _, d := range b.deliveries {
		d.ack <- struct{}{}
	}
	for _, d := range b.deliveries {
		if e := <-d.done; e != nil {
			err = e
		}
	}
	return err
}
