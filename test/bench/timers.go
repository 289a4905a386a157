package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencmq/cmq/client"
)

// mostLocked is how many messages a measurement locks in one queue: a little less than what a queue allows.
const mostLocked = 100_000

// delayed: memory of pending delayed messages, and how late those come that fall due in a dense stream.
func delayed(o *options) error {
	if err := room(int64(o.nodes) * int64(o.messages) * int64(o.size+64) * 11 / 10); err != nil {
		return err
	}
	c, err := o.newCluster(o.nodes)
	if err != nil {
		return err
	}
	defer c.close()
	cl := c.client()
	defer cl.Close()
	for _, q := range []string{"far", "near"} {
		if err := mustQueue(cl, q, client.Settings{MaxMsgHeapNum: most()}); err != nil {
			return err
		}
	}
	// Due in two to ten hours, in no order.
	rate, err := fill(cl, []string{"far"}, o.messages, o.size, func() time.Duration {
		return time.Duration(7200+rand.IntN(8*3600)) * time.Second
	})
	if err != nil {
		return err
	}
	o.report.figure("%d messages of %d B delayed by 2 to 10 hours, sent at %.0f/s", o.messages, o.size, rate)
	errs := []error{o.pendingMemory(c)}

	total := o.rate * o.seconds
	wait := time.Duration(o.seconds+10) * time.Second
	if wait > time.Minute {
		return errors.New("-seconds may be 50 at most: longer delays are rounded up by more than a millisecond")
	}
	begin := time.Now().Add(wait)
	if err := o.sendDue(cl.Queue("near"), wait, total); err != nil {
		return err
	}
	a := &arrivals{report: &o.report, total: int64(total), planned: func(m *client.Message) (due, error) {
		at, err := strconv.ParseInt(m.Body, 10, 64)
		return due{earliest: time.UnixMicro(at)}, err
	}}
	if time.Until(begin) < time.Second {
		return errors.New("sending took too long: what falls due was not awaited; choose a lower -rate or fewer -seconds")
	}
	if err := a.await(cl, []string{"near"}, begin.Add(2*time.Minute)); err != nil {
		return err
	}
	return errors.Join(append(errs, a.judge("delayed messages"), o.pendingMemory(c))...)
}

// pendingMemory judges what the nodes hold with all the delayed messages pending.
func (o *options) pendingMemory(c *cluster) error {
	var errs []error
	for _, p := range c.nodes {
		now, peak := p.rss()
		errs = append(errs, o.report.bound(peak <= 256e6, "node %d: resident %s, at most %s so far (<= 256 MB)", p.id, mb(now), mb(peak)))
	}
	return errors.Join(errs...)
}

// sendDue sends messages at o.rate, each delayed by the same time, so that they fall due at that rate. What a message says
// in its body is when it falls due if sending it took no time.
func (o *options) sendDue(q *client.Queue, delay time.Duration, total int) error {
	var sent atomic.Int64
	start := time.Now()
	return together(connections, func(int) error {
		for {
			k := sent.Add(batch) - batch
			if k >= int64(total) {
				return nil
			}
			pause(context.Background(), time.Until(start.Add(time.Duration(k)*time.Second/time.Duration(o.rate))))
			begin := time.Now()
			bodies := make([]string, min(batch, int64(total)-k))
			for j := range bodies {
				bodies[j] = strconv.FormatInt(begin.Add(delay).UnixMicro(), 10)
			}
			if _, err := q.BatchSend(context.Background(), bodies, delay); err != nil {
				return err
			}
		}
	})
}

// tick is what cluster time is counted in: a message that was sent within a millisecond counts as sent at its beginning.
const tick = time.Millisecond

// due is when a message should come. The server decides that somewhere between the begin of the request and its answer.
type due struct{ earliest, latest time.Time } // latest is zero if the answer's time is not known

// arrivals is what parked polls find out of how late messages come.
type arrivals struct {
	report  *report
	total   int64
	planned func(m *client.Message) (due, error)

	got   atomic.Int64
	mu    sync.Mutex
	late  []time.Duration // after the earliest moment
	least []time.Duration // after the latest
	early int
}

// await receives and deletes all messages with polls that wait, until all have come or the time is over.
func (a *arrivals) await(cl *client.Client, queues []string, until time.Time) error {
	return together(2*connections, func(i int) error {
		q := cl.Queue(queues[i%len(queues)])
		for a.got.Load() < a.total {
			messages, err := q.BatchReceive(context.Background(), batch, 2*time.Second)
			at := time.Now()
			if errors.Is(err, client.ErrNoMessage) && at.Before(until) {
				continue
			}
			if err != nil {
				return fmt.Errorf("%d of %d messages came: %w", a.got.Load(), a.total, err)
			}
			handles, err := a.take(messages, at)
			if err != nil {
				return err
			}
			if err := q.BatchDelete(context.Background(), handles); err != nil {
				return err
			}
		}
		return nil
	})
}

