package reflog

import (
	"hash/crc32"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/internal/vfs"
)

// A file is what the drawing says.
func TestFormat(t *testing.T) {
	w := newWorld(testOptions())
	for range 20 {
		w.entry()
		w.send(Key{Shard: 1}, 2, 1, 30)
	}
	w.checkpoint(t)
	require.Len(t, w.files, 1)
	f := w.files[0]
	require.Equal(t, "refs-0000000001.chunk", f.Name)
	p, err := vfs.ReadFile(w.fs, dir+"/"+f.Name)
	require.NoError(t, err)
	require.EqualValues(t, len(p), f.Size)
	require.Equal(t, crc32.Checksum(p, castagnoli), f.CRC)
	require.Equal(t, "cmqrefs\n", string(p[:8]))
	require.EqualValues(t, 1, le.Uint32(p[8:]))
	require.EqualValues(t, 3, le.Uint16(p[12:]))
	require.EqualValues(t, 7, le.Uint64(p[16:]))
	require.EqualValues(t, 1, le.Uint64(p[24:]))
	require.Equal(t, crc32.Checksum(p[:36], castagnoli), le.Uint32(p[36:]))
	off := 40
	for off < len(p) {
		b := p[off:]
		size := int(le.Uint32(b[12:]))
		require.Equal(t, "RBLK", string(b[:4]))
		require.EqualValues(t, 1, le.Uint32(b[4:]))
		require.EqualValues(t, off, le.Uint32(b[8:]))
		require.EqualValues(t, 8, le.Uint16(b[16:]))
		require.EqualValues(t, 1, le.Uint16(b[18:]))
		require.Equal(t, crc32.Update(crc32.Checksum(b[:20], castagnoli), castagnoli, b[24:24+size]), le.Uint32(b[20:]))
		off += 24 + size
	}
	require.Equal(t, len(p), off)
}

func TestBodyKeepsEveryField(t *testing.T) {
	k, o := Key{Shard: 9, Lane: -3}, Key{Shard: 12, Lane: math.MaxInt64}
	runs := []Run{
		{Seq: 3, Index: 1 << 40, Time: -7, Bytes: 12, Slot: 4, N: 5},
		{Seq: 1 << 50, Index: math.MaxUint64, Time: math.MaxInt64, Bytes: math.MaxUint32, Slot: 1, N: math.MaxUint16},
	}
	var e encoder
	for _, k := range []Key{k, o} {
		for _, r := range runs {
			e.add(k, r)
		}
	}
	b, err := decodeBody(e.body)
	require.NoError(t, err)
	require.Equal(t, runs, b.of(k))
	require.Equal(t, runs, b.of(o))
	require.Nil(t, b.of(Key{Shard: 10}))
	_, err = decodeBody(nil)
	require.Error(t, err)
}

func TestAnEntryFullOfOneLane(t *testing.T) {
	w := newWorld(testOptions())
	w.do(added{k: Key{Shard: 1}, index: 3, n: 1 << 16, time: 5, bytes: 1 << 17})
	ref, ok, err := w.l.Resolve(Key{Shard: 1}, 1<<16-1)
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, Ref{Index: 3, Slot: 1<<16 - 1, Time: 5, Bytes: 2}, ref)
	require.Panics(t, func() { w.l.Add(Key{Shard: 1}, 1<<16, 4, 1, 1<<16, 5, 1) })
	require.Panics(t, func() { w.l.Add(Key{Shard: 1}, 1<<16, 4, 0, 0, 5, 1) })
}

// Tails are in memory and in the image; when there are too many, the longest become chunks, and those are joined later.
func TestTailsAreBounded(t *testing.T) {
	opt := testOptions()
	opt.TailBytes, opt.runs = 2000, 64
	w := newWorld(opt)
	for range 20 {
		for shard := range uint64(10) {
			for range 13 + shard {
				w.entry()
				w.send(Key{Shard: shard}, 1, 1, 10)
			}
		}
		w.checkpoint(t)
		tails, chunks := 0, 0
		for _, m := range w.l.current().main {
			tails += len(m.tail)
			chunks += len(m.chunks)
			if m.tail == nil {
				require.NotZero(t, m.chunks[len(m.chunks)-1].file)
			}
		}
		require.LessOrEqual(t, tails, 2000)
		w.check(t)
	}
	short := 0
	for _, m := range w.l.current().main {
		for i := range m.chunks {
			short += b2i(m.chunks[i].runs < 64)
		}
	}
	require.Less(t, short, 60)
}
