package vfs

import (
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"syscall"
)

// What happens to the files of a simulated disk behind the back of every program: rot of the medium, and people with cp,
// mv and rm. All of it is durable at once. Programs that have a file open keep the file they opened.

// Corrupt changes n bytes of a file at off behind everybody's back, in what reads return and in what is durable:
// edit gets the bytes and changes them. Rot on the medium looks like this.
func (d *Disk) Corrupt(name string, off int64, n int, edit func(p []byte)) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	node, err := d.file("corrupt", name)
	if err != nil {
		return err
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
	d.faults.bites.Overwritten += n
	return nil
}

// Flip inverts one bit (0 to 7) of the byte at off of a file: see Corrupt.
func (d *Disk) Flip(name string, off int64, bit uint) error {
	return d.Corrupt(name, off, 1, func(p []byte) { p[0] ^= 1 << bit })
}

// BadSectors makes the sectors of 512 bytes that hold bytes off to off+n of a file unreadable: reads of them fail with
// EIO, and so do writes of a part of one. A write of a whole sector cures it.
func (d *Disk) BadSectors(name string, off, n int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	node, err := d.file("damage", name)
	if err != nil {
		return err
	}
	if off < 0 || n <= 0 || off+n > node.live.size {
		return fail("damage", name, fmt.Errorf("bytes %d to %d of %d", off, off+n, node.live.size))
	}
	if node.bad == nil {
		node.bad = map[int64]bool{}
	}
	for s := off / sectorSize; s <= (off+n-1)/sectorSize; s++ {
		node.bad[s] = true
	}
	return nil
}

// Sick tells whether there are unreadable sectors in any file.
func (d *Disk) Sick() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, n := range d.walk() {
		if len(n.bad) > 0 {
			return true
		}
	}
	return false
}

// Shorten cuts a file off at size.
func (d *Disk) Shorten(name string, size int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	n, err := d.file("shorten", name)
	if err != nil {
		return err
	}
	if size < 0 || size >= n.live.size {
		return fail("shorten", name, fmt.Errorf("to %d of %d bytes", size, n.live.size))
	}
	n.sync()
	for _, c := range []*content{&n.live, &n.durable} {
		if size < c.size {
			c.resize(size, n.touch)
		}
	}
	n.cure(size, maxOffset)
	d.damaged()
	return nil
}

// Vanish takes away a file, or a directory with all that is in it.
func (d *Disk) Vanish(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	dir, base, err := d.existing("vanish", name)
	if err != nil {
		return err
	}
	dir.put(base, nil)
	d.damaged()
	return nil
}

// Exchange exchanges two files or directories.
func (d *Disk) Exchange(one, other string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	a, nameA, err := d.existing("exchange", one)
	if err != nil {
		return err
	}
	b, nameB, err := d.existing("exchange", other)
	if err != nil {
		return err
	}
	x, y := a.live[nameA].copy(), b.live[nameB].copy()
	a.put(nameA, y)
	b.put(nameB, x)
	d.damaged()
	return nil
}

// Kept is a copy of a file or of a directory with all that is in it, as programs saw it when it was made. It belongs to
// no disk and does not change.
type Kept struct{ node *inode }

// Keep copies a file or a directory.
func (d *Disk) Keep(name string) (*Kept, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.lookup(clean(name))
	if n == nil {
		return nil, fail("keep", name, fs.ErrNotExist)
	}
	return &Kept{n.copy()}, nil
}

// Put puts a kept copy in the place of a file or directory, or where nothing was: an older state of the same, or what
// belongs to another disk. The root cannot be replaced, but what is in it can.
func (d *Disk) Put(k *Kept, name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	dir, base, err := d.parent("put", clean(name))
	if err != nil {
		return err
	}
	if base == "" {
		return fail("put", name, syscall.EBUSY)
	}
	dir.dir.put(base, k.node.copy())
	d.damaged()
	return nil
}

// damaged counts what was done to a whole file.
func (d *Disk) damaged() {
	d.faults.bites.Whole++
	d.used, d.nodes = sizes(d.root)
}

func (d *Disk) file(op, name string) (*inode, error) {
	n := d.lookup(clean(name))
	if n == nil || n.dir != nil {
		return nil, fail(op, name, fs.ErrNotExist)
	}
	return n, nil
}

// existing finds the directory of something that is there.
func (d *Disk) existing(op, name string) (*directory, string, error) {
	n, base, err := d.parent(op, clean(name))
	if err != nil {
		return nil, "", err
	}
	if n.dir.live[base] == nil {
		return nil, "", fail(op, name, fs.ErrNotExist)
	}
	return n.dir, base, nil
}

// put sets a name to an inode (nil: removes it), durably and with all changes before it.
func (dir *directory) put(name string, n *inode) {
	dir.sync()
	c := nameChange{name: name, node: n}
	c.apply(dir.live)
	c.apply(dir.durable)
}

// overwrite changes what reads return and what is durable, as far as the file goes.
func (n *inode) overwrite(off int64, data []byte) {
	for _, c := range []*content{&n.live, &n.durable} {
		if rest := c.size - off; rest > 0 {
			c.apply(change{data: data[:min(int64(len(data)), rest)], off: off}, n.touch)
		}
	}
}

// copy is a file or directory of its own with what programs see of n, all durable.
func (n *inode) copy() *inode {
	if n.dir == nil {
		n.live.owner, n.durable.owner = new(owner), new(owner) // the pages so far belong to nobody from now on
		return newFileOf(&n.live)
	}
	c := newDirectory()
	for name, child := range n.dir.live {
		copied := child.copy()
		c.dir.durable[name], c.dir.live[name] = copied, copied
	}
	return c
}

const maxOffset = int64(1) << 62

// unreadable tells whether bytes off to end touch a bad sector.
func (n *inode) unreadable(off, end int64) bool {
	if len(n.bad) == 0 || end <= off {
		return false
	}
	for s := off / sectorSize; s <= (end-1)/sectorSize; s++ {
		if n.bad[s] {
			return true
		}
	}
	return false
}

// cure makes the sectors readable that lie wholly within off to end.
func (n *inode) cure(off, end int64) {
	for _, s := range slices.Collect(maps.Keys(n.bad)) {
		if s*sectorSize >= off && (s+1)*sectorSize <= end {
			delete(n.bad, s)
		}
	}
}

// Files lists the paths of all files a program would see now, in lexical order.
func (d *Disk) Files() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Sorted(maps.Keys(d.walk()))
}

// Size is the size of a file or, of a directory, the sum of the sizes of the files in it; -1 if there is neither.
func (d *Disk) Size(name string) int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.lookup(clean(name))
	if n == nil {
		return -1
	}
	bytes, _ := sizes(n)
	return bytes
}
