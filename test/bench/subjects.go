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
	c, err := newCluster(o.bin, o.nodes)
	if err != nil {
		return err
	}
	defer c.close()
	cl := c.client()
	defer cl.Close()
	queues := names("backlog", o.nodes)
	for _, q := range queues {
		if err := mustQueue(cl, q, client.Settings{}); err != nil {
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
	fmt.Printf("filled      %d x %d B on %d node(s) at %.0f/s\n", o.messages, o.size, o.nodes, rate)
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
		errs = append(errs, bound(peak <= 512e6, "node %d: resident memory at most %s (<= 512 MB), disk %s", p.id, mb(peak), mb(p.disk())))
	}
	errs = append(errs,
		bound(fullSend >= 0.8*emptySend, "send: %.0f/s empty, %.0f/s with the backlog (>= 80 %%)", emptySend, fullSend),
		bound(fullReceive >= 0.8*emptyReceive, "receive+delete: %.0f/s empty, %.0f/s with the backlog (>= 80 %%)", emptyReceive, fullReceive))
	for _, p := range c.nodes {
		took, err := p.restart()
		if err != nil {
			return err
		}
		now, _ := p.rss()
		errs = append(errs, bound(took <= 5*time.Second, "node %d: killed, serving after %v (<= 5 s), %s resident then", p.id, took.Round(time.Millisecond), mb(now)))
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
	errs = append(errs, bound(total == rest, "drained %d of %d at %.0f/s", total, rest, float64(total)/time.Since(begin).Seconds()))
	for _, p := range c.nodes {
		_, peak := p.rss()
		fmt.Printf("node %d      resident at most %s while draining\n", p.id, mb(peak))
		errs = append(errs, freed(p, 2*64<<20, 2*time.Minute))
	}
	return errors.Join(errs...)
}

// freed waits until log and archive have come down to a few segments.
func freed(p *process, most int64, limit time.Duration) error {
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
		sets, err := p.metric("cmq_set_state")
		if err != nil {
			return err
		}
		_ = sets
		if used := int64(logBytes + archive); used <= most || !pause(ctx, 100*time.Millisecond) {
			return bound(used <= most, "node %d: log and archive %s, %s after the last delete (<= %s)", p.id, mb(used), time.Since(begin).Round(time.Second), mb(most))
		}
	}
}

// sparse: disk over living bytes when one message in 10,000 is never deleted.
func sparse(o *options) error {
	if err := room(int64(o.messages) * int64(o.size+64) * 11 / 10); err != nil {
		return err
	}
	c, err := newCluster(o.bin, o.nodes)
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
	fmt.Printf("sent %d, received %d, left %d undeleted: %s live\n", o.messages, gone, kept, mb(live))
	var errs []error
	for _, p := range c.nodes {
		// Slack: the log behind the older of the two images and the segment in use.
		errs = append(errs, freed(p, live*3/2+2*64<<20, 3*time.Minute))
		archive, err := p.metric("cmq_set_archive_bytes")
		if err != nil {
			return err
		}
		errs = append(errs, bound(archive <= 1.5*float64(live)+64<<10, "node %d: archive %.2f MB for %.2f MB of living messages (<= 1.5 times)", p.id, archive/1e6, float64(live)/1e6))
	}
	return errors.Join(errs...)
}

// manyQueues: what idle queues cost.
func manyQueues(o *options) error {
	c, err := newCluster(o.bin, o.nodes, "--limits-queues-per-owner", strconv.Itoa(o.queues+1))
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
	fmt.Printf("%d queues with 3 messages each made in %v\n", o.queues, time.Since(begin).Round(time.Second))
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
		bound(now <= 200e6, "resident %s, at most %s while they were made (<= 200 MB)", mb(now), mb(peak)),
		bound(idle < 0.01, "idle: %.2f %% of a core (< 1 %%)", 100*idle),
		bound(took <= 5*time.Second, "killed, serving after %v (<= 5 s), %s resident then", took.Round(time.Millisecond), mb(after)),
		bound(quantile(pages, 0.5) < 50*time.Millisecond, "a page of ListQueue: p50 %v, max %v", quantile(pages, 0.5), quantile(pages, 1)))
}

