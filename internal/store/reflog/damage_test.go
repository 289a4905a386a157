package reflog

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/internal/vfs"
)

// filled is a world with files of both kinds, and a twin that nothing happens to.
func filled(t *testing.T) (w, twin *world) {
	w, twin = newWorld(testOptions()), newWorld(testOptions())
	for _, w := range []*world{w, twin} {
		rng := rand.New(rand.NewPCG(3, 4))
		for range 3 {
			for range 120 {
				k := Key{Shard: 1 + rng.Uint64N(3)}
				if rng.IntN(2) == 0 {
					k.Lane = 1000 * (1 + rng.Int64N(9))
				}
				w.entry()
				w.send(k, 1+rng.IntN(3), 1, 50)
			}
			w.checkpoint(t)
		}
		require.GreaterOrEqual(t, len(w.files), 2)
	}
	return w, twin
}

func (w *world) checkpoint(t require.TestingT) {
	w.freeze()
	require.NoError(t, w.merge(nil))
	require.NoError(t, w.install())
}

// mend does what the engine does: what is damaged comes from the twin, until all is readable.
func mend(t *testing.T, w, twin *world) (damaged int) {
	for k, low := range w.low {
		for {
			err := w.l.Runs(k, low, w.tail[k], func(Run) error { return nil })
			if err == nil {
				break
			}
			var d *DamageError
			require.ErrorAs(t, err, &d)
			require.Equal(t, k, d.Key)
			require.Less(t, d.Lo, d.Hi)
			require.NotEmpty(t, d.File)
			require.Less(t, damaged, 1000, "%v", d)
			damaged++
			repair(t, w, twin, k, d.Lo, d.Hi)
		}
	}
	return damaged
}

func repair(t *testing.T, w, twin *world, k Key, lo, hi uint64) {
	var runs []Run
	require.NoError(t, twin.l.Runs(k, lo, hi, func(r Run) error { runs = append(runs, r); return nil }))
	require.NoError(t, w.l.Repair(k, lo, hi, runs))
}

// Every byte of every file is flipped: what is asked for is right or an error that says what is missing, and it can be mended.
func TestEveryByteFlipped(t *testing.T) {
	w, twin := filled(t)
	for _, f := range w.files {
		for off := range f.Size {
			require.NoError(t, w.disk.Flip(dir+"/"+f.Name, off, uint(off%8)))
			l, err := Open(w.fs, dir, testOptions(), w.image, w.files)
			require.NoError(t, err)
			w.l = l
			var found []*DamageError
			require.NoError(t, l.Verify(nil, func(d *DamageError) { found = append(found, d) }))
			require.NotEmpty(t, found, "%s: byte %d", f.Name, off)
			for _, d := range found {
				require.True(t, strings.HasSuffix(d.File, f.Name))
			}
			if off%7 == 0 {
				mend(t, w, twin)
				w.check(t)
			}
			require.NoError(t, w.disk.Flip(dir+"/"+f.Name, off, uint(off%8)))
		}
	}
}

// A damaged file is repaired from a twin, before or after a checkpoint, and the checkpoint after that needs the twin no more.
func TestRepair(t *testing.T) {
	hurt := map[string]func(t *testing.T, w *world, f File){
		"missing": func(t *testing.T, w *world, f File) { require.NoError(t, w.fs.Remove(dir+"/"+f.Name)) },
		"cut off": func(t *testing.T, w *world, f File) {
			h, err := w.fs.OpenFile(dir+"/"+f.Name, syscall.O_RDWR, 0)
			require.NoError(t, err)
			require.NoError(t, h.Truncate(f.Size/2))
			require.NoError(t, h.Close())
		},
		"zeros": func(t *testing.T, w *world, f File) {
			require.NoError(t, w.disk.Corrupt(dir+"/"+f.Name, 0, int(f.Size), func(p []byte) { clear(p) }))
		},
		"one block": func(t *testing.T, w *world, f File) {
			require.NoError(t, w.disk.Flip(dir+"/"+f.Name, fileHeader+blockHead, 1))
		},
		"unreadable": func(t *testing.T, w *world, f File) {
			w.disk.OnOp(func(op vfs.Op) error {
				if op.Kind == vfs.OpRead && strings.HasSuffix(op.Name, f.Name) {
					return syscall.EIO
				}
				return nil
			})
		},
	}
	for name, hurt := range hurt {
		for _, when := range []string{"at once", "after a checkpoint", "after a restart"} {
			t.Run(name+", "+when, func(t *testing.T) {
				w, twin := filled(t)
				for _, f := range w.files {
					hurt(t, w, f)
				}
				w.l.cache.empty()
				switch when {
				case "after a checkpoint":
					w.checkpoint(t)
				case "after a restart":
					require.Error(t, w.touch())
					w.checkpoint(t)
					require.NoError(t, w.reopen(testOptions()))
				}
				require.NotZero(t, mend(t, w, twin))
				w.check(t)
				for range 2 { // files that were damaged are written anew
					w.entry()
					w.send(Key{Shard: 1}, 1, 1, 50)
					w.send(Key{Shard: 1, Lane: 1000}, 1, 1, 50)
					w.checkpoint(t)
				}
				w.disk.OnOp(nil)
				require.NoError(t, w.reopen(testOptions()))
				w.check(t)
				require.NoError(t, w.l.Verify(nil, func(d *DamageError) { t.Error(d) }))
			})
		}
	}
}

