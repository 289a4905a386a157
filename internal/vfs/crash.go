package vfs

import (
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
)

// CrashMode says what is left of the changes that were not synced.
type CrashMode uint8

// The ways to crash.
const (
	// KillProcess ends the process only: the page cache survives, and the changes stay un-synced.
	KillProcess CrashMode = iota
	// LoseAll is a power cut that loses every change since the last sync.
	LoseAll
	// KeepPrefix is a power cut that keeps the changes up to some moment, in the program's order.
	KeepPrefix
	// KeepSectors is a power cut that keeps any subset of the un-synced 512-byte sectors, sizes and names.
	KeepSectors
	// Torn is KeepPrefix with the next write kept in part: up to any byte, and perhaps noise behind it.
	Torn
)

// CrashModes lists all modes, for tests that try each.
func CrashModes() []CrashMode {
	return []CrashMode{KillProcess, LoseAll, KeepPrefix, KeepSectors, Torn}
}

// String names the mode.
func (m CrashMode) String() string {
	return [...]string{"KillProcess", "LoseAll", "KeepPrefix", "KeepSectors", "Torn"}[m]
}

// Crash ends the current mount: its files and locks return ErrCrashed from now on. What is left is durable (except
// after KillProcess), and the next Mount sees it.
func (d *Disk) Crash(mode CrashMode) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.incarnation++
	clear(d.locks)
	nodes := d.unsynced
	d.unsynced = nil
	s := d.survival(mode, nodes)
	for _, n := range nodes {
		n.listed = false
		if n.dir != nil {
			s.crashDirectory(n.dir)
		} else {
			s.crashFile(n)
		}
		if mode == KillProcess && (len(n.pending) > 0 || n.dir != nil && len(n.dir.pending) > 0) {
			d.list(n)
		}
	}
	if mode != KillProcess {
		d.used = sizes(d.root)
	}
}

func sizes(n *inode) int64 {
	if n.dir == nil {
		return n.live.size
	}
	var sum int64
	for _, child := range n.dir.live {
		sum += sizes(child)
	}
	return sum
}

// survival decides for one crash.
type survival struct {
	mode CrashMode
	rng  *rand.Rand
	cut  uint64 // first change that does not survive whole, in the ordered modes
	odds int    // of 8: survival of one sector, size or name in KeepSectors
}

func (d *Disk) survival(mode CrashMode, nodes []*inode) *survival {
	s := &survival{mode: mode, rng: d.rng}
	switch mode {
	case KeepPrefix, Torn:
		var seqs []uint64
		for _, n := range nodes {
			for _, c := range n.pending {
				seqs = append(seqs, c.seq)
			}
			if n.dir != nil {
				for _, c := range n.dir.pending {
					seqs = append(seqs, c.seq)
				}
			}
		}
		slices.Sort(seqs)
		seqs = append(seqs, d.seq+1)
		s.cut = seqs[d.rng.IntN(len(seqs))]
	case KeepSectors:
		s.odds = 1 + d.rng.IntN(7)
	}
	return s
}

func (s *survival) lucky() bool { return s.rng.IntN(8) < s.odds }

func (s *survival) crashDirectory(dir *directory) {
	if s.mode == KillProcess {
		return
	}
	for _, c := range dir.pending {
		if s.mode == KeepSectors && s.lucky() || s.mode != KeepSectors && c.seq < s.cut {
			c.apply(dir.durable)
		}
	}
	dir.pending = nil
	dir.live = maps.Clone(dir.durable)
}

func (s *survival) crashFile(n *inode) {
	if s.mode == KillProcess {
		if n.lost {
			n.restart(n.pending)
		}
		return
	}
	var kept []change
	for _, c := range n.pending {
		kept = s.keep(kept, c)
	}
	n.restart(kept)
	n.sync()
}

// keep appends what survives of c.
func (s *survival) keep(kept []change, c change) []change {
	switch {
	case s.mode == KeepSectors && c.data == nil:
		if s.lucky() {
			return append(kept, c)
		}
	case s.mode == KeepSectors:
		return s.keepSectors(kept, c)
	case c.seq < s.cut:
		return append(kept, c)
	case c.seq == s.cut && s.mode == Torn && c.data != nil:
		return append(kept, s.tear(c))
	}
	return kept
}

func (s *survival) keepSectors(kept []change, c change) []change {
	if s.lucky() { // the new size without the bytes
		kept = append(kept, change{data: []byte{}, off: c.off + int64(len(c.data))})
	}
	for len(c.data) > 0 {
		n := min(len(c.data), sectorSize-int(c.off%sectorSize))
		if s.lucky() {
			kept = append(kept, change{data: c.data[:n], off: c.off})
		}
		c.data, c.off = c.data[n:], c.off+int64(n)
	}
	return kept
}

func (s *survival) tear(c change) change {
	n := s.rng.IntN(len(c.data) + 1)
	torn := slices.Clone(c.data[:n])
	if s.rng.IntN(2) == 0 {
		noise := min(len(c.data)-n, sectorSize-int((c.off+int64(n))%sectorSize))
		for range noise {
			torn = append(torn, byte(s.rng.Uint32()))
		}
	}
	return change{data: torn, off: c.off}
}

// Clone returns a disk that holds what would be left after LoseAll. It has no hook, no injected faults and no limit.
func (d *Disk) Clone(rng *rand.Rand) *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := NewDisk(rng)
	c.root = cloneNode(d.root, map[*inode]*inode{})
	c.used = sizes(c.root)
	return c
}

func cloneNode(n *inode, done map[*inode]*inode) *inode {
	if c := done[n]; c != nil {
		return c
	}
	if n.dir == nil {
		c := n.clone()
		done[n] = c
		return c
	}
	c := newDirectory()
	done[n] = c
	for _, name := range slices.Sorted(maps.Keys(n.dir.durable)) {
		child := cloneNode(n.dir.durable[name], done)
		c.dir.durable[name], c.dir.live[name] = child, child
	}
	return c
}

// Files lists the paths of all files a program would see now, in lexical order.
func (d *Disk) Files() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var files []string
	var walk func(dir string, n *inode)
	walk = func(dir string, n *inode) {
		if n.dir == nil {
			files = append(files, dir)
			return
		}
		for name, child := range n.dir.live {
			walk(path.Join(dir, name), child)
		}
	}
	walk("/", d.root)
	slices.Sort(files)
	return files
}

// Corrupt changes n bytes of a file at off behind everybody's back, in what reads return and in what is durable:
// edit gets the bytes and changes them. Rot on the medium looks like this.
func (d *Disk) Corrupt(name string, off int64, n int, edit func(p []byte)) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	node := d.lookup(clean(name))
	if node == nil || node.dir != nil {
		return fail("corrupt", name, fs.ErrNotExist)
	}
	if off < 0 || off+int64(n) > node.live.size {
		return fail("corrupt", name, fmt.Errorf("bytes %d to %d of %d", off, off+int64(n), node.live.size))
	}
	p := make([]byte, n)
	for _, c := range []*content{&node.live, &node.durable} {
		if n := min(int64(n), c.size-off); n > 0 {
			c.read(p, off)
			edit(p[:n])
			c.apply(change{data: p[:n], off: off}, node.touch)
		}
	}
	return nil
}

// Flip inverts one bit (0 to 7) of the byte at off of a file: see Corrupt.
func (d *Disk) Flip(name string, off int64, bit uint) error {
	return d.Corrupt(name, off, 1, func(p []byte) { p[0] ^= 1 << bit })
}
