package engine

import "sync"

// readers read messages for results, away from the loop. One goroutine does for what is in memory, as most is; more
// start while results pile up behind one that waits for the disk.
type readers struct {
	mu      sync.Mutex
	waiting []unread
	running int
}

// unread is a result whose messages are to be read.
type unread struct {
	t *task
	r *Result
}

const (
	maxReaders      = 16 // a disk has no use for more at a time
	resultsPerStart = 8  // waiting for each reader, before another one starts
)

// add hands over a result. It never waits.
func (q *readers) add(start func(func()), u unread) {
	q.mu.Lock()
	q.waiting = append(q.waiting, u)
	more := q.running < maxReaders && len(q.waiting) > q.running*resultsPerStart
	if more {
		q.running++
	}
	q.mu.Unlock()
	if more {
		start(q.run)
	}
}

// run reads until nothing waits.
func (q *readers) run() {
	for {
		q.mu.Lock()
		if len(q.waiting) == 0 {
			q.waiting = nil
			q.running--
			q.mu.Unlock()
			return
		}
		u := q.waiting[0]
		q.waiting[0] = unread{}
		q.waiting = q.waiting[1:]
		q.mu.Unlock()
		u.t.fill(u.r)
	}
}
