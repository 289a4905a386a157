package tcpapi

import (
	"encoding/binary"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// A frame, both ways:
//
//	0        2                    6
//	+--------+--------------------+---------------------------+
//	| 0, 0   | length u32 little  | one protobuf CMQProto     |
//	|        | endian, of it all  |                           |
//	+--------+--------------------+---------------------------+
const headerSize = 6

// Faults of the byte stream. Any of them closes the connection.
var (
	errMarker = errors.New("frame does not begin with two zero bytes")
	errShort  = errors.New("frame is shorter than its header")
	errLong   = errors.New("frame is longer than allowed")
)

// frameLength reads the header.
func frameLength(head []byte, limit int) (int, error) {
	length := binary.LittleEndian.Uint32(head[2:])
	switch {
	case head[0] != 0 || head[1] != 0:
		return 0, errMarker
	case length < headerSize:
		return 0, errShort
	case uint64(length) > uint64(limit):
		return 0, errLong
	}
	return int(length), nil
}

// chunkSize is what is read in one go: some sixty messages of 1 KiB.
const chunkSize = 64 << 10

// chunks are buffers for reading, shared by all connections.
type chunks struct {
	pool sync.Pool
	held atomic.Int64 // by readers
}

func (p *chunks) get() *[chunkSize]byte {
	p.held.Add(1)
	if c, ok := p.pool.Get().(*[chunkSize]byte); ok {
		return c
	}
	return new([chunkSize]byte)
}

func (p *chunks) put(c *[chunkSize]byte) {
	p.held.Add(-1)
	p.pool.Put(c)
}

// frameReader cuts what a connection sends into frames. It holds no buffer while it waits for a frame to begin, and one
// that grows with what has arrived while it waits for the rest of one.
//
//	chunk: | frame | frame | fra    what is complete is handed out in place
//	                         └────► stash: the beginning of a frame, read to its end here
type frameReader struct {
	conn   net.Conn
	raw    syscall.RawConn // nil: conn is no socket
	chunks *chunks
	limit  int // of a frame
	pace   func() error

	chunk  *[chunkSize]byte // nil: nothing was read that is not handed out
	lo, hi int              // what is left of it
	stash  []byte

	try func(fd uintptr) bool // one attempt to fill, for raw
	n   int                   // what it came to
	err error
	now time.Time // when something was read last
}

func newFrameReader(conn net.Conn, chunks *chunks, limit int, pace func() error) *frameReader {
	r := &frameReader{conn: conn, chunks: chunks, limit: limit, pace: pace}
	if s, ok := conn.(syscall.Conn); ok && readsSockets {
		r.raw, _ = s.SyscallConn()
	}
	r.try = r.tryFill
	return r
}

// next gives the protobuf of the next frame, and whether its memory is the caller's to keep; otherwise it is good until
// the next call.
func (r *frameReader) next() (body []byte, own bool, err error) {
	for {
		if len(r.stash) > 0 {
			body, err = r.finishStash()
			return body, true, err
		}
		rest := r.rest()
		length := headerSize
		if len(rest) >= headerSize {
			if length, err = frameLength(rest, r.limit); err != nil {
				return nil, false, err
			}
			if len(rest) >= length {
				r.lo += length
				return rest[headerSize:length], false, nil
			}
		}
		if len(rest) > 0 {
			r.stash = append(make([]byte, 0, min(length, max(minStash, 2*len(rest)))), rest...)
		}
		r.drop()
		if err = r.pace(); err == nil && len(r.stash) == 0 {
			err = r.fill()
		}
		if err != nil {
			return nil, false, err
		}
	}
}

func (r *frameReader) rest() []byte {
	if r.chunk == nil {
		return nil
	}
	return r.chunk[r.lo:r.hi]
}

func (r *frameReader) drop() {
	if r.chunk != nil {
		r.chunks.put(r.chunk)
		r.chunk, r.lo, r.hi = nil, 0, 0
	}
}

// minStash is the least memory for a frame that has begun, if the frame is that large.
const minStash = 512

// finishStash reads the rest of the frame that has begun. Its memory grows with what arrives: a client can announce
// megabytes and send nothing.
func (r *frameReader) finishStash() ([]byte, error) {
	for {
		length := headerSize
		if len(r.stash) >= headerSize {
			var err error
			if length, err = frameLength(r.stash, r.limit); err != nil {
				return nil, err
			}
			if len(r.stash) == length {
				frame := r.stash
				r.stash = nil
				return frame[headerSize:], nil
			}
		}
		if len(r.stash) == cap(r.stash) {
			larger := make([]byte, len(r.stash), min(max(length, headerSize), max(minStash, 2*cap(r.stash))))
			copy(larger, r.stash)
			r.stash = larger
		}
		n, err := r.conn.Read(r.stash[len(r.stash):min(cap(r.stash), length)])
		r.stash = r.stash[:len(r.stash)+n]
		if err != nil {
			return nil, err
		}
		r.now = time.Now()
	}
}

// fill waits until something can be read and reads it into a chunk.
func (r *frameReader) fill() error {
	var err error
	if r.raw == nil {
		r.chunk = r.chunks.get()
		r.n, err = r.conn.Read(r.chunk[:])
	} else if err = r.raw.Read(r.try); err == nil {
		err = r.err
	}
	if err != nil {
		r.drop()
		return err
	}
	r.hi, r.now = r.n, time.Now()
	return nil
}
