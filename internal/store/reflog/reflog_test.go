package reflog

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// model is the obvious map.
type model map[Key][]Ref

func TestAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l, m := New(), model{}
		low := map[Key]uint64{}
		index, now := uint64(0), int64(1000)
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			k := Key{Shard: rapid.Uint64Range(1, 3).Draw(t, "shard"), Lane: rapid.Int64Range(0, 2).Draw(t, "lane")}
			switch rapid.IntRange(0, 9).Draw(t, "op") {
			case 0:
				to := low[k] + rapid.Uint64Range(0, 5).Draw(t, "drop")
				to = min(to, uint64(len(m[k])))
				l.DropBelow(k, to)
				low[k] = max(low[k], to)
			case 1:
				parsed, err := ParseImage(l.AppendImage(nil))
				require.NoError(t, err)
				require.Equal(t, l.Runs(), parsed.Runs())
				l = parsed
			default:
				index += rapid.Uint64Range(0, 1).Draw(t, "index") + uint64(b2i(len(m[k]) == 0))
				now += rapid.Int64Range(0, 3).Draw(t, "time")
				n := rapid.IntRange(1, 4).Draw(t, "n")
				slot := nextSlot(m[k], index)
				l.Add(k, uint64(len(m[k])), index, slot, n, timeOf(m[k], index, now))
				for i := range n {
					m[k] = append(m[k], Ref{Index: index, Slot: slot + uint16(i), Time: timeOf(m[k], index, now)})
				}
			}
			check(t, l, m, low)
		}
	})
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

func nextSlot(refs []Ref, index uint64) uint16 {
	if n := len(refs); n > 0 && refs[n-1].Index == index {
		return refs[n-1].Slot + 1
	}
	return 0
}

func timeOf(refs []Ref, index uint64, now int64) int64 {
	if n := len(refs); n > 0 && refs[n-1].Index == index {
		return refs[n-1].Time
	}
	return now
}

func check(t *rapid.T, l *Log, m model, low map[Key]uint64) {
	for k, refs := range m {
		for seq, want := range refs {
			got, ok := l.Resolve(k, uint64(seq))
			if uint64(seq) >= low[k] {
				require.True(t, ok, "%v %d", k, seq)
			}
			if ok {
				require.Equal(t, want, got)
			}
		}
		end := uint64(len(refs))
		_, ok := l.Resolve(k, end)
		require.False(t, ok)
		require.Equal(t, end, l.SeqAt(k, 1<<60, end))
		for seq := low[k]; seq < end; seq++ {
			at := l.SeqAt(k, refs[seq].Time, end)
			require.LessOrEqual(t, at, seq)
			require.True(t, at == 0 || at <= low[k] || refs[at-1].Time < refs[seq].Time)
			got, ok := l.TimeAt(k, seq)
			require.True(t, ok)
			require.Equal(t, refs[seq].Time, got)
		}
	}
}

func TestLowest(t *testing.T) {
	l := New()
	_, ok := l.Lowest()
	require.False(t, ok)
	a, b := Key{1, 0}, Key{2, 5000}
	l.Add(a, 0, 7, 0, 3, 10)
	l.Add(b, 0, 9, 0, 1, 12)
	l.Add(a, 3, 11, 0, 2, 13)
	lowest, ok := l.Lowest()
	require.True(t, ok)
	require.EqualValues(t, 7, lowest)
	l.DropBelow(a, 3)
	lowest, _ = l.Lowest()
	require.EqualValues(t, 9, lowest)
	l.DropShard(2)
	lowest, _ = l.Lowest()
	require.EqualValues(t, 11, lowest)
	require.Equal(t, 1, l.Runs())
	l.Retain(1, func(int64) bool { return false })
	require.Zero(t, l.Runs())
	l.Shards(func(uint64) { t.Fatal("a shard is left") })
}

func FuzzParseImage(f *testing.F) {
	l := New()
	l.Add(Key{1, 0}, 0, 7, 0, 3, 10)
	l.Add(Key{1, 0}, 3, 9, 1, 1, 12)
	l.Add(Key{300, 90_000}, 0, 9, 2, 1, 12)
	f.Add(l.AppendImage(nil))
	f.Add([]byte{imageVersion, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, data []byte) {
		parsed, err := ParseImage(data)
		if err == nil {
			_, err = ParseImage(parsed.AppendImage(nil))
			require.NoError(t, err)
		}
	})
}
