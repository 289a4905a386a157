package push

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/dispatch/push/course"
)

// try delivers one message and writes down what came of it.
func (c *courier) try(topic *cmq.Topic, t *course.Try) {
	defer c.d.tries.Done()
	stopKeeping := c.keep(t)
	err := c.d.deliver(topic, t)
	stopKeeping()
	if c.d.ctx.Err() != nil && err != nil {
		c.cut(topic, t, err)
		return
	}
	var o course.Outcome
	if err == nil {
		c.d.stats.Delivered.Add(1)
		o.Taken = true
	} else {
		c.d.stats.Failed.Add(1)
		o.After, o.Random = failureOf(err).After, rand.Float64()
	}
	c.mu.Lock()
	v := t.Ended(time.Now(), o)
	c.mu.Unlock()
	c.report(topic, t, v, err)
	c.write(topic, t, v.Write)
}

// deliver brings the message to the target for the subscription's protocol.
func (d *Dispatcher) deliver(topic *cmq.Topic, t *course.Try) error {
	target, err := d.target(t.Subscription)
	if err != nil {
		return err
	}
	d.stats.InFlight.Add(1)
	defer d.stats.InFlight.Add(-1)
	return target.Deliver(d.ctx, &Delivery{Request: rand.Uint64N(1 << 53), Topic: topic, Subscription: t.Subscription, Message: t.Message})
}

// target is what delivers for the subscription. One that names another agent than this is for a network that is not this
// one: its endpoint may be something else here.
func (d *Dispatcher) target(s *cmq.Subscription) (Target, error) {
	if cmq.FoldName(s.Push.Agent) != cmq.FoldName(d.cfg.Agent) {
		return nil, &Failure{Reason: Invalid, Err: errors.New("what agents deliver is not delivered from here")}
	}
	t := d.cfg.Targets[s.Protocol]
	if t == nil {
		return nil, &Failure{Reason: Invalid, Err: errors.New("nothing is delivered from here with protocol " + string(s.Protocol))}
	}
	return t, nil
}

// report tells people what becomes of a message that was not taken.
func (c *courier) report(topic *cmq.Topic, t *course.Try, v course.Verdict, err error) {
	if v.Fate == course.Delivered {
		return
	}
	log := c.d.cfg.Logger.With("topic", topic.Name, "subscription", t.Subscription.Name, "msg_id", t.Message.ID, "try", t.Message.DequeueCount, "error", failureOf(err))
	switch v.Fate {
	case course.Again:
		log.Debug("a delivery failed", "next", v.Wait)
		return
	case course.Dead:
		log.Warn("a delivery was given up; the message goes to the dead-letter queue")
	default:
		log.Warn("a delivery was given up; the message is dropped for this subscription")
	}
	c.d.stats.GivenUp.Add(1)
}

// keep extends the lock of a try for as long as it takes. The function it returns ends that.
func (c *courier) keep(t *course.Try) (stop func()) {
	ctx, cancel := context.WithCancel(c.d.ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		ticker := time.NewTicker(course.KeepEvery)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case at := <-ticker.C:
				reply, err := c.d.call(ctx, c.set, t.Keep())
				c.mu.Lock()
				t.Kept(at, reply, err)
				c.mu.Unlock()
			}
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

// write writes an outcome down, as often as the course wants.
func (c *courier) write(topic *cmq.Topic, t *course.Try, req *cmq.Request) {
	for {
		reply, err := c.d.call(c.d.ctx, c.set, req)
		if err != nil && c.d.ctx.Err() != nil {
			c.cut(topic, t, err)
			return
		}
		c.mu.Lock()
		pause, end := t.Written(time.Now(), reply, err)
		c.mu.Unlock()
		if pause == 0 {
			c.ended(end, topic, t, err)
			return
		}
		select {
		case <-time.After(pause):
		case <-c.d.ctx.Done():
		}
	}
}

// cut ends a try because the node ends.
func (c *courier) cut(topic *cmq.Topic, t *course.Try, err error) {
	c.mu.Lock()
	end := t.Cut()
	c.mu.Unlock()
	c.ended(end, topic, t, err)
}
