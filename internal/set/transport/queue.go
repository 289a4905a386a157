package transport

import (
	"sync"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/set"
)

// item is one frame that waits to be written. payload and what msg refers to must not change until then.
type item struct {
	typ     uint8
	flags   uint8
	set     cmq.SetID
	id      uint64      // request, reply, cancel
	payload []byte      // request, reply
	msg     set.Message // message
	call    *pendingCall
}

// itemCost is what an item counts beside its bytes.
const itemCost = 128

// queue holds what waits for one connection's writer. It is bounded by count and bytes; what happens when it
// is full depends on who pushes.
type queue struct {
	wake chan struct{} // has one token while items wait

	mu       sync.Mutex
	room     sync.Cond // items were taken, or the queue was shut
	items    []item
	bytes    int
	maxItems int
	maxBytes int
	shut     bool
}

func newQueue(maxItems, maxBytes int) *queue {
	q := &queue{wake: make(chan struct{}, 1), maxItems: maxItems, maxBytes: maxBytes}
	q.room.L = &q.mu
	return q
}

type pushed int

const (
	pushOK   pushed = iota
	pushFull        // too much waits already
	pushShut        // nobody will write it
)

// push adds the item if there is room. size is its bytes beyond itemCost.
func (q *queue) push(it item, size int) pushed {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.shut:
		return pushShut
	case q.fullLocked(size):
		return pushFull
	}
	q.addLocked(it, size)
	return pushOK
}

// pushBeyond passes over the bounds, for replies: whoever has one must not wait. It reports false when the queue was
// shut instead. waitForRoom keeps their number and size in check.
func (q *queue) pushBeyond(it item, size int) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.shut {
		q.addLocked(it, size)
	}
	return !q.shut
}

// pushAlways is pushBeyond for small items.
func (q *queue) pushAlways(it item) { q.pushBeyond(it, 0) }

// waitForRoom waits until something could be pushed, or the queue is shut.
func (q *queue) waitForRoom() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for !q.shut && q.fullLocked(0) {
		q.room.Wait()
	}
}

// fullLocked lets one item of any size into an empty queue.
func (q *queue) fullLocked(size int) bool {
	n := len(q.items)
	return n >= q.maxItems || n > 0 && q.bytes+size+itemCost > q.maxBytes
}

func (q *queue) addLocked(it item, size int) {
	q.items = append(q.items, it)
	q.bytes += size + itemCost
	if len(q.items) == 1 {
		select {
		case q.wake <- struct{}{}:
		default:
		}
	}
}

// take gives all that waits and leaves spare, emptied, in its place.
func (q *queue) take(spare []item) []item {
	clear(spare)
	q.mu.Lock()
	defer q.mu.Unlock()
	items := q.items
	q.items, q.bytes = spare[:0], 0
	q.room.Broadcast()
	return items
}

// close drops what waits and refuses more until open. It returns how many items were dropped.
func (q *queue) close() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := len(q.items)
	q.items, q.bytes, q.shut = nil, 0, true
	q.room.Broadcast()
	return n
}

func (q *queue) open() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.shut = false
}
