package node

import (
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMemoryOfABurstIsSeen(t *testing.T) {
	before := readHeap()
	burst := make([]byte, 2*memoryWorth)
	during := readHeap()
	require.False(t, during.idles(before), "a process that allocates is not idle: %d bytes", len(burst))

	burst = nil
	quiet := readHeap()
	require.True(t, quiet.idles(during), "%+v", quiet)
	debug.FreeOSMemory()
	require.False(t, readHeap().idles(quiet), "nothing is left to give back")
}
