// Package clock is time as an interface: the real clock of a running node and a manual one that tests and
// the simulator advance. It is not cluster time, which internal/set makes out of these clocks.
//
// Two readings must not be mixed. Now is the wall clock: it may jump, and is only for people and for the
// comparison of clocks between nodes. Mono never goes back and is what every wait and every lock is
// measured with.
package clock

import "time"

// Clock reads the time and starts timers. All methods may be called from several goroutines.
type Clock interface {
	// Now is the wall clock.
	Now() time.Time
	// Mono is the time since some moment of this process's start. It never goes back.
	Mono() time.Duration
	// NewTimer makes a timer which sends on C once, d from now.
	NewTimer(d time.Duration) Timer
	// AfterFunc calls f once, d from now: in its own goroutine on the real clock, inside Advance on a
	// manual one. The timer's C is nil.
	AfterFunc(d time.Duration, f func()) Timer
}

// Timer fires once. It can be stopped and used again.
type Timer interface {
	// C receives the time at which the timer fired. After Stop or Reset nothing of the earlier run is
	// left in it.
	C() <-chan time.Time
	// Stop keeps the timer from firing. It reports whether the timer was running.
	Stop() bool
	// Reset starts the timer anew. It reports whether the timer was running.
	Reset(d time.Duration) bool
}

// Real is the clock of the machine.
func Real() Clock { return &realClock{start: time.Now()} }

type realClock struct{ start time.Time }

func (c *realClock) Now() time.Time { return time.Now() }

// Mono is measured by the operating system's monotonic clock: time.Since uses the monotonic part of start.
func (c *realClock) Mono() time.Duration { return time.Since(c.start) }

func (c *realClock) NewTimer(d time.Duration) Timer { return realTimer{time.NewTimer(d)} }

func (c *realClock) AfterFunc(d time.Duration, f func()) Timer {
	return realTimer{time.AfterFunc(d, f)}
}

type realTimer struct{ t *time.Timer }

func (t realTimer) C() <-chan time.Time        { return t.t.C }
func (t realTimer) Stop() bool                 { return t.t.Stop() }
func (t realTimer) Reset(d time.Duration) bool { return t.t.Reset(d) }
