package link

import (
	"context"
	"time"

	"github.com/opencmq/cmq/client/internal/wire"
)

// room is who waits until a frame may be appended. Whoever comes first is let in first, and woken once: of ten thousand that
// wait, each pass of the writer makes room for some, and to wake them all would cost more than to send their frames.
//
// Invariant: if somebody waits, there is no room for anybody.
type room struct {
	first, last *waiter
	promised    int // bytes of the frames of those that were let in and have not appended them yet
}

// waiter is one caller, or one that was let in.
type waiter struct {
	size int           // of its frame, about
	in   chan struct{} // closed when it is let in
	isIn bool
	prev *waiter
	next *waiter
}

func (r *room) add(w *waiter) {
	if w.prev = r.last; w.prev != nil {
		w.prev.next = w
	} else {
		r.first = w
	}
	r.last = w
}

func (r *room) remove(w *waiter) {
	if w.prev != nil {
		w.prev.next = w.next
	} else {
		r.first = w.next
	}
	if w.next != nil {
		w.next.prev = w.prev
	} else {
		r.last = w.prev
	}
	w.prev, w.next = nil, nil
}

// pendingLocked is how many bytes wait for the writer or are about to.
func (c *Conn) pendingLocked() int { return len(c.out) + c.room.promised }

// letInLocked lets in as many as there is room for.
func (c *Conn) letInLocked() {
	for w := c.room.first; w != nil && c.pendingLocked() < maxPending; w = c.room.first {
		c.room.remove(w)
		c.room.promised += w.size
		w.isIn = true
		close(w.in)
	}
}

// awaitRoomLocked waits until the caller may append a frame of about this size, or the connection is over, which the caller
// looks at. Its place is kept until then, so it appends the frame before it unlocks.
func (c *Conn) awaitRoomLocked(ctx context.Context, size int, timeout time.Duration) (err error) {
	w := &waiter{size: size, in: make(chan struct{})}
	c.room.add(w)
	c.mu.Unlock()
	late := time.NewTimer(timeout)
	defer late.Stop()
	select {
	case <-w.in:
	case <-c.over:
	case <-ctx.Done():
		err = ctx.Err()
	case <-late.C:
		err = ErrTimeout
	}
	c.mu.Lock()
	c.leaveRoomLocked(w, err != nil)
	return err
}

// leaveRoomLocked ends the wait. A place that is not used is another's.
func (c *Conn) leaveRoomLocked(w *waiter, givenUp bool) {
	if w.isIn {
		c.room.promised -= w.size
	} else {
		c.room.remove(w)
	}
	if givenUp {
		c.letInLocked()
	}
}

// sizeOf is about how many bytes the frame of a request has.
func sizeOf(r *wire.Request) int {
	n := 64 + len(r.Name) + len(r.Body) + len(r.RoutingKey) + 10*len(r.Handles)
	for _, body := range r.Bodies {
		n += len(body) + 8
	}
	for _, tag := range r.Tags {
		n += len(tag) + 2
	}
	return n
}
