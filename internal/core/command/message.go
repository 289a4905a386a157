package command

import (
	"encoding/binary"
	"fmt"
)

// Stored is one message as it lies in a batch.
type Stored struct {
	Origin uint64 // what it has beside its body; see Unseal
	Time   int64  // when the batch was made: the message's send time, Unix milliseconds
	Body   []byte // as it is stored; see Unseal
}

// Payload is a batch that lies somewhere else, for example in a file.
type Payload interface {
	ReadAt(p []byte, off int64) (n int, err error) // as io.ReaderAt
	Size() int64
}

// inMemory is a Payload whose bytes are at hand.
type inMemory interface{ Bytes() []byte }

// wholeBatch is the length up to which a batch is read in one go: that costs less than going there again.
const wholeBatch = 4 << 10

// ReadSlot finds and verifies the message in one slot of a batch, and reads little else of the batch. What the
// batch says of itself but may not be is ErrDamaged or ErrVersion; other errors are those of reading. The body is part of
// the batch's bytes if those are in memory.
func ReadSlot(p Payload, slot uint16) (Stored, error) {
	if m, ok := p.(inMemory); ok {
		return ReadMessage(m.Bytes(), slot)
	}
	size := p.Size()
	if size <= wholeBatch {
		data, err := readAt(p, 0, size)
		if err != nil {
			return Stored{}, err
		}
		return ReadMessage(data, slot)
	}
	h, err := readAt(p, 0, headerSize)
	if err != nil {
		return Stored{}, err
	}
	b, l, err := readHeader(h, size)
	if err != nil {
		return Stored{}, err
	}
	if int(slot) >= b.Slots {
		return Stored{}, noSlot(slot, b.Slots)
	}
	s, err := readAt(p, l.table+int64(slot)*slotSize, slotSize)
	if err != nil {
		return Stored{}, err
	}
	at, length, err := place(s, slot, size-l.bodies)
	if err != nil {
		return Stored{}, err
	}
	body, err := readAt(p, l.bodies+at, length)
	if err != nil {
		return Stored{}, err
	}
	return open(b.Time, s, slot, body)
}

func readAt(p Payload, off, n int64) ([]byte, error) {
	b := make([]byte, n)
	if k, err := p.ReadAt(b, off); int64(k) < n {
		return nil, fmt.Errorf("read %d bytes of a batch at %d: %w", n, off, err)
	}
	return b, nil
}

// ReadMessage finds and verifies the message in one slot of a batch, and nothing else of the batch. The body is part of
// the batch's bytes.
func ReadMessage(data []byte, slot uint16) (Stored, error) {
	b, err := parseHeader(data)
	if err != nil {
		return Stored{}, err
	}
	if int(slot) >= b.Slots {
		return Stored{}, noSlot(slot, b.Slots)
	}
	s := b.table[int(slot)*slotSize:][:slotSize]
	at, length, err := place(s, slot, int64(len(b.bodies)))
	if err != nil {
		return Stored{}, err
	}
	return open(b.Time, s, slot, b.bodies[at:at+length:at+length])
}

func noSlot(slot uint16, n int) error { return fmt.Errorf("%w: slot %d of %d", ErrDamaged, slot, n) }

// place says where among the bodies, which are so many bytes, the one of a slot lies.
func place(s []byte, slot uint16, bodies int64) (at, length int64, err error) {
	at, length = int64(binary.LittleEndian.Uint32(s)), int64(binary.LittleEndian.Uint32(s[4:]))
	if at+length > bodies {
		return 0, 0, fmt.Errorf("%w: slot %d ends outside", ErrDamaged, slot)
	}
	return at, length, nil
}

// open verifies a message.
func open(time int64, s []byte, slot uint16, body []byte) (Stored, error) {
	if slotCheck(body, s) != binary.LittleEndian.Uint32(s[16:]) {
		return Stored{}, fmt.Errorf("%w: checksum of the message in slot %d", ErrDamaged, slot)
	}
	return Stored{Origin: binary.LittleEndian.Uint64(s[8:]), Time: time, Body: body}, nil
}

// BodyBytes is how long the bodies in n slots from slot on are together, with their properties.
func (b *Batch) BodyBytes(slot uint16, n int) (total uint32) {
	for i := int(slot); i < int(slot)+n; i++ {
		total += binary.LittleEndian.Uint32(b.table[i*slotSize+4:])
	}
	return total
}
