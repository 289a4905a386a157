package engine

import "sync"

// readers read messages for results, away from the loop. One goroutine does for what is in memory, as most is; more
// start while results pile up behind one that waits for the disk.
//
// A reader that leaves results behind starts the next one, if the one started last has begun: while the processors are busy
// none begins, so a burst of results from memory costs as few goroutines as there are processors to run them.
type readers struct {
	mu      sync.Mutex
	waiting []unread
	running int
	coming  bool // one was started and has not begun
}

// unread is a result whose messages are to be read.
type unread struct {
	t *task
	r *Result
}

const maxReaders = 16 // a disk has no use for more at a time

// add hands over a result. It never waits.
func (q *readers) add(start func(func()), u unread) {
	q.mu.Lock()
	q.waiting = append(q.waiting, u)
	more := q.moreLocked()
	q.mu.Unlock()
	if more {
		start(func() { q.run(start) })
	}
}

// moreLocked reports whether one more reader is to be started, and counts it.
func (q *readers) moreLocked() bool {
	if q.coming || len(q.waiting) == 0 || q.running == maxReaders {
		return false
	}
	q.running++
	q.coming = true
	return true
}

// run reads until nothing waits.
func (q *readers) run(start func(func())) {
	q.mu.Lock()
	q.coming = false
	q.mu.Unlock()
	for {
		u, more := q.take()
		if more {
			start(func() { q.run(start) })
		}
		if u.t == nil {
			return
		}
		u.t.fill(u.r)
	}
}

// take gives a reader its next result, an empty one if it is to end, and tells whether it is to start another reader.
func (q *readers) take() (u unread, more bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) == 0 {
		q.waiting = nil
		q.running--
		return unread{}, false
	}
	u = q.waiting[0]
	q.waiting[0] = unread{}
	q.waiting = q.waiting[1:]
	return u, q.moreLocked()
}
