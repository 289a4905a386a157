package access

import (
	"crypto/rand"
	"encoding/binary"
	"sync/atomic"
)

// RequestIDs gives every request a number. Numbers start somewhere at random, so that those of different nodes
// and of a restarted node do not meet in practice; they are for finding a request in logs, not secrets.
type RequestIDs struct{ last atomic.Uint64 }

// NewRequestIDs starts at a random number.
func NewRequestIDs() *RequestIDs {
	var seed [8]byte
	rand.Read(seed[:]) // never fails: the process would have ended
	ids := new(RequestIDs)
	ids.last.Store(binary.LittleEndian.Uint64(seed[:]) >> 1)
	return ids
}

// Next gives a new number, which fits 63 bits because some clients read it into a signed number.
func (ids *RequestIDs) Next() uint64 { return ids.last.Add(1) &^ (1 << 63) }
