package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/opencmq/cmq/client"
)

// pollsMain is "bench polls": so many long polls wait on empty queues, and what they cost: memory for each, on all nodes
// together, and processor time; then all of them are answered by one message each.
func (p *cmqPeer) pollsMain(polls, conns int, pids []int) {
	if polls%(conns*p.queues) != 0 {
		fatal("the polls cannot be spread evenly over connections and queues")
	}
	check(p.Setup())
	time.Sleep(2 * time.Second)
	before := usageOf(pids)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var (
		wg    sync.WaitGroup
		got   = make(chan time.Time, polls)
		fails = make(chan error, polls)
	)
	for i := range conns {
		c, err := p.client()
		check(err)
		defer c.Close()
		from := p.turn(c, i)
		for range polls / conns {
			q := from.take()
			wg.Go(func() { poll(ctx, q, got, fails) })
		}
	}
	time.Sleep(5 * time.Second)
	if n := len(fails); n > 0 {
		fatal(fmt.Sprintf("%d polls failed at once: %v", n, <-fails))
	}
	waiting, t0 := usageOf(pids), time.Now()
	time.Sleep(5 * time.Second)
	idle := usageOf(pids)
	fmt.Printf("%d long polls on %d connections wait: %.1f KiB each in all nodes, %.1f %% of a core\n", polls, conns,
		float64(waiting.RSS-before.RSS)/1024/float64(polls), 100*(idle.CPU-waiting.CPU)/time.Since(t0).Seconds())
	p.feed(polls)
	last := time.Now()
	for range polls {
		select {
		case last = <-got:
		case err := <-fails:
			fatal("a poll failed: " + err.Error())
		case <-time.After(20 * time.Second):
			fatal("not every poll was answered")
		}
	}
	fmt.Printf("all of them answered %.0f ms after the first of %d messages was sent\n", last.Sub(p.fed).Seconds()*1e3, polls)
	cancel()
	wg.Wait()
}

// poll waits for one message, however often it has to ask.
func poll(ctx context.Context, q *client.Queue, got chan<- time.Time, fails chan<- error) {
	for {
		_, err := q.Receive(ctx, 30*time.Second)
		switch {
		case err == nil:
			got <- time.Now()
			return
		case errors.Is(err, client.ErrNoMessage):
		default:
			fails <- err
			return
		}
	}
}

// feed sends n messages, as many to each queue as poll it.
func (p *cmqPeer) feed(n int) {
	p.fed = time.Now()
	to := p.turn(p.admin, 0)
	each := n / len(to.queues)
	bodies := make([]string, client.MaxBatch)
	for i := range bodies {
		bodies[i] = "one message of a long poll"
	}
	batches := (each + len(bodies) - 1) / len(bodies)
	check(inParallel(batches*len(to.queues), func(i int) error {
		some := bodies[:min(len(bodies), each-i/len(to.queues)*len(bodies))]
		_, err := to.queues[i%len(to.queues)].BatchSend(context.Background(), some, 0)
		return err
	}))
}
