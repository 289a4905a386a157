package reflog

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func FuzzDecodeBody(f *testing.F) {
	f.Add(encodeLane(Key{Shard: 1}, []Run{{Seq: 5, Index: 7, Time: 1000, Bytes: 30, Slot: 2, N: 3}, {Seq: 8, Index: 9, Time: 1001, Bytes: 10, N: 1}}))
	var e encoder
	e.add(Key{Shard: 1, Lane: 5000}, Run{Seq: 5, Index: 900, Time: 1000, Bytes: 30, Slot: 65535, N: 1})
	e.add(Key{Shard: 1, Lane: 6000}, Run{Seq: 1, Index: 7, Time: 10, Bytes: 4_000_000_000, N: 65535})
	e.add(Key{Shard: 9, Lane: -1}, Run{Seq: 1 << 60, Index: 1 << 63, Time: -5, N: 1})
	f.Add(e.body)
	f.Fuzz(func(t *testing.T, body []byte) {
		b, err := decodeBody(body)
		if err != nil {
			return
		}
		require.LessOrEqual(t, len(b.runs), maxRuns)
		var e encoder
		for i, p := range b.parts {
			runs := b.of(p.key)
			require.NotEmpty(t, runs)
			require.Equal(t, p.first, b.parts[i].first)
			for _, r := range runs {
				e.add(p.key, r)
			}
		}
		again, err := decodeBody(e.body)
		require.NoError(t, err)
		require.Equal(t, b, again)
	})
}

func FuzzDecodeImage(f *testing.F) {
	w := newWorld(testOptions())
	w.work(nil, 2)
	f.Add(w.image)
	small := newWorld(testOptions())
	small.entry()
	small.send(Key{Shard: 1}, 3, 1, 10)
	small.send(Key{Shard: 300, Lane: 90_000}, 1, 1, 10)
	small.freeze()
	require.NoError(f, small.merge(nil))
	f.Add(small.image)
	f.Add([]byte{imageVersion, 1, 0, 0, 0})
	f.Fuzz(func(t *testing.T, image []byte) {
		v, err := decodeImage(image)
		if err != nil {
			return
		}
		l, err := Open(small.fs, dir, testOptions(), image, v.files)
		require.NoError(t, err)
		for _, k := range []Key{{Shard: 1}, {Shard: 300, Lane: 90_000}} {
			_, _, _ = l.Resolve(k, 1)
			_, _ = l.SeqAt(k, 1000, 5)
			_, _, _ = l.TimeAt(k, 0)
		}
		fr := l.Freeze()
		_, _, _ = fr.Merge(needed{{Shard: 1}: 0, {Shard: 300, Lane: 90_000}: 0}, nil)
	})
}

func TestImageIsRead(t *testing.T) {
	w, _ := filled(t)
	v, err := decodeImage(w.image)
	require.NoError(t, err)
	is := w.l.current()
	require.Equal(t, is.files, v.files)
	require.Equal(t, is.main, v.main)
	require.Equal(t, len(is.levels), len(v.levels))
	for i := range is.levels {
		require.Equal(t, is.levels[i].blocks, v.levels[i].blocks)
		require.Equal(t, is.levels[i].weights, v.levels[i].weights)
	}
	for n := range w.image {
		_, err := Open(w.fs, dir, testOptions(), w.image[:n], w.files)
		require.ErrorIs(t, err, errImage)
	}
	_, err = Open(w.fs, dir, testOptions(), w.image, w.files[1:])
	require.ErrorIs(t, err, errImage)
	w.files[0].CRC++
	_, err = Open(w.fs, dir, testOptions(), w.image, w.files)
	require.ErrorIs(t, err, errImage)
}
