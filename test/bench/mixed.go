package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"time"

	"github.com/opencmq/cmq/client"
)

const (
	// mixedEach is how many queues, and how many endpoints, get what is published.
	mixedEach = 50
	// mixedWarm is the beginning of a run, in which connections are made: how late messages come then does not count.
	mixedWarm = 2 * time.Second
	// mixedWorse is by how much a dead subscriber may make the others' p99 worse.
	mixedWorse = 1.2
	// leastHeap is the smallest MaxMsgHeapNum there is.
	leastHeap = 1_000_000
)

// mixed: what a dead subscriber does to the others. A stream is published to queues on all sets and to endpoints, again and
// again, each time with another dead subscriber beside them; the first and the last time there is none.
func mixed(o *options) error {
	if err := room(1 << 30); err != nil {
		return err
	}
	c, err := o.newCluster(3, "--push-allow", "127.0.0.0/8")
	if err != nil {
		return err
	}
	defer c.close()
	m, err := newMix(o, c)
	if err != nil {
		return err
	}
	defer m.close()
	dead, err := m.corpses()
	if err != nil {
		return err
	}
	dead = append(append([]corpse{{name: "none dead"}}, dead...), corpse{name: "none dead"})
	late := make([][]time.Duration, len(dead))
	var errs []error
	for i, d := range dead {
		if late[i], err = m.stream(i, d); err != nil && !errors.Is(err, errBound) {
			return err
		}
		errs = append(errs, err)
	}
	return errors.Join(append(errs, m.compare(dead, late))...)
}

// compare judges how late messages came with each dead subscriber against both runs without one.
func (m *mix) compare(dead []corpse, late [][]time.Duration) error {
	r, last := &m.o.report, len(dead)-1
	clean := append(append([]time.Duration(nil), late[0]...), late[last]...)
	p99 := quantile(clean, 0.99)
	r.figure("none dead: late p50 %v, p99 %v; p99 %v the first time and %v the last time", quantile(clean, 0.5), p99, quantile(late[0], 0.99), quantile(late[last], 0.99))
	var errs []error
	for i := 1; i < last; i++ {
		ratio := float64(quantile(late[i], 0.99)) / float64(p99)
		errs = append(errs, r.bound(ratio <= mixedWorse, "%s: the others late p50 %v, p99 %v, %.2f times that with none dead (<= %.1f)",
			dead[i].name, quantile(late[i], 0.5), quantile(late[i], 0.99), ratio, mixedWorse))
	}
	return errors.Join(errs...)
}

// corpse is a dead subscriber.
type corpse struct {
	name string
	sub  *client.Subscription // nil: there is none
}

// corpses makes all kinds of dead subscribers.
func (m *mix) corpses() ([]corpse, error) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	closed.Close()
	silent, err := net.Listen("tcp", "127.0.0.1:0") // the kernel takes connections, and nobody answers
	if err != nil {
		return nil, err
	}
	m.silent = silent
	url := func(l net.Listener) *client.Subscription {
		return &client.Subscription{Protocol: client.ToHTTP, Endpoint: "http://" + l.Addr().String()}
	}
	queue := func(name string) *client.Subscription {
		return &client.Subscription{Protocol: client.ToQueue, Endpoint: name}
	}
	return []corpse{{"a closed endpoint", url(closed)}, {"a silent endpoint", url(silent)}, {"a missing queue", queue("missing")}, {"a full queue", queue("full")}}, m.fillUp("full")
}

// fillUp makes a queue that takes no more messages.
func (m *mix) fillUp(name string) error {
	n := int64(leastHeap)
	if err := mustQueue(m.cl, name, client.Settings{MaxMsgHeapNum: &n}); err != nil {
		return err
	}
	if _, err := fill(m.doors[0], []string{name}, leastHeap, 1, nil); err != nil {
		return err
	}
	if _, err := m.cl.Queue(name).Send(context.Background(), "x"); !errors.Is(err, client.ErrHeapFull) {
		return fmt.Errorf("the queue with %d messages is not full: %v", leastHeap, err)
	}
	return nil
}

// mix is the subscribers that live, and what they have got.
type mix struct {
	o       *options
	c       *cluster
	cl      *client.Client
	doors   []*client.Client
	fan     *fanOut // of the queues
	servers []*httptest.Server
	silent  net.Listener
	stop    context.CancelFunc
	polls   sync.WaitGroup

	mu    sync.Mutex
	run   int            // which one goes on
	first int            // its first message that counts for how late they come
	got   map[piece]bool // in this run
	again int            // deliveries of what was there already
	late  []time.Duration
	err   error         // of a consumer
	more  chan struct{} // has room for one: something came
}

// piece is a message for one subscriber.
type piece struct{ subscriber, message int }

// newMix makes queues and endpoints, which begin to receive.
func newMix(o *options, c *cluster) (m *mix, err error) {
	m = &mix{o: o, c: c, cl: c.client(), run: -1, more: make(chan struct{}, 1)}
	if m.doors, err = c.doors(); err != nil {
		return nil, err
	}
	if m.fan, err = newFanOut(m.cl, "mix", mixedEach); err != nil {
		return nil, err
	}
	m.fan.beside = mixedEach
	for i := range mixedEach {
		s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			if body, err := io.ReadAll(r.Body); err == nil {
				m.came(mixedEach+i, string(body))
			}
		}))
		m.servers = append(m.servers, s)
		_, err := m.fan.topic.Subscribe(context.Background(), fmt.Sprint("endpoint", i), client.Subscription{Protocol: client.ToHTTP, Endpoint: s.URL, NotifyContentFormat: client.FormatSimplified})
		if err != nil {
			return nil, err
		}
	}
	ctx, stop := context.WithCancel(context.Background())
	m.stop = stop
	for i, q := range m.fan.queues {
		m.polls.Go(func() { m.consume(ctx, i, m.doors[i%len(m.doors)].Queue(q)) })
	}
	return m, nil
}

