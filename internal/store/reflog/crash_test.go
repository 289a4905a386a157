package reflog

import (
	"errors"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/internal/vfs"
)

const imageFile = dir + "/image"

// work sends, takes and makes checkpoints until the disk fails. It returns all calls ever made and, by image, how many of them
// are in it.
func (w *world) work(t *testing.T, seed uint64) (all []added, in map[string]int) {
	rng := rand.New(rand.NewPCG(seed, 5))
	in = map[string]int{}
	behind := 0 // of all, where since begins
	for range 8 {
		for range 40 + rng.IntN(40) {
			k := Key{Shard: 1 + rng.Uint64N(4)}
			if rng.IntN(2) == 0 {
				k.Lane = 1000 * (1 + rng.Int64N(9))
			}
			w.entry()
			w.send(k, 1+rng.IntN(3), 1, 50)
		}
		for _, shard := range w.low.shards() {
			for _, k := range w.low.lanes(shard) {
				w.take(k, rng.Uint64N(30))
			}
		}
		w.freeze()
		err := w.merge(nil)
		if err == nil {
			in[string(w.image)] = behind + w.at
			err = vfs.WriteFile(w.fs, imageFile, w.image)
		}
		all = append(all[:behind], w.since...)
		if err != nil {
			return all, in
		}
		w.files = append(w.files, File{Name: "image"}) // install lets it be
		behind += w.at
		if w.install() != nil {
			return all, in
		}
	}
	return all, in
}

// A crash at any operation leaves an image whose files are whole, and with the log behind it nothing is missing.
func TestCrashAtEveryOperation(t *testing.T) {
	total := newWorld(testOptions())
	total.work(t, 1)
	n := ops(total.disk)
	for _, mode := range vfs.CrashModes() {
		for stop := range n {
			crash(t, mode, stop)
		}
	}
}

func crash(t *testing.T, mode vfs.CrashMode, stop int) {
	w := newWorld(testOptions())
	changes := 0
	w.disk.OnOp(func(op vfs.Op) error {
		if op.Kind.Changes() {
			if changes == stop {
				w.disk.OnOp(nil)
				w.disk.Crash(mode)
			}
			changes++
		}
		return nil
	})
	all, in := w.work(t, 1)
	w.fs = w.disk.Mount()
	image, err := vfs.ReadFile(w.fs, imageFile)
	if errors.Is(err, os.ErrNotExist) {
		w.image, w.since = nil, all
		require.NoError(t, w.reopen(testOptions()))
		w.check(t)
		return
	}
	require.NoError(t, err)
	behind, ok := in[string(image)]
	require.True(t, ok, "%v at operation %d", mode, stop)
	v, err := decodeImage(image)
	require.NoError(t, err)
	w.image, w.files, w.since = image, v.files, all[behind:]
	require.NoError(t, w.reopen(testOptions()))
	require.NoError(t, w.l.Verify(nil, func(d *DamageError) { t.Errorf("%v at operation %d: %v", mode, stop, d) }))
	w.check(t)
	w.checkpoint(t)
	w.check(t)
}

func ops(d *vfs.Disk) (n int) {
	w := newWorld(testOptions())
	w.disk.OnOp(func(op vfs.Op) error {
		n += b2i(op.Kind.Changes())
		return nil
	})
	w.work(nil, 1)
	return n
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// A full disk, or one that fails to sync, costs the Merge and nothing else, and leaves no files behind.
func TestMergeThatFailsAtEveryOperation(t *testing.T) {
	for stop := 0; ; stop++ {
		w, _ := filled(t)
		before, err := w.fs.ReadDir(dir)
		require.NoError(t, err)
		for range 100 {
			w.entry()
			w.send(Key{Shard: 1, Lane: int64(w.index % 5)}, 2, 1, 20)
		}
		w.freeze()
		ops := 0
		w.disk.OnOp(func(op vfs.Op) error {
			if op.Kind != vfs.OpRemove {
				ops++
			}
			return onlyIf(ops == stop+1 && op.Kind != vfs.OpRemove, errStop)
		})
		err = w.merge(nil)
		w.disk.OnOp(nil)
		if err == nil {
			require.Greater(t, stop, 8)
			return
		}
		w.abandon()
		after, e := w.fs.ReadDir(dir)
		require.NoError(t, e)
		require.Equal(t, before, after)
		w.l.cache.empty()
		w.check(t)
		w.checkpoint(t)
		w.check(t)
	}
}
