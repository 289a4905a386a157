package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// fields reads the fields of one protobuf message, in whatever order they come.
//
//	for f := (fields{b: data}); f.next(); {
//		switch f.number { … f.value … f.data … }
//	}
type fields struct {
	b      []byte // what is not read yet
	number uint64
	kind   uint64
	value  uint64 // of a varint
	data   []byte // of a text, bytes or message; it aliases the frame
	err    error
}

var errCut = errors.New("a protobuf field is cut off")

// next reads one field and reports whether there was one. Fixed-width fields, which no message here has, are passed
// over as unknown ones are; groups are refused.
func (f *fields) next() bool {
	if f.err != nil || len(f.b) == 0 {
		return false
	}
	tag, ok := f.varint()
	if !ok {
		return false
	}
	f.number, f.kind, f.value, f.data = tag>>3, tag&7, 0, nil
	if f.number == 0 || f.number > 1<<29-1 {
		f.err = fmt.Errorf("protobuf field number %d", f.number)
		return false
	}
	switch f.kind {
	case kindVarint:
		f.value, ok = f.varint()
	case kindBytes:
		var n uint64
		if n, ok = f.varint(); ok {
			f.data, ok = f.take(n)
		}
	case kindFixed64:
		_, ok = f.take(8)
	case kindFixed32:
		_, ok = f.take(4)
	default:
		f.err = fmt.Errorf("protobuf field %d has kind %d, which this protocol does not use", f.number, f.kind)
		return false
	}
	return ok
}

func (f *fields) varint() (uint64, bool) {
	v, n := binary.Uvarint(f.b)
	if n <= 0 {
		f.err = errCut
		return 0, false
	}
	f.b = f.b[n:]
	return v, true
}

func (f *fields) take(n uint64) ([]byte, bool) {
	if n > uint64(len(f.b)) {
		f.err = errCut
		return nil, false
	}
	data := f.b[:n:n]
	f.b = f.b[n:]
	return data, true
}

// is reports whether the field has this number and kind. A known number with the wrong kind is an unknown field, as
// protobuf wants it.
func (f *fields) is(number, kind uint64) bool { return f.number == number && f.kind == kind }

// numbers appends the value of a repeated integer, which may be one element or packed.
func (f *fields) numbers(to []uint64) []uint64 {
	if f.kind == kindVarint {
		return append(to, f.value)
	}
	for p := (fields{b: f.data}); len(p.b) > 0; {
		v, ok := p.varint()
		if !ok {
			f.err = p.err
			return to
		}
		to = append(to, v)
	}
	return to
}
