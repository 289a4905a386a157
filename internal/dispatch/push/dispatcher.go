package push

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/dispatch/push/course"
)

// callLimit bounds one call to a set, beside the time a receive waits.
const callLimit = 10 * time.Second

// Do carries out a request at the leader of a set, wherever that is.
type Do func(ctx context.Context, set cmq.SetID, req *cmq.Request) (*cmq.Reply, error)

// Outlet is a subscription that delivers from here, with what it belongs to.
type Outlet struct {
	Set          cmq.SetID
	Topic        *cmq.Topic
	Subscription *cmq.Subscription
	Shared       bool // others deliver for the subscription too, and arrange retries of which nothing is known here
}

// Config says what a Dispatcher needs.
type Config struct {
	Do      Do
	Targets map[cmq.Protocol]Target
	Agent   string // whose subscriptions these are; empty: those that the cluster delivers itself
	Logger  *slog.Logger
}

// Stats count what happened since the start; Open and InFlight are as it is now.
type Stats struct {
	Delivered atomic.Uint64 // tries that succeeded
	Failed    atomic.Uint64 // tries that did not
	GivenUp   atomic.Uint64 // messages whose last try failed
	Unsettled atomic.Uint64 // messages taken by their endpoint that may be delivered again
	Open      atomic.Int64  // subscriptions whose circuit is open
	InFlight  atomic.Int64  // tries under way
}

// Dispatcher delivers for each subscription it is given.
type Dispatcher struct {
	cfg    Config
	stats  Stats
	ctx    context.Context // of tries
	cancel context.CancelFunc
	lanes  sync.WaitGroup
	tries  sync.WaitGroup

	mu      sync.Mutex
	byShard map[cmq.ShardID]*courier
	closed  bool
}

// New makes a Dispatcher without subscriptions. Close ends it.
func New(cfg Config) *Dispatcher {
	d := &Dispatcher{cfg: cfg, byShard: make(map[cmq.ShardID]*courier)}
	d.ctx, d.cancel = context.WithCancel(context.Background())
	return d
}

// Stats gives the counters.
func (d *Dispatcher) Stats() *Stats { return &d.stats }

// Lanes is how many subscriptions are delivered from here now.
func (d *Dispatcher) Lanes() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.byShard)
}

// Update says which subscriptions are delivered from here from now on: those of sets that this node leads. Paused ones are
// left alone. Of a subscription that is not in the list any more nothing is received; its tries under way end.
func (d *Dispatcher) Update(outlets []Outlet) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return
	}
	wanted := make(map[cmq.ShardID]bool, len(outlets))
	for _, o := range outlets {
		if o.Subscription.Push.Paused {
			continue
		}
		shard := o.Subscription.ID.Shard()
		wanted[shard] = true
		switch c := d.byShard[shard]; {
		case c == nil:
			d.open(shard, o)
		case !c.serves(o):
			c.change(o)
		}
	}
	for shard, c := range d.byShard {
		if !wanted[shard] {
			c.close()
			delete(d.byShard, shard)
		}
	}
}

func (d *Dispatcher) open(shard cmq.ShardID, o Outlet) {
	c := &courier{d: d, set: o.Set, wake: make(chan struct{}, 1), course: course.New(o.Subscription), outlet: o}
	c.course.Share(o.Shared, time.Now())
	c.ctx, c.stop = context.WithCancel(d.ctx)
	d.byShard[shard] = c
	d.lanes.Add(1)
	go c.run()
}

// Close stops receiving and waits for the tries under way. When ctx ends, they are cut off: what an endpoint may have
// taken by then is delivered again by the next leader.
func (d *Dispatcher) Close(ctx context.Context) {
	d.mu.Lock()
	d.closed = true
	for shard, c := range d.byShard {
		c.close()
		delete(d.byShard, shard)
	}
	d.mu.Unlock()
	d.lanes.Wait()
	cut := context.AfterFunc(ctx, d.cancel)
	d.tries.Wait()
	cut()
	d.cancel()
}

// call carries out a request; a refusal is an error too.
func (d *Dispatcher) call(ctx context.Context, set cmq.SetID, req *cmq.Request) (*cmq.Reply, error) {
	ctx, cancel := context.WithTimeout(ctx, req.Wait+callLimit)
	defer cancel()
	reply, err := d.cfg.Do(ctx, set, req)
	if err != nil {
		return nil, err
	}
	if reply.Err != nil {
		return nil, reply.Err
	}
	return reply, nil
}
