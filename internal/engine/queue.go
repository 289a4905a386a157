package engine

// Bounds of what waits for an entry. Requests beyond them are refused as busy, before anything was done for them.
const (
	// maxQueued is how many bytes may wait.
	maxQueued = 64 << 20
	// spareQueued is how many more may wait of requests without bodies: they are small, and those who receive and delete
	// make the room that those who send are waiting for.
	spareQueued = 8 << 20
	// maxQueuedFor is for how many milliseconds the oldest may have waited when another one with bodies is added, which would
	// wait as long. Doors give a request up after eight seconds; one that is stored after that has cost all of its work, and
	// its sender does not know and sends it again.
	maxQueuedFor = 4000
)

// callQueue is the calls that wait for an entry, in order.
type callQueue struct {
	calls []*Call
	bytes int
}

// refuses reports whether there is no room for a call.
func (q *callQueue) refuses(c *Call, now int64) bool {
	if len(c.req.Bodies) == 0 {
		return q.bytes > maxQueued+spareQueued
	}
	return q.bytes > maxQueued || len(q.calls) > 0 && now-q.calls[0].queued > maxQueuedFor
}

func (q *callQueue) add(c *Call, now int64) {
	c.queued = now
	q.calls = append(q.calls, c)
	q.bytes += c.size
}

// fitting is how many of the first calls have about so many bytes.
func (q *callQueue) fitting(bytes int) int {
	for i, c := range q.calls {
		if bytes -= c.size; bytes < 0 {
			return i + 1
		}
	}
	return len(q.calls)
}

// remove takes off the first n calls and keeps nothing of them. The others move to the front only if they are not more than
// those that have gone: of tens of thousands of calls that wait, each would be moved for each entry.
func (q *callQueue) remove(n int) {
	for _, c := range q.calls[:n] {
		q.bytes -= c.size
	}
	if left := len(q.calls) - n; left > n {
		clear(q.calls[:n])
		q.calls = q.calls[n:]
	} else {
		copy(q.calls, q.calls[n:])
		clear(q.calls[left:])
		q.calls = q.calls[:left]
	}
}
