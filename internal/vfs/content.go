package vfs

// The bytes of a simulated file are a sparse table of pages. A content changes its own pages in place; pages of another
// owner are shared with a clone or with the other content of the file, and are copied before a write.

const (
	pageSize   = 4096
	sectorSize = 512
)

// owner is a mark on pages; only its address counts.
type owner struct{ _ byte }

type page struct {
	owner *owner
	data  [pageSize]byte
}

// content is one state of a file. Pages beyond the table and nil pages are zeros.
type content struct {
	owner *owner
	pages []*page
	size  int64
}

func (c *content) page(i int) *page {
	if i < len(c.pages) {
		return c.pages[i]
	}
	return nil
}

func (c *content) set(i int, p *page) {
	if p == nil && i >= len(c.pages) {
		return
	}
	for i >= len(c.pages) {
		c.pages = append(c.pages, nil)
	}
	c.pages[i] = p
}

// read copies from off; it returns how many bytes lie before the end.
func (c *content) read(p []byte, off int64) int {
	if off >= c.size {
		return 0
	}
	p = p[:min(int64(len(p)), c.size-off)]
	for done := 0; done < len(p); {
		at := off + int64(done)
		part := p[done:min(len(p), done+pageSize-int(at%pageSize))]
		if pg := c.page(int(at / pageSize)); pg != nil {
			copy(part, pg.data[at%pageSize:])
		} else {
			clear(part)
		}
		done += len(part)
	}
	return len(p)
}

// own returns page i ready to be changed.
func (c *content) own(i int) *page {
	pg := c.page(i)
	if pg != nil && pg.owner == c.owner {
		return pg
	}
	own := &page{owner: c.owner}
	if pg != nil {
		own.data = pg.data
	}
	c.set(i, own)
	return own
}

// apply does one change and calls touched for every page it concerns.
func (c *content) apply(ch change, touched func(i int)) {
	switch {
	case ch.zero > 0:
		c.clear(ch.off, ch.zero, touched)
		return
	case ch.data == nil:
		c.resize(ch.size, touched)
		return
	}
	p, off := ch.data, ch.off
	for len(p) > 0 {
		i := int(off / pageSize)
		touched(i)
		n := copy(c.own(i).data[off%pageSize:], p)
		p, off = p[n:], off+int64(n)
	}
	c.size = max(c.size, off)
}

// resize changes the size; what is cut off reads as zeros if the file grows again.
func (c *content) resize(size int64, touched func(i int)) {
	if size < c.size {
		keep := int((size + pageSize - 1) / pageSize)
		for i := keep; i < len(c.pages); i++ {
			touched(i)
		}
		c.cutPages(keep)
		if cut := size % pageSize; cut != 0 && c.page(keep-1) != nil {
			touched(keep - 1)
			clear(c.own(keep - 1).data[cut:])
		}
	}
	c.size = size
}

// clear makes n bytes from off zeros; the size stays.
func (c *content) clear(off, n int64, touched func(i int)) {
	end := min(off+n, int64(len(c.pages))*pageSize)
	for off < end {
		i, next := int(off/pageSize), min(end, off/pageSize*pageSize+pageSize)
		switch {
		case c.pages[i] == nil:
		case next-off == pageSize:
			touched(i)
			c.pages[i] = nil
		default:
			touched(i)
			clear(c.own(i).data[off%pageSize : (next-1)%pageSize+1])
		}
		off = next
	}
}

func (c *content) cutPages(keep int) {
	if keep < len(c.pages) {
		clear(c.pages[keep:])
		c.pages = c.pages[:keep]
	}
}

// change is one operation on a file that is not durable yet: a write of data at off, zero bytes of zeros at off, or a
// new size.
type change struct {
	seq  uint64
	data []byte
	off  int64
	zero int64
	size int64 // the new size when data is nil and zero is 0
	fate fate
}

// resizes tells that the change is a new size and nothing else.
func (c *change) resizes() bool { return c.data == nil && c.zero == 0 }

// sized is the new size that a change brings, without its bytes.
func (c *change) sized() change { return change{data: []byte{}, off: c.off + int64(len(c.data))} }

// inode is a file or a directory.
//
// Invariant: a page that durable is about to change is not shared with live, for live made the same change before.
type inode struct {
	dir *directory // nil: a file

	live    content  // what reads return
	durable content  // what survives a power cut
	touched []int    // pages of live that may differ from durable
	pending []change // since the last sync, in order
	lost    bool     // a sync failed: live shows data that will never be durable
	listed  bool     // in Disk.unsynced

	bad map[int64]bool // unreadable sectors
}

func newFile() *inode {
	return &inode{live: content{owner: new(owner)}, durable: content{owner: new(owner)}}
}

func (n *inode) touch(i int) { n.touched = append(n.touched, i) }

// sync makes the pending changes durable. Pages of an earlier failed sync stay lost. It returns the writes that the medium
// has not got where they belong; reads do not show them any more, as if they had to come from the medium again.
func (n *inode) sync() (strays []change) {
	for _, c := range n.pending {
		if c.fate != arrives {
			strays = append(strays, c)
			c = c.sized()
		}
		n.durable.apply(c, func(int) {})
	}
	n.pending = nil
	switch {
	case n.lost:
	case len(strays) > 0:
		n.restart(nil)
	default:
		n.touched = n.touched[:0]
	}
	return strays
}

// lose is what a failed sync does: the pending changes are forgotten, reads still show them.
func (n *inode) lose() {
	n.pending = nil
	n.lost = true
}

// restart drops from the live state all that is not durable, then applies the changes that survived.
func (n *inode) restart(survivors []change) {
	n.live.cutPages(int((n.durable.size + pageSize - 1) / pageSize))
	for _, i := range n.touched {
		n.live.set(i, n.durable.page(i))
	}
	n.live.size = n.durable.size
	n.touched = n.touched[:0]
	n.lost = false
	n.pending = survivors
	for _, c := range survivors {
		n.live.apply(c, n.touch)
	}
}

// clone is a file with the durable content of n.
func (n *inode) clone() *inode {
	n.durable.owner = new(owner) // the pages so far belong to nobody from now on
	return newFileOf(&n.durable)
}

// newFileOf is a file with the pages of from, which belong to nobody.
func newFileOf(from *content) *inode {
	c := newFile()
	for _, content := range []*content{&c.durable, &c.live} {
		content.pages = append([]*page(nil), from.pages...)
		content.size = from.size
	}
	return c
}
