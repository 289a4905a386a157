package engine

import "sync"

// readers read messages for results, away from the loop. One goroutine does for what is in memory, as most is; more
// start while results pile up behind one that waits for the disk.
//
// A reader that leaves results behind starts the next one, if the one started last has begun: while the processors are busy
// none begins, so a burst of results from memory costs as few goroutines as there are processors to run them.
//
// Of a burst a reader takes a share at a time: what one entry brought out often lies in one entry too, and costs less read
// together. What is left is enough for other readers to begin, should the disk have to be waited for.
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

const (
	maxReaders = 16 // a disk has no use for more at a time
	// shareOf tells a reader's share: one of so many results that wait, at least one, and no more messages than surely fit
	// into one reply, as their answers come when all of them are read.
	shareOf = 4
)

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
	var room [surelyFits]unread
	for {
		share, more := q.take(room[:0])
		if more {
			start(func() { q.run(start) })
		}
		if len(share) == 0 {
			return
		}
		fill(share)
		clear(share)
	}
}

// take gives a reader its next results, appended to share, none if it is to end, and tells whether it is to start another
// reader.
func (q *readers) take(share []unread) (_ []unread, more bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) == 0 {
		q.waiting = nil
		q.running--
		return share, false
	}
	n := q.shareLocked()
	share = append(share, q.waiting[:n]...)
	clear(q.waiting[:n])
	q.waiting = q.waiting[n:]
	return share, q.moreLocked()
}

// shareLocked is how many of the results that wait a reader takes.
func (q *readers) shareLocked() int {
	n, messages := 1, q.waiting[0].r.unread()
	for ; n < len(q.waiting)/shareOf; n++ {
		if messages += q.waiting[n].r.unread(); messages > surelyFits {
			break
		}
	}
	return n
}

// fill reads the messages of the results, which are of one Service. It may take as long as the disk does.
func fill(share []unread) {
	results := make([]*Result, 0, len(share))
	wanted := share[:0]
	for _, u := range share {
		if u.t.settled.Load() {
			u.t.release(&u.r.Reply)
			continue
		}
		wanted, results = append(wanted, u), append(results, u.r)
	}
	if len(results) == 0 {
		return
	}
	wanted[0].t.s.Machine.Fill(results...)
	for _, u := range wanted {
		u.t.filled(u.r)
	}
}