func (m *mix) close() {
	m.stop()
	m.polls.Wait()
	for _, s := range m.servers {
		s.CloseClientConnections()
		s.Close()
	}
	if m.silent != nil {
		m.silent.Close()
	}
	closeDoors(m.doors)
	m.cl.Close()
}

// consume receives and deletes what comes to a queue.
func (m *mix) consume(ctx context.Context, subscriber int, q *client.Queue) {
	for ctx.Err() == nil {
		messages, err := q.BatchReceive(ctx, batch, 5*time.Second)
		if errors.Is(err, client.ErrNoMessage) {
			continue
		}
		var handles []string
		for i := range messages {
			m.came(subscriber, messages[i].Body)
			handles = append(handles, messages[i].Handle)
		}
		if err == nil {
			err = q.BatchDelete(ctx, handles)
		}
		if err != nil && ctx.Err() == nil {
			m.mu.Lock()
			m.err = err
			m.mu.Unlock()
			m.notify()
			return
		}
	}
}

func (m *mix) notify() {
	select {
	case m.more <- struct{}{}:
	default:
	}
}

// came notes a message of the run. Its body is the run, the number of the message and when it was to be published.
func (m *mix) came(subscriber int, body string) {
	now := time.Now()
	var run, message int
	var at int64
	if _, err := fmt.Sscanf(body, "%d %d %d", &run, &message, &at); err != nil {
		return // sent to find out where the queue is
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if run != m.run {
		m.again++ // after the end of its run, when all had come
		return
	}
	p := piece{subscriber, message}
	if m.got[p] {
		m.again++
		return
	}
	m.got[p] = true
	if message >= m.first {
		m.late = append(m.late, now.Sub(time.Unix(0, at)))
	}
	m.notify()
}

// stream publishes one message after the other, waits until all have come, and says how late they were.
func (m *mix) stream(run int, dead corpse) ([]time.Duration, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	messages := int(time.Duration(m.o.seconds) * time.Second / m.o.every)
	m.mu.Lock()
	m.run, m.first, m.got, m.late = run, int(mixedWarm/m.o.every), make(map[piece]bool), nil
	m.mu.Unlock()
	if dead.sub != nil {
		if _, err := m.fan.topic.Subscribe(ctx, "dead", *dead.sub); err != nil {
			return nil, err
		}
	}
	before, err := m.c.usage()
	if err != nil {
		return nil, err
	}
	if err := m.publish(ctx, run, messages); err != nil {
		return nil, err
	}
	if err := m.await(ctx, 2*mixedEach*messages); err != nil {
		return nil, fmt.Errorf("%s: %w", dead.name, err)
	}
	if run == 0 {
		after, err := m.c.usage()
		if err != nil {
			return nil, err
		}
		m.fan.writings(m.o, before, after, messages)
	}
	return m.judge(ctx, dead, messages)
}

// publish keeps to the plan: a message that could not be published in time is as late as that.
func (m *mix) publish(ctx context.Context, run, messages int) error {
	pad := strings.Repeat("x", m.o.size)
	topic := m.doors[0].Topic(m.fan.topic.Name())
	begin := time.Now()
	for i := range messages {
		at := begin.Add(time.Duration(i) * m.o.every)
		pause(ctx, time.Until(at))
		body := fmt.Sprintf("%d %d %d %s", run, i, at.UnixNano(), pad)[:max(m.o.size, 64)]
		if _, err := topic.Publish(ctx, body, client.PublishOptions{}); err != nil {
			return err
		}
	}
	return nil
}

// await waits until n pieces have come.
func (m *mix) await(ctx context.Context, n int) error {
	for {
		m.mu.Lock()
		got, err := len(m.got), m.err
		m.mu.Unlock()
		if got >= n || err != nil {
			return err
		}
		select {
		case <-m.more:
		case <-ctx.Done():
			return fmt.Errorf("%d of %d deliveries to subscribers that live were made: %w", got, n, ctx.Err())
		}
	}
}

// judge says whether each subscriber got each message once, and whether everything still waits for the one that is dead,
// which is removed then.
func (m *mix) judge(ctx context.Context, dead corpse, messages int) ([]time.Duration, error) {
	m.mu.Lock()
	late, again := m.late, m.again
	m.mu.Unlock()
	once := m.o.report.bound(again == 0, "%s: %d messages for each of %d subscribers, %d deliveries of what they had already (0)", dead.name, messages, 2*mixedEach, again)
	if dead.sub == nil {
		return late, once
	}
	a, err := m.fan.topic.Subscription(ctx, "dead")
	if err == nil {
		err = m.fan.topic.Unsubscribe(ctx, "dead")
	}
	if err != nil {
		return nil, err
	}
	return late, errors.Join(once, m.o.report.bound(a.MsgCount == int64(messages), "%s: %d messages wait for it (%d)", dead.name, a.MsgCount, messages))
}
