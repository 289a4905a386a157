package vfs

import (
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/opencmq/cmq/internal/mutant"
)

// Disk is a simulated disk. It keeps what programs see and, apart from it, what would be left after a power cut: the
// bytes of a file as of its last Sync, the names of a directory as of its last SyncDir. Crash decides by seed which of
// the changes since then survive.
//
// A program works on a Mount; Crash ends the mount with all its files and locks. No operation costs time in proportion
// to the size of a file or of the disk, Preallocate included.
type Disk struct {
	mu          sync.Mutex
	rng         *rand.Rand
	root        *inode
	incarnation int
	seq         uint64 // counts changes
	unsynced    []*inode
	locks       map[string]bool
	used        int64 // bytes of the files that have names
	nodes       int64 // names of files and directories
	faults      faults
	onOp        func(Op) error
	ops         uint64
}

// Op is one operation, as the hook sees it before it happens.
type Op struct {
	N    uint64 // counts the operations of the disk, from 1
	Kind OpKind
	Name string // cleaned path; for a rename the old name
	To   string // the new name of a rename
	Off  int64
	Len  int
}

// OpKind says what an operation does.
type OpKind uint8

// The operations.
const (
	OpOpen OpKind = iota + 1
	OpCreate
	OpRead
	OpStat // Stat, ReadDir and Size
	OpWrite
	OpResize
	OpSync
	OpRemove
	OpRename
	OpMkdir
	OpSyncDir
	OpLock
	OpZero
)

// Changes reports whether the operation changes the disk or makes a change durable.
func (k OpKind) Changes() bool { return k != OpOpen && k != OpRead && k != OpStat && k != OpLock }

// NewDisk returns an empty disk without limits. rng is drawn from in Crash and for misdirected writes only.
func NewDisk(rng *rand.Rand) *Disk {
	return &Disk{rng: rng, root: newDirectory(), locks: map[string]bool{}, faults: faults{budget: -1, inodes: -1}}
}

// OnOp has f called before every operation, outside the disk's lock: it may call Crash. An error of f is the result
// of the operation, which then does not happen; on OpSync it counts as a failed sync (see FailSyncs). nil removes it.
func (d *Disk) OnOp(f func(Op) error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.onOp = f
}

// Used is the sum of the file sizes.
func (d *Disk) Used() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.used
}

// Mount returns the disk as a program sees it until the next crash.
func (d *Disk) Mount() FS {
	d.mu.Lock()
	defer d.mu.Unlock()
	return &mount{disk: d, incarnation: d.incarnation}
}

// directory holds names. Invariant: durable with pending applied in order is live.
type directory struct {
	live, durable map[string]*inode
	pending       []nameChange
}

// nameChange sets a name to an inode (nil: removes it), and removes another one (rename) in the same moment.
type nameChange struct {
	seq    uint64
	name   string
	node   *inode
	remove string
}

func (c nameChange) apply(names map[string]*inode) {
	if c.remove != "" {
		delete(names, c.remove)
	}
	if c.node == nil {
		delete(names, c.name)
	} else {
		names[c.name] = c.node
	}
}

// sync makes the names durable.
func (dir *directory) sync() {
	for _, c := range dir.pending {
		c.apply(dir.durable)
	}
	dir.pending = nil
}

func newDirectory() *inode {
	return &inode{dir: &directory{live: map[string]*inode{}, durable: map[string]*inode{}}}
}

func clean(name string) string { return path.Clean("/" + name) }

func fail(op, name string, err error) error { return &fs.PathError{Op: op, Path: name, Err: err} }

// lookup finds the inode of a cleaned path, nil if there is none.
func (d *Disk) lookup(name string) *inode {
	n := d.root
	for part := range strings.SplitSeq(strings.Trim(name, "/"), "/") {
		if part == "" {
			continue
		}
		if n == nil || n.dir == nil {
			return nil
		}
		n = n.dir.live[part]
	}
	return n
}

// parent finds the directory of a cleaned path and the last part of the path.
func (d *Disk) parent(op, name string) (*inode, string, error) {
	dir, base := path.Split(name)
	n := d.lookup(dir)
	if n == nil {
		return nil, "", fail(op, name, fs.ErrNotExist)
	}
	if n.dir == nil {
		return nil, "", fail(op, name, syscall.ENOTDIR)
	}
	return n, base, nil
}

func (d *Disk) list(n *inode) {
	if !n.listed {
		n.listed = true
		d.unsynced = append(d.unsynced, n)
	}
}

