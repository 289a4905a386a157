package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencmq/cmq/client"
)

const (
	connections = 48
	batch       = client.MaxBatch
)

// fill sends n messages of size bytes in batches, and says how fast.
func fill(cl *client.Client, queues []string, n, size int, delay func() time.Duration) (rate float64, err error) {
	body := strings.Repeat("x", size)
	bodies := make([]string, batch)
	for i := range bodies {
		bodies[i] = body
	}
	var next atomic.Int64
	begin := time.Now()
	err = together(connections, func(i int) error {
		q := cl.Queue(queues[i%len(queues)])
		for {
			k := min(batch, n-int(next.Add(batch))+batch)
			if k <= 0 {
				return nil
			}
			var d time.Duration
			if delay != nil {
				d = delay()
			}
			if _, err := q.BatchSend(context.Background(), bodies[:k], d); err != nil {
				return err
			}
		}
	})
	return float64(n) / time.Since(begin).Seconds(), err
}

// drain receives and deletes until n messages are gone or the queues are empty; keep says which messages are left alone.
func drain(cl *client.Client, queues []string, n int, keep func(number int64) bool) (rate float64, gone int64, err error) {
	var count, number atomic.Int64
	begin := time.Now()
	err = together(connections, func(i int) error {
		q := cl.Queue(queues[i%len(queues)])
		for count.Load() < int64(n) {
			messages, err := q.BatchReceive(context.Background(), batch, 0)
			if errors.Is(err, client.ErrNoMessage) {
				return nil
			}
			if err != nil {
				return err
			}
			var handles []string
			for _, m := range messages {
				if keep != nil && keep(number.Add(1)) {
					continue
				}
				handles = append(handles, m.Handle)
			}
			count.Add(int64(len(messages)))
			if len(handles) == 0 {
				continue
			}
			if err := q.BatchDelete(context.Background(), handles); err != nil {
				return err
			}
		}
		return nil
	})
	return float64(count.Load()) / time.Since(begin).Seconds(), count.Load(), err
}

// together runs f n times at once.
func together(n int, f func(i int) error) error {
	var wg sync.WaitGroup
	errs := make([]error, n)
	for i := range n {
		wg.Go(func() { errs[i] = f(i) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// steady sends one message at a time on a few connections until it is stopped, and keeps the latencies.
type steady struct {
	cancel context.CancelFunc
	wg     sync.WaitGroup
	mu     sync.Mutex
	all    []time.Duration
	failed int
}

func startSteady(cl *client.Client, queue string, senders int, interval time.Duration) *steady {
	ctx, cancel := context.WithCancel(context.Background())
	s := &steady{cancel: cancel}
	for range senders {
		s.wg.Go(func() {
			q, body := cl.Queue(queue), strings.Repeat("s", 1024)
			for tick := time.NewTicker(interval); ctx.Err() == nil; {
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
				}
				begin := time.Now()
				_, err := q.Send(ctx, body)
				took := time.Since(begin)
				s.mu.Lock()
				if err == nil {
					s.all = append(s.all, took)
				} else if ctx.Err() == nil {
					s.failed++
				}
				s.mu.Unlock()
			}
		})
	}
	return s
}

// take gives the latencies since the last call.
func (s *steady) take() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	text := fmt.Sprintf("%d sends, p50 %v, p99 %v, max %v, %d failed", len(s.all), quantile(s.all, 0.5), quantile(s.all, 0.99), quantile(s.all, 1), s.failed)
	s.all, s.failed = nil, 0
	return text
}

func (s *steady) stop() {
	s.cancel()
	s.wg.Wait()
}

func quantile(all []time.Duration, q float64) time.Duration {
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	i := int(math.Ceil(q*float64(len(all)))) - 1
	return all[max(i, 0)].Round(10 * time.Microsecond)
}
