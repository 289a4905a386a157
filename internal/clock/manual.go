package clock

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

// Manual is a clock that stands still until it is told to move.
type Manual struct {
	mu      sync.Mutex
	changed *sync.Cond // a timer was started
	wall    time.Time
	mono    time.Duration
	started uint64         // timers started so far; breaks ties of equal due times
	running []*manualTimer // in order of (due, number)
}

// NewManual makes a clock whose wall clock shows wall and whose monotonic clock shows 0.
func NewManual(wall time.Time) *Manual {
	m := &Manual{wall: wall}
	m.changed = sync.NewCond(&m.mu)
	return m
}

// Now is the wall clock: its first value, plus all Advance, changed by SetWall.
func (m *Manual) Now() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.wall
}

// Mono is the sum of all Advance so far.
func (m *Manual) Mono() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.mono
}

// SetWall makes the wall clock jump. Timers do not notice.
func (m *Manual) SetWall(wall time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.wall = wall
}

// Advance moves both clocks forward by d and fires the timers that fall due, in order of their due times;
// while one fires, the clocks show its due time. Functions of AfterFunc run inside Advance.
func (m *Manual) Advance(d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	end := m.mono + max(d, 0)
	for len(m.running) > 0 && m.running[0].due <= end {
		t := m.running[0]
		m.running = m.running[1:]
		m.moveLocked(t.due)
		m.fireLocked(t)
	}
	m.moveLocked(end)
}

// moveLocked sets both clocks to the monotonic time mono, if that is ahead.
func (m *Manual) moveLocked(mono time.Duration) {
	if mono > m.mono {
		m.wall = m.wall.Add(mono - m.mono)
		m.mono = mono
	}
}

func (m *Manual) fireLocked(t *manualTimer) {
	if t.f == nil {
		t.c <- m.wall // has room: Stop and Reset empty it
		return
	}
	m.mu.Unlock()
	defer m.mu.Lock()
	t.f()
}

// Next is the time until the next timer fires; false if none is running.
func (m *Manual) Next() (time.Duration, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.running) == 0 {
		return 0, false
	}
	return max(m.running[0].due-m.mono, 0), true
}

// AwaitTimers returns when at least n timers are running: the goroutines under test have got to where they
// wait.
func (m *Manual) AwaitTimers(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for len(m.running) < n {
		m.changed.Wait()
	}
}

// NewTimer makes a timer that fires in an Advance; with d <= 0 in the next one, even if that is Advance(0).
func (m *Manual) NewTimer(d time.Duration) Timer {
	t := &manualTimer{m: m, c: make(chan time.Time, 1)}
	t.Reset(d)
	return t
}

// AfterFunc makes a timer that calls f in an Advance.
func (m *Manual) AfterFunc(d time.Duration, f func()) Timer {
	t := &manualTimer{m: m, f: f}
	t.Reset(d)
	return t
}

type manualTimer struct {
	m      *Manual
	c      chan time.Time // capacity 1; nil with f
	f      func()
	due    time.Duration
	number uint64
}

func (t *manualTimer) C() <-chan time.Time { return t.c }

func (t *manualTimer) Stop() bool {
	t.m.mu.Lock()
	defer t.m.mu.Unlock()
	return t.stopLocked()
}

func (t *manualTimer) stopLocked() bool {
	select {
	case <-t.c:
	default:
	}
	i := slices.Index(t.m.running, t)
	if i < 0 {
		return false
	}
	t.m.running = slices.Delete(t.m.running, i, i+1)
	return true
}

func (t *manualTimer) Reset(d time.Duration) bool {
	t.m.mu.Lock()
	defer t.m.mu.Unlock()
	was := t.stopLocked()
	t.m.started++
	t.due, t.number = t.m.mono+max(d, 0), t.m.started
	i, _ := slices.BinarySearchFunc(t.m.running, t, compareTimers)
	t.m.running = slices.Insert(t.m.running, i, t)
	t.m.changed.Broadcast()
	return was
}

func compareTimers(a, b *manualTimer) int {
	return cmp.Or(cmp.Compare(a.due, b.due), cmp.Compare(a.number, b.number))
}
