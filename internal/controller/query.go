package controller

import (
	"encoding/binary"
	"fmt"

	"github.com/opencmq/cmq/internal/core/meta"
)

// A query is the Payload of a KindMeta request that changes nothing. It begins like an encoded command; its
// kinds are those from 0x80 on.
//
//	+-------------+----------+---------------------------------------+
//	| version (1) | kind (1) | queryTable: version had (uvarint)     |
//	+-------------+----------+---------------------------------------+
type query struct {
	kind byte
	have uint64 // for queryTable: the version the asker has
}

const (
	payloadVersion = 1

	// querySync → Number: the version of the table that shows everything answered before.
	querySync = 0x80
	// queryTable → Number as above; Payload: that table's image, nothing if the asker has it.
	queryTable = 0x81
)

func (q query) encode() []byte {
	b := []byte{payloadVersion, q.kind}
	if q.kind == queryTable {
		b = binary.AppendUvarint(b, q.have)
	}
	return b
}

// isQuery tells a query's payload from a command's.
func isQuery(payload []byte) bool {
	return len(payload) >= 2 && payload[0] == payloadVersion && payload[1] >= querySync
}

// decodeQuery reads a payload for which isQuery holds.
func decodeQuery(payload []byte) (query, error) {
	q, rest := query{kind: payload[1]}, payload[2:]
	switch q.kind {
	case querySync:
	case queryTable:
		v, n := binary.Uvarint(rest)
		q.have, rest = v, rest[max(n, 0):]
		if n <= 0 {
			return query{}, fmt.Errorf("%w: query without version", meta.ErrFormat)
		}
	default:
		return query{}, fmt.Errorf("%w: unknown query %#x", meta.ErrFormat, q.kind)
	}
	if len(rest) > 0 {
		return query{}, fmt.Errorf("%w: %d bytes after a query", meta.ErrFormat, len(rest))
	}
	return q, nil
}
