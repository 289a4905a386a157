package reflog

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/opencmq/cmq/internal/vfs"
)

// Two replicas do the same, but one restarts now and then and fails to merge: both say what the map in memory says, and their
// files are equal.
func TestSaysWhatTheMapInMemorySays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := newWorld(testOptions()), newWorld(testOptions())
		both := func(f func(w *world)) { f(a); f(b) }
		for range rapid.IntRange(1, 120).Draw(t, "steps") {
			shard := rapid.Uint64Range(1, 4).Draw(t, "shard")
			k := Key{Shard: shard}
			if rapid.Bool().Draw(t, "delayed") {
				k.Lane = rapid.Int64Range(1, 12).Draw(t, "lane") * 1000
			}
			switch op := rapid.IntRange(0, 19).Draw(t, "op"); op {
			case 0:
				if rapid.IntRange(0, 4).Draw(t, "really") == 0 {
					both(func(w *world) { w.drop(shard) })
				}
			case 1, 2, 3:
				n := rapid.Uint64Range(0, 40).Draw(t, "take")
				if _, ok := a.low[k]; ok {
					both(func(w *world) { w.take(k, n) })
				}
			case 4, 5, 6:
				if a.frozen == nil {
					if rapid.IntRange(0, 3).Draw(t, "fail") == 0 {
						b.freeze()
						b.entry()
						a.entry()
						a.entry()
						stop := rapid.IntRange(0, 5).Draw(t, "stop")
						if b.merge(func(int) error { stop--; return onlyIf(stop < 0, errStop) }) != nil {
							b.check(t)
						}
						b.abandon()
						b.check(t)
						a.index, b.index = max(a.index, b.index), max(a.index, b.index)
					}
					both(func(w *world) { w.freeze() })
				} else {
					a.check(t)
					both(func(w *world) {
						require.NoError(t, w.merge(nil))
						w.check(t)
						require.NoError(t, w.install())
					})
					require.Equal(t, a.image, b.image)
					require.Equal(t, a.files, b.files)
					for _, f := range a.files {
						x, err := vfs.ReadFile(a.fs, dir+"/"+f.Name)
						require.NoError(t, err)
						y, err := vfs.ReadFile(b.fs, dir+"/"+f.Name)
						require.NoError(t, err)
						require.Equal(t, x, y)
						require.Len(t, x, int(f.Size))
					}
				}
			case 7:
				if b.frozen == nil {
					require.NoError(t, b.reopen(testOptions()))
					b.check(t)
				}
			default:
				for range rapid.IntRange(1, 20).Draw(t, "sends") {
					n, later := rapid.IntRange(1, 3).Draw(t, "n"), rapid.Int64Range(0, 4).Draw(t, "later")
					both(func(w *world) {
						if later > 0 {
							w.entry()
						}
						w.send(k, n, later, uint32(n)*10)
					})
				}
			}
		}
		both(func(w *world) { w.check(t) })
	})
}

func onlyIf(is bool, err error) error {
	if is {
		return err
	}
	return nil
}

// The same with chunks and blocks of the size they really have.
// TestMessagesOfOneEntrySentAtDifferentTimes keep their times: what was prepared together may be committed one by one.
func TestMessagesOfOneEntrySentAtDifferentTimes(t *testing.T) {
	w := newWorld(testOptions())
	k := Key{Shard: 1}
	w.l.Add(k, 0, 7, 0, 1, 1000, 10)
	w.l.Add(k, 1, 7, 1, 1, 2000, 10)
	w.l.Add(k, 2, 7, 2, 1, 2000, 10)
	for seq, time := range []int64{1000, 2000, 2000} {
		ref, ok, err := w.l.Resolve(k, uint64(seq))
		require.NoError(t, err)
		require.True(t, ok)
		require.Equal(t, Ref{Index: 7, Slot: uint16(seq), Time: time, Bytes: 10}, ref)
	}
	seq, ready := w.l.SeqAt(k, 1500, 3)
	require.True(t, ready)
	require.EqualValues(t, 1, seq)
}

func TestSizesAsTheyAre(t *testing.T) {
	opt := Options{Cluster: 7, Set: 3}
	w := newWorld(opt)
	rng := rand.New(rand.NewPCG(8, 8))
	for range 3 {
		for range 5000 {
			w.entry()
			w.send(Key{Shard: 1 + rng.Uint64N(3)}, 1+rng.IntN(3), 1, 100)
			w.send(Key{Shard: 1 + rng.Uint64N(3), Lane: 1000 * (1 + rng.Int64N(400))}, 1, 1, 100)
		}
		for _, shard := range w.low.shards() {
			for _, k := range w.low.lanes(shard) {
				w.take(k, rng.Uint64N(8))
			}
		}
		w.checkpoint(t)
	}
	v := w.l.current()
	require.NotZero(t, v.levels[0].file)
	require.Greater(t, len(v.levels[0].blocks), 3)
	require.Greater(t, len(v.lane(1).chunks), 3)
	require.NoError(t, w.reopen(opt))
	w.check(t)
}

