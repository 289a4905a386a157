package push

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/dispatch/push/retry"
)

// try delivers one message, which was received at the given time, and writes down what came of it.
func (l *lane) try(m *cmq.Message, received time.Time) {
	defer l.d.tries.Done()
	o := l.outlet.Load()
	stopKeeping := l.keep(m.Handle)
	err := l.d.deliver(o, m)
	if l.d.ctx.Err() != nil && err != nil {
		stopKeeping()
		l.ended(false)
		return // the node ends; the lock ends by itself
	}
	kept := stopKeeping()
	if kept.Before(received) {
		kept = received
	}
	if err == nil {
		l.d.stats.Delivered.Add(1)
		l.settle(&cmq.Request{Kind: cmq.KindDelete, Shard: l.shard, Handles: []cmq.Handle{m.Handle}}, kept.Add(lockTime), &l.d.stats.Unsettled)
		l.ended(true)
		return
	}
	l.failed(o, m, received, kept.Add(lockTime), failureOf(err))
}

// deliver brings the message to the target for the subscription's protocol.
func (d *Dispatcher) deliver(o *Outlet, m *cmq.Message) error {
	target, err := d.target(o.Subscription)
	if err != nil {
		return err
	}
	d.stats.InFlight.Add(1)
	defer d.stats.InFlight.Add(-1)
	return target.Deliver(d.ctx, &Delivery{Request: rand.Uint64N(1 << 53), Topic: o.Topic, Subscription: o.Subscription, Message: m})
}

// target is what delivers for the subscription. One that names an agent is for a network that is not this server's, so
// nothing is delivered from here.
func (d *Dispatcher) target(s *cmq.Subscription) (Target, error) {
	if s.Push.Agent != "" {
		return nil, &Failure{Reason: Invalid, Err: errors.New("this server does not deliver by agents")}
	}
	t := d.cfg.Targets[s.Protocol]
	if t == nil {
		return nil, &Failure{Reason: Invalid, Err: errors.New("this server does not deliver with protocol " + string(s.Protocol))}
	}
	return t, nil
}

// failed arranges the next try, or gives the message up.
func (l *lane) failed(o *Outlet, m *cmq.Message, received, locked time.Time, why *Failure) {
	l.d.stats.Failed.Add(1)
	now := time.Now()
	f := retry.Failure{Strategy: o.Subscription.Strategy, Try: m.DequeueCount, Published: m.Enqueued, Now: now,
		Took: now.Sub(received), After: why.After, Random: rand.Float64()}
	wait, again := f.Next()
	log := l.d.cfg.Logger.With("topic", o.Topic.Name, "subscription", o.Subscription.Name, "msg_id", m.ID, "try", m.DequeueCount, "error", why)
	handles := []cmq.Handle{m.Handle}
	switch {
	case again:
		log.Debug("a delivery failed", "next", wait)
		if l.settle(&cmq.Request{Kind: cmq.KindRelock, Shard: l.shard, Handles: handles, Lock: wait}, locked, nil) {
			l.mu.Lock()
			l.gate.later(m.ID, time.Now().Add(wait))
			l.mu.Unlock()
		}
	case o.Subscription.Push.DeadLetter != 0 && m.DequeueCount >= o.Subscription.Strategy.Tries():
		log.Warn("a delivery was given up; the message goes to the dead-letter queue")
		l.d.stats.GivenUp.Add(1)
		l.settle(&cmq.Request{Kind: cmq.KindRelock, Shard: l.shard, Handles: handles}, locked, nil)
	default:
		log.Warn("a delivery was given up; the message is dropped for this subscription")
		l.d.stats.GivenUp.Add(1)
		l.settle(&cmq.Request{Kind: cmq.KindDelete, Shard: l.shard, Handles: handles}, locked, nil)
	}
	l.ended(false)
}

// keep extends the lock while a try takes longer than half of it. The function it returns ends that and says when the
// lock was last extended; zero: never.
func (l *lane) keep(h cmq.Handle) func() time.Time {
	ctx, cancel := context.WithCancel(l.d.ctx)
	done := make(chan time.Time, 1)
	go func() {
		var extended time.Time
		t := time.NewTicker(lockTime / 2)
		defer t.Stop()
		for {
			select {
			case <-ctx.Done():
				done <- extended
				return
			case at := <-t.C:
				reply, err := l.d.call(ctx, l.set, &cmq.Request{Kind: cmq.KindRelock, Shard: l.shard, Handles: []cmq.Handle{h}, Lock: lockTime})
				if err == nil && len(reply.Errors) == 1 && reply.Errors[0] == nil {
					extended = at
				}
			}
		}
	}()
	return func() time.Time {
		cancel()
		return <-done
	}
}

// counter counts; nil does not.
type counter interface{ Add(uint64) uint64 }

// settle writes down an outcome, as often as it takes while the lock holds, and reports whether it is written. If the
// lock is another's by now, or nobody could be asked in time, the message will be tried again though this try is over: that
// is counted, unless an earlier attempt to write it may have succeeded.
func (l *lane) settle(req *cmq.Request, locked time.Time, lost counter) bool {
	unclear := false
	for pause := firstRetry; ; pause = min(2*pause, lastRetry) {
		reply, err := l.d.call(l.d.ctx, l.set, req)
		switch {
		case err == nil && len(reply.Errors) == 1 && reply.Errors[0] == nil:
			return true
		case err == nil, errors.Is(err, cmq.ErrQueueNotExist), !time.Now().Before(locked), l.d.ctx.Err() != nil:
			if !unclear && lost != nil && !errors.Is(err, cmq.ErrQueueNotExist) {
				lost.Add(1)
				l.d.cfg.Logger.Info("a message was delivered, but its lock was over before that was written down; it may be delivered again", "shard", l.shard, "error", err)
			}
			return false
		}
		unclear = unclear || errors.Is(err, cmq.ErrUnknownOutcome)
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-l.d.ctx.Done():
			t.Stop()
		}
	}
}

// Test delivers a message that nobody published, so that who subscribes sees at once whether the endpoint takes it. Nothing
// is stored, counted or tried again. The answer is nil or what the owner of the subscription may know.
func (d *Dispatcher) Test(ctx context.Context, o Outlet, body []byte) *Failure {
	target, err := d.target(o.Subscription)
	if err != nil {
		return failureOf(err)
	}
	m := &cmq.Message{Body: body, Enqueued: time.Now(), DequeueCount: 1, Publication: &cmq.Publication{}}
	err = target.Deliver(ctx, &Delivery{Request: rand.Uint64N(1 << 53), Topic: o.Topic, Subscription: o.Subscription, Message: m})
	if err == nil {
		return nil
	}
	return failureOf(err)
}
