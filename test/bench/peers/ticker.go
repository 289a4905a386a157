package main

import (
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// tick is how often arrivals are looked at. To wake for each of fifty thousand a second would take half a core from the nodes
// on the same machine.
const tick = 200 * time.Microsecond

// ticker is the clock of all connections. One goroutine sleeps and wakes the others: a timer for each of sixteen connections
// and each tick would take as much of the processor as the messages.
type ticker struct {
	mu      sync.Mutex
	changed sync.Cond
	start   time.Time
	passed  atomic.Int64 // since start, in whole ticks; math.MaxInt64: stopped. Changed under mu
}

func (t *ticker) init() { t.changed.L, t.start = &t.mu, time.Now() }

// run ticks until stop is closed.
func (t *ticker) run(stop <-chan struct{}) {
	defer t.advance(math.MaxInt64)
	for {
		select {
		case <-stop:
			return
		default:
		}
		next := time.Since(t.start)/tick*tick + tick
		time.Sleep(time.Until(t.start.Add(next)))
		t.advance(time.Since(t.start) / tick * tick)
	}
}

// advance wakes those that wait.
func (t *ticker) advance(passed time.Duration) {
	t.mu.Lock()
	t.passed.Store(int64(passed))
	t.mu.Unlock()
	t.changed.Broadcast()
}

// until waits for the tick in which something arrives and gives its time; false at the end.
func (t *ticker) until(arrival time.Duration) (at time.Time, ok bool) {
	due := (arrival + tick - 1) / tick * tick
	passed := t.passed.Load()
	if passed < int64(due) {
		t.mu.Lock()
		for passed = t.passed.Load(); passed < int64(due); passed = t.passed.Load() {
			t.changed.Wait()
		}
		t.mu.Unlock()
	}
	return t.start.Add(due), passed != math.MaxInt64
}
