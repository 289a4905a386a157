// Package retry says when a delivery that failed is tried again. It is a function of the strategy, of how often the
// message was tried and of the clock's readings it is given; it knows no message and waits for nothing.
package retry

import (
	"time"

	"github.com/opencmq/cmq/internal/cmq"
)

// Numbers of the published service (http-api.md 4.4 and 8).
const (
	// Day is how long after it was published a message is delivered at the latest.
	Day = 86400 * time.Second

	backoffLeast = 19 * time.Second
	backoffMost  = 29 * time.Second

	exponentialDoubles = 9 // intervals before the longest one, 512 s
)

// Interval is the time between try number n, from 1, and the next one. For BackoffRetry it is chosen between 19 and 29 s
// by random, which is at least 0 and less than 1.
func Interval(s cmq.Strategy, n int, random float64) time.Duration {
	if s == cmq.BackoffRetry {
		return backoffLeast + time.Duration(random*float64(backoffMost-backoffLeast))
	}
	return time.Second << min(max(n, 1)-1, exponentialDoubles)
}

// Failure is a try that failed.
type Failure struct {
	Strategy cmq.Strategy
	Try      int           // its number, from 1
	Age      time.Duration // of the message when the try failed, since it was published
	Took     time.Duration // since the try began
	After    time.Duration // the endpoint asks not to be called before that has passed; 0: it does not
	Random   float64       // at least 0 and less than 1
}

// Next says how long to wait for the next try. There is none if the strategy has none left, or if the wait would end
// more than a day after the message was published. What the endpoint asks for makes the wait longer, never shorter,
// and not longer than the day: then the last moment of the day is its try.
//
// The intervals of BackoffRetry begin when a try has failed. Those of ExponentialRetry begin when it began, because its
// 176 retries fill the day: an endpoint that answers nothing for 15 s each time would not get all of them otherwise. A
// second of rest is kept in any case.
func (f *Failure) Next() (time.Duration, bool) {
	if f.Try >= f.Strategy.Tries() {
		return 0, false
	}
	wait := Interval(f.Strategy, f.Try, f.Random)
	if f.Strategy != cmq.BackoffRetry {
		wait = max(wait-f.Took, time.Second)
	}
	left := Day - f.Age
	if wait > left {
		return 0, false
	}
	return max(wait, min(f.After, left)), true
}
