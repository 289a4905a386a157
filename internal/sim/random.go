package sim

import (
	crand "crypto/rand"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"time"
)

// stream is one named source of choices. Each subject (the disk of a node, a kind of fault, a client) has its own, so
// that taking one fault away does not change what the others draw.
type stream struct{ *rand.Rand }

func newStream(seed uint64, name string) stream {
	h := fnv.New64a()
	io.WriteString(h, name)
	return stream{rand.New(rand.NewPCG(seed, h.Sum64()))}
}

// chance is true in p of 100 cases.
func (s stream) chance(p int) bool { return s.IntN(100) < p }

// between draws evenly from [lo, hi].
func (s stream) between(lo, hi time.Duration) time.Duration {
	if hi <= lo {
		return lo
	}
	return lo + time.Duration(s.Int64N(int64(hi-lo)+1))
}

// mostly draws from [lo, hi], small values more often: the square of an even draw.
func (s stream) mostly(lo, hi time.Duration) time.Duration {
	f := s.Float64()
	return lo + time.Duration(f*f*float64(hi-lo))
}

func pick[T any](s stream, list []T) T { return list[s.IntN(len(list))] }

// Read fills p, for those who want an io.Reader.
func (s stream) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(s.Uint32())
	}
	return len(p), nil
}

// replaceCryptoRand makes raft's election timeouts follow from the seed until the returned function is called.
func replaceCryptoRand(seed uint64) (restore func()) {
	old := crand.Reader
	crand.Reader = newStream(seed, "elections")
	return func() { crand.Reader = old }
}
