package tcpapi

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// rawFrame makes a frame around a body.
func rawFrame(body []byte) []byte {
	return append(binary.LittleEndian.AppendUint32([]byte{0, 0}, uint32(headerSize+len(body))), body...)
}

// stream is a connection that delivers bytes in pieces of the given sizes, in turn, and then ends.
type stream struct {
	net.Conn
	data   []byte
	pieces []int
}

func (s *stream) Read(b []byte) (int, error) {
	if len(s.data) == 0 {
		return 0, io.EOF
	}
	n := min(len(b), len(s.data))
	if len(s.pieces) > 0 {
		n = min(n, max(1, s.pieces[0]))
		s.pieces = append(s.pieces[1:], s.pieces[0])
	}
	copy(b, s.data[:n])
	s.data = s.data[n:]
	return n, nil
}

// framesOf is the plain way to cut a stream into frames.
func framesOf(data []byte, limit int) (frames [][]byte, err error) {
	for {
		if len(data) < headerSize {
			return frames, io.EOF
		}
		n, err := frameLength(data, limit)
		if err != nil {
			return frames, err
		}
		if len(data) < n {
			return frames, io.EOF
		}
		frames = append(frames, data[headerSize:n])
		data = data[n:]
	}
}

func readAll(r *frameReader) (frames [][]byte, err error) {
	for {
		frame, _, err := r.next()
		if err != nil {
			return frames, err
		}
		frames = append(frames, slices.Clone(frame))
	}
}

func never() error { return nil }

func TestFramesInPieces(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var data []byte
	for _, size := range []int{0, 1, 5, 500, 1024, chunkSize - headerSize, chunkSize, 3 * chunkSize, 0, 7} {
		body := make([]byte, size)
		for i := range body {
			body[i] = byte(random.Uint32())
		}
		data = append(data, rawFrame(body)...)
	}
	want, _ := framesOf(data, 1<<30)
	for _, pieces := range [][]int{nil, {1}, {2, 5}, {headerSize}, {chunkSize}, {chunkSize - 1}, {1000, 1, 70_000}} {
		r := newFrameReader(&stream{data: data, pieces: pieces}, &chunks{}, 1<<30, never)
		got, err := readAll(r)
		require.ErrorIs(t, err, io.EOF)
		require.Len(t, got, len(want))
		for i := range want {
			require.True(t, bytes.Equal(want[i], got[i]), "frame %d in pieces of %v", i, pieces)
		}
	}
}

// TestFramesOfASocket: sockets are read directly, without a buffer while nothing is there.
func TestFramesOfASocket(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	server, err := l.Accept()
	require.NoError(t, err)
	defer server.Close()
	r := newFrameReader(server, &chunks{}, 1<<30, never)
	require.Equal(t, readsSockets, r.raw != nil)
	go func() {
		defer client.Close()
		for i := range 300 {
			for piece := range slices.Chunk(rawFrame(bytes.Repeat([]byte{byte(i)}, i*i)), 40_000) {
				client.Write(piece)
			}
		}
	}()
	for i := range 300 {
		frame, own, err := r.next()
		require.NoError(t, err)
		require.True(t, bytes.Equal(bytes.Repeat([]byte{byte(i)}, i*i), frame))
		if len(frame) > chunkSize {
			require.True(t, own)
		}
	}
	_, _, err = r.next()
	require.ErrorIs(t, err, io.EOF)
	require.Nil(t, r.chunk)
}

// TestOwnFramesStay: what is said to be the caller's is not written over by what follows.
func TestOwnFramesStay(t *testing.T) {
	var data []byte
	for i := range 500 {
		data = append(data, rawFrame(bytes.Repeat([]byte{byte(i)}, 1000))...)
	}
	r := newFrameReader(&stream{data: data}, &chunks{}, 1<<20, never)
	owned := map[int][]byte{}
	for i := range 500 {
		frame, own, err := r.next()
		require.NoError(t, err)
		if own {
			owned[i] = frame
		}
	}
	require.NotEmpty(t, owned)
	for i, frame := range owned {
		require.Equal(t, bytes.Repeat([]byte{byte(i)}, 1000), frame)
	}
}

// TestMemoryGrowsWithWhatArrives: a frame that is announced costs nothing.
func TestMemoryGrowsWithWhatArrives(t *testing.T) {
	head := rawFrame(nil)
	binary.LittleEndian.PutUint32(head[2:], 1<<30)
	r := newFrameReader(&stream{data: append(head, make([]byte, 5000)...), pieces: []int{100}}, &chunks{}, 1<<30, never)
	_, _, err := r.next()
	require.ErrorIs(t, err, io.EOF)
	require.LessOrEqual(t, cap(r.stash), 2*len(r.stash))
	require.Nil(t, r.chunk)
}

func TestBadFrames(t *testing.T) {
	for name, row := range map[string]struct {
		hex  string
		want error
	}{
		"marker, first byte":        {"010006000000", errMarker},
		"marker, second byte":       {"000106000000", errMarker},
		"length 0":                  {"000000000000", errShort},
		"length 5":                  {"000005000000", errShort},
		"length over the limit":     {"000001100000", errLong},
		"length negative if signed": {"0000ffffffff", errLong},
	} {
		data, err := hex.DecodeString(row.hex)
		require.NoError(t, err)
		for _, pieces := range [][]int{nil, {1}} {
			r := newFrameReader(&stream{data: data, pieces: pieces}, &chunks{}, 4096, never)
			_, _, err = r.next()
			require.ErrorIs(t, err, row.want, name)
		}
	}
	limit := errors.New("not now")
	r := newFrameReader(&stream{data: []byte{0}}, &chunks{}, 4096, func() error { return limit })
	_, _, err := r.next()
	require.ErrorIs(t, err, limit)
}

// FuzzFrames compares the reader, in any pieces, with the plain way to cut a stream into frames.
func FuzzFrames(f *testing.F) {
	f.Add([]byte{}, []byte{1})
	f.Add(append(rawFrame([]byte("one")), rawFrame(nil)...), []byte{3, 200})
	f.Add([]byte{0, 0, 255, 255, 255, 255}, []byte{})
	f.Add(append(rawFrame(make([]byte, 1000)), 1, 2, 3), []byte{255, 1})
	var shared chunks
	f.Fuzz(func(t *testing.T, data, pieces []byte) {
		const limit = 4096
		var sizes []int
		for _, p := range pieces {
			sizes = append(sizes, int(p))
		}
		want, wantErr := framesOf(data, limit)
		got, err := readAll(newFrameReader(&stream{data: data, pieces: sizes}, &shared, limit, never))
		require.Equal(t, fmt.Sprint(wantErr), fmt.Sprint(err))
		require.Len(t, got, len(want))
		for i := range want {
			require.True(t, bytes.Equal(want[i], got[i]))
		}
	})
}
