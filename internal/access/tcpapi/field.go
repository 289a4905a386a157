package tcpapi

import (
	"errors"

	"google.golang.org/protobuf/encoding/protowire"
)

// Faults of a protobuf message.
var (
	errWire  = errors.New("protobuf does not parse")
	errGroup = errors.New("protobuf has a group")
)

// fields walks over the fields of a protobuf message. What is no number of the type the schema says is passed over like
// an unknown field, as generated code does; groups are refused, which no client of this protocol sends.
type fields struct {
	rest []byte

	num  protowire.Number
	typ  protowire.Type
	int  uint64 // of a varint
	data []byte // of a string, bytes, message or packed list; aliases the message
	err  error
}

// next reads the next field. It reports false at the end, or when something is wrong: then err is set.
func (f *fields) next() bool {
	if len(f.rest) == 0 || f.err != nil {
		return false
	}
	num, typ, n := protowire.ConsumeTag(f.rest)
	if n < 0 || num > protowire.MaxValidNumber {
		f.err = errWire
		return false
	}
	f.num, f.typ, f.rest = num, typ, f.rest[n:]
	switch typ {
	case protowire.VarintType:
		f.int, n = protowire.ConsumeVarint(f.rest)
	case protowire.BytesType:
		f.data, n = protowire.ConsumeBytes(f.rest)
	case protowire.Fixed32Type:
		_, n = protowire.ConsumeFixed32(f.rest)
	case protowire.Fixed64Type:
		_, n = protowire.ConsumeFixed64(f.rest)
	default:
		f.err = errGroup
		return false
	}
	if n < 0 {
		f.err = errWire
		return false
	}
	f.rest = f.rest[n:]
	return true
}

// isInt and isData tell whether the field is the one with this number, in the form it must have.
func (f *fields) isInt(num protowire.Number) bool {
	return f.num == num && f.typ == protowire.VarintType
}

func (f *fields) isData(num protowire.Number) bool {
	return f.num == num && f.typ == protowire.BytesType
}

// ints appends the numbers of a repeated field, which may be packed or not, up to keptEntries.
func (f *fields) ints(to []uint64, num protowire.Number) []uint64 {
	if f.isInt(num) {
		return keep(to, f.int)
	}
	if !f.isData(num) {
		return to
	}
	for packed := f.data; len(packed) > 0; {
		v, n := protowire.ConsumeVarint(packed)
		if n < 0 {
			f.err = errWire
			return to
		}
		to, packed = keep(to, v), packed[n:]
	}
	return to
}
