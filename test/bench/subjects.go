package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/opencmq/cmq/client"
)

// room refuses to begin a measurement that would fill the disk.
func room(need int64) error {
	var s syscall.Statfs_t
	dir := os.Getenv("CMQ_BENCH_DIR")
	if dir == "" {
		dir = os.TempDir()
	}
	if err := syscall.Statfs(dir, &s); err != nil {
		return err
	}
	if free := int64(s.Bavail) * s.Bsize; free < need+spare {
		return fmt.Errorf("%s has %s free, this needs %s and %s beside it; choose fewer messages or another CMQ_BENCH_DIR", dir, mb(free), mb(need), mb(spare))
	}
	return nil
}

func mustQueue(cl *client.Client, name string, s client.Settings) error {
	_, err := cl.CreateQueue(context.Background(), name, s)
	return err
}

func lock(d time.Duration) *time.Duration { return &d }

// most is the largest MaxMsgHeapNum of the API, for queues that are to hold a whole measurement.
func most() *int64 {
	n := int64(1_000_000_000)
	return &n
}

// names are a few queues, so that each node of a cluster leads some.
func names(prefix string, n int) (list []string) {
	for i := range n {
		list = append(list, prefix+strconv.Itoa(i))
	}
	return list
}

// backlog: memory, rates and restart with a backlog far larger than memory.
func backlog(o *options) error {
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
	queues := names("backlog", o.nodes)
	for _, q := range queues {
		if err := mustQueue(cl, q, client.Settings{MaxMsgHeapNum: most()}); err != nil {
			return err
		}
	}
	sample := min(o.messages/4, 400_000)
	emptySend, err := fill(cl, queues, sample, o.size, nil)
	if err != nil {
		return err
	}
	emptyReceive, drained, err := drain(cl, queues, sample, nil)
	if err != nil {
		return err
	}
	rate, err := fill(cl, queues, o.messages, o.size, nil)
	if err != nil {
		return err
	}
	o.report.figure("filled with %d x %d B on %d node(s) at %.0f/s", o.messages, o.size, o.nodes, rate)
	fullSend, err := fill(cl, queues, sample, o.size, nil)
	if err != nil {
		return err
	}
	fullReceive, n, err := drain(cl, queues, sample, nil)
	if err != nil {
		return err
	}
	rest := int64(2*sample+o.messages) - drained - n
	var errs []error
	for _, p := range c.nodes {
		_, peak := p.rss()
		errs = append(errs, o.report.bound(peak <= 512e6, "node %d: resident memory at most %s (<= 512 MB), disk %s", p.id, mb(peak), mb(p.disk())))
	}
	errs = append(errs,
		o.report.bound(fullSend >= 0.8*emptySend, "send: %.0f/s empty, %.0f/s with the backlog (>= 80 %%)", emptySend, fullSend),
		o.report.bound(fullReceive >= 0.8*emptyReceive, "receive+delete: %.0f/s empty, %.0f/s with the backlog (>= 80 %%)", emptyReceive, fullReceive))
	for _, p := range c.nodes {
		took, err := p.restart()
		if err != nil {
			return err
		}
		now, _ := p.rss()
		errs = append(errs, o.report.bound(took <= 5*time.Second, "node %d: killed, serving after %v (<= 5 s), %s resident then", p.id, took.Round(time.Millisecond), mb(now)))
	}
	var total int64
	begin := time.Now()
	for total < rest {
		_, n, err := drain(cl, queues, o.messages, nil)
		if err != nil {
			return err
		}
		if n == 0 {
			break
		}
		total += n
	}
	errs = append(errs, o.report.bound(total == rest, "drained %d of %d at %.0f/s", total, rest, float64(total)/time.Since(begin).Seconds()))
	for _, p := range c.nodes {
		_, peak := p.rss()
		errs = append(errs, o.report.bound(peak <= 512e6, "node %d: resident at most %s while draining (<= 512 MB)", p.id, mb(peak)))
		errs = append(errs, o.freed(p, o.segments(), 2*time.Minute))
	}
	return errors.Join(errs...)
}

