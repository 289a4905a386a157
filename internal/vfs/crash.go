package vfs

import (
	"maps"
	"math/rand/v2"
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
		d.used, d.nodes = sizes(d.root)
	}
}

// sizes adds up the bytes of the files at and below n and counts what is below n.
func sizes(n *inode) (bytes, below int64) {
	if n.dir == nil {
		return n.live.size, 0
	}
	for _, child := range n.dir.live {
		b, c := sizes(child)
		bytes, below = bytes+b, below+c+1
	}
	return bytes, below
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
	if c.fate != arrives {
		seq := c.seq
		c = c.sized()
		c.seq = seq
	}
	switch {
	case s.mode == KeepSectors && c.zero > 0:
		return s.keepParts(kept, c)
	case s.mode == KeepSectors && c.resizes():
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

// keepParts keeps some of a few parts of a zeroed range: it is a change of extents, not of every sector.
func (s *survival) keepParts(kept []change, c change) []change {
	const parts = 4
	for c.zero > 0 {
		n := min(c.zero, (1+s.rng.Int64N(c.zero/sectorSize/parts*2+1))*sectorSize)
		if s.lucky() {
			kept = append(kept, change{off: c.off, zero: n})
		}
		c.off, c.zero = c.off+n, c.zero-n
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
	c.used, c.nodes = sizes(c.root)
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

// Fork returns a disk like this one, with all that is not synced yet, so that one state can be crashed in many ways. It has no hook, no
// injected faults, no limit and no program. What a failed sync lost is not in it.
func (d *Disk) Fork(rng *rand.Rand) *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := NewDisk(rng)
	done := map[*inode]*inode{}
	c.root, c.seq = forkNode(d.root, done), d.seq
	for _, n := range d.unsynced {
		if to := done[n]; to != nil {
			c.list(to)
		}
	}
	c.used, c.nodes = sizes(c.root)
	return c
}

func forkNode(n *inode, done map[*inode]*inode) *inode {
	if n == nil || done[n] != nil {
		return done[n]
	}
	if n.dir == nil {
		c := n.clone()
		c.bad = maps.Clone(n.bad)
		c.restart(slices.Clone(n.pending))
		done[n] = c
		return c
	}
	c := newDirectory()
	done[n] = c
	forkNames(c.dir.durable, n.dir.durable, done)
	forkNames(c.dir.live, n.dir.live, done)
	for _, p := range n.dir.pending {
		p.node = forkNode(p.node, done)
		c.dir.pending = append(c.dir.pending, p)
	}
	return c
}

func forkNames(to, from map[string]*inode, done map[*inode]*inode) {
	for name, n := range from {
		to[name] = forkNode(n, done)
	}
}
