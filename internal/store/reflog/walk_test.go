package reflog

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// What is alive is found: exactly by Each, and by Weigh without a live entry that weighs nothing.
func TestWalksFindWhatIsAlive(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(testOptions())
		for range rapid.IntRange(1, 4).Draw(t, "checkpoints") {
			for range rapid.IntRange(0, 60).Draw(t, "sends") {
				k := Key{Shard: rapid.Uint64Range(1, 3).Draw(t, "shard"), Lane: rapid.Int64Range(0, 6).Draw(t, "lane")}
				if rapid.Bool().Draw(t, "main") {
					k.Lane = 0
				}
				w.entry()
				w.send(k, rapid.IntRange(1, 4).Draw(t, "n"), 1, 100)
			}
			for k := range w.low {
				w.take(k, rapid.Uint64Range(0, 10).Draw(t, "take"))
			}
			w.freeze()
			require.NoError(t, w.merge(nil))
			spans := drawSpans(t, w)
			checkWalks(t, w, spans)
			require.NoError(t, w.install())
		}
	})
}

func drawSpans(t *rapid.T, w *world) live {
	spans := live{}
	for _, shard := range w.low.shards() {
		for _, k := range w.low.lanes(shard) {
			at := w.low[k]
			for at < w.tail[k] {
				lo := at + rapid.Uint64Range(0, 3).Draw(t, "hole")*rapid.Uint64Range(0, 1).Draw(t, "is")
				hi := min(lo+rapid.Uint64Range(1, 40).Draw(t, "span"), w.tail[k])
				if lo < hi {
					spans[shard] = append(spans[shard], Span{Lane: k.Lane, Lo: lo, Hi: hi})
				}
				at = hi + 1
			}
		}
	}
	return spans
}

func checkWalks(t *rapid.T, w *world, spans live) {
	lo := rapid.Uint64Range(0, w.index).Draw(t, "lo")
	hi := rapid.Uint64Range(lo, w.index+1).Draw(t, "hi")
	var want, got []at
	entries := map[uint64]bool{}
	for _, shard := range w.low.shards() {
		for _, s := range spans[shard] {
			k := Key{Shard: shard, Lane: s.Lane}
			for seq := s.Lo; seq < s.Hi; seq++ {
				ref, ok := w.old.Resolve(k, seq)
				require.True(t, ok)
				entries[ref.Index] = true
				if ref.Index >= lo && ref.Index < hi {
					want = append(want, at{k, seq, ref.Index, ref.Slot})
				}
			}
		}
	}
	require.NoError(t, w.frozen.Each(spans, lo, hi, nil, func(k Key, r Run) error {
		for i := range r.N {
			got = append(got, at{k, r.Seq + uint64(i), r.Index, r.Slot + i})
		}
		require.EqualValues(t, int(r.N)*100/w.batch(k, r.Seq), r.Bytes)
		return nil
	}))
	require.Equal(t, want, got)
	require.NoError(t, w.frozen.Weigh(spans, nil, func(lo, hi, bytes uint64) {
		require.NotZero(t, bytes)
		for index := lo; index < hi && hi-lo <= w.index+1; index++ {
			delete(entries, index)
		}
	}))
	require.Empty(t, entries)
	require.ErrorIs(t, w.frozen.Each(live{1: {{Lo: 0, Hi: 1 << 60}}, 2: {{Lo: 0, Hi: 1 << 60}}}, 0, 1<<60, nil,
		func(Key, Run) error { return errStop }), onlyIf(w.hasMain(), errStop))
}

// at is where one message is.
type at struct {
	k          Key
	seq, index uint64
	slot       uint16
}

// batch is how many messages were sent together with the one at seq.
func (w *world) batch(k Key, seq uint64) int {
	runs := w.old.lane(k).live()
	return int(runs[find(runs, seq)].N)
}

func (w *world) hasMain() bool {
	return w.tail[Key{Shard: 1}] > w.low[Key{Shard: 1}] || w.tail[Key{Shard: 2}] > w.low[Key{Shard: 2}]
}