// segments is the bytes of two segments of each set that a node has: the one in use, and what is behind the older image.
// There are as many data sets as nodes.
func (o *options) segments() int64 { return int64(o.nodes) * 2 * 64 << 20 }

// freed waits until log and archive have come down to a few segments.
func (o *options) freed(p *process, most int64, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	begin := time.Now()
	for {
		logBytes, err := p.metric("cmq_set_log_bytes")
		if err != nil {
			return err
		}
		archive, err := p.metric("cmq_set_archive_bytes")
		if err != nil {
			return err
		}
		if used := int64(logBytes + archive); used <= most || !pause(ctx, 100*time.Millisecond) {
			return o.report.bound(used <= most, "node %d: log and archive %s, %s after the last delete (<= %s)", p.id, mb(used), time.Since(begin).Round(time.Second), mb(most))
		}
	}
}

// sparse: disk over living bytes when one message in 10,000 is never deleted.
func sparse(o *options) error {
	if err := room(int64(o.messages) * int64(o.size+64) * 11 / 10); err != nil {
		return err
	}
	c, err := o.newCluster(o.nodes)
	if err != nil {
		return err
	}
	defer c.close()
	cl := c.client()
	defer cl.Close()
	queues := names("sparse", o.nodes)
	for _, q := range queues {
		if err := mustQueue(cl, q, client.Settings{VisibilityTimeout: lock(12 * time.Hour)}); err != nil {
			return err
		}
	}
	if _, err := fill(cl, queues, o.messages, o.size, nil); err != nil {
		return err
	}
	kept := int64(0)
	var mu sync.Mutex
	_, gone, err := drain(cl, queues, o.messages, func(number int64) bool {
		if number%10_000 != 0 {
			return false
		}
		mu.Lock()
		kept++
		mu.Unlock()
		return true
	})
	if err != nil {
		return err
	}
	live := kept * int64(o.size)
	o.report.figure("sent %d, received %d, left %d undeleted: %s live", o.messages, gone, kept, mb(live))
	var errs []error
	for _, p := range c.nodes {
		// Slack: the log behind the older of the two images and the segment in use.
		errs = append(errs, o.freed(p, live*3/2+o.segments(), 3*time.Minute))
		archive, err := p.metric("cmq_set_archive_bytes")
		if err != nil {
			return err
		}
		errs = append(errs, o.report.bound(archive <= 1.5*float64(live)+64<<10, "node %d: archive %.2f MB for %.2f MB of living messages (<= 1.5 times)", p.id, archive/1e6, float64(live)/1e6))
	}
	return errors.Join(errs...)
}

// manyQueues: what idle queues cost.
func manyQueues(o *options) error {
	c, err := o.newCluster(o.nodes, "--limits-queues-per-owner", strconv.Itoa(o.queues+1))
	if err != nil {
		return err
	}
	defer c.close()
	cl := c.client()
	defer cl.Close()
	begin := time.Now()
	var next atomic.Int64
	err = together(connections, func(int) error {
		for {
			i := next.Add(1)
			if i > int64(o.queues) {
				return nil
			}
			name := fmt.Sprintf("q%06d", i)
			if err := mustQueue(cl, name, client.Settings{}); err != nil {
				return err
			}
			if _, err := cl.Queue(name).BatchSend(context.Background(), []string{"a", "b", "c"}, 0); err != nil {
				return err
			}
		}
	})
	if err != nil {
		return err
	}
	o.report.figure("%d queues with 3 messages each made in %v", o.queues, time.Since(begin).Round(time.Second))
	p := c.nodes[0]
	pause(context.Background(), o.settle)
	before := p.cpu()
	pause(context.Background(), 30*time.Second)
	idle := float64(p.cpu()-before) / float64(30*time.Second)
	now, peak := p.rss()
	if err := errors.Join(p.profile(o.profiles, "profile?seconds=20", "queues-cpu"), p.profile(o.profiles, "heap", "queues-heap"), p.profile(o.profiles, "heap?debug=1", "queues-memstats")); err != nil {
		return err
	}
	took, err := p.restart()
	if err != nil {
		return err
	}
	after, _ := p.rss()
	var pages []time.Duration
	for range 50 {
		begin := time.Now()
		if _, err := cl.ListQueues(context.Background(), client.ListOptions{Offset: rand.IntN(o.queues), Limit: 50}); err != nil {
			return err
		}
		pages = append(pages, time.Since(begin))
	}
	return errors.Join(
		o.report.bound(now <= 200e6, "resident %s, at most %s while they were made (<= 200 MB)", mb(now), mb(peak)),
		o.report.bound(idle < 0.01, "idle: %.2f %% of a core (< 1 %%)", 100*idle),
		o.report.bound(took <= 5*time.Second, "killed, serving after %v (<= 5 s), %s resident then", took.Round(time.Millisecond), mb(after)),
		o.report.bound(quantile(pages, 0.5) < 50*time.Millisecond, "a page of ListQueue: p50 %v, max %v (p50 < 50 ms)", quantile(pages, 0.5), quantile(pages, 1)))
}

