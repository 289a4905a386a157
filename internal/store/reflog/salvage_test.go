package reflog

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// alike are three worlds with the same in them, and files of both kinds.
func alike(t *testing.T) (all [3]*world) {
	for i := range all {
		all[i], _ = filled(t)
	}
	return all
}

// reload opens the map again, with nothing in memory.
func (w *world) reload(t *testing.T) {
	l, err := Open(w.fs, dir, testOptions(), w.image, w.files)
	require.NoError(t, err)
	w.l = l
}

// spoil changes bytes [lo, hi) of the body of a block.
func (w *world) spoil(t *testing.T, b *located, lo, hi int) {
	require.NoError(t, w.disk.Corrupt(w.l.path(b.file), int64(b.off)+blockHead+int64(lo), hi-lo, func(p []byte) {
		for i := range p {
			p[i] ^= byte(0x5a + 7*i)
		}
	}))
}

// blocks are all blocks on the disk, with a lane that each has.
func (w *world) blocks() map[Key][]located {
	all := map[Key][]located{}
	seen := map[cacheID]bool{}
	for _, shard := range w.low.shards() {
		for _, k := range w.low.lanes(shard) {
			for _, b := range w.l.current().locate(k, 0, w.tail[k]) {
				if !seen[b.id()] {
					seen[b.id()] = true
					all[k] = append(all[k], b)
				}
			}
		}
	}
	return all
}

// salvage does for all lanes what the engine does when no replica has them whole. The others are asked for what they have.
func (w *world) salvage(others ...*world) (err error) {
	for _, shard := range w.low.shards() {
		for _, k := range w.low.lanes(shard) {
			var runs []Run
			var wrecks [][]byte
			for _, o := range others {
				more, e := o.l.Readable(k, w.low[k], w.tail[k], 1000)
				if e != nil && !isDamage(e) {
					return e
				}
				runs, wrecks = append(runs, more...), append(wrecks, o.l.Wreck(k, w.low[k], w.tail[k], 1<<20))
			}
			if e := w.l.Salvage(k, w.low[k], w.tail[k], runs, wrecks); e != nil {
				err = e
			}
		}
	}
	return err
}

// whole checks that everything is there, and that after two checkpoints nothing is damaged.
func (w *world) whole(t *testing.T) {
	t.Helper()
	w.check(t)
	require.NoError(t, w.l.Verify(nil, func(d *DamageError) { require.Equal(t, d.Lo, d.Hi, d) }))
	for range 2 {
		w.entry()
		w.send(Key{Shard: 1}, 1, 1, 50)
		w.send(Key{Shard: 1, Lane: 1000}, 1, 1, 50)
		w.checkpoint(t)
	}
	w.reload(t)
	w.check(t)
	require.NoError(t, w.l.Verify(nil, func(d *DamageError) { t.Error(d) }))
}

// TestOneWrongByteIsPutRight, without anybody else: the checksum says which it is.
func TestOneWrongByteIsPutRight(t *testing.T) {
	w, _ := filled(t)
	rng := rand.New(rand.NewPCG(7, 7))
	tried := map[bool]int{}
	for k, blocks := range w.blocks() {
		for _, b := range blocks {
			for at := -blockHead; at < int(b.size); at += 1 + rng.IntN(40) {
				change := byte(1 + rng.IntN(255))
				flip := func() {
					require.NoError(t, w.disk.Corrupt(w.l.path(b.file), int64(b.off)+blockHead+int64(at), 1, func(p []byte) { p[0] ^= change }))
				}
				flip()
				w.reload(t)
				require.Error(t, w.touch())
				require.NoError(t, w.salvage(), "byte %d of %v", at, b.key)
				w.check(t)
				flip()
				tried[k.Lane == 0]++
			}
		}
	}
	require.NotZero(t, tried[true])
	require.NotZero(t, tried[false])
	for _, blocks := range w.blocks() { // all at once
		for _, b := range blocks {
			w.spoil(t, &b, int(b.size)/2, int(b.size)/2+1)
		}
	}
	w.reload(t)
	require.NoError(t, w.salvage())
	w.whole(t)
}

// TestDifferentDamageOfOneBlock: each copy of every block is damaged, at a place of its own, and by more than a byte.
func TestDifferentDamageOfOneBlock(t *testing.T) {
	for name, copies := range map[string]int{"two": 2, "three": 3} {
		t.Run(name, func(t *testing.T) {
			all := alike(t)
			for i, w := range all[:copies] {
				for _, blocks := range w.blocks() {
					for _, b := range blocks {
						if part := int(b.size) / copies; part > 3 {
							w.spoil(t, &b, i*part, i*part+3)
						}
					}
				}
				w.reload(t)
			}
			require.Error(t, all[0].touch())
			require.NoError(t, all[0].salvage(all[1:copies]...))
			all[0].whole(t)
		})
	}
}

// TestBlocksGoodSomewhereElse: every second chunk is good on one replica, the others on another.
func TestBlocksGoodSomewhereElse(t *testing.T) {
	all := alike(t)
	n := 0
	for _, blocks := range all[0].blocks() {
		for _, b := range blocks {
			n++
			all[0].spoil(t, &b, 0, int(b.size))
			all[1+n%2].spoil(t, &b, 0, int(b.size))
		}
	}
	for _, w := range all {
		w.reload(t)
	}
	if err := all[0].salvage(all[1:]...); err != nil { // of delayed lanes nobody knows where they end
		require.True(t, isDamage(err))
	}
	for k, low := range all[0].low {
		for seq := low; seq < all[0].tail[k]; seq++ {
			_, ok, err := all[0].l.Resolve(k, seq)
			require.NoError(t, err)
			require.True(t, ok)
		}
	}
}