// touch reads everything.
func (w *world) touch() (err error) {
	for k := range w.low {
		err = errors.Join(err, w.l.Runs(k, 0, math.MaxUint64, func(Run) error { return nil }))
	}
	return err
}

// A look-up that fails for want of file handles is no damage.
func TestTransientErrorsAreNoDamage(t *testing.T) {
	w, _ := filled(t)
	w.disk.OnOp(func(op vfs.Op) error { return onlyIf(op.Kind == vfs.OpOpen, syscall.EMFILE) })
	w.l.cache.empty()
	err := w.touch()
	require.ErrorIs(t, err, syscall.EMFILE)
	require.False(t, isDamage(err))
	require.ErrorIs(t, w.l.Verify(nil, nil), syscall.EMFILE)
	w.disk.OnOp(nil)
	w.check(t)
}

// Verify names what a block of several lanes has, and what is in use nowhere.
func TestVerifyNamesWhatIsLost(t *testing.T) {
	w, _ := filled(t)
	v := w.l.current()
	for _, lv := range v.levels {
		if lv.file == 0 {
			continue
		}
		name := dir + "/" + fileName(lv.file)
		for i := range lv.blocks {
			off := int64(lv.blocks[i].off) + blockHead
			require.NoError(t, w.disk.Flip(name, off, 0))
			var found []*DamageError
			require.NoError(t, w.l.Verify(nil, func(d *DamageError) { found = append(found, d) }))
			require.Len(t, found, 1)
			require.Equal(t, lv.blocks[i].key, found[0].Key)
			require.Equal(t, lv.blocks[i].seq, found[0].Lo)
			if i+1 < len(lv.blocks) {
				require.Equal(t, lv.blocks[i+1].key, found[0].Last)
				require.Equal(t, lv.blocks[i+1].seq, found[0].Hi)
			}
			require.Contains(t, found[0].Error(), "checksum")
			require.NoError(t, w.disk.Flip(name, off, 0))
		}
		require.NoError(t, w.disk.Flip(name, 0, 0))
		require.NoError(t, w.l.Verify(nil, func(d *DamageError) {
			require.Equal(t, d.Lo, d.Hi)
			require.Equal(t, d.Key, d.Last)
			require.Contains(t, d.Error(), "nothing in use")
		}))
	}
}

func TestRepairWantsRuns(t *testing.T) {
	w := newWorld(testOptions())
	for _, runs := range [][]Run{{{N: 0}}, {{Seq: 5, N: 1}, {Seq: 5, N: 1}}, {{Seq: math.MaxUint64, N: 1}},
		{{Index: 2, N: 1}, {Seq: 1, Index: 1, N: 1}}, {{Time: 2, N: 1}, {Seq: 1, Time: 1, N: 1}}} {
		require.Error(t, w.l.Repair(Key{Shard: 1, Lane: 1}, 0, 9, runs))
	}
	require.NoError(t, w.l.Repair(Key{Shard: 1}, 0, 9, []Run{{Index: 2, N: 1}, {Seq: 1, Index: 1, N: 1}}), "a main lane")
}

