//go:build linux

package faults

import (
	"fmt"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// fiemap is FS_IOC_FIEMAP, _IOWR('f', 11, struct fiemap); syncFirst is FIEMAP_FLAG_SYNC.
	fiemap    = 0xC020660B
	syncFirst = 1
	// mostExtents is how many parts a file may have here. Preallocated files of these sizes have a few.
	mostExtents = 512
)

// Extent is a part of a disk that holds a part of a file, in sectors: [From, To).
type Extent struct{ From, To int64 }

// Extents says where on its disk a file is. Its content is synced by that.
func Extents(name string) ([]Extent, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var q struct { // struct fiemap and its extents
		start, length                 uint64
		flags, mapped, room, reserved uint32
		extents                       [mostExtents]struct {
			logical, physical, length uint64
			_                         [2]uint64
			flags                     uint32
			_                         [3]uint32
		}
	}
	q.length, q.flags, q.room = 1<<63, syncFirst, mostExtents
	if _, _, errno := syscall.Syscall(unix.SYS_IOCTL, f.Fd(), fiemap, uintptr(unsafe.Pointer(&q))); errno != 0 {
		return nil, fmt.Errorf("extents of %s: %w", name, errno)
	}
	if q.mapped == mostExtents {
		return nil, fmt.Errorf("extents of %s: there are %d or more", name, mostExtents)
	}
	var all []Extent
	for _, e := range q.extents[:q.mapped] {
		all = append(all, Extent{From: int64(e.physical / sectorSize), To: int64((e.physical + e.length) / sectorSize)})
	}
	return all, nil
}

// Holds tells whether a sector is in one of the extents.
func Holds(all []Extent, sector int64) bool {
	for _, e := range all {
		if e.From <= sector && sector < e.To {
			return true
		}
	}
	return false
}
