package client

import (
	"context"
	"errors"
	"sync"
	"time"
)

// delivery is one message that a Consumer holds.
type delivery struct {
	m   *Message
	err error // of the handler

	// The rest belongs to locks.
	ends      time.Time // when the lock is over, by this machine's clock, at the latest
	limit     time.Time // when the handler has worked too long; zero: not at work, or no limit
	prolong   time.Time // when to prolong the lock
	prolonged bool      // a request to do so is under way
	cancel    context.CancelCauseFunc
	lost      error // why the lock is not kept any more; nil: it is
}

// locks keeps the locks of all messages that a Consumer holds: it prolongs them at half time, ends the context of a
// handler whose lock is over, and remembers whether the service can prolong at all.
type locks struct {
	c      *Consumer
	margin time.Duration // a lock counts as over this much before its end
	kick   chan struct{}
	over   chan struct{}
	work   sync.WaitGroup // requests

	mu     sync.Mutex
	held   map[*delivery]struct{}
	next   time.Time // when keep looks next
	cannot bool      // the service has no ChangeVisibility
}

// The part of a lock that is not used, for clocks that run differently here and at the service, and for the time a
// handler needs to notice.
const (
	marginPart  = 10
	leastMargin = 100 * time.Millisecond
	mostMargin  = time.Second
)

func (l *locks) init(c *Consumer) {
	l.c, l.held = c, make(map[*delivery]struct{})
	l.margin = min(max(c.visibility/marginPart, leastMargin), mostMargin)
	l.kick, l.over = make(chan struct{}, 1), make(chan struct{})
}

// close ends keep and waits for its requests.
func (l *locks) close() {
	close(l.over)
	l.work.Wait()
}

// canChange reports whether locks can be changed, as far as is known.
func (l *locks) canChange() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.cannot
}

// add keeps the lock of a message that arrived.
func (l *locks) add(d *delivery) {
	l.mu.Lock()
	defer l.mu.Unlock()
	d.prolong = d.ends.Add(-l.c.visibility / 2)
	l.held[d] = struct{}{}
	l.lookLocked(d)
}

// begin notes that a handler starts. It reports false if the lock is over, or nearly and cannot be prolonged.
func (l *locks) begin(d *delivery, cancel context.CancelCauseFunc) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	least := l.margin
	if l.cannot || l.c.o.NoExtend {
		least = max(least, l.c.visibility/4)
	}
	if d.lost != nil || time.Until(d.ends) <= least {
		return false
	}
	d.cancel = cancel
	if l.c.o.HandlerTimeout > 0 {
		d.limit = time.Now().Add(l.c.o.HandlerTimeout)
		l.lookLocked(d)
	}
	return true
}

// ended notes that the handler has returned, and says why the lock was lost in the meantime. If it was not it is kept
// until remove.
func (l *locks) ended(d *delivery) (lost error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	d.cancel, d.limit = nil, time.Time{}
	return d.lost
}

// remove keeps the lock no more.
func (l *locks) remove(d *delivery) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.held, d)
}

// end is when the lock of d counts as over.
func (l *locks) end(d *delivery) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return d.ends
}

// due is when something has to be done about d.
func (l *locks) dueLocked(d *delivery) time.Time {
	due := d.ends.Add(-l.margin)
	if !l.cannot && !l.c.o.NoExtend && !d.prolonged && d.prolong.Before(due) {
		due = d.prolong
	}
	if !d.limit.IsZero() && d.limit.Before(due) {
		due = d.limit
	}
	return due
}

// lookLocked wakes keep if it would look too late.
func (l *locks) lookLocked(d *delivery) {
	if due := l.dueLocked(d); l.next.IsZero() || due.Before(l.next) {
		l.next = due
		select {
		case l.kick <- struct{}{}:
		default: // it is about to look
		}
	}
}

// keep looks after the locks until close.
func (l *locks) keep() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-l.kick:
		case <-l.over:
			return
		}
		timer.Reset(l.look(time.Now()))
	}
}

// look does what is due and says how long there is nothing to do.
func (l *locks) look(now time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	var prolong []*delivery
	l.next = time.Time{}
	for d := range l.held {
		switch {
		case !now.Before(d.ends.Add(-l.margin)):
			l.loseLocked(d, ErrLockLost)
			continue
		case !d.limit.IsZero() && !now.Before(d.limit):
			l.loseLocked(d, ErrHandlerTimeout)
			continue
		case !l.cannot && !l.c.o.NoExtend && !d.prolonged && !now.Before(d.prolong):
			d.prolonged = true
			prolong = append(prolong, d)
		}
		if due := l.dueLocked(d); l.next.IsZero() || due.Before(l.next) {
			l.next = due
		}
	}
	for len(prolong) > 0 {
		some := prolong[:min(len(prolong), l.c.q.c.carrier.most())]
		prolong = prolong[len(some):]
		l.work.Go(func() { l.prolong(some) })
	}
	if l.next.IsZero() {
		return time.Hour
	}
	return l.next.Sub(now)
}

// loseLocked gives up a lock.
func (l *locks) loseLocked(d *delivery, why error) {
	d.lost = why
	delete(l.held, d)
	if d.cancel != nil {
		d.cancel(why)
	}
}

// prolong asks for more time for some messages.
func (l *locks) prolong(some []*delivery) {
	handles := make([]string, len(some))
	for i, d := range some {
		handles[i] = d.m.Handle
	}
	begun := time.Now()
	ctx, cancel := context.WithDeadline(l.c.base, begun.Add(l.c.visibility/2))
	defer cancel()
	err := l.c.q.BatchChangeVisibility(ctx, handles, l.c.visibility)
	l.prolonged(some, begun, err)
}

// prolonged notes how it went. What nobody knows is tried again soon.
func (l *locks) prolonged(some []*delivery, begun time.Time, err error) {
	refused := make(map[string]bool)
	var batch *BatchError
	if errors.As(err, &batch) {
		for _, f := range batch.Failed {
			refused[f.Handle] = true
		}
	}
	whole := err == nil || batch != nil // the service looked at each
	l.mu.Lock()
	defer l.mu.Unlock()
	if Unsupported(err) && !l.cannot {
		l.cannot = true
		l.c.q.c.log.Warn("the service cannot prolong locks; a message whose handler takes longer than its visibility timeout comes again", "queue", l.c.q.name)
	}
	for _, d := range some {
		d.prolonged = false
		if _, held := l.held[d]; !held {
			continue
		}
		switch {
		case refused[d.m.Handle], len(some) == 1 && errors.Is(err, ErrHandleInvalid):
			l.loseLocked(d, ErrLockLost)
			continue
		case whole:
			d.ends = begun.Add(l.c.visibility)
			d.prolong = begun.Add(l.c.visibility / 2)
		default:
			d.prolong = time.Now().Add(l.c.visibility / 10)
		}
		l.lookLocked(d)
	}
}
