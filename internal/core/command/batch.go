package command

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/opencmq/cmq/internal/cmq"
)

// A batch, numbers little endian, offsets in bytes:
//
//	 0  magic "cmqb"          4
//	 4  version               2   5
//	 6  slots                 2   number of bodies, up to cmq.MaxSlots
//	 8  proposer              8   node that made the batch
//	16  number                8   the proposer's own counter
//	24  time                  8   cluster time in Unix milliseconds
//	32  operations            4   how many
//	36  length of operations  4   in bytes
//	40  length of bodies      4   in bytes
//	44  check of the rest     4   CRC32C of operations and slot table
//	48  check of the header   4   CRC32C of bytes 0 to 47
//	52  operations            see encode.go
//	 …  slot table            20 for each body:
//	                           0  offset among the bodies  4
//	                           4  length                   4
//	                           8  origin                   8   what it has beside its body, see properties.go
//	                          16  check                    4   CRC32C of body, then bytes 0 to 15
//	 …  bodies
//
// The checks are split so that one message can be read and verified without reading its batch.
const (
	magic      = "cmqb"
	version    = 5
	headerSize = 52
	slotSize   = 20
)

// MaxBytes is how long a batch may be: its lengths have 32 bits, and nothing sensible comes near.
const MaxBytes = 1 << 30

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// The ways a batch can be unusable. Both mean that this replica must not go on.
var (
	ErrDamaged = errors.New("batch is damaged")
	ErrVersion = errors.New("batch has a version or an operation this program does not know")
)

// Header says who made a batch, and when.
type Header struct {
	Proposer uint64 // node that made the batch
	Number   uint64 // the proposer's own counter: tells it which of its batches this is
	Time     int64  // cluster time, Unix milliseconds
}

// Batch is a parsed batch. It refers to the bytes it was parsed from.
type Batch struct {
	Header
	Count  int // operations
	Slots  int // bodies
	ops    []byte
	table  []byte
	bodies []byte
}

// Parse checks everything about a batch but the bodies: structure, checksums, every operation.
func Parse(data []byte) (Batch, error) {
	b, err := parseHeader(data)
	if err != nil {
		return Batch{}, err
	}
	if checksum(data[headerSize:headerSize+len(b.ops)+len(b.table)]) != binary.LittleEndian.Uint32(data[44:]) {
		return Batch{}, fmt.Errorf("%w: checksum of the operations", ErrDamaged)
	}
	if err := b.check(); err != nil {
		return Batch{}, err
	}
	return b, nil
}

// parseHeader finds the parts of the batch. Afterwards they are known to lie within data.
func parseHeader(data []byte) (Batch, error) {
	b, l, err := readHeader(data, int64(len(data)))
	if err != nil {
		return Batch{}, err
	}
	b.ops, b.table, b.bodies = data[headerSize:l.table:l.table], data[l.table:l.bodies:l.bodies], data[l.bodies:]
	return b, nil
}

// layout says where the parts of a batch begin.
type layout struct{ table, bodies int64 }

// readHeader reads the header of a batch that is size bytes long. Afterwards its parts are known to lie within.
func readHeader(h []byte, size int64) (b Batch, l layout, err error) {
	if len(h) < headerSize {
		return b, l, fmt.Errorf("%w: %d bytes", ErrDamaged, len(h))
	}
	h = h[:headerSize]
	if string(h[:4]) != magic {
		return b, l, fmt.Errorf("%w: begins with %q", ErrDamaged, h[:4])
	}
	if v := binary.LittleEndian.Uint16(h[4:]); v != version {
		return b, l, fmt.Errorf("%w: version %d", ErrVersion, v)
	}
	if checksum(h[:48]) != binary.LittleEndian.Uint32(h[48:]) {
		return b, l, fmt.Errorf("%w: checksum of the header", ErrDamaged)
	}
	b = Batch{
		Header: Header{
			Proposer: binary.LittleEndian.Uint64(h[8:]),
			Number:   binary.LittleEndian.Uint64(h[16:]),
			Time:     int64(binary.LittleEndian.Uint64(h[24:])),
		},
		Slots: int(binary.LittleEndian.Uint16(h[6:])),
		Count: int(binary.LittleEndian.Uint32(h[32:])),
	}
	l.table = headerSize + int64(binary.LittleEndian.Uint32(h[36:]))
	l.bodies = l.table + int64(b.Slots)*slotSize
	if b.Slots > cmq.MaxSlots || l.bodies+int64(binary.LittleEndian.Uint32(h[40:])) != size {
		return b, l, fmt.Errorf("%w: lengths do not add up", ErrDamaged)
	}
	return b, l, nil
}

// check walks the operations once, so that Ops cannot meet anything it does not understand.
func (b *Batch) check() error {
	var op Op
	it := b.Ops()
	n := 0
	for it.Next(&op) {
		n++
	}
	switch {
	case it.unknown:
		return fmt.Errorf("%w: operation kind %d", ErrVersion, op.Kind)
	case it.r.Bad() || n != b.Count || it.slot != b.Slots:
		return fmt.Errorf("%w: operations", ErrDamaged)
	}
	return nil
}

// Ops walks the operations of the batch in order.
func (b *Batch) Ops() Ops { return Ops{r: NewReader(b.ops)} }

// Ops is a walk over the operations of a batch.
type Ops struct {
	r       Reader
	slot    int
	unknown bool
}

// Next reads the next operation into op, reusing op's slices, and reports whether there was one. Fields that
// do not belong to the operation's kind keep what they had.
func (o *Ops) Next(op *Op) bool {
	if o.r.Len() == 0 {
		return false
	}
	readOp(&o.r, op)
	op.First = uint16(o.slot)
	o.slot += op.N
	if o.r.Bad() {
		o.unknown = op.Kind == 0 || op.Kind >= kinds
		return false
	}
	return true
}

func checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

func slotCheck(body, slot []byte) uint32 { return endCheck(checksum(body), slot) }

// endCheck is the check of a slot, of which that of the body is known.
func endCheck(body uint32, slot []byte) uint32 { return crc32.Update(body, castagnoli, slot[:16]) }
