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
//	 4  version               2   1
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
//	                           8  origin                   8   message id it was born with; 0: born here
//	                          16  check                    4   CRC32C of body, then bytes 0 to 15
//	 …  bodies
//
// The checks are split so that one message can be read and verified without reading its batch.
const (
	magic      = "cmqb"
	version    = 1
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
	if len(data) < headerSize {
		return Batch{}, fmt.Errorf("%w: %d bytes", ErrDamaged, len(data))
	}
	h := data[:headerSize]
	if string(h[:4]) != magic {
		return Batch{}, fmt.Errorf("%w: begins with %q", ErrDamaged, h[:4])
	}
	if v := binary.LittleEndian.Uint16(h[4:]); v != version {
		return Batch{}, fmt.Errorf("%w: version %d", ErrVersion, v)
	}
	if checksum(h[:48]) != binary.LittleEndian.Uint32(h[48:]) {
		return Batch{}, fmt.Errorf("%w: checksum of the header", ErrDamaged)
	}
	b := Batch{
		Header: Header{
			Proposer: binary.LittleEndian.Uint64(h[8:]),
			Number:   binary.LittleEndian.Uint64(h[16:]),
			Time:     int64(binary.LittleEndian.Uint64(h[24:])),
		},
		Slots: int(binary.LittleEndian.Uint16(h[6:])),
		Count: int(binary.LittleEndian.Uint32(h[32:])),
	}
	ops := uint64(binary.LittleEndian.Uint32(h[36:]))
	table := uint64(b.Slots) * slotSize
	bodies := uint64(binary.LittleEndian.Uint32(h[40:]))
	if b.Slots > cmq.MaxSlots || headerSize+ops+table+bodies != uint64(len(data)) {
		return Batch{}, fmt.Errorf("%w: lengths do not add up", ErrDamaged)
	}
	rest := data[headerSize:]
	b.ops, b.table, b.bodies = rest[:ops:ops], rest[ops:ops+table:ops+table], rest[ops+table:]
	return b, nil
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

// Stored is one message as it lies in a batch.
type Stored struct {
	ID   cmq.MsgID // the id it was born with if it came from another shard, otherwise 0
	Time int64     // when the batch was made: the message's send time, Unix milliseconds
	Body []byte    // part of the batch's bytes
}

// ReadMessage finds and verifies the message in one slot of a batch, and nothing else of the batch.
func ReadMessage(data []byte, slot uint16) (Stored, error) {
	b, err := parseHeader(data)
	if err != nil {
		return Stored{}, err
	}
	if int(slot) >= b.Slots {
		return Stored{}, fmt.Errorf("%w: slot %d of %d", ErrDamaged, slot, b.Slots)
	}
	s := b.table[int(slot)*slotSize:][:slotSize]
	offset := uint64(binary.LittleEndian.Uint32(s))
	length := uint64(binary.LittleEndian.Uint32(s[4:]))
	if offset+length > uint64(len(b.bodies)) {
		return Stored{}, fmt.Errorf("%w: slot %d ends outside", ErrDamaged, slot)
	}
	body := b.bodies[offset : offset+length : offset+length]
	if slotCheck(body, s) != binary.LittleEndian.Uint32(s[16:]) {
		return Stored{}, fmt.Errorf("%w: checksum of the message in slot %d", ErrDamaged, slot)
	}
	return Stored{ID: cmq.MsgID(binary.LittleEndian.Uint64(s[8:])), Time: b.Time, Body: body}, nil
}

func checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

func slotCheck(body, slot []byte) uint32 { return crc32.Update(checksum(body), castagnoli, slot[:16]) }