// A level of a lane that is damaged comes back from a twin that gives the lane to its end, newer levels included.
func TestRepairOfAnOldLevel(t *testing.T) {
	w, twin := newWorld(testOptions()), newWorld(testOptions())
	k := Key{Shard: 2, Lane: 1000}
	for _, w := range []*world{w, twin} {
		for _, n := range []int{500, 100, 30, 5} {
			for range n {
				w.entry()
				w.send(k, 1, 1, 10)
			}
			w.checkpoint(t)
		}
		require.Greater(t, len(w.l.current().levels), 2)
	}
	for _, f := range w.files {
		require.NoError(t, w.disk.Corrupt(dir+"/"+f.Name, 0, int(f.Size), func(p []byte) { clear(p) }))
	}
	w.l.cache.empty()
	// What a peer gave for one level hides the next one until the Merge has written it.
	for range 4 {
		require.NotZero(t, mend(t, w, twin))
		w.checkpoint(t)
		w.l.cache.empty()
		if w.touch() == nil {
			break
		}
	}
	w.check(t)
	require.NoError(t, w.l.Verify(nil, func(d *DamageError) { t.Error(d) }))
}

// everything is all positions of a world.
func (w *world) everything() live {
	all := live{}
	for _, shard := range w.low.shards() {
		for _, k := range w.low.lanes(shard) {
			if w.low[k] < w.tail[k] {
				all[shard] = append(all[shard], Span{Lane: k.Lane, Lo: w.low[k], Hi: w.tail[k]})
			}
		}
	}
	return all
}

// walked lists what a walk over entries [lo, hi) gives.
func (w *world) walked(lo, hi uint64) (got []at, err error) {
	err = w.l.Look().Each(w.everything(), lo, hi, nil, func(k Key, r Run) error {
		for i := range r.N {
			got = append(got, at{k, r.Seq + uint64(i), r.Index, r.Slot + i})
		}
		return nil
	})
	return got, err
}

// A walk goes on behind what it cannot read. What it did not give lies in the stretches it names, and is of the lanes and
// positions it names; a walk beside those stretches knows of no damage.
func TestWalkGoesOnBehindDamage(t *testing.T) {
	w, _ := filled(t)
	whole, err := w.walked(0, math.MaxUint64)
	require.NoError(t, err)
	partly := map[bool]int{}
	for _, f := range w.files {
		for off := int64(blockHead); off < f.Size; off += 23 {
			require.NoError(t, w.disk.Flip(dir+"/"+f.Name, off, 3))
			w.l, err = Open(w.fs, dir, testOptions(), w.image, w.files)
			require.NoError(t, err)
			got, err := w.walked(0, math.MaxUint64)
			var partial *PartialError
			if errors.As(err, &partial) {
				partly[partial.Damage[0].Key.Lane == 0]++
			} else {
				require.NoError(t, err)
				require.Equal(t, whole, got)
			}
			for _, a := range whole {
				if len(got) > 0 && got[0] == a {
					got = got[1:]
					continue
				}
				require.True(t, partial.has(a), "%v is not given and not named: %v", a, partial)
			}
			require.Empty(t, got)
			checkBeside(t, w, whole, partial)
			require.NoError(t, w.disk.Flip(dir+"/"+f.Name, off, 3))
		}
	}
	require.NotZero(t, partly[true])
	require.NotZero(t, partly[false])
}

func (e *PartialError) has(a at) bool {
	in := slices.ContainsFunc(e.Stretches, func(s Stretch) bool { return s.Lo <= a.index && a.index < s.Hi })
	return in && slices.ContainsFunc(e.Damage, func(d *DamageError) bool { return d.Key == a.k && d.Lo <= a.seq && a.seq < d.Hi })
}

// checkBeside walks over the gaps between the stretches of an error.
func checkBeside(t *testing.T, w *world, whole []at, e *PartialError) {
	if e == nil {
		return
	}
	lo := uint64(0)
	for _, s := range append(slices.Clone(e.Stretches), Stretch{w.index + 1, 0}) {
		got, err := w.walked(lo, s.Lo)
		require.NoError(t, err)
		var want []at
		for _, a := range whole {
			if lo <= a.index && a.index < s.Lo {
				want = append(want, a)
			}
		}
		require.Equal(t, want, got)
		lo = s.Hi
	}
}