func (d *Disk) rename(parent *inode, c nameChange) {
	d.seq++
	c.seq = d.seq
	c.apply(parent.dir.live)
	parent.dir.pending = append(parent.dir.pending, c)
	d.list(parent)
}

// change applies one change to a file, unless the disk is full, cannot be changed or has a bad sector there.
func (d *Disk) change(n *inode, c change) error {
	if err := d.writable(); err != nil {
		return err
	}
	size, end := c.size, c.off+int64(len(c.data))+c.zero
	switch {
	case c.zero > 0:
		size = n.live.size
	case c.data != nil:
		size = max(n.live.size, end)
	default:
		n.cure(size, maxOffset)
	}
	if !c.resizes() {
		n.cure(c.off, end)
		if n.unreadable(c.off, end) {
			d.faults.bites.Unreadable++
			return syscall.EIO
		}
	}
	if err := d.grow(size - n.live.size); err != nil {
		return err
	}
	d.seq++
	c.seq = d.seq
	n.live.apply(c, n.touch)
	n.pending = append(n.pending, c)
	d.list(n)
	return nil
}

// mount is one incarnation's view of a disk.
type mount struct {
	disk        *Disk
	incarnation int
}

// begin runs the hook and takes the lock; the caller unlocks with the returned function unless there is an error.
func (m *mount) begin(op Op) error {
	d := m.disk
	d.mu.Lock()
	if m.incarnation == d.incarnation && d.onOp != nil {
		d.ops++
		op.N = d.ops
		hook := d.onOp
		d.mu.Unlock()
		err := hook(op)
		d.mu.Lock()
		if err != nil && m.incarnation == d.incarnation {
			d.mu.Unlock()
			return err
		}
	}
	if m.incarnation != d.incarnation {
		d.mu.Unlock()
		return ErrCrashed
	}
	return nil
}

func (m *mount) OpenFile(name string, flag int, _ os.FileMode) (File, error) {
	name = clean(name)
	kind := OpOpen
	if flag&(os.O_CREATE|os.O_TRUNC) != 0 {
		kind = OpCreate
	}
	if err := m.begin(Op{Kind: kind, Name: name}); err != nil {
		return nil, fail("open", name, err)
	}
	defer m.disk.mu.Unlock()
	if err := m.disk.refuseOpen(name, flag); err != nil {
		return nil, err
	}
	node, err := m.disk.open(name, flag)
	if err != nil {
		return nil, err
	}
	return &handle{mount: m, node: node, name: name, writable: flag&(os.O_RDWR|os.O_WRONLY) != 0}, nil
}

func (d *Disk) open(name string, flag int) (*inode, error) {
	parent, base, err := d.parent("open", name)
	if err != nil {
		return nil, err
	}
	n := parent.dir.live[base]
	switch {
	case n == nil && flag&os.O_CREATE == 0:
		return nil, fail("open", name, fs.ErrNotExist)
	case n == nil:
		if err := d.make(); err != nil {
			return nil, fail("open", name, err)
		}
		n = newFile()
		d.rename(parent, nameChange{name: base, node: n})
	case flag&os.O_EXCL != 0:
		return nil, fail("open", name, fs.ErrExist)
	case n.dir != nil:
		return nil, fail("open", name, syscall.EISDIR)
	}
	if flag&os.O_TRUNC != 0 && n.live.size > 0 {
		return n, d.change(n, change{size: 0})
	}
	return n, nil
}

func (m *mount) Remove(name string) error {
	name = clean(name)
	if err := m.begin(Op{Kind: OpRemove, Name: name}); err != nil {
		return fail("remove", name, err)
	}
	d := m.disk
	defer d.mu.Unlock()
	parent, base, err := d.parent("remove", name)
	if err != nil {
		return err
	}
	n := parent.dir.live[base]
	if n == nil {
		return fail("remove", name, fs.ErrNotExist)
	}
	if n.dir != nil && len(n.dir.live) > 0 {
		return fail("remove", name, syscall.ENOTEMPTY)
	}
	if err := d.writable(); err != nil {
		return fail("remove", name, err)
	}
	d.used -= n.live.size
	d.nodes--
	d.rename(parent, nameChange{name: base})
	return nil
}

