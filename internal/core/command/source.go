package command

import (
	"encoding/binary"
	"time"

	"github.com/opencmq/cmq/internal/cmq"
)

// A dead letter keeps the id it was born with, which is the origin of its slot. What it was where it died lies behind its
// body, and the highest bit of the origin, which no id has, says so; numbers little endian:
//
//	0  body
//	n  queue      8   in which it died
//	   sent       8   to that queue, Unix milliseconds
//	   deliveries 4   there
//
// So no other message pays for it, and whoever keeps, moves or repairs messages keeps, moves and repairs it with them: it
// is part of what the slot's length and check cover.
const (
	sourceSize = 8 + 8 + 4
	withSource = 1 << 63
)

// paired reports whether there are as many ids and sources as bodies, or none.
func paired(op *Op) bool {
	n := len(op.Bodies)
	return (len(op.IDs) == 0 || len(op.IDs) == n) && (len(op.Sources) == 0 || len(op.Sources) == n)
}

// letter is how a transfer's message is stored.
func letter(op *Op, i int) (origin uint64, body []byte) {
	body = op.Bodies[i]
	if len(op.IDs) > 0 {
		origin = uint64(op.IDs[i])
	}
	if len(op.Sources) == 0 {
		return origin, body
	}
	s := &op.Sources[i]
	b := append(make([]byte, 0, len(body)+sourceSize), body...)
	b = binary.LittleEndian.AppendUint64(b, uint64(s.Queue))
	b = binary.LittleEndian.AppendUint64(b, uint64(s.Enqueued.UnixMilli()))
	b = binary.LittleEndian.AppendUint32(b, uint32(s.DequeueCount))
	return origin | withSource, b
}

// Letter takes a stored message apart: the id it was born with (0: it is where it was born), the body as it was sent, and
// for a dead letter where it died.
func Letter(origin uint64, stored []byte) (id cmq.MsgID, body []byte, source *cmq.Source) {
	n := len(stored) - sourceSize
	if origin&withSource == 0 || n < 0 {
		return cmq.MsgID(origin &^ withSource), stored, nil
	}
	s := stored[n:]
	return cmq.MsgID(origin &^ withSource), stored[:n:n], &cmq.Source{
		Queue:        cmq.QueueID(binary.LittleEndian.Uint64(s)),
		Enqueued:     time.UnixMilli(int64(binary.LittleEndian.Uint64(s[8:]))),
		DequeueCount: int(binary.LittleEndian.Uint32(s[16:])),
	}
}
