package meta

import (
	"encoding/binary"
	"math"

	"github.com/opencmq/cmq/internal/cmq"
)

// Bits of the first two bytes of encoded settings, little endian: which ones are given.
const (
	hasHeap = 1 << iota
	hasPolling
	hasVisibility
	hasSize
	hasRetention
	hasRewind
	hasTrace
	hasDeadLetter
	hasTransaction
	hasQueryInterval
	hasQueryCount
	hasInFlight
)

// appendSettings writes which settings are given (two bytes), then those given, in the order of the bits.
func appendSettings(b []byte, s *cmq.QueueSettings) []byte {
	at := len(b)
	b = append(b, 0, 0)
	has := uint16(0)
	optional := func(bit uint16, v *int64) {
		if v != nil {
			has |= bit
			b = appendInt(b, *v)
		}
	}
	optional(hasHeap, s.MaxMsgHeapNum)
	optional(hasPolling, s.PollingWaitSeconds)
	optional(hasVisibility, s.VisibilityTimeout)
	optional(hasSize, s.MaxMsgSize)
	optional(hasRetention, s.MsgRetentionSeconds)
	optional(hasRewind, s.RewindSeconds)
	if s.Trace != nil {
		has |= hasTrace
		b = appendBool(b, *s.Trace)
	}
	if d := s.DeadLetter; d != nil {
		has |= hasDeadLetter
		b = appendString(b, d.Queue)
		b = appendInt(b, int64(d.Policy))
		b = appendInt(b, d.MaxReceiveCount)
		b = appendInt(b, d.MaxTimeToLive)
	}
	if s.Transaction != nil {
		has |= hasTransaction
		b = appendBool(b, *s.Transaction)
	}
	optional(hasQueryInterval, s.FirstQueryInterval)
	optional(hasQueryCount, s.MaxQueryCount)
	optional(hasInFlight, s.MaxInFlight)
	binary.LittleEndian.PutUint16(b[at:], has)
	return b
}

func (r *reader) settings() cmq.QueueSettings {
	has := uint16(r.byte()) | uint16(r.byte())<<8
	optional := func(bit uint16) *int64 {
		if has&bit == 0 {
			return nil
		}
		v := r.int()
		return &v
	}
	s := cmq.QueueSettings{
		MaxMsgHeapNum:       optional(hasHeap),
		PollingWaitSeconds:  optional(hasPolling),
		VisibilityTimeout:   optional(hasVisibility),
		MaxMsgSize:          optional(hasSize),
		MsgRetentionSeconds: optional(hasRetention),
		RewindSeconds:       optional(hasRewind),
	}
	if has&hasTrace != 0 {
		v := r.bool()
		s.Trace = &v
	}
	if has&hasDeadLetter != 0 {
		s.DeadLetter = &cmq.DeadLetterSettings{
			Queue: r.string(), Policy: r.intRange(), MaxReceiveCount: r.int(), MaxTimeToLive: r.int(),
		}
	}
	if has&hasTransaction != 0 {
		v := r.bool()
		s.Transaction = &v
	}
	s.FirstQueryInterval, s.MaxQueryCount = optional(hasQueryInterval), optional(hasQueryCount)
	s.MaxInFlight = optional(hasInFlight)
	return s
}

// maxSeconds bounds every time and count in a setting: far above what the doors let through, and low enough
// that seconds fit a time.Duration and counts an int.
const maxSeconds = math.MaxInt32

// checkSettings refuses what no door lets through and what would overflow here.
func checkSettings(s *cmq.QueueSettings) *cmq.Error {
	numbers := []struct {
		name string
		v    *int64
	}{
		{"maxMsgHeapNum", s.MaxMsgHeapNum},
		{"pollingWaitSeconds", s.PollingWaitSeconds},
		{"visibilityTimeout", s.VisibilityTimeout},
		{"maxMsgSize", s.MaxMsgSize},
		{"msgRetentionSeconds", s.MsgRetentionSeconds},
		{"rewindSeconds", s.RewindSeconds},
		{"firstQueryInterval", s.FirstQueryInterval},
		{"maxQueryCount", s.MaxQueryCount},
		{"maxInFlight", s.MaxInFlight},
	}
	for _, n := range numbers {
		if n.v != nil && (*n.v < 0 || *n.v > maxSeconds) {
			return cmq.ErrParameterRange(n.name)
		}
	}
	if s.DeadLetter == nil {
		return nil
	}
	return checkDeadLetter(s.DeadLetter)
}

func checkDeadLetter(d *cmq.DeadLetterSettings) *cmq.Error {
	limit := d.MaxReceiveCount
	switch d.Policy {
	case cmq.PolicyReceives:
	case cmq.PolicyAge:
		limit = d.MaxTimeToLive
	default:
		return cmq.ErrDeadLetterPolicy
	}
	switch {
	case d.Queue == "":
		return cmq.ErrDeadLetterQueue
	case limit < 1 || limit > maxSeconds:
		return cmq.ErrDeadLetterParams
	}
	return nil
}
