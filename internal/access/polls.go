package access

import (
	"sync/atomic"
	"time"
)

// Polls counts the requests of all doors that may be waiting for a message, and bounds them: each costs a
// connection, a goroutine and a place with the queue's leader.
type Polls struct {
	max  int64 // 0: no bound
	open atomic.Int64
}

// NewPolls allows max polls at a time; 0 means any number.
func NewPolls(max int) *Polls { return &Polls{max: int64(max)} }

// Enter takes a place, which the caller gives back with Leave. It fails when all are taken.
func (p *Polls) Enter() bool {
	if n := p.open.Add(1); p.max > 0 && n > p.max {
		p.open.Add(-1)
		return false
	}
	return true
}

// Leave gives a place back.
func (p *Polls) Leave() { p.open.Add(-1) }

// Open says how many places are taken.
func (p *Polls) Open() int { return int(p.open.Load()) }

// ClampWait gives how long a poll may wait: a client asks for that many seconds, but one of them sends
// milliseconds for "as long as possible", so more than the limit is the limit and no error.
func ClampWait(seconds, limit int64) time.Duration {
	return time.Duration(min(seconds, limit)) * time.Second
}