// TestWhatIsLostEverywhereIsSaid: the same bytes are wrong on all, and nothing is made up. The rest is there.
func TestWhatIsLostEverywhereIsSaid(t *testing.T) {
	all := alike(t)
	k := Key{Shard: 1}
	chunks := all[0].l.current().locate(k, 0, all[0].tail[k])
	require.Greater(t, len(chunks), 2)
	for _, w := range all {
		b := chunks[1]
		w.spoil(t, &b, 2, 9)
		w.reload(t)
	}
	w := all[0]
	var d *DamageError
	require.ErrorAs(t, w.salvage(all[1:]...), &d)
	require.Equal(t, k, d.Key)
	require.Equal(t, [2]uint64{chunks[1].seq, chunks[2].seq}, [2]uint64{d.Lo, d.Hi})
	require.False(t, d.Whole)
	for seq := w.low[k]; seq < w.tail[k]; seq++ {
		_, ok, err := w.l.Resolve(k, seq)
		require.Equal(t, seq >= d.Lo && seq < d.Hi, err != nil)
		require.Equal(t, err == nil, ok)
	}
}

// TestPiecesOfABlockAreUsed: a replica whose blocks begin elsewhere has a part of it.
func TestPiecesOfABlockAreUsed(t *testing.T) {
	w, twin := filled(t)
	k := Key{Shard: 1}
	b := w.l.current().locate(k, 0, w.tail[k])[1]
	w.spoil(t, &b, 0, int(b.size))
	w.reload(t)
	var d *DamageError
	require.ErrorAs(t, w.l.Salvage(k, b.seq, b.seq+1, nil, nil), &d)
	mid := d.Lo + (d.Hi-d.Lo)/2
	runs, err := twin.l.Readable(k, mid, d.Hi, 1000)
	require.NoError(t, err)
	for range 3 {
		require.ErrorAs(t, w.l.Salvage(k, d.Lo, d.Hi, append(runs, runs[0]), nil), &d)
	}
	require.Len(t, w.l.patches, 1, "what is there already is not kept again")
	for seq := d.Lo; seq < d.Hi; seq++ {
		want, _, err := twin.l.Resolve(k, seq)
		require.NoError(t, err)
		got, ok, err := w.l.Resolve(k, seq)
		require.Equal(t, seq >= mid, err == nil && ok)
		if ok {
			require.Equal(t, [2]any{want.Index, want.Slot}, [2]any{got.Index, got.Slot})
		}
	}
}

// TestFilesThatCanBePutBackAreTold from those in which something rotted.
func TestFilesThatCanBePutBackAreTold(t *testing.T) {
	for name, hurt := range map[string]func(w *world, name string) error{
		"missing": func(w *world, name string) error { return w.fs.Remove(name) },
		"another": func(w *world, name string) error {
			return w.disk.Corrupt(name, 0, 300, func(p []byte) {
				clear(p)
				copy(p, encodeFileHeader(&w.l.opt, 99))
			})
		},
		"rotten": func(w *world, name string) error {
			return w.disk.Corrupt(name, fileHeader, 200, func(p []byte) { clear(p) })
		},
	} {
		w, _ := filled(t)
		k := Key{Shard: 1}
		b := w.l.current().locate(k, 0, w.tail[k])[0]
		require.NoError(t, hurt(w, w.l.path(b.file)), name)
		w.reload(t)
		var d *DamageError
		require.ErrorAs(t, w.l.Salvage(k, b.seq, b.seq+1, nil, nil), &d, name)
		require.Equal(t, name != "rotten", d.Whole, name)
	}
}

// TestWrecksAreNotTrusted: whatever a peer sends.
func TestWrecksAreNotTrusted(t *testing.T) {
	w, twin := filled(t)
	k := Key{Shard: 1}
	b := w.l.current().locate(k, 0, w.tail[k])[0]
	w.spoil(t, &b, 0, int(b.size))
	twin.spoil(t, &b, 2, 5)
	w.reload(t)
	twin.reload(t)
	wreck := twin.l.Wreck(k, b.seq, b.seq+1, 1<<20)
	require.NotNil(t, b.in(wreck))
	require.Empty(t, twin.l.Wreck(k, b.seq, b.seq+1, 10))
	for n := range wreck {
		require.Nil(t, b.in(wreck[:n]))
	}
	require.Nil(t, b.in(append(make([]byte, wreckHead-4), 255, 255, 255, 255)))
}

// TestOneByteIsFound: among all that change the checksum so is the one that was changed.
func TestOneByteIsFound(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	b := located{source: source{size: 5000}}
	body := make([]byte, 5000)
	for i := range body {
		body[i] = byte(rng.Uint32())
	}
	b.checksum = b.differs(body)
	for range 500 {
		e := wrong{rng.IntN(len(body)), byte(1 + rng.IntN(255))}
		body[e.at] ^= e.change
		require.Contains(t, oneByte(b.differs(body), len(body)), e)
		body[e.at] ^= e.change
	}
	require.Empty(t, oneByte(0, 10))
}
