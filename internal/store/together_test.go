package store

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// counted counts the reads of a payload.
type counted struct {
	*bytes.Reader
	reads int
}

func (c *counted) ReadAt(p []byte, off int64) (int, error) {
	c.reads++
	return c.Reader.ReadAt(p, off)
}

func TestWindowGivesWhatIsThere(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	data := make([]byte, 100_000)
	for i := range data {
		data[i] = byte(rng.Uint32())
	}
	w := &window{Payload: &counted{Reader: bytes.NewReader(data)}}
	for range 10_000 {
		p := make([]byte, rng.IntN(3000))
		if rng.IntN(10) == 0 {
			p = make([]byte, rng.IntN(40_000))
		}
		off := rng.Int64N(int64(len(data) + 10))
		n, err := w.ReadAt(p, off)
		want, wantErr := bytes.NewReader(data).ReadAt(make([]byte, len(p)), off)
		require.Equal(t, want, n)
		require.Equal(t, wantErr, err)
		require.Equal(t, data[min(off, int64(len(data))):][:n], p[:n])
	}
}

func TestNeighboursCostOneRead(t *testing.T) {
	c := &counted{Reader: bytes.NewReader(make([]byte, 400_000))}
	w := &window{Payload: c}
	for i := range int64(15) { // header, entry of the table, body
		for _, r := range [][2]int64{{0, 52}, {50_000 + 20*i, 20}, {200_000 + 1000*i, 1000}} {
			_, err := w.ReadAt(make([]byte, r[1]), r[0])
			require.NoError(t, err)
		}
	}
	require.Equal(t, 3, c.reads)
}

func TestMessagesAreReadTogetherOrAlone(t *testing.T) {
	s, err := Create(newTestDisk(1).Mount(), "/store", testOptions(), testImage(10))
	require.NoError(t, err)
	defer s.Close()
	require.NoError(t, s.Log().Append(testEntries(1, 11, 20), s.Log().HardState(), true))
	refs := []Ref{at(12, 0), at(12, 1), at(12, 4), at(15, 2), at(99, 0), at(99, 1), at(12, 3), at(13, 0)}
	seen := 0
	s.Messages(refs, func(i int, m Message, err error) {
		require.Equal(t, seen, i)
		seen++
		if refs[i].Index == 99 {
			require.ErrorIs(t, err, ErrGone)
			return
		}
		require.NoError(t, err)
		require.Equal(t, refs[i], m.Ref)
		require.Equal(t, testBody(refs[i]), m.Body)
	})
	require.Equal(t, len(refs), seen)
}
