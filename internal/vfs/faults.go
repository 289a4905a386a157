package vfs

import (
	"bytes"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"syscall"
)

// What a simulated disk can be made to do to a running program. What is done to the bytes behind its back is in rot.go.

// faults are the injected failures of a disk. The numbers are how many operations fail yet, negative: all.
type faults struct {
	syncs     int
	opens     int
	openError error
	fates     int // writes that meet fate
	fate      fate
	liar      func(name string) bool // of which files; nil: of all
	readOnly  bool
	budget    int64 // bytes; negative: no limit
	inodes    int64 // files and directories; negative: no limit
	bites     Bites
}

// Bites counts how often each injected fault had an effect, so that a test can tell that it tested something.
type Bites struct {
	Syncs       int // failed
	Opens       int // failed for lack of descriptors
	ReadOnly    int // operations refused because the disk cannot be changed
	Space       int // changes refused for lack of bytes
	Inodes      int // files and directories refused for lack of inodes
	Unreadable  int // reads, and writes of a part, that met an unreadable sector
	Lost        int // writes that the medium has not got
	Misdirected int // writes that went elsewhere
	Overwritten int // bytes changed behind everybody's back
	Whole       int // files put back, exchanged, shortened or taken away
}

// Bites returns the counts so far.
func (d *Disk) Bites() Bites {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.faults.bites
}

// fate is what a lying disk does with a write that it confirms.
type fate uint8

const (
	arrives fate = iota
	lost
	misdirected
)

// FailSyncs lets the next n syncs of files fail with EIO, all if n is negative. As on Linux, the pages count as clean
// afterwards: reads return the new data until the restart, the old data after it, and a later sync succeeds.
func (d *Disk) FailSyncs(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.faults.syncs = n
}

// FailOpens lets the next n operations that need a descriptor (open, Lock, ReadDir, SyncDir) fail with err, all if n is
// negative. err is EMFILE or ENFILE.
func (d *Disk) FailOpens(n int, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.faults.opens, d.faults.openError = n, err
}

// SetReadOnly makes the disk refuse every change with EROFS, as a file system does that was mounted anew after an error:
// open files included, and what was not synced is lost.
func (d *Disk) SetReadOnly(on bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.faults.readOnly = on
}

// SetBudget limits the sum of the file sizes to n bytes; beyond it writes fail with ENOSPC. Negative: no limit.
func (d *Disk) SetBudget(n int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.faults.budget = n
}

// SetInodes limits the number of files and directories; beyond it none can be made (ENOSPC). Negative: no limit.
func (d *Disk) SetInodes(n int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.faults.inodes = n
}

// LoseWrites lets the next n writes to files that of accepts (nil: to all) come to nothing: they and their sync are
// confirmed, reads show the new bytes until the sync and the old ones from then on, when the page has to come from the
// medium again.
func (d *Disk) LoseWrites(n int, of func(name string) bool) { d.doom(n, lost, of) }

// MisdirectWrites lets the next n writes to such files go elsewhere: as LoseWrites, and at the sync the bytes appear at
// another sector of the file or in another such file.
func (d *Disk) MisdirectWrites(n int, of func(name string) bool) { d.doom(n, misdirected, of) }

func (d *Disk) doom(n int, f fate, of func(name string) bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.faults.fates, d.faults.fate, d.faults.liar = n, f, of
}

// take uses up one of n failures.
func take(n *int) bool {
	if *n == 0 {
		return false
	}
	*n = max(*n-1, -1)
	return true
}

// descriptor is what an operation needs that opens something.
func (d *Disk) descriptor(op, name string) error {
	if take(&d.faults.opens) {
		d.faults.bites.Opens++
		return fail(op, name, d.faults.openError)
	}
	return nil
}

// writable refuses changes of a disk that cannot be changed.
func (d *Disk) writable() error {
	if d.faults.readOnly {
		d.faults.bites.ReadOnly++
		return syscall.EROFS
	}
	return nil
}

