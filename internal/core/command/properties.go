package command

import (
	"encoding/binary"
	"slices"
	"time"

	"github.com/opencmq/cmq/internal/cmq"
)

// Properties are what is stored of a message beside its body. The zero value is what most messages have.
type Properties struct {
	ID          cmq.MsgID        // the id it was born with, if it came from another shard; 0: it was born here
	Source      *cmq.Source      // of a dead letter: where it died
	Publication *cmq.Publication // of a published message
}

// The origin of a slot says what a message has:
//
//	0         nothing: it was born here, the bytes are its body
//	2^64-1    properties, which are in front of the body; no message has this id
//	else      only an id, which this is
//
// Properties, numbers little endian:
//
//	0  what there is  1   bit 0: id; bit 1: source; bit 2: publication
//	…  id             8
//	…  source             queue 8, sent to it (Unix milliseconds) 8, deliveries there 4
//	…  publication        as in an operation, see encode.go
//	…  body
//
// So no other message pays for them, and whoever keeps, moves or repairs messages keeps, moves and repairs them: they are
// part of what the slot's length and check cover.
const described = 1<<64 - 1

const (
	hasID = 1 << iota
	hasSource
	hasPublication
)

// fixedBytes is what properties take at most, but for the texts of a publication.
const fixedBytes = 1 + 8 + (8 + 8 + 4)

// seal gives the origin for a message with these properties, and what belongs in front of its body.
func (p *Properties) seal() (origin uint64, head []byte) {
	if p.Source == nil && p.Publication == nil {
		return uint64(p.ID), nil
	}
	flags := byte(0)
	head = make([]byte, 1, fixedBytes+publicationSize(p.Publication))
	if p.ID != 0 {
		flags |= hasID
		head = binary.LittleEndian.AppendUint64(head, uint64(p.ID))
	}
	if s := p.Source; s != nil {
		flags |= hasSource
		head = binary.LittleEndian.AppendUint64(head, uint64(s.Queue))
		head = binary.LittleEndian.AppendUint64(head, uint64(s.Enqueued.UnixMilli()))
		head = binary.LittleEndian.AppendUint32(head, uint32(s.DequeueCount))
	}
	if p.Publication != nil {
		flags |= hasPublication
		head = appendPublication(head, p.Publication)
	}
	head[0] = flags
	return described, head
}

// Unseal takes a stored message apart. Bytes that are no properties, which nobody writes, are body.
func Unseal(origin uint64, stored []byte) (p Properties, body []byte) {
	if origin != described {
		return Properties{ID: cmq.MsgID(origin)}, stored
	}
	r := NewReader(stored)
	flags := r.Byte()
	if flags&hasID != 0 {
		p.ID = cmq.MsgID(r.Fixed64())
	}
	if flags&hasSource != 0 {
		p.Source = &cmq.Source{
			Queue: cmq.QueueID(r.Fixed64()), Enqueued: time.UnixMilli(int64(r.Fixed64())), DequeueCount: int(r.Fixed32()),
		}
	}
	if flags&hasPublication != 0 {
		publication := readPublication(&r)
		p.Publication = &publication
	}
	if r.Bad() {
		return Properties{}, stored
	}
	return p, slices.Clip(r.rest)
}

// propertiesOf are those of the i-th message that an operation brings.
func propertiesOf(op *Op, i int) (p Properties) {
	switch op.Kind {
	case Publish:
		p.Publication = &op.Publication
	case Spread:
		p.ID = op.IDs[i]
	case Transfer:
		if len(op.IDs) > 0 {
			p.ID = op.IDs[i]
		}
		if len(op.Sources) > 0 {
			p.Source = &op.Sources[i]
		}
	}
	return p
}

// paired reports whether the lists of an operation that belong together are as long as each other.
func paired(op *Op) bool {
	n := len(op.Bodies)
	switch op.Kind {
	case Transfer:
		return (len(op.IDs) == 0 || len(op.IDs) == n) && (len(op.Sources) == 0 || len(op.Sources) == n)
	case Move:
		return len(op.IDs) == len(op.Sizes)
	case Spread:
		return len(op.IDs) == n && !slices.ContainsFunc(op.Shares, func(s cmq.Share) bool {
			return slices.ContainsFunc(s.Places, func(p uint16) bool { return int(p) >= n })
		})
	}
	return true
}
