package sim

import (
	"fmt"
	"io"
	"time"
)

// tracer keeps a hash of everything that happens, and writes it down for people if asked to. Two runs of a seed are
// the same run if their hashes are equal.
type tracer struct {
	hash  uint64
	out   io.Writer
	lines uint64
}

const (
	fnvOffset = 14695981039346656037
	fnvPrime  = 1099511628211
)

func newTracer(out io.Writer) *tracer { return &tracer{hash: fnvOffset, out: out} }

// mix adds numbers to the hash.
func (t *tracer) mix(values ...uint64) {
	h := t.hash
	for _, v := range values {
		for range 8 {
			h = (h ^ v&0xff) * fnvPrime
			v >>= 8
		}
	}
	t.hash = h
}

// hashBytes is a hash of data alone.
func hashBytes(data []byte) uint64 {
	h := uint64(fnvOffset)
	for len(data) >= 8 {
		v := uint64(data[0]) | uint64(data[1])<<8 | uint64(data[2])<<16 | uint64(data[3])<<24 |
			uint64(data[4])<<32 | uint64(data[5])<<40 | uint64(data[6])<<48 | uint64(data[7])<<56
		h = (h ^ v) * fnvPrime
		h ^= h >> 29
		data = data[8:]
	}
	for _, b := range data {
		h = (h ^ uint64(b)) * fnvPrime
	}
	return h
}

// on reports whether say writes anything; callers need not make the arguments otherwise.
func (t *tracer) on() bool { return t.out != nil }

// say writes one line. A trace that cannot be written is no reason to end the run.
func (t *tracer) say(at time.Duration, format string, args ...any) {
	if t.out == nil {
		return
	}
	t.lines++
	fmt.Fprintf(t.out, "%11.6f  %s\n", at.Seconds(), fmt.Sprintf(format, args...))
}
