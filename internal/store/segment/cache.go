package segment

import (
	"container/list"
	"sync"
)

// tailCache keeps the newest entries: a window that ends at the end of the log. It is under Log.mu.
type tailCache struct {
	limit   int64
	bytes   int64
	next    uint64 // index behind the window
	entries []Entry
}

// entryOverhead is what an entry costs in memory besides its data.
const entryOverhead = 64

func newTailCache(limit int64, next uint64) tailCache { return tailCache{limit: limit, next: next} }

func (c *tailCache) first() uint64 { return c.next - uint64(len(c.entries)) }

func (c *tailCache) add(entries []Entry) {
	for _, e := range entries {
		c.entries = append(c.entries, e)
		c.bytes += int64(len(e.Data)) + entryOverhead
	}
	c.next += uint64(len(entries))
	drop := 0
	for c.bytes > c.limit && drop < len(c.entries) {
		c.bytes -= int64(len(c.entries[drop].Data)) + entryOverhead
		c.entries[drop] = Entry{}
		drop++
	}
	c.entries = c.entries[drop:]
}

func (c *tailCache) truncate(index uint64) {
	for c.next > index {
		c.next--
		if n := len(c.entries); n > 0 {
			c.bytes -= int64(len(c.entries[n-1].Data)) + entryOverhead
			c.entries[n-1] = Entry{}
			c.entries = c.entries[:n-1]
		}
	}
}

// get returns an entry that is not after the end of the log.
func (c *tailCache) get(index uint64) (Entry, bool) {
	if index < c.first() {
		return Entry{}, false
	}
	return c.entries[index-c.first()], true
}

// clear forgets all entries, not where the log ends.
func (c *tailCache) clear() { c.entries, c.bytes = nil, 0 }

// readCache keeps entries that Entry read from the disk, the most recently used ones, and lets one goroutine read for
// all that want the same entry.
type readCache struct {
	mu         sync.Mutex
	limit      int64
	bytes      int64
	generation int // counts truncations: what was read before one is not kept
	byIndex    map[uint64]*list.Element
	recent     list.List // of *cached, newest first
	reading    map[uint64]*reading
}

type cached struct{ entry Entry }

type reading struct {
	done  chan struct{}
	entry Entry
	err   error
}

func (c *readCache) get(index uint64, read func() (Entry, error)) (Entry, error) {
	c.mu.Lock()
	if el := c.byIndex[index]; el != nil {
		c.recent.MoveToFront(el)
		c.mu.Unlock()
		return el.Value.(*cached).entry, nil
	}
	if r := c.reading[index]; r != nil {
		c.mu.Unlock()
		<-r.done
		return r.entry, r.err
	}
	if c.reading == nil {
		c.reading, c.byIndex = map[uint64]*reading{}, map[uint64]*list.Element{}
	}
	r := &reading{done: make(chan struct{})}
	c.reading[index] = r
	generation := c.generation
	c.mu.Unlock()

	r.entry, r.err = read()
	close(r.done)

	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reading[index] == r {
		delete(c.reading, index)
	}
	if r.err == nil && c.generation == generation {
		c.addLocked(r.entry)
	}
	return r.entry, r.err
}

// peek returns an entry that is kept.
func (c *readCache) peek(index uint64) (Entry, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	el := c.byIndex[index]
	if el == nil {
		return Entry{}, false
	}
	c.recent.MoveToFront(el)
	return el.Value.(*cached).entry, true
}

func (c *readCache) addLocked(e Entry) {
	c.byIndex[e.Index] = c.recent.PushFront(&cached{e})
	c.bytes += int64(len(e.Data)) + entryOverhead
	for c.bytes > c.limit {
		c.removeLocked(c.recent.Back())
	}
}

func (c *readCache) removeLocked(el *list.Element) {
	e := c.recent.Remove(el).(*cached).entry
	delete(c.byIndex, e.Index)
	c.bytes -= int64(len(e.Data)) + entryOverhead
}

// truncate forgets the entries from index on.
func (c *readCache) truncate(index uint64) { c.forget(func(i uint64) bool { return i >= index }) }

// dropBefore forgets the entries before index.
func (c *readCache) dropBefore(index uint64) { c.forget(func(i uint64) bool { return i < index }) }

func (c *readCache) forget(gone func(index uint64) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.generation++
	clear(c.reading)
	for el := c.recent.Front(); el != nil; {
		next := el.Next()
		if gone(el.Value.(*cached).entry.Index) {
			c.removeLocked(el)
		}
		el = next
	}
}
