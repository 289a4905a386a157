package push

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencmq/cmq/internal/cmq"
)

// Times of a lane.
const (
	// lockTime is for how long a message is locked for a try: the 15 s an endpoint has, and as much again to tell the
	// outcome. A try that takes longer has its lock extended.
	lockTime = 30 * time.Second
	// pollTime is how long one receive waits for a message.
	pollTime = 20 * time.Second
	// heldUp is the pause when an earlier message holds up the rest, arranged by a leader before this one.
	heldUp = 250 * time.Millisecond
	// mostReceived bounds the messages of one receive, and with them the memory of their bodies.
	mostReceived = 16

	firstRetry = 50 * time.Millisecond
	lastRetry  = 5 * time.Second
)

// lane delivers for one subscription while this node leads its set. One goroutine receives; each try has its own.
type lane struct {
	d      *Dispatcher
	shard  cmq.ShardID
	set    cmq.SetID
	outlet atomic.Pointer[Outlet]
	ctx    context.Context // of the receives; tries go on when it ends
	stop   context.CancelFunc
	wake   chan struct{} // has room for one: the gate has changed

	mu     sync.Mutex
	gate   *gate
	closed bool // what the gate does is not counted any more
}

func (l *lane) change(o Outlet) {
	l.outlet.Store(&o)
	l.mu.Lock()
	l.gate.set(o.Subscription)
	l.mu.Unlock()
	l.changed()
}

func (l *lane) changed() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// run receives and starts tries until the lane is stopped.
func (l *lane) run() {
	defer l.d.lanes.Done()
	l.look()
	for retry := firstRetry; l.ctx.Err() == nil; {
		l.mu.Lock()
		p := l.gate.next(time.Now())
		l.mu.Unlock()
		if p.n == 0 {
			l.pause(p.until)
			continue
		}
		switch err := l.receive(p); {
		case err == nil:
			retry = firstRetry
		case errors.Is(err, cmq.ErrTooMany):
			l.pause(time.Now().Add(heldUp))
		default:
			l.pause(time.Now().Add(retry))
			retry = min(2*retry, lastRetry)
		}
	}
}

// look asks how many messages are locked: these are in retry, or being tried elsewhere.
func (l *lane) look() {
	reply, err := l.d.call(l.ctx, l.set, &cmq.Request{Kind: cmq.KindStatus, Shard: l.shard})
	if err == nil && reply.Status.Inactive == 0 {
		return
	}
	l.mu.Lock()
	l.gate.strange = time.Now().Add(strangeTime)
	l.mu.Unlock()
}

// pause waits for the time, if it is one, or for a change.
func (l *lane) pause(until time.Time) {
	var at <-chan time.Time
	if !until.IsZero() {
		t := time.NewTimer(time.Until(until))
		defer t.Stop()
		at = t.C
	}
	select {
	case <-l.ctx.Done():
	case <-l.wake:
	case <-at:
	}
}

// receive gets messages and starts their tries.
func (l *lane) receive(p permit) error {
	req := &cmq.Request{Kind: cmq.KindReceive, Shard: l.shard, Max: min(p.n, mostReceived), Lock: lockTime}
	if p.wait {
		req.Wait = pollTime
	}
	ctx, cancel := context.WithTimeout(l.ctx, req.Wait+callLimit)
	defer cancel()
	reply, err := l.d.call(ctx, l.set, req)
	if err != nil {
		return err
	}
	now := time.Now()
	l.mu.Lock()
	fresh := false
	for i := range reply.Messages {
		fresh = !l.gate.began(reply.Messages[i].ID, now) || fresh
	}
	if len(reply.Messages) == 0 || fresh {
		l.gate.missing(now, fresh)
	}
	l.mu.Unlock()
	if len(reply.Messages) == 0 && !p.wait {
		l.pause(now.Add(lookAgain))
	}
	for i := range reply.Messages {
		l.d.tries.Add(1)
		go l.try(&reply.Messages[i], now)
	}
	return nil
}

// ended tells the gate of the end of a try.
func (l *lane) ended(good bool) {
	l.mu.Lock()
	opened, closed := false, false
	if good {
		closed = l.gate.taken()
	} else {
		opened = l.gate.failed()
	}
	counts := !l.closed
	l.mu.Unlock()
	s := l.outlet.Load()
	switch {
	case !counts:
	case opened:
		l.d.stats.Open.Add(1)
		l.d.cfg.Logger.Warn("an endpoint fails; only what is due is tried until one succeeds", "topic", s.Topic.Name, "subscription", s.Subscription.Name)
	case closed:
		l.d.stats.Open.Add(-1)
		l.d.cfg.Logger.Info("an endpoint takes messages again", "topic", s.Topic.Name, "subscription", s.Subscription.Name)
	}
	l.changed()
}

// close stops receiving. Tries go on.
func (l *lane) close() {
	l.stop()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	if l.gate.open {
		l.d.stats.Open.Add(-1)
	}
}