// grow refuses bytes that there is no room for.
func (d *Disk) grow(n int64) error {
	if b := d.faults.budget; n > 0 && b >= 0 && d.used+n > b {
		d.faults.bites.Space++
		return syscall.ENOSPC
	}
	d.used += n
	return nil
}

// make refuses a new file or directory that there is no room for.
func (d *Disk) make() error {
	if err := d.writable(); err != nil {
		return err
	}
	if b := d.faults.inodes; b >= 0 && d.nodes >= b {
		d.faults.bites.Inodes++
		return syscall.ENOSPC
	}
	d.nodes++
	return nil
}

// destiny is the fate of the next write to a file.
func (d *Disk) destiny(name string) fate {
	if of := d.faults.liar; of != nil && !of(name) {
		return arrives
	}
	if take(&d.faults.fates) {
		return d.faults.fate
	}
	return arrives
}

// sync makes a file durable, but for the writes with another fate.
func (d *Disk) sync(n *inode) {
	for _, c := range n.sync() {
		d.stray(n, c)
	}
}

// stray is a write that the medium confirmed and that is not where it should be.
func (d *Disk) stray(n *inode, c change) {
	there := make([]byte, len(c.data))
	n.durable.read(there, c.off)
	if bytes.Equal(there, c.data) {
		return
	}
	if c.fate == lost {
		d.faults.bites.Lost++
		return
	}
	d.faults.bites.Misdirected++
	target := n
	if others := d.liars(); len(others) > 0 && d.rng.IntN(2) == 0 {
		target = others[d.rng.IntN(len(others))]
	}
	off := c.off % sectorSize
	if sectors := (target.live.size - off) / sectorSize; sectors > 0 {
		off += d.rng.Int64N(sectors) * sectorSize
	}
	if target == n && off == c.off {
		off += sectorSize
	}
	target.overwrite(off, c.data)
}

// liars are the files that misdirected writes may hit.
func (d *Disk) liars() []*inode {
	files := d.walk()
	var list []*inode
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if of := d.faults.liar; of == nil || of(name) {
			list = append(list, files[name])
		}
	}
	return list
}

// walk finds all files by path.
func (d *Disk) walk() map[string]*inode {
	files := map[string]*inode{}
	var visit func(dir string, n *inode)
	visit = func(dir string, n *inode) {
		if n.dir == nil {
			files[dir] = n
			return
		}
		for name, child := range n.dir.live {
			visit(path.Join(dir, name), child)
		}
	}
	visit("/", d.root)
	return files
}

// room tells what is used of the disk.
func (d *Disk) room() Space {
	const endless, many = 1 << 40, 1 << 20
	s := Space{Total: endless, Inodes: many}
	if d.faults.budget >= 0 {
		s.Total = uint64(d.faults.budget)
	}
	if d.faults.inodes >= 0 {
		s.Inodes = uint64(d.faults.inodes)
	}
	s.Free = s.Total - min(s.Total, uint64(d.used))
	s.FreeInodes = s.Inodes - min(s.Inodes, uint64(d.nodes))
	return s
}

// Space implements FS.
func (m *mount) Space(dir string) (Space, error) {
	dir = clean(dir)
	if err := m.begin(Op{Kind: OpStat, Name: dir}); err != nil {
		return Space{}, fail("statfs", dir, err)
	}
	defer m.disk.mu.Unlock()
	if m.disk.lookup(dir) == nil {
		return Space{}, fail("statfs", dir, fs.ErrNotExist)
	}
	return m.disk.room(), nil
}

// refuseOpen refuses to open a file for lack of descriptors, or for writing on a disk that cannot be changed.
func (d *Disk) refuseOpen(name string, flag int) error {
	if err := d.descriptor("open", name); err != nil {
		return err
	}
	if flag&(os.O_RDWR|os.O_WRONLY|os.O_TRUNC) == 0 {
		return nil
	}
	if err := d.writable(); err != nil {
		return fail("open", name, err)
	}
	return nil
}