func (m *mount) Rename(from, to string) error {
	from, to = clean(from), clean(to)
	if err := m.begin(Op{Kind: OpRename, Name: from, To: to}); err != nil {
		return fail("rename", from, err)
	}
	d := m.disk
	defer d.mu.Unlock()
	if path.Dir(from) != path.Dir(to) {
		return fail("rename", from, syscall.EXDEV)
	}
	parent, base, err := d.parent("rename", from)
	if err != nil {
		return err
	}
	n := parent.dir.live[base]
	if n == nil {
		return fail("rename", from, fs.ErrNotExist)
	}
	if from == to {
		return nil
	}
	if err := d.writable(); err != nil {
		return fail("rename", from, err)
	}
	target := path.Base(to)
	if old := parent.dir.live[target]; old != nil {
		if old.dir != nil && len(old.dir.live) > 0 {
			return fail("rename", to, syscall.ENOTEMPTY)
		}
		d.used -= old.live.size
		d.nodes--
	}
	d.rename(parent, nameChange{name: target, node: n, remove: base})
	return nil
}

func (m *mount) MkdirAll(dir string, _ os.FileMode) error {
	dir = clean(dir)
	if err := m.begin(Op{Kind: OpMkdir, Name: dir}); err != nil {
		return fail("mkdir", dir, err)
	}
	d := m.disk
	defer d.mu.Unlock()
	n := d.root
	for part := range strings.SplitSeq(strings.Trim(dir, "/"), "/") {
		if part == "" {
			continue
		}
		if n.dir == nil {
			return fail("mkdir", dir, syscall.ENOTDIR)
		}
		if n.dir.live[part] == nil {
			if err := d.make(); err != nil {
				return fail("mkdir", dir, err)
			}
			d.rename(n, nameChange{name: part, node: newDirectory()})
		}
		n = n.dir.live[part]
	}
	return nil
}

func (m *mount) ReadDir(dir string) ([]string, error) {
	dir = clean(dir)
	if err := m.begin(Op{Kind: OpStat, Name: dir}); err != nil {
		return nil, fail("readdir", dir, err)
	}
	defer m.disk.mu.Unlock()
	if err := m.disk.descriptor("readdir", dir); err != nil {
		return nil, err
	}
	n := m.disk.lookup(dir)
	if n == nil || n.dir == nil {
		return nil, fail("readdir", dir, fs.ErrNotExist)
	}
	return slices.Sorted(maps.Keys(n.dir.live)), nil
}

func (m *mount) Stat(name string) (Info, error) {
	name = clean(name)
	if err := m.begin(Op{Kind: OpStat, Name: name}); err != nil {
		return Info{}, fail("stat", name, err)
	}
	defer m.disk.mu.Unlock()
	n := m.disk.lookup(name)
	if n == nil {
		return Info{}, fail("stat", name, fs.ErrNotExist)
	}
	return Info{Size: n.live.size, Dir: n.dir != nil, Links: 1}, nil
}

func (m *mount) SyncDir(dir string) error {
	dir = clean(dir)
	if mutant.On(mutant.NoDirectorySync) {
		return nil
	}
	if err := m.begin(Op{Kind: OpSyncDir, Name: dir}); err != nil {
		return fail("syncdir", dir, err)
	}
	defer m.disk.mu.Unlock()
	if err := m.disk.descriptor("syncdir", dir); err != nil {
		return err
	}
	n := m.disk.lookup(dir)
	if n == nil || n.dir == nil {
		return fail("syncdir", dir, fs.ErrNotExist)
	}
	if len(n.dir.pending) > 0 {
		if err := m.disk.writable(); err != nil {
			return fail("syncdir", dir, err)
		}
	}
	n.dir.sync()
	return nil
}

func (m *mount) Lock(name string) (io.Closer, error) {
	name = clean(name)
	if err := m.begin(Op{Kind: OpLock, Name: name}); err != nil {
		return nil, fail("lock", name, err)
	}
	d := m.disk
	defer d.mu.Unlock()
	if d.locks[name] {
		return nil, fail("lock", name, ErrLocked)
	}
	if err := d.refuseOpen(name, os.O_RDWR); err != nil {
		return nil, err
	}
	if _, err := d.open(name, os.O_RDWR|os.O_CREATE); err != nil {
		return nil, err
	}
	d.locks[name] = true
	return &diskLock{m, name}, nil
}

type diskLock struct {
	mount *mount
	name  string
}

func (l *diskLock) Close() error {
	d := l.mount.disk
	d.mu.Lock()
	defer d.mu.Unlock()
	if l.mount.incarnation == d.incarnation {
		delete(d.locks, l.name)
	}
	return nil
}
