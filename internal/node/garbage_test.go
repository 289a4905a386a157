package node

import (
	"context"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestGarbageIsBounded(t *testing.T) {
	const mb = 1 << 20
	rows := map[string]struct {
		live uint64
		want int
	}{
		"nothing":               {0, 100},
		"as much as may be":     {128 * mb, 100},
		"a replica catching up": {256 * mb, 50},
		"millions of locks":     {1024 * mb, 25},
	}
	for name, row := range rows {
		require.Equal(t, row.want, garbagePercent(row.live, mostGarbage), name)
	}
}

// With 64 MB alive the runtime by itself would let as much garbage come up.
func TestCollectorIsToldWhatGarbageThereMayBe(t *testing.T) {
	t.Setenv("GOGC", "")
	defer debug.SetGCPercent(debug.SetGCPercent(100))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	const live, most = 64 << 20, 16 << 20
	held := make([]byte, live)
	boundGarbage(ctx, most)
	percent := func() int {
		p := debug.SetGCPercent(100)
		debug.SetGCPercent(p)
		return p
	}
	collectUntil(t, func() bool { return percent() == 25 })

	require.Less(t, goal(), uint64(live+most+most/2), "collected when so much is there")
	runtime.KeepAlive(held)

	cancel()
	collectUntil(t, func() bool { return percent() == 100 })
}

// goal is how many bytes may be there before the next collection.
func goal() uint64 {
	s := []metrics.Sample{{Name: "/gc/heap/goal:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}

// collectUntil collects until ok. Cleanups run a little after the collection that found them due.
func collectUntil(t *testing.T, ok func() bool) {
	t.Helper()
	for range 10_000 {
		if ok() {
			return
		}
		runtime.GC()
		runtime.Gosched()
	}
	t.Fatal("the collector was not told")
}

func TestOperatorsChoiceOfGOGCStands(t *testing.T) {
	t.Setenv("GOGC", "100")
	defer debug.SetGCPercent(debug.SetGCPercent(100))
	held := make([]byte, 64<<20)
	boundGarbage(t.Context(), 1<<20)
	for range 3 {
		runtime.GC()
	}
	require.Equal(t, 100, debug.SetGCPercent(100))
	runtime.KeepAlive(held)
}
