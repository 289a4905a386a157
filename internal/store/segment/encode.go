package segment

import "hash/crc32"

// smallPayload is up to where a payload is copied rather than given to the kernel as a vector of its own, which
// costs about as much as copying this many bytes.
const smallPayload = 1024

// encoder builds the bytes of one batch as a list of buffers for one vector write. Large payloads are referred to,
// not copied. It is reused from batch to batch.
type encoder struct {
	salt  uint32
	start int64
	off   int64 // of the next record
	arena []byte
	open  int // arena[open:] is not in bufs yet
	bufs  [][]byte
	count uint32
	sum   uint32 // CRC32C of the record headers so far
}

func (e *encoder) reset(salt uint32, off int64) {
	clear(e.bufs)
	*e = encoder{salt: salt, start: off, off: off, arena: e.arena[:0], bufs: e.bufs[:0]}
}

// prefix puts raw bytes that belong before the batch in the file.
func (e *encoder) prefix(p []byte) { e.bufs = append(e.bufs, p) }

// add appends one record and returns its offset.
func (e *encoder) add(r record) int64 {
	r.off = e.off
	e.arena = append(e.arena, make([]byte, recordSize)...)
	head := e.arena[len(e.arena)-recordSize:]
	r.encode(head, e.salt)
	if r.typ != typeCommit {
		e.count++
		e.sum = crc32.Update(e.sum, castagnoli, head)
	}
	if len(r.payload) <= smallPayload {
		e.arena = append(e.arena, r.payload...)
	} else {
		e.flush()
		e.bufs = append(e.bufs, r.payload)
	}
	n := len(r.payload)
	e.arena = append(e.arena, make([]byte, padded(n)-n)...)
	e.off += int64(recordSize + padded(n))
	return r.off
}

// commit ends the batch and returns its buffers.
func (e *encoder) commit(index, term uint64, hs HardState, syncedUpTo int64, flags uint8) [][]byte {
	p := make([]byte, commitBody)
	c := commit{syncedUpTo: syncedUpTo, hs: hs, records: e.count, crc: e.sum}
	c.encode(p)
	e.add(record{typ: typeCommit, flags: flags, index: index, term: term, payload: p})
	e.flush()
	return e.bufs
}

// flush moves the finished part of the arena to the buffers. The arena may move when it grows; what is in a buffer is
// complete, so that it does not matter which copy it refers to.
func (e *encoder) flush() {
	if n := len(e.arena); n > e.open {
		e.bufs = append(e.bufs, e.arena[e.open:n:n])
		e.open = n
	}
}

// batchSize is the room that entries take in a batch with a truncation and a commit.
func batchSize(entries []Entry) int64 {
	n := int64(recordSize + commitSize)
	for i := range entries {
		n += int64(recordSize + padded(len(entries[i].Data)))
	}
	return n
}