// take notes how late the messages are that came at this moment.
func (a *arrivals) take(messages []client.Message, at time.Time) (handles []string, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := range messages {
		m := &messages[i]
		planned, err := a.planned(m)
		if err != nil {
			return nil, err
		}
		l := at.Sub(planned.earliest)
		if l < -tick {
			a.early++
		}
		a.late = append(a.late, l)
		if !planned.latest.IsZero() {
			a.least = append(a.least, max(at.Sub(planned.latest), 0))
		}
		handles = append(handles, m.Handle)
	}
	a.got.Add(int64(len(messages)))
	return handles, nil
}

func (a *arrivals) judge(what string) error {
	q := func(p float64) time.Duration { return quantile(a.late, p) }
	if len(a.least) > 0 {
		a.report.figure("%s: without what the request that locked them took, late p50 %v, p99 %v, p99.9 %v, max %v", what,
			quantile(a.least, 0.5), quantile(a.least, 0.99), quantile(a.least, 0.999), quantile(a.least, 1))
	}
	return errors.Join(
		a.report.bound(a.early == 0, "%s: %d of %d came early (0)", what, a.early, len(a.late)),
		a.report.bound(q(0.999) <= 100*time.Millisecond, "%s: late p50 %v, p99 %v, p99.9 %v (<= 100 ms), max %v", what, q(0.5), q(0.99), q(0.999), q(1)))
}

// locked: what many locked messages cost, and how late messages come back whose locks end in a dense stream.
func locked(o *options) error {
	c, err := o.newCluster(o.nodes)
	if err != nil {
		return err
	}
	defer c.close()
	cl := c.client()
	defer cl.Close()
	if err := o.lockMany(c, cl); err != nil {
		return err
	}
	p := c.nodes[0]
	took, err := p.restart()
	if err != nil {
		return err
	}
	now, _ := p.rss()
	restarted := o.report.bound(took <= 5*time.Second, "node 1: killed, serving after %v (<= 5 s), %s resident then", took.Round(time.Millisecond), mb(now))
	a, queues, last, err := o.lockBriefly(cl)
	if err != nil {
		return err
	}
	if err := a.await(cl, queues, last.Add(2*time.Minute)); err != nil {
		return err
	}
	return errors.Join(restarted, a.judge("ended locks"))
}

// lockMany locks o.messages messages for hours, in as many queues as that takes.
func (o *options) lockMany(c *cluster, cl *client.Client) error {
	queues := names("held", (o.messages+mostLocked-1)/mostLocked)
	for _, q := range queues {
		if err := mustQueue(cl, q, client.Settings{VisibilityTimeout: lock(12 * time.Hour)}); err != nil {
			return err
		}
	}
	var total int64
	begin := time.Now()
	for i, q := range queues {
		n := min(mostLocked, o.messages-i*mostLocked)
		if _, err := fill(cl, []string{q}, n, 100, nil); err != nil {
			return err
		}
		_, got, err := drain(cl, []string{q}, n, func(int64) bool { return true })
		if err != nil {
			return err
		}
		total += got
	}
	pause(context.Background(), min(o.settle, time.Minute))
	for _, p := range c.nodes {
		now, peak := p.rss()
		o.report.figure("node %d: resident %s, at most %s, with %d messages locked", p.id, mb(now), mb(peak), total)
	}
	return o.report.bound(total == int64(o.messages), "%d of %d locked (all), sent and locked at %.0f/s", total, o.messages, float64(total)/time.Since(begin).Seconds())
}

// lockBriefly locks messages one after the other at o.rate, for so long that all are locked before the first comes back.
// It says when the last will, and what to await.
func (o *options) lockBriefly(cl *client.Client) (a *arrivals, queues []string, last time.Time, err error) {
	total := o.rate * o.seconds
	d := time.Duration(o.seconds+20) * time.Second
	queues = names("brief", (total+mostLocked-1)/mostLocked)
	for _, q := range queues {
		if err = mustQueue(cl, q, client.Settings{VisibilityTimeout: lock(d)}); err != nil {
			return nil, nil, last, err
		}
	}
	if _, err = fill(cl, queues, total, 100, nil); err != nil {
		return nil, nil, last, err
	}
	var mu sync.Mutex
	ends := make(map[string]due, total)
	var taken atomic.Int64
	begin := time.Now()
	err = together(connections, func(i int) error {
		q := cl.Queue(queues[i%len(queues)])
		for {
			k := taken.Add(batch) - batch
			pause(context.Background(), time.Until(begin.Add(time.Duration(k)*time.Second/time.Duration(o.rate))))
			at := time.Now()
			messages, err := q.BatchReceive(context.Background(), batch, 0)
			if errors.Is(err, client.ErrNoMessage) {
				return nil
			}
			if err != nil {
				return err
			}
			end := due{at.Add(d), time.Now().Add(d)}
			mu.Lock()
			for _, m := range messages {
				ends[m.ID] = end
			}
			mu.Unlock()
		}
	})
	if err == nil && time.Since(begin) > d {
		err = errors.New("locking took longer than the locks last; choose a lower -rate")
	}
	a = &arrivals{report: &o.report, total: int64(len(ends)), planned: func(m *client.Message) (due, error) {
		end, ok := ends[m.ID]
		if !ok {
			return end, fmt.Errorf("message %s was never locked", m.ID)
		}
		return end, nil
	}}
	return a, queues, time.Now().Add(d), err
}
