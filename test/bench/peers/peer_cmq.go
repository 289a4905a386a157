package main

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/opencmq/cmq/client"
)

// cmq by its own SDK: single-message requests, as many under way as messages are outstanding. Options: batch=N puts up
// to N messages into a request; http=true speaks HTTP, one request at a time on each connection.
func init() {
	register("cmq", func(c Config) (Peer, error) { return newCMQ(c) })
}

const (
	cmqID  = "AKIDbench"
	cmqKey = "bench-secret-key"
)

type cmqPeer struct {
	Config
	batch int
	http  bool
	admin *client.Client
}

func newCMQ(c Config) (*cmqPeer, error) {
	p := &cmqPeer{Config: c, batch: 1, http: c.Opt["http"] == "true"}
	if b := c.Opt["batch"]; b != "" {
		n, err := strconv.Atoi(b)
		if err != nil || n < 1 || n > client.MaxBatch {
			return nil, fmt.Errorf("batch=%s: from 1 to %d are possible", b, client.MaxBatch)
		}
		p.batch = n
	}
	var err error
	p.admin, err = p.client()
	return p, err
}

// client connects to the leader's node: over TCP the SDK asks where that is, over HTTP we do.
func (p *cmqPeer) client() (*client.Client, error) {
	opts := []client.Option{client.WithTimeout(p.Timeout)}
	first, more := p.Addrs[0], p.Addrs[1:]
	if p.http {
		opts = append(opts, client.WithTransport(client.NewLeanTransport()))
		if l, err := p.Leader(); err == nil {
			k := int(l[1] - '1')
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

func (p *cmqPeer) call(f func(context.Context, *client.Queue) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	return f(ctx, p.admin.Queue(p.Queue))
}

// Setup makes the queue, or empties it if it is there.
func (p *cmqPeer) Setup() error {
	return p.call(func(ctx context.Context, q *client.Queue) error {
		heap := int64(1e9)
		_, err := p.admin.CreateQueue(ctx, p.Queue, client.Settings{MaxMsgHeapNum: &heap})
		if err != nil {
			return q.Clear(ctx)
		}
		return nil
	})
}

func (p *cmqPeer) Depth() (n int64, err error) {
	err = p.call(func(ctx context.Context, q *client.Queue) error {
		a, err := q.Attributes(ctx)
		if err == nil {
			n = a.ActiveMsgNum + a.InactiveMsgNum + a.DelayMsgNum
		}
		return err
	})
	return n, err
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

// cmqProducer sends with so many goroutines as requests may be under way.
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
	w := &cmqProducer{c: c, in: make(chan pending, window)}
	q := c.Queue(p.Queue)
	for range p.requests(window) {
		w.wg.Go(func() { w.work(q, p.batch) })
	}
	return w, nil
}

// requests is how many are under way at once for so many outstanding messages.
func (p *cmqPeer) requests(window int) int {
	if p.http {
		return 1
	}
	return max(1, window/p.batch)
}

func (w *cmqProducer) work(q *client.Queue, batch int) {
	group := make([]pending, 0, batch)
	bodies := make([]string, 0, batch)
	for x := range w.in {
		group, bodies = append(group[:0], x), append(bodies[:0], string(x.body))
	more:
		for len(group) < batch {
			select {
			case x, ok := <-w.in:
				if !ok {
					break more
				}
				group, bodies = append(group, x), append(bodies, string(x.body))
			default:
				break more
			}
		}
		var err error
		if len(bodies) == 1 {
			_, err = q.Send(context.Background(), bodies[0])
		} else {
			_, err = q.BatchSend(context.Background(), bodies, 0)
		}
		for _, x := range group {
			x.done(err)
		}
	}
}

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
	ctx, stop := context.WithCancel(context.Background())
	n := p.requests(prefetch)
	w := &cmqConsumer{c: c, stop: stop, in: make(chan *cmqDelivery, n)}
	q := c.Queue(p.Queue)
	for range n {
		w.wg.Go(func() { w.work(ctx, q, min(p.batch, prefetch)) })
	}
	return w, nil
}

func (w *cmqConsumer) work(ctx context.Context, q *client.Queue, batch int) {
	d := &cmqDelivery{ack: make(chan struct{}, 1), done: make(chan error, 1)}
	for ctx.Err() == nil {
		messages, err := q.BatchReceive(ctx, batch, time.Second)
		if err != nil {
			continue // nothing there, or a new leader is being looked for
		}
		d.messages, d.bodies = messages, d.bodies[:0]
		for i := range messages {
			d.bodies = append(d.bodies, []byte(messages[i].Body))
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
