package node

import (
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// memoryInterval is how often the process looks whether it is idle.
	memoryInterval = 5 * time.Second
	// quietAllocations is how many bytes an idle process allocates in that time at most.
	quietAllocations = 4 << 20
	// memoryWorth is how many bytes must come back to make a collection worth its time.
	memoryWorth = 32 << 20
)

// heap is what the runtime says about the process's memory, in bytes.
type heap struct {
	allocated uint64 // ever
	live      uint64 // after the last collection
	held      uint64 // objects, garbage among them, and free memory that the system does not have back yet
}

func readHeap() heap {
	samples := []metrics.Sample{
		{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/live:bytes"},
		{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/unused:bytes"}, {Name: "/memory/classes/heap/free:bytes"},
	}
	metrics.Read(samples)
	return heap{
		allocated: samples[0].Value.Uint64(),
		live:      samples[1].Value.Uint64(),
		held:      samples[2].Value.Uint64() + samples[3].Value.Uint64() + samples[4].Value.Uint64(),
	}
}

// waste is what is held beyond live objects: garbage, free memory, and the gaps between objects.
func (h heap) waste() uint64 { return h.held - min(h.live, h.held) }

// idles tells from two looks, one interval apart, whether the process is idle and holds memory that it does not need. gaps
// is the waste that was left after the newest collection: no other will do better.
func (h heap) idles(before heap, gaps uint64) bool {
	return h.allocated-before.allocated <= quietAllocations && h.waste() > gaps+memoryWorth
}

// returnMemory gives the memory of a burst back to the system once the node is idle, that of messages among it that are kept
// only to be read faster. The runtime would do so only with the next collections, and an idle process has none.
func (n *Node) returnMemory() {
	ticker := time.NewTicker(memoryInterval)
	defer ticker.Stop()
	before, gaps := readHeap(), uint64(0)
	for {
		select {
		case <-ticker.C:
		case <-n.ctx.Done():
			return
		}
		now := readHeap()
		if now.idles(before, gaps) {
			for _, id := range n.setIDs {
				n.sets[id].store.ForgetCached()
			}
			debug.FreeOSMemory()
			now = readHeap()
			gaps = now.waste()
		}
		before = now
	}
}
