package transport

import (
	"encoding/binary"
	"hash/crc32"
	"slices"

	"github.com/opencmq/cmq/internal/cmq"
)

// encoder lays frames out as pieces for one writev: small fields go to its own buffer, byte strings of at
// least aliasSize are referred to. They must not change until the pieces are written.
type encoder struct {
	buf    []byte
	cut    int // buf[:cut] is already in pieces
	pieces [][]byte
	size   int // of all pieces

	frame  int    // where the current frame's header is in buf
	sum    uint32 // of the current frame so far
	summed int    // sum covers the frame up to buf[:summed]
}

// aliasSize is where an own element in writev becomes cheaper than copying.
const aliasSize = 8 << 10

// keepBuf is how much own buffer is kept from one batch to the next.
const keepBuf = 256 << 10

func (e *encoder) reset() {
	if cap(e.buf) > keepBuf {
		e.buf = nil
	}
	clear(e.pieces) // let go of what was written
	e.buf, e.pieces, e.cut, e.size = e.buf[:0], e.pieces[:0], 0, 0
}

// begin starts a frame whose payload has length bytes, of which the encoder will copy at most copies. They
// and the header come to lie in one array, so that end can complete the header.
func (e *encoder) begin(length, copies int, typ, flags uint8, set cmq.SetID) {
	e.room(headerSize + copies)
	e.frame = len(e.buf)
	e.buf = appendHeader(e.buf, length, typ, flags, set)
	e.sum = crc32.Checksum(e.buf[e.frame:e.frame+8], castagnoli)
	e.summed = len(e.buf)
}

// end completes the frame.
func (e *encoder) end() {
	e.sum = crc32.Update(e.sum, castagnoli, e.buf[e.summed:])
	binary.LittleEndian.PutUint32(e.buf[e.frame+8:], e.sum)
}

// room makes the next n bytes of buf lie in one array.
func (e *encoder) room(n int) {
	if cap(e.buf)-len(e.buf) >= n {
		return
	}
	e.flush()
	e.buf, e.cut = make([]byte, 0, max(n, 64<<10)), 0
}

// flush makes a piece of what is in buf and not yet in one.
func (e *encoder) flush() {
	if e.cut < len(e.buf) {
		piece := e.buf[e.cut:len(e.buf):len(e.buf)]
		e.pieces = append(e.pieces, piece)
		e.size += len(piece)
		e.cut = len(e.buf)
	}
}

func (e *encoder) u8(v uint8)   { e.buf = append(e.buf, v) }
func (e *encoder) u16(v uint16) { e.buf = binary.LittleEndian.AppendUint16(e.buf, v) }
func (e *encoder) u32(v uint32) { e.buf = binary.LittleEndian.AppendUint32(e.buf, v) }

func (e *encoder) u64(vs ...uint64) {
	for _, v := range vs {
		e.buf = binary.LittleEndian.AppendUint64(e.buf, v)
	}
}

// bytes appends a length and the bytes, raw the bytes alone.
func (e *encoder) bytes(b []byte) {
	e.u32(uint32(len(b)))
	e.raw(b)
}

func (e *encoder) raw(b []byte) {
	if len(b) < aliasSize {
		e.buf = append(e.buf, b...)
		return
	}
	e.sum = crc32.Update(crc32.Update(e.sum, castagnoli, e.buf[e.summed:]), castagnoli, b)
	e.summed = len(e.buf)
	e.flush()
	e.size += len(b)
	for piece := range slices.Chunk(b, flushBytes) {
		e.pieces = append(e.pieces, piece)
	}
}

// waiting is how many bytes are laid out.
func (e *encoder) waiting() int { return e.size + len(e.buf) - e.cut }

// decoder reads fields off the front of b. After the first fault all reads give zero values.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) ok() bool { return !d.bad }
func (d *decoder) fail()    { d.b, d.bad = nil, true }

func (d *decoder) take(n int) []byte {
	if n > len(d.b) {
		d.fail()
		return nil
	}
	b := d.b[:n:n]
	d.b = d.b[n:]
	return b
}

func (d *decoder) u8() uint8 {
	if b := d.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (d *decoder) u16() uint16 {
	if b := d.take(2); b != nil {
		return binary.LittleEndian.Uint16(b)
	}
	return 0
}

func (d *decoder) u32() uint32 {
	if b := d.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (d *decoder) u64() uint64 {
	if b := d.take(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

// bounded reads a number that must not exceed limit.
func (d *decoder) bounded(limit uint64) uint64 {
	v := d.u64()
	if v > limit {
		d.fail()
		return 0
	}
	return v
}

func (d *decoder) bytes() []byte {
	n := d.u32()
	if n == 0 || uint64(n) > uint64(len(d.b)) {
		if n != 0 {
			d.fail()
		}
		return nil
	}
	return d.take(int(n))
}
