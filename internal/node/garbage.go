package node

import (
	"context"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync/atomic"
)

const (
	// mostGarbage is how many bytes of garbage there may be beside the live objects before they are collected. The runtime by
	// itself lets garbage grow as large as what lives. What lives may be a few hundred megabytes for a moment: a replica that
	// catches up holds what is on its way to its disk. As it consists of long pieces without pointers, to collect more
	// often costs little.
	mostGarbage = 128 << 20
	// leastPercent is how much garbage there may be in any case, measured by what lives, so that a node with millions of locked
	// messages does not collect all the time.
	leastPercent = 25
)

// garbagePercent is the GOGC with which garbage is bounded by most bytes where live bytes are alive.
func garbagePercent(live, most uint64) int {
	if live <= most {
		return 100
	}
	return max(int(100*most/live), leastPercent)
}

// boundGarbage adjusts the collector after each collection, until ctx ends: then it is the runtime's own again. Where GOGC is
// set the operator's choice stands. The collector is the process's: of several nodes in one, each does the same.
func boundGarbage(ctx context.Context, most uint64) {
	if os.Getenv("GOGC") != "" {
		return
	}
	var set atomic.Int64
	set.Store(100)
	afterCollections(func() bool {
		live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
		metrics.Read(live)
		percent, going := 100, ctx.Err() == nil
		if going {
			percent = garbagePercent(live[0].Value.Uint64(), most)
		}
		if set.Swap(int64(percent)) != int64(percent) {
			debug.SetGCPercent(percent)
		}
		return going
	})
}

// afterCollections calls f after each collection until it returns false. f must be quick.
func afterCollections(f func() (again bool)) {
	// An object that nobody refers to is found dead by the next collection. It has a pointer, or it could share its place
	// with others and live as long as they do.
	type dead struct{ _ *dead }
	runtime.AddCleanup(new(dead), func(int) {
		if f() {
			afterCollections(f)
		}
	}, 0)
}