// rejoin: a node that was wiped and one that is far behind, under load.
func rejoin(o *options) error {
	if err := room(3 * int64(o.messages) * int64(o.size+64) * 11 / 10); err != nil {
		return err
	}
	c, err := o.newCluster(3)
	if err != nil {
		return err
	}
	defer c.close()
	cl := c.client()
	defer cl.Close()
	queues := names("rejoin", 3)
	for _, q := range append(queues, "steady") {
		if err := mustQueue(cl, q, client.Settings{MaxMsgHeapNum: most()}); err != nil {
			return err
		}
	}
	s := startSteady(cl, "steady", 4, 5*time.Millisecond)
	defer s.stop()
	fillHalf := func() error {
		_, err := fill(cl, queues, o.messages/2, o.size, nil)
		return err
	}
	if err := fillHalf(); err != nil {
		return err
	}
	s.take()
	pause(context.Background(), 10*time.Second)
	o.report.figure("sends before:            %s", s.take())

	p, behind := c.nodes[2], int64(o.messages/2)*int64(o.size)
	p.kill()
	if err := fillHalf(); err != nil {
		return err
	}
	s.take()
	err = o.return3(c, s, fmt.Sprintf("%s behind", mb(behind)), func() error { return nil })
	if err == nil {
		err = o.return3(c, s, "wiped", func() error { return os.RemoveAll(p.dir()) })
	}
	if err != nil {
		return err
	}
	_, total, err := drain(cl, queues, o.messages, nil)
	if err != nil {
		return err
	}
	return o.report.bound(total == int64(o.messages), "drained %d of %d (all)", total, o.messages)
}

// return3 starts node 3 again, after prepare, and waits until it has caught up. There is no goal for how long that takes:
// the rate at which it fetches is a setting.
func (o *options) return3(c *cluster, s *steady, how string, prepare func() error) error {
	p := c.nodes[2]
	p.kill()
	if err := prepare(); err != nil {
		return err
	}
	before := p.disk()
	begin := time.Now()
	if err := p.start(); err != nil {
		return err
	}
	if err := caughtUp(c, p); err != nil {
		return err
	}
	took := time.Since(begin)
	o.report.figure("node 3 was %s, caught up after %v: %s/s; disk %s, then %s", how, took.Round(10*time.Millisecond),
		mb(int64(float64(p.disk()-before)/took.Seconds())), mb(before), mb(p.disk()))
	o.report.figure("sends meanwhile:         %s", s.take())
	for _, p := range c.nodes {
		now, peak := p.rss()
		o.report.figure("node %d: resident %s, at most %s so far", p.id, mb(now), mb(peak))
	}
	return nil
}

// caughtUp waits until the node has applied what another had applied before.
func caughtUp(c *cluster, p *process) error {
	if err := p.ready(5 * time.Minute); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	for {
		want, err := c.nodes[0].metric("cmq_set_applied_index")
		if err != nil {
			return err
		}
		have, err := p.metric("cmq_set_applied_index")
		if err != nil {
			return err
		}
		state, err := p.metric("cmq_set_state")
		if err != nil {
			return err
		}
		if have+100 >= want && state == 0 {
			return nil
		}
		if !pause(ctx, 20*time.Millisecond) {
			return fmt.Errorf("node %d has not caught up after 10 minutes: applied %.0f of %.0f", p.id, have, want)
		}
	}
}