// Who reads a lane from its beginning finds the next chunk in the cache.
func TestReadAhead(t *testing.T) {
	opt := testOptions()
	fetched := 0
	opt.Go = func(work func()) { fetched++; work() }
	w := newWorld(opt)
	k := Key{Shard: 1}
	for range 80 {
		w.entry()
		w.send(k, 1, 1, 10)
	}
	w.checkpoint(t)
	m := w.l.current().lane(1)
	for seq := range uint64(40) {
		_, ok, err := w.l.Resolve(k, seq)
		require.True(t, ok)
		require.NoError(t, err)
		require.NotNil(t, w.l.cache.get(m.sourceID(m.at(seq)+1)), "%d", seq)
	}
	require.Equal(t, 5, fetched)
	fetched = 0
	w.l.cache.empty()
	_, _, err := w.l.Resolve(k, 30)
	require.NoError(t, err)
	require.Zero(t, fetched, "nobody reads on from here as far as is known")
}

// On the loop nothing touches the disk.
func TestTheLoopDoesNotTouchTheDisk(t *testing.T) {
	w, _ := filled(t)
	w.disk.OnOp(func(op vfs.Op) error { panic(fmt.Sprint("the disk is touched: ", op)) })
	for k, low := range w.low {
		w.l.cache.empty()
		sent, found, ready := w.l.TimeAt(k, low+3)
		ref, ok := w.old.Resolve(k, low+3)
		require.True(t, found)
		require.True(t, !ready && (!ok || sent <= ref.Time) || sent == ref.Time)
		seq, ready := w.l.SeqAt(k, w.now-100, w.tail[k])
		require.True(t, ready || seq <= w.old.SeqAt(k, w.now-100, w.tail[k]))
	}
	w.entry()
	w.send(Key{Shard: 1}, 1, 1, 10)
	f := w.l.Freeze()
	w.send(Key{Shard: 1}, 1, 1, 10)
	w.l.Abandon(f)
	w.l.DropShard(1)
	require.NotEmpty(t, w.l.Files())
	require.NotZero(t, w.l.Pending())
}

// A shard that is dropped has nothing at once, wherever it was; one that comes back has only what was added since.
func TestDroppedShard(t *testing.T) {
	w, _ := filled(t)
	gone := needed{}
	for k, low := range w.low {
		gone[k] = low
	}
	w.freeze()
	w.drop(1)
	check := func() {
		for k, low := range gone {
			if k.Shard != 1 {
				continue
			}
			_, ok, err := w.l.Resolve(k, low+20)
			require.NoError(t, err)
			require.False(t, ok)
			seq, ready := w.l.SeqAt(k, 0, 77)
			require.True(t, ready && (seq == 0 || seq == 77))
		}
		w.check(t)
	}
	check()
	w.send(Key{Shard: 1}, 3, 1, 10)
	w.send(Key{Shard: 1, Lane: 1000}, 3, 1, 10)
	check()
	require.NoError(t, w.merge(nil))
	check()
	require.NoError(t, w.install())
	check()
	w.checkpoint(t)
	check()
	require.NoError(t, w.reopen(testOptions()))
	check()
}

// Files are joined and merged: there are few, and what is deleted gives its space back.
func TestFewFiles(t *testing.T) {
	w := newWorld(testOptions())
	for i := range 400 {
		for range 30 {
			w.entry()
			w.send(Key{Shard: 1 + w.index%3, Lane: int64(w.index%2) * 1000 * int64(w.index)}, 1, 1, 10)
		}
		if i == 200 {
			for k := range w.low {
				w.take(k, 1<<20)
			}
		}
		w.checkpoint(t)
		require.LessOrEqual(t, len(w.files), 20)
		require.LessOrEqual(t, len(w.l.current().levels), 10)
		if i == 202 {
			require.Less(t, w.disk.Used(), int64(8000))
		}
	}
	for _, f := range w.files {
		require.True(t, strings.HasPrefix(f.Name, "refs-") && strings.HasSuffix(f.Name, ".chunk"))
	}
	w.check(t)
}

// Readers look things up while the loop adds and checkpoints come and go.
func TestReadersBesideTheLoop(t *testing.T) {
	w, _ := filled(t)
	type at struct {
		k    Key
		seq  uint64
		want Ref
	}
	var all []at
	for k, low := range w.low {
		for seq := low; seq < w.tail[k]; seq++ {
			ref, _ := w.old.Resolve(k, seq)
			all = append(all, at{k, seq, ref})
		}
	}
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for n := range 4 {
		readers.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(n), 1))
			for {
				select {
				case <-stop:
					return
				default:
				}
				a := all[rng.IntN(len(all))]
				got, ok, err := w.l.Resolve(a.k, a.seq)
				if err != nil || !ok || got != a.want {
					t.Errorf("%v: %v, %v, %v", a, got, ok, err)
					return
				}
				if err := w.l.LoadTimeAt(a.k, a.seq); err != nil {
					t.Error(err)
				}
				if err := w.l.Runs(a.k, a.seq, a.seq+30, func(Run) error { return nil }); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 60 {
		for range 40 {
			w.entry()
			w.send(Key{Shard: 1 + w.index%3, Lane: int64(w.index%4) * 1000}, 1, 1, 10)
			w.send(Key{Shard: 1 + w.index%3, Lane: int64(w.index%4) * 1000}, 1, 1, 10)
		}
		w.checkpoint(t)
	}
	close(stop)
	readers.Wait()
	w.check(t)
}