// rejoin: a node that was wiped and one that is far behind, under load.
func rejoin(o *options) error {
	if err := room(3 * int64(o.messages) * int64(o.size+64) * 11 / 10); err != nil {
		return err
	}
	c, err := newCluster(o.bin, 3)
	if err != nil {
		return err
	}
	defer c.close()
	cl := c.client()
	defer cl.Close()
	queues := names("rejoin", 3)
	for _, q := range queues {
		if err := mustQueue(cl, q, client.Settings{}); err != nil {
			return err
		}
	}
	if err := mustQueue(cl, "steady", client.Settings{}); err != nil {
		return err
	}
	s := startSteady(cl, "steady", 4, 5*time.Millisecond)
	defer s.stop()
	pause(context.Background(), 10*time.Second)
	fmt.Println("clean         ", s.take())
	if _, err := fill(cl, queues, o.messages/2, o.size, nil); err != nil {
		return err
	}
	fmt.Println("while filling ", s.take())
	p := c.nodes[2]

	// Far behind: stopped while the other half is sent.
	p.kill()
	if _, err := fill(cl, queues, o.messages/2, o.size, nil); err != nil {
		return err
	}
	fmt.Println("node 3 away   ", s.take())
	begin := time.Now()
	if err := p.start(); err != nil {
		return err
	}
	if err := caughtUp(c, p); err != nil {
		return err
	}
	fmt.Printf("node 3 was %s behind and has caught up after %v, disk %s\n", mb(int64(o.messages/2)*int64(o.size)), time.Since(begin).Round(10*time.Millisecond), mb(p.disk()))
	fmt.Println("meanwhile     ", s.take())

	// Wiped: everything is fetched.
	p.kill()
	if err := os.RemoveAll(p.dir()); err != nil {
		return err
	}
	begin = time.Now()
	if err := p.start(); err != nil {
		return err
	}
	if err := caughtUp(c, p); err != nil {
		return err
	}
	fmt.Printf("node 3 was wiped and has caught up after %v, disk %s\n", time.Since(begin).Round(10*time.Millisecond), mb(p.disk()))
	fmt.Println("meanwhile     ", s.take())
	_, total, err := drain(cl, queues, o.messages, nil)
	if err != nil {
		return err
	}
	return bound(total == int64(o.messages), "drained %d of %d", total, o.messages)
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

// delayed: memory of pending delayed messages, and how late those come that fall due in a dense stream.
func delayed(o *options) error {
	if err := room(int64(o.messages) * int64(o.size+64) * 11 / 10); err != nil {
		return err
	}
	c, err := newCluster(o.bin, o.nodes)
	if err != nil {
		return err
	}
	defer c.close()
	cl := c.client()
	defer cl.Close()
	for _, q := range []string{"far", "near"} {
		if err := mustQueue(cl, q, client.Settings{}); err != nil {
			return err
		}
	}
	rate, err := fill(cl, []string{"far"}, o.messages, o.size, func() time.Duration {
		return time.Duration(3000+rand.IntN(600)) * time.Second
	})
	if err != nil {
		return err
	}
	now, peak := c.nodes[0].rss()
	fmt.Printf("%d pending, sent at %.0f/s\n", o.messages, rate)
	errs := []error{bound(now <= 256e6, "resident %s, at most %s (<= 256 MB)", mb(now), mb(peak))}

	// A stream that falls due at 20,000 a second for 20 seconds, beginning 15 s from now.
	const perSecond, seconds = 20_000, 20
	var sent atomic.Int64
	due := time.Now().Add(15 * time.Second)
	err = together(connections, func(i int) error {
		q := cl.Queue("near")
		for {
			k := sent.Add(batch) - batch
			if k >= perSecond*seconds {
				return nil
			}
			at := due.Add(time.Duration(k) * time.Second / perSecond)
			d := time.Until(at).Round(time.Second) // the API's delays are whole seconds
			begin := time.Now()
			bodies := make([]string, batch)
			for j := range bodies {
				bodies[j] = strconv.FormatInt(begin.Add(d).UnixMicro(), 10)
			}
			if _, err := q.BatchSend(context.Background(), bodies, d); err != nil {
				return err
			}
		}
	})
	if err != nil {
		return err
	}
	var mu sync.Mutex
	var late []time.Duration
	early := 0
	var got atomic.Int64
	err = together(connections, func(int) error {
		q := cl.Queue("near")
		for got.Load() < perSecond*seconds {
			messages, err := q.BatchReceive(context.Background(), batch, 2*time.Second)
			if errors.Is(err, client.ErrNoMessage) {
				if time.Since(due) > 2*time.Minute {
					return errors.New("delayed messages did not come")
				}
				continue
			}
			if err != nil {
				return err
			}
			at := time.Now()
			var handles []string
			mu.Lock()
			for _, m := range messages {
				planned, err := strconv.ParseInt(m.Body, 10, 64)
				if err != nil {
					mu.Unlock()
					return err
				}
				l := at.Sub(time.UnixMicro(planned))
				if l < 0 {
					early++
				}
				late = append(late, l)
				handles = append(handles, m.Handle)
			}
			mu.Unlock()
			got.Add(int64(len(messages)))
			if err := q.BatchDelete(context.Background(), handles); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	now, peak = c.nodes[0].rss()
	return errors.Join(append(errs,
		bound(early == 0, "%d of %d came early", early, len(late)),
		bound(quantile(late, 0.999) <= 100*time.Millisecond, "late: p50 %v, p99 %v, p99.9 %v (<= 100 ms), max %v", quantile(late, 0.5), quantile(late, 0.99), quantile(late, 0.999), quantile(late, 1)),
		bound(true, "resident %s, at most %s", mb(now), mb(peak)))...)
}

// locked: as many locked messages as the queues allow, and their return when the locks end.
func locked(o *options) error {
	c, err := newCluster(o.bin, o.nodes)
	if err != nil {
		return err
	}
	defer c.close()
	cl := c.client()
	defer cl.Close()
	queues := names("locked", 10)
	for _, q := range queues {
		if err := mustQueue(cl, q, client.Settings{VisibilityTimeout: lock(time.Minute)}); err != nil {
			return err
		}
	}
	n := min(o.messages, 1_000_000)
	if _, err := fill(cl, queues, n, 100, nil); err != nil {
		return err
	}
	begin := time.Now()
	rate, got, err := drain(cl, queues, n, func(int64) bool { return true })
	if err != nil {
		return err
	}
	now, peak := c.nodes[0].rss()
	fmt.Printf("%d messages locked at %.0f/s; resident %s, at most %s\n", got, rate, mb(now), mb(peak))
	pause(context.Background(), time.Until(begin.Add(61*time.Second+time.Since(begin))))
	rate, again, err := drain(cl, queues, n, nil)
	if err != nil {
		return err
	}
	return bound(again == got, "%d came back when their locks had ended, at %.0f/s", again, rate)
}
