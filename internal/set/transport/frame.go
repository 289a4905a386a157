package transport

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/opencmq/cmq/internal/cmq"
)

// A frame, little endian:
//
//	0        4      5       6      8          12
//	+--------+------+-------+------+----------+-----------------+
//	| length | type | flags | set  | crc32c   | payload         |
//	| u32    | u8   | u8    | u16  | u32      | length bytes    |
//	+--------+------+-------+------+----------+-----------------+
//
// The checksum covers bytes 0 to 8 and the payload.
const headerSize = 12

// Types of frames.
const (
	typeHello   = 1 // dialler, first frame: who is calling whom (handshake.go)
	typeWelcome = 2 // acceptor, first frame: hello accepted; empty
	typeRefused = 3 // acceptor, first and last frame: hello refused; payload is the reason as text
	typePing    = 4 // dialler; empty
	typePong    = 5 // acceptor; empty
	typeMessage = 6 // control and bulk: a set.Message for the replica of `set` (message.go)
	typeRequest = 7 // call: id u64, then the request
	typeReply   = 8 // call: id u64, then the reply; flags say which kind
	typeCancel  = 9 // call: id u64: the caller does not wait any more; answered by a reply, or by the one on its way
)

// Flags of a reply.
const (
	replyOK     = 0
	replyFailed = 1 // payload is the error's text
	replyBusy   = 2 // refused before the handler saw it: too many calls are running
)

// Limits of the payload, by what is known of the other side.
const (
	maxHello = 64 << 10 // before hello
	maxFrame = 80 << 20 // after: an entry of one maximal message, or a reply with many, has room
	// maxControl is for control connections, where everything is small.
	maxControl = 1 << 20
	// readStep is how much memory a frame gets before the bytes that fill it have arrived.
	readStep = 1 << 20
)

// Faults of the byte stream. Any of them closes the connection.
var (
	errFrameSize = errors.New("frame is larger than allowed")
	errFrameSum  = errors.New("frame is damaged: checksum differs")
	errFrameType = errors.New("frame has no business on this connection")
)

// castagnoli is read only.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

type header struct {
	length uint32
	typ    uint8
	flags  uint8
	set    cmq.SetID
	sum    uint32
}

func parseHeader(b *[headerSize]byte) header {
	return header{
		length: binary.LittleEndian.Uint32(b[0:]),
		typ:    b[4],
		flags:  b[5],
		set:    cmq.SetID(binary.LittleEndian.Uint16(b[6:])),
		sum:    binary.LittleEndian.Uint32(b[8:]),
	}
}

// appendHeader appends the first eight bytes and room for the checksum.
func appendHeader(b []byte, length int, typ, flags uint8, set cmq.SetID) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(length))
	b = append(b, typ, flags)
	b = binary.LittleEndian.AppendUint16(b, uint16(set))
	return append(b, 0, 0, 0, 0)
}

// readFrame reads one frame. The payload is a fresh buffer which the caller owns; it grows as bytes arrive, so
// a length alone costs at most readStep of memory.
func readFrame(r io.Reader, limit int) (header, []byte, error) {
	var raw [headerSize]byte
	if _, err := io.ReadFull(r, raw[:]); err != nil {
		return header{}, nil, err
	}
	h := parseHeader(&raw)
	if uint64(h.length) > uint64(limit) {
		return h, nil, fmt.Errorf("%w: %d bytes, at most %d", errFrameSize, h.length, limit)
	}
	payload, err := readPayload(r, int(h.length))
	if err != nil {
		return h, nil, err
	}
	if crc32.Update(crc32.Checksum(raw[:8], castagnoli), castagnoli, payload) != h.sum {
		return h, nil, errFrameSum
	}
	return h, payload, nil
}

func readPayload(r io.Reader, length int) ([]byte, error) {
	b := make([]byte, min(length, readStep))
	for have := 0; ; {
		n, err := io.ReadFull(r, b[have:])
		if err != nil {
			return nil, noEOF(err)
		}
		if have += n; have == length {
			return b, nil
		}
		grown := make([]byte, min(length, 2*have))
		copy(grown, b)
		b = grown
	}
}

// noEOF makes the end of the stream inside a frame distinct from one between frames.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
