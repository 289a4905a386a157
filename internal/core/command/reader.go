package command

import "encoding/binary"

// Reader takes numbers from the front of a byte slice. The first value that is not there or malformed makes
// it fail for good: everything read afterwards is 0, and Err reports it. Batches and the core's images are
// read with it, so that damaged input can never index out of range.
type Reader struct {
	rest []byte
	bad  bool
}

// NewReader reads b, which is not copied.
func NewReader(b []byte) Reader { return Reader{rest: b} }

// Uvarint reads an unsigned number in the encoding of encoding/binary.
func (r *Reader) Uvarint() uint64 {
	if len(r.rest) > 0 && r.rest[0] < 0x80 {
		v := r.rest[0]
		r.rest = r.rest[1:]
		return uint64(v)
	}
	v, n := binary.Uvarint(r.rest)
	if n <= 0 {
		r.Fail()
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

// Int reads a signed number that was written as its two's complement with AppendInt.
func (r *Reader) Int() int64 { return int64(r.Uvarint()) }

// Count reads the length of a list whose elements take at least size bytes each, so that a damaged length
// can never ask for more memory than the input is long.
func (r *Reader) Count(size int) int {
	n := r.Uvarint()
	if n > uint64(len(r.rest)/size) {
		r.Fail()
		return 0
	}
	return int(n)
}

// Byte reads one byte.
func (r *Reader) Byte() byte {
	if len(r.rest) == 0 {
		r.Fail()
		return 0
	}
	v := r.rest[0]
	r.rest = r.rest[1:]
	return v
}

// Bool reads what AppendBool wrote.
func (r *Reader) Bool() bool {
	v := r.Byte()
	if v > 1 {
		r.Fail()
	}
	return v == 1
}

// Text reads what AppendText wrote.
func (r *Reader) Text() string {
	n := r.Count(1)
	text := string(r.rest[:n])
	r.rest = r.rest[n:]
	return text
}

// Fixed64 reads a number of eight bytes, little endian.
func (r *Reader) Fixed64() uint64 {
	if len(r.rest) < 8 {
		r.Fail()
		return 0
	}
	v := binary.LittleEndian.Uint64(r.rest)
	r.rest = r.rest[8:]
	return v
}

// Fixed32 reads a number of four bytes, little endian.
func (r *Reader) Fixed32() uint32 {
	if len(r.rest) < 4 {
		r.Fail()
		return 0
	}
	v := binary.LittleEndian.Uint32(r.rest)
	r.rest = r.rest[4:]
	return v
}

// Fail marks the input as malformed.
func (r *Reader) Fail() { r.rest, r.bad = nil, true }

// Bad reports whether a read has failed.
func (r *Reader) Bad() bool { return r.bad }

// Len is how many bytes are left.
func (r *Reader) Len() int { return len(r.rest) }

// AppendBool writes one byte.
func AppendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}

// AppendText writes a text behind its length.
func AppendText(b []byte, text string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(text))), text...)
}

// AppendInt writes a signed number, which is cheap when it is not negative.
func AppendInt(b []byte, v int64) []byte { return binary.AppendUvarint(b, uint64(v)) }
