package reflog

import (
	"errors"
	"iter"
	"math/rand/v2"
	"slices"
	"sort"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/internal/vfs"
)

const dir = "refs"

func testOptions() Options {
	return Options{Cluster: 7, Set: 3, TailBytes: 100, CacheBytes: 6000, runs: 8, inImage: 12}
}

// needed is what a checkpoint of the state machine says.
type needed map[Key]uint64

func (n needed) Shards(f func(shard uint64, lanes iter.Seq2[int64, uint64]) error) error {
	for _, shard := range n.shards() {
		err := f(shard, func(yield func(int64, uint64) bool) {
			for _, k := range n.lanes(shard) {
				if !yield(k.Lane, n[k]) {
					return
				}
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (n needed) shards() (all []uint64) {
	for k := range n {
		all = append(all, k.Shard)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func (n needed) lanes(shard uint64) (all []Key) {
	for k := range n {
		if k.Shard == shard {
			all = append(all, k)
		}
	}
	sort.Slice(all, func(i, j int) bool { return all[i].less(all[j]) })
	return all
}

// live is spans by shard.
type live map[uint64][]Span

func (l live) Shards(f func(shard uint64, spans iter.Seq[Span]) error) error {
	for _, shard := range sortedKeys(l) {
		if err := f(shard, slices.Values(l[shard])); err != nil {
			return err
		}
	}
	return nil
}

// added is one call, to be made again after a restart.
type added struct {
	k          Key
	seq, index uint64
	slot       uint16
	n          int
	time       int64
	bytes      uint32
	drop       bool
}

func (a *added) apply(l interface {
	Add(Key, uint64, uint64, uint16, int, int64, uint32)
	DropShard(uint64)
}) {
	if a.drop {
		l.DropShard(a.k.Shard)
		return
	}
	l.Add(a.k, a.seq, a.index, a.slot, a.n, a.time, a.bytes)
}

// world is a map, the model of it, and what a node would do with it.
type world struct {
	disk     *vfs.Disk
	fs       vfs.FS
	l        *Log
	old      *oldLog
	low      needed // what is asked for by now
	tail     map[Key]uint64
	index    uint64
	now      int64
	slots    uint16 // used in the entry index
	lastDrop uint64 // index

	since  []added // not in the image
	frozen *Frozen
	keep   needed // as of frozen
	at     int    // of since, the first one behind frozen
	image  []byte
	files  []File
}

func newWorld(opt Options) *world {
	disk := vfs.NewDisk(rand.New(rand.NewPCG(1, 2)))
	w := &world{disk: disk, fs: disk.Mount(), old: newOld(), low: needed{}, tail: map[Key]uint64{}, now: 1000}
	if err := vfs.MakeDirs(w.fs, dir); err != nil {
		panic(err)
	}
	w.l = New(w.fs, dir, opt)
	w.entry()
	return w
}

func (w *world) do(a added) {
	a.apply(w.l)
	a.apply(w.old)
	w.since = append(w.since, a)
}

// entry begins a new entry of the log.
func (w *world) entry() { w.index, w.slots = w.index+1, 0 }

func (w *world) send(k Key, n int, later int64, bytes uint32) {
	if w.slots == 0 {
		w.now += later
	}
	w.do(added{k: k, seq: w.tail[k], index: w.late(k), slot: w.slots, n: n, time: w.now, bytes: bytes})
	if _, ok := w.low[k]; !ok {
		w.low[k] = w.tail[k]
	}
	w.tail[k] += uint64(n)
	w.slots += uint16(n)
}

// late is where the next message of the lane was stored: here and there in a main lane, a while ago.
func (w *world) late(k Key) uint64 {
	if k.Lane != 0 || w.tail[k]%5 != 3 || w.index < w.lastDrop+8 {
		return w.index
	}
	return w.index - 1 - w.tail[k]%7
}

// take ends the first n messages of the lane. A delayed lane that is empty is gone; one of the same moment begins behind it.
func (w *world) take(k Key, n uint64) {
	w.low[k] = min(w.low[k]+n, w.tail[k])
	w.old.DropBelow(k, w.low[k])
	if w.low[k] == w.tail[k] && k.Lane != 0 {
		delete(w.low, k)
	}
}

func (w *world) drop(shard uint64) {
	w.do(added{k: Key{Shard: shard}, drop: true})
	w.lastDrop = w.index
	for k := range w.low {
		if k.Shard == shard {
			delete(w.low, k)
		}
	}
	for k := range w.tail {
		if k.Shard == shard {
			delete(w.tail, k)
		}
	}
	w.entry()
}

func (w *world) freeze() {
	w.frozen, w.at, w.keep = w.l.Freeze(), len(w.since), needed{}
	for k, low := range w.low {
		w.keep[k] = low
	}
	w.entry()
}

var errStop = errors.New("stopped")

func (w *world) merge(throttle func(int) error) error {
	image, files, err := w.frozen.Merge(w.keep, throttle)
	if err == nil {
		w.image, w.files = image, files
	}
	return err
}

// install is the end of a checkpoint: the image is saved, the files that are left over are removed.
func (w *world) install() error {
	w.l.Install(w.frozen)
	w.frozen = nil
	w.since = slices.Clone(w.since[w.at:])
	names, err := w.fs.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if !slices.ContainsFunc(w.files, func(f File) bool { return f.Name == name }) {
			if err := w.fs.Remove(dir + "/" + name); err != nil {
				return err
			}
		}
	}
	return w.fs.SyncDir(dir)
}

func (w *world) abandon() {
	w.l.Abandon(w.frozen)
	w.frozen = nil
}

// reopen is a restart: the image, and the log behind it again.
func (w *world) reopen(opt Options) error {
	w.l, w.frozen = New(w.fs, dir, opt), nil
	if w.image != nil {
		var err error
		if w.l, err = Open(w.fs, dir, opt, w.image, w.files); err != nil {
			return err
		}
	}
	for i := range w.since {
		w.since[i].apply(w.l)
	}
	return nil
}

// check compares all that can be asked for with the model.
func (w *world) check(t require.TestingT) {
	for k, low := range w.low {
		w.checkLane(t, k, low)
	}
}

func (w *world) checkLane(t require.TestingT, k Key, low uint64) {
	tail := w.tail[k]
	var all []Run
	require.NoError(t, w.l.Runs(k, low, tail, func(r Run) error { all = append(all, r); return nil }))
	for seq := low; seq < tail; seq++ {
		want, ok := w.old.Resolve(k, seq)
		require.True(t, ok)
		got, ok, err := w.l.Resolve(k, seq)
		require.NoError(t, err)
		require.True(t, ok, "%v %d", k, seq)
		require.Equal(t, want, got, "%v %d", k, seq)
		require.NotEmpty(t, all)
		require.LessOrEqual(t, all[0].Seq, seq)
		want.Bytes, got = 0, all[0].ref(seq)
		got.Bytes = 0
		require.Equal(t, want, got)
		if all[0].end() == seq+1 {
			all = all[1:]
		}
		if seq%16 == 3 {
			w.l.cache.empty()
		}
		require.Equal(t, want.Time, w.timeAt(t, k, seq), "%v %d", k, seq)
	}
	require.Empty(t, all)
	_, found, ready := w.l.TimeAt(k, tail)
	require.True(t, !found || !ready)
	_, ok, err := w.l.Resolve(k, tail)
	require.NoError(t, err)
	require.False(t, ok)
	for _, time := range []int64{0, w.now - 20, w.now - 5, w.now, w.now + 1} {
		at := w.seqAt(t, k, time, tail)
		for seq := low; seq < tail; seq++ {
			ref, _ := w.old.Resolve(k, seq)
			require.Equal(t, ref.Time < time, seq < at, "%v: %d begins at %d; position %d was sent at %d", k, time, at, seq, ref.Time)
		}
	}
}

func (w *world) timeAt(t require.TestingT, k Key, seq uint64) int64 {
	bound, found, ready := w.l.TimeAt(k, seq)
	require.True(t, found)
	if ready {
		return bound
	}
	require.NoError(t, w.l.LoadTimeAt(k, seq))
	sent, found, ready := w.l.TimeAt(k, seq)
	require.True(t, ready && found)
	require.LessOrEqual(t, bound, sent)
	return sent
}

func (w *world) seqAt(t require.TestingT, k Key, time int64, end uint64) uint64 {
	bound, ready := w.l.SeqAt(k, time, end)
	if ready {
		return bound
	}
	require.NoError(t, w.l.LoadSeqAt(k, time))
	seq, ready := w.l.SeqAt(k, time, end)
	require.True(t, ready)
	require.LessOrEqual(t, bound, seq)
	return seq
}
