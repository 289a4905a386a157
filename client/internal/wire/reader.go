package wire

import (
	"encoding/binary"
	"fmt"
	"io"
)

const (
	// readBuffer holds what one read of an ordinary connection brings.
	readBuffer = 16 << 10
	// keepBuffer is the most a reader keeps for the next frame: one large frame must not hold its memory for ever.
	keepBuffer = 256 << 10
)

// Reader takes frames out of a stream, however they are split and glued.
type Reader struct {
	r      io.Reader
	buf    []byte
	lo, hi int // the bytes read and not yet taken are buf[lo:hi]
}

// NewReader reads frames from r.
func NewReader(r io.Reader) *Reader { return &Reader{r: r, buf: make([]byte, readBuffer)} }

// Next gives the body of the next frame, good until the call after it. io.EOF means that the stream ended between
// two frames.
func (r *Reader) Next() ([]byte, error) {
	if err := r.fill(headerLen); err != nil {
		return nil, err
	}
	head := r.buf[r.lo:r.hi]
	if head[0] != 0 || head[1] != 0 {
		return nil, fmt.Errorf("a frame begins with %#x, not with two zero bytes; is this the TCP port of CMQ?", head[:headerLen])
	}
	n := binary.LittleEndian.Uint32(head[2:])
	if n < headerLen || n > MaxFrame {
		return nil, fmt.Errorf("a frame of %d bytes; the least is %d, the most %d", n, headerLen, MaxFrame)
	}
	if err := r.fill(int(n)); err != nil {
		return nil, noEOF(err)
	}
	body := r.buf[r.lo+headerLen : r.lo+int(n)]
	r.lo += int(n)
	return body, nil
}

// Buffered reports whether a whole frame is there already, so that Next would not read.
func (r *Reader) Buffered() bool {
	have := r.buf[r.lo:r.hi]
	return len(have) >= headerLen && uint64(len(have)) >= uint64(binary.LittleEndian.Uint32(have[2:]))
}

// fill reads until n bytes are there.
func (r *Reader) fill(n int) error {
	if r.hi-r.lo >= n {
		return nil
	}
	r.makeRoom(n)
	for r.hi-r.lo < n {
		got, err := r.r.Read(r.buf[r.hi:])
		r.hi += got
		if err != nil && r.hi-r.lo < n {
			if r.hi > r.lo {
				err = noEOF(err)
			}
			return err
		}
	}
	return nil
}

// makeRoom moves what is there to the front of a buffer that n bytes fit into. A buffer that reads fill grows.
func (r *Reader) makeRoom(n int) {
	have := r.buf[r.lo:r.hi]
	size := len(r.buf)
	switch {
	case n > size:
		size = n
	case r.hi == size && size < keepBuffer:
		size *= 2
	case size > keepBuffer && n <= keepBuffer && len(have) <= keepBuffer:
		size = keepBuffer
	}
	if size != len(r.buf) {
		r.buf = make([]byte, size)
	}
	r.lo, r.hi = 0, copy(r.buf, have)
}

// noEOF gives the end of a stream in the middle of a frame its name.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
