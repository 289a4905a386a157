package store

import (
	"sync"

	"github.com/opencmq/cmq/internal/store/segment"
)

// near keeps the data of entries whose messages are read one after the other, as a consumer of a backlog does. One read of an
// entry with hundreds of messages costs less than a few reads of messages.
//
// Only committed entries may be asked for, whose data never changes. Messages are checked when they are taken out of it, so what
// the disk gave wrong is found then; forget lets it be read again.
type near struct {
	mu     sync.Mutex
	turns  uint64
	recent [nearEntries]*nearEntry
}

// nearEntry is an entry of which messages were read lately.
type nearEntry struct {
	index  uint64
	turn   uint64 // when it was asked for last
	wanted int    // messages so far

	once sync.Once
	data segment.Data // nil: not read as a whole, or it could not be
}

const (
	// nearEntries is how many entries are remembered, and kept at most: a consumer reads one, and several queues share a set.
	nearEntries = 8
	// nearWanted is after how many messages an entry is read as a whole: who wants one or two of each does better without.
	nearWanted = 4
	// nearSize is the largest entry that is kept: nearly all are smaller, see maxEntryBytes of package set.
	nearSize = 1 << 20
)

// payload gives the data of an entry of which n messages will be read; open finds it on the disk.
func (c *near) payload(index uint64, n int, open func() (segment.Payload, error)) (segment.Payload, error) {
	e, whole := c.touch(index, n)
	if whole {
		e.once.Do(func() { e.data = readWhole(open) })
		if e.data != nil {
			return e.data, nil
		}
	}
	return open()
}

// message reads a message of the entry that open finds in the file.
func (c *near) message(ref Ref, message finder, file string, open func() (segment.Payload, error)) (Message, error) {
	data, err := c.payload(ref.Index, 1, open)
	if err != nil {
		return Message{}, err
	}
	m, err := extract(message, data, ref, file)
	if _, kept := data.(segment.Data); !kept || err == nil {
		return m, err
	}
	c.forget(ref.Index) // the disk may give something else by now
	if data, err = open(); err != nil {
		return Message{}, err
	}
	return extract(message, data, ref, file)
}

// touch counts messages of an entry and tells whether it should be read as a whole.
func (c *near) touch(index uint64, n int) (e *nearEntry, whole bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.turns++
	at := 0
	for i, r := range c.recent {
		if r != nil && r.index == index {
			e = r
			break
		}
		if oldest := c.recent[at]; oldest != nil && (r == nil || r.turn < oldest.turn) {
			at = i
		}
	}
	if e == nil {
		e = &nearEntry{index: index}
		c.recent[at] = e
	}
	e.turn = c.turns
	e.wanted += n
	return e, e.wanted >= nearWanted
}

// readWhole reads all data of an entry; nil if it is too much or cannot be read.
func readWhole(open func() (segment.Payload, error)) segment.Data {
	p, err := open()
	if err != nil || p.Size() > nearSize {
		return nil
	}
	data := make(segment.Data, p.Size())
	if n, err := p.ReadAt(data, 0); n < len(data) && err != nil {
		return nil
	}
	return data
}

// forget lets go of an entry, or of all if index is 0.
func (c *near) forget(index uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, e := range c.recent {
		if e != nil && (index == 0 || e.index == index) {
			c.recent[i] = nil
		}
	}
}

// ForgetCached gives up the memory that only makes reading faster. Whoever wants something reads the disk.
func (s *Store) ForgetCached() {
	s.log.ForgetCached()
	s.near.forget(0)
}
