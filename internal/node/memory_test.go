package node

import (
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMemoryOfABurstIsSeen(t *testing.T) {
	debug.FreeOSMemory()
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // a collection now would take the burst for what lives on
	before := readHeap()
	gaps := before.waste()
	burst := make([]byte, 2*memoryWorth)
	during := readHeap()
	require.False(t, during.idles(before, gaps), "a process that allocates is not idle: %d bytes", len(burst))

	burst = nil
	quiet := readHeap()
	require.True(t, quiet.idles(during, gaps), "%+v", quiet)
	debug.FreeOSMemory()
	require.False(t, readHeap().idles(quiet, gaps), "nothing is left to give back")
}

// TestGapsAreNoReasonToCollect: what a collection could not give back is not tried for again and again.
func TestGapsAreNoReasonToCollect(t *testing.T) {
	h := heap{live: 150 << 20, held: 150<<20 + 2*memoryWorth}
	require.True(t, h.idles(h, 0))
	require.False(t, h.idles(h, h.waste()))
	more := heap{live: h.live, held: h.held + memoryWorth + 1}
	require.True(t, more.idles(h, h.waste()), "there is garbage beside the gaps")
	smaller := heap{live: 20 << 20, held: h.held}
	require.True(t, smaller.idles(h, h.waste()), "most of what lived has died")
	require.False(t, heap{allocated: quietAllocations + 1, held: 1 << 40}.idles(heap{}, 0), "it is not idle")
}
