package client

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencmq/cmq/client/internal/link"
)

const (
	// routeAge is how long the addresses of a queue are used before they are asked for again, in the background. A queue
	// whose leader moved is slower in the meantime: its requests take one hop more.
	routeAge = 30 * time.Second
	// doubtAge is the same after a failure.
	doubtAge = 500 * time.Millisecond
)

// routes knows, for each queue and topic, the addresses to speak to, the leader's first. The service names them over
// HTTP; without an endpoint of HTTP the given ones are used in their order.
type routes struct {
	t     *tcpCarrier
	given []*link.Target
	asks  bool // there is somebody to ask

	born   time.Time
	ctx    context.Context // ends with close
	cancel context.CancelFunc
	work   sync.WaitGroup // askers in the background

	mu     sync.RWMutex
	all    map[routeKey]*route
	closed bool
}

type routeKey struct {
	topic bool
	name  string
}

var errNoRoute = errors.New("the service names no address for it")

// route is the addresses of one queue or topic.
type route struct {
	key   routeKey
	to    atomic.Pointer[[]*link.Target] // nil: never asked
	asked atomic.Int64                   // when, nanoseconds since born
	gate  chan struct{}                  // has room for the one who asks
}

func (r *routes) init(t *tcpCarrier) {
	r.t, r.born, r.all, r.asks = t, time.Now(), make(map[routeKey]*route), len(t.c.addresses) > 0
	r.ctx, r.cancel = context.WithCancel(context.Background())
	for _, addr := range t.c.doors {
		r.given = append(r.given, t.pool.Target(addr))
	}
}

func (r *routes) close() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.cancel()
	r.work.Wait()
}

// likely is an address for traces.
func (r *routes) likely() string {
	if len(r.given) > 0 {
		return r.given[0].Addr()
	}
	return r.t.c.addresses[0].Host
}

func (r *routes) entry(topic bool, name string) *route {
	key := routeKey{topic, name}
	r.mu.RLock()
	e := r.all[key]
	r.mu.RUnlock()
	if e != nil {
		return e
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if e = r.all[key]; e == nil {
		e = &route{key: key, gate: make(chan struct{}, 1)}
		r.all[key] = e
	}
	return e
}

// of gives the addresses of a queue or topic. Only the first call for a name waits.
func (r *routes) of(ctx context.Context, topic bool, name string) ([]*link.Target, error) {
	if to := r.known(topic, name); to != nil {
		return to, nil
	}
	return r.first(ctx, r.entry(topic, name))
}

// known is of that does not wait: it gives nil if nobody has asked yet.
func (r *routes) known(topic bool, name string) []*link.Target {
	if !r.asks {
		return r.given
	}
	e := r.entry(topic, name)
	to := e.to.Load()
	if to == nil {
		return nil
	}
	if r.age(e) > routeAge {
		r.refresh(e)
	}
	return *to
}

func (r *routes) age(e *route) time.Duration {
	return time.Since(r.born) - time.Duration(e.asked.Load())
}

// doubt has the addresses asked for again soon, after a call over them failed.
func (r *routes) doubt(topic bool, name string) {
	if !r.asks {
		return
	}
	if e := r.entry(topic, name); e.to.Load() != nil && r.age(e) > doubtAge {
		r.refresh(e)
	}
}

// first asks, unless another caller does so at the moment.
func (r *routes) first(ctx context.Context, e *route) ([]*link.Target, error) {
	select {
	case e.gate <- struct{}{}:
		defer func() { <-e.gate }()
	case <-ctx.Done():
		return nil, &TransportError{Endpoint: r.likely(), Action: e.action(), Err: ctx.Err()}
	}
	if to := e.to.Load(); to != nil {
		return *to, nil
	}
	err := r.ask(ctx, e)
	if to := e.to.Load(); to != nil {
		return *to, nil
	}
	return nil, err
}

// refresh asks in the background, unless somebody does so at the moment.
func (r *routes) refresh(e *route) {
	select {
	case e.gate <- struct{}{}:
	default:
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		<-e.gate
		return
	}
	r.work.Go(func() {
		defer func() { <-e.gate }()
		if err := r.ask(r.ctx, e); err != nil && r.ctx.Err() == nil {
			r.t.c.log.Warn("the addresses of a queue were not given; the old ones are used", "name", e.key.name, "error", err)
		}
	})
}

func (e *route) action() string {
	if e.key.topic {
		return "QueryTopicRoute"
	}
	return "QueryQueueRoute"
}

// ask asks the service. When it gives no answer the endpoints of TCP do, if there are any and nothing is known.
func (r *routes) ask(ctx context.Context, e *route) error {
	param := "queueName"
	if e.key.topic {
		param = "topicName"
	}
	var out struct {
		Addr []string `json:"addr"`
	}
	err := r.t.c.call(ctx, e.action(), []Param{{param, e.key.name}}, always, &out)
	e.asked.Store(int64(time.Since(r.born)))
	var to []*link.Target
	for _, addr := range out.Addr {
		to = append(to, r.t.pool.Target(addr))
	}
	if err == nil && len(to) == 0 {
		err = &TransportError{Endpoint: r.t.c.addresses[0].URL, Action: e.action(), Err: errNoRoute}
	}
	if err != nil && e.to.Load() == nil && len(r.given) > 0 {
		to, err = r.given, nil
	}
	if err == nil {
		e.to.Store(&to)
	}
	return err
}
