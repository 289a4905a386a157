package command

import (
	"encoding/binary"
	"hash/crc32"
	"slices"

	"github.com/opencmq/cmq/internal/cmq"
)

// Builder collects operations for one batch and writes it. Bodies are only referred to until Finish, which
// copies each of them once; until then their bytes must not change. A Builder is used by one goroutine.
type Builder struct {
	header Header
	ops    []byte
	count  int
	bytes  int // of all bodies
	bodies []sealed
}

// sealed is a message with its properties.
type sealed struct {
	origin     uint64
	head, body []byte
}

// NewBuilder makes an empty builder, ready for Reset.
func NewBuilder() *Builder { return &Builder{} }

// Reset begins the next batch: number is the proposer's own counter.
func (b *Builder) Reset(proposer, number uint64) {
	clear(b.bodies)
	*b = Builder{
		header: Header{Proposer: proposer, Number: number},
		ops:    b.ops[:0], bodies: b.bodies[:0],
	}
}

// Size is how long the batch would be now.
func (b *Builder) Size() int {
	return headerSize + len(b.ops) + len(b.bodies)*slotSize + b.bytes
}

// Slots is how many bodies the batch has.
func (b *Builder) Slots() int { return len(b.bodies) }

// Ops is how many operations the batch has.
func (b *Builder) Ops() int { return b.count }

// Fits reports whether the batch has slots and bytes left for op. An empty batch takes any operation with
// up to cmq.MaxSlots bodies that together are shorter than MaxBytes.
func (b *Builder) Fits(op *Op) bool {
	size := b.Size() + 128 + 10*(len(op.Handles)+len(op.IDs)+len(op.Sizes)) + 11*len(op.Decisions) + 20*len(op.To) + 40*len(op.Marks)
	each := slotSize + fixedBytes
	if op.Kind == Publish {
		size += publicationSize(&op.Publication)
		each += publicationSize(&op.Publication)
	}
	for i := range op.Shares {
		size += shareBytes + 2*len(op.Shares[i].Places)
	}
	if op.Subscriber != nil {
		size += textBytes(op.Subscriber.Tags, op.Subscriber.Keys)
	}
	for _, body := range op.Bodies {
		size += len(body) + each
	}
	return len(b.bodies)+len(op.Bodies) <= cmq.MaxSlots && size <= MaxBytes
}

// shareBytes is what a share takes at most, but for its places.
const shareBytes = 5 * binary.MaxVarintLen64

// Add appends an operation, which must fit, and returns the slot of its first body. IDs and Sources of a Transfer, if
// there are any, must be as many as its Bodies, and so must the IDs of a Spread; its shares must name places of bodies it has.
func (b *Builder) Add(op Op) (first uint16) {
	if !b.Fits(&op) || op.Kind == 0 || op.Kind >= kinds || !paired(&op) {
		panic("BUG: operation does not fit into the batch")
	}
	if op.Kind != Send && op.Kind != Transfer && op.Kind != Prepare && op.Kind != Publish && op.Kind != Spread {
		op.Bodies = nil
	}
	first = uint16(len(b.bodies))
	b.ops = appendOp(b.ops, &op)
	b.count++
	for i, body := range op.Bodies {
		p := propertiesOf(&op, i)
		m := sealed{body: body}
		m.origin, m.head = p.seal()
		b.bodies = append(b.bodies, m)
		b.bytes += len(m.head) + len(body)
	}
	return first
}

// Finish writes the batch, stamped with the cluster time in Unix milliseconds. The bytes are new and belong
// to the caller; the builder can be Reset.
func (b *Builder) Finish(time int64) []byte { return b.Append(nil, time) }

// Append is Finish into dst, which must be empty: its memory is used if that suffices.
func (b *Builder) Append(dst []byte, time int64) []byte {
	d := slices.Grow(dst, b.Size())[:headerSize]
	d = append(d, b.ops...)
	offset := uint32(0)
	for i := range b.bodies {
		m, at := &b.bodies[i], len(d)
		length := uint32(len(m.head) + len(m.body))
		d = binary.LittleEndian.AppendUint32(d, offset)
		d = binary.LittleEndian.AppendUint32(d, length)
		d = binary.LittleEndian.AppendUint64(d, m.origin)
		d = binary.LittleEndian.AppendUint32(d, endCheck(crc32.Update(checksum(m.head), castagnoli, m.body), d[at:]))
		offset += length
	}
	check := checksum(d[headerSize:])
	b.header.Time = time
	b.writeHeader(d[:headerSize], check)
	for i := range b.bodies {
		d = append(append(d, b.bodies[i].head...), b.bodies[i].body...)
	}
	return d
}

func (b *Builder) writeHeader(h []byte, check uint32) {
	copy(h, magic)
	binary.LittleEndian.PutUint16(h[4:], version)
	binary.LittleEndian.PutUint16(h[6:], uint16(len(b.bodies)))
	binary.LittleEndian.PutUint64(h[8:], b.header.Proposer)
	binary.LittleEndian.PutUint64(h[16:], b.header.Number)
	binary.LittleEndian.PutUint64(h[24:], uint64(b.header.Time))
	binary.LittleEndian.PutUint32(h[32:], uint32(b.count))
	binary.LittleEndian.PutUint32(h[36:], uint32(len(b.ops)))
	binary.LittleEndian.PutUint32(h[40:], uint32(b.bytes))
	binary.LittleEndian.PutUint32(h[44:], check)
	binary.LittleEndian.PutUint32(h[48:], checksum(h[:48]))
}
