package push

import (
	"context"
	"sync"
	"time"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/dispatch/push/course"
)

// courier does what a course says. One goroutine receives; each try has its own.
type courier struct {
	d    *Dispatcher
	set  cmq.SetID
	ctx  context.Context // of the receives; tries go on when it ends
	stop context.CancelFunc
	wake chan struct{} // has room for one: the course may say something else now

	mu     sync.Mutex
	course *course.Course // with all of its tries
	outlet Outlet
	closed bool // what becomes of tries is not counted any more
}

func (c *courier) change(o Outlet) {
	c.mu.Lock()
	c.outlet = o
	c.course.Change(o.Subscription)
	c.course.Share(o.Shared, time.Now())
	c.mu.Unlock()
	c.changed()
}

// serves reports whether the outlet is what the courier delivers for.
func (c *courier) serves(o Outlet) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.outlet == o
}

func (c *courier) changed() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// run receives and starts tries until the courier is stopped.
func (c *courier) run() {
	defer c.d.lanes.Done()
	for c.ctx.Err() == nil {
		c.mu.Lock()
		step := c.course.Next(time.Now())
		c.mu.Unlock()
		if step.Ask == nil {
			c.pause(step.Until)
			continue
		}
		reply, err := c.d.call(c.ctx, c.set, step.Ask)
		c.begin(reply, err)
	}
}

// begin hands over a reply and starts the tries that come of it.
func (c *courier) begin(reply *cmq.Reply, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range c.course.Answered(time.Now(), reply, err) {
		c.d.tries.Add(1)
		go c.try(c.outlet.Topic, t)
	}
}

// pause waits for the time, if it is one, or for a change.
func (c *courier) pause(until time.Time) {
	var at <-chan time.Time
	if !until.IsZero() {
		t := time.NewTimer(time.Until(until))
		defer t.Stop()
		at = t.C
	}
	select {
	case <-c.ctx.Done():
	case <-c.wake:
	case <-at:
	}
}

// ended tells people what the end of a try changed.
func (c *courier) ended(e course.End, topic *cmq.Topic, t *course.Try, err error) {
	c.mu.Lock()
	counts := !c.closed
	c.mu.Unlock()
	log := c.d.cfg.Logger.With("topic", topic.Name, "subscription", t.Subscription.Name)
	if e.Lost {
		c.d.stats.Unsettled.Add(1)
		log.Info("a message was delivered, but its lock was over before that was written down; it may be delivered again", "msg_id", t.Message.ID, "error", err)
	}
	switch {
	case !counts:
	case e.Opened:
		c.d.stats.Open.Add(1)
		log.Warn("an endpoint fails; only what is due is tried until one succeeds")
	case e.Closed:
		c.d.stats.Open.Add(-1)
		log.Info("an endpoint takes messages again")
	}
	c.changed()
}

// close stops receiving. Tries go on.
func (c *courier) close() {
	c.stop()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	if c.course.Open() {
		c.d.stats.Open.Add(-1)
	}
}
