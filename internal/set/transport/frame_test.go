package transport

import (
	"bytes"
	"encoding/binary"
	"io"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
)

func plainFrame(typ, flags uint8, payload []byte) []byte {
	var e encoder
	e.plain(typ, flags, payload)
	e.flush()
	return bytes.Join(e.pieces, nil)
}

func TestFrameLayout(t *testing.T) {
	var e encoder
	e.begin(3, 3, 0x11, 0x22, 0x0333)
	e.raw([]byte("abc"))
	e.end()
	require.Equal(t, []byte{3, 0, 0, 0, 0x11, 0x22, 0x33, 0x03}, e.buf[:8])
	require.Equal(t, []byte("abc"), e.buf[12:])
	h, payload, err := readFrame(bytes.NewReader(e.buf), maxHello)
	require.NoError(t, err)
	require.Equal(t, "abc", string(payload))
	require.EqualValues(t, 0x22, h.flags)
	require.EqualValues(t, 0x0333, h.set)
}

func TestEveryFlippedBitOfAFrameIsFound(t *testing.T) {
	frame := plainFrame(typeRequest, 1, []byte("some payload"))
	for bit := range 8 * len(frame) {
		damaged := bytes.Clone(frame)
		damaged[bit/8] ^= 1 << (bit % 8)
		_, _, err := readFrame(bytes.NewReader(damaged), 64)
		require.Error(t, err, "bit %d", bit)
	}
}

func TestFrameEndsEarly(t *testing.T) {
	frame := plainFrame(typeRequest, 0, []byte("some payload"))
	_, _, err := readFrame(bytes.NewReader(nil), maxHello)
	require.Equal(t, io.EOF, err)
	for n := 1; n < len(frame); n++ {
		_, _, err := readFrame(bytes.NewReader(frame[:n]), maxHello)
		require.Equal(t, io.ErrUnexpectedEOF, err, "%d bytes", n)
	}
}

func TestLengthAloneCostsNoMemory(t *testing.T) {
	var head [headerSize]byte
	binary.LittleEndian.PutUint32(head[:], maxFrame)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, _, err := readFrame(bytes.NewReader(head[:]), maxFrame)
	runtime.ReadMemStats(&after)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(2*readStep))

	binary.LittleEndian.PutUint32(head[:], maxFrame+1)
	_, _, err = readFrame(bytes.NewReader(head[:]), maxFrame)
	require.ErrorIs(t, err, errFrameSize)
	binary.LittleEndian.PutUint32(head[:], maxHello+1)
	_, _, err = readFrame(bytes.NewReader(head[:]), maxHello)
	require.ErrorIs(t, err, errFrameSize)
}

func TestPayloadGrowsAcrossSteps(t *testing.T) {
	want := make([]byte, 5*readStep+17)
	for i := range want {
		want[i] = byte(i * 7)
	}
	_, got, err := readFrame(bytes.NewReader(plainFrame(typeReply, 0, want)), maxFrame)
	require.NoError(t, err)
	require.True(t, bytes.Equal(want, got))
}

// TestManyFramesInOneBatch mixes copied and referred payloads, so that frames begin in one buffer and end in
// another.
func TestManyFramesInOneBatch(t *testing.T) {
	var e encoder
	var sizes []int
	for i := range 300 {
		size := (i * 977) % (3 * aliasSize)
		sizes = append(sizes, size)
		it := item{typ: typeReply, flags: uint8(i), id: uint64(i), payload: bytes.Repeat([]byte{byte(i)}, size)}
		require.NoError(t, e.item(&it))
	}
	require.Equal(t, e.waiting(), func() int { e.flush(); return e.size }())
	r := bytes.NewReader(bytes.Join(e.pieces, nil))
	for i, size := range sizes {
		h, payload, err := readFrame(r, maxFrame)
		require.NoError(t, err, "frame %d", i)
		require.Equal(t, uint8(i), h.flags)
		require.Len(t, payload, 8+size)
		require.EqualValues(t, i, binary.LittleEndian.Uint64(payload))
	}
	require.Zero(t, r.Len())
}

func FuzzReadFrame(f *testing.F) {
	f.Add(plainFrame(typeHello, 0, hello{kind: bulk, from: 1, to: 2}.encode()))
	f.Add(plainFrame(typeRequest, 0, []byte("12345678body")))
	f.Fuzz(func(t *testing.T, data []byte) {
		h, payload, err := readFrame(bytes.NewReader(data), maxHello)
		if err != nil {
			return
		}
		var e encoder
		e.begin(len(payload), copied(payload), h.typ, h.flags, h.set)
		e.raw(payload)
		e.end()
		e.flush()
		require.Equal(t, data[:headerSize+len(payload)], bytes.Join(e.pieces, nil))
	})
}
