package transport

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/opencmq/cmq/internal/cmq"
)

// hello is the first frame on a connection, by the side that dialled. Payload, little endian:
//
//	0          8         10     11     12        20       28       36
//	+----------+---------+------+------+---------+--------+--------+
//	| "cmqpeer"| version | kind | zero | cluster | from   | to     |
//	| 0        | u16 = 1 | u8   | u8   | u64     | u64    | u64    |
//	+----------+---------+------+------+---------+--------+--------+
//
// The answer is welcome, or refused with the reason; to something that is not a hello at all, nothing.
type hello struct {
	version uint16
	kind    kind
	cluster uint64
	from    cmq.NodeID
	to      cmq.NodeID
}

const (
	helloMagic   = "cmqpeer\x00"
	helloVersion = 1
	helloSize    = 36
)

var (
	errNotHello = errors.New("does not speak the peer protocol")
	errRemoved  = errors.New("the node was removed from the cluster since its hello")
)

func (h hello) encode() []byte {
	b := append(make([]byte, 0, helloSize), helloMagic...)
	b = binary.LittleEndian.AppendUint16(b, h.version)
	b = append(b, byte(h.kind), 0)
	b = binary.LittleEndian.AppendUint64(b, h.cluster)
	b = binary.LittleEndian.AppendUint64(b, uint64(h.from))
	return binary.LittleEndian.AppendUint64(b, uint64(h.to))
}

func parseHello(b []byte) (hello, error) {
	if len(b) < helloSize || string(b[:8]) != helloMagic {
		return hello{}, errNotHello
	}
	return hello{
		version: binary.LittleEndian.Uint16(b[8:]),
		kind:    kind(b[10]),
		cluster: binary.LittleEndian.Uint64(b[12:]),
		from:    cmq.NodeID(binary.LittleEndian.Uint64(b[20:])),
		to:      cmq.NodeID(binary.LittleEndian.Uint64(b[28:])),
	}, nil
}

// check says why a hello is not accepted by this node, or nil. admits tells who may connect.
func (h hello) check(node cmq.NodeID, cluster uint64, admits func(hello) bool) error {
	switch {
	case h.version != helloVersion:
		return fmt.Errorf("peer protocol version %d, this node speaks %d", h.version, helloVersion)
	case h.cluster != cluster:
		return fmt.Errorf("cluster %016x, this node belongs to cluster %016x", h.cluster, cluster)
	case h.to != node:
		return fmt.Errorf("looks for node %d, this is node %d; check the peer addresses", h.to, node)
	case h.kind >= kinds:
		return fmt.Errorf("unknown kind of connection %d", h.kind)
	case h.from == node || !admits(h):
		return fmt.Errorf("node %d is not a peer of node %d", h.from, node)
	}
	return nil
}

// greet is the dialling side of the handshake.
func (w *wire) greet(h hello) error {
	if err := w.send(typeHello, h.encode()); err != nil {
		return err
	}
	head, payload, err := w.read()
	switch {
	case err != nil:
		return fmt.Errorf("no welcome: %w", err)
	case head.typ == typeRefused:
		return fmt.Errorf("refused by %s: %q", peerID(h.to), payload)
	case head.typ != typeWelcome:
		return fmt.Errorf("no welcome: %w", errFrameType)
	}
	w.limit = h.kind.payloadLimit()
	return nil
}

// answer is the accepting side. enter is called for a hello that is accepted, before the welcome, so that of two connections made
// one after the other the second is the newer here too; it reports whether the connection is wanted after all. An error means
// that the connection is to be closed.
func (w *wire) answer(node cmq.NodeID, cluster uint64, admits, enter func(hello) bool) (hello, error) {
	head, payload, err := w.read()
	if err != nil {
		return hello{}, fmt.Errorf("%w: %w", errNotHello, err)
	}
	h, err := parseHello(payload)
	if err != nil || head.typ != typeHello {
		return hello{}, errNotHello
	}
	if err := h.check(node, cluster, admits); err != nil {
		return h, errors.Join(err, w.send(typeRefused, []byte(err.Error())))
	}
	if !enter(h) {
		return h, errRemoved
	}
	w.limit = h.kind.payloadLimit()
	return h, w.send(typeWelcome, nil)
}
