package vfs

// The bytes of a simulated file are a sparse table of pages. A page belongs to the epoch of the file in which it was
// made; pages of earlier epochs may be shared with the durable image or with a clone and are copied before a write.

const (
	pageSize   = 4096
	sectorSize = 512
)

type page struct {
	epoch uint64
	data  [pageSize]byte
}

// content is one state of a file. Pages beyond the table and nil pages are zeros.
type content struct {
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

// own returns page i ready to be changed in this epoch; fresh says that it is a new copy.
func (c *content) own(i int, epoch uint64) (pg *page, fresh bool) {
	pg = c.page(i)
	if pg != nil && pg.epoch == epoch {
		return pg, false
	}
	own := &page{epoch: epoch}
	if pg != nil {
		own.data = pg.data
	}
	c.set(i, own)
	return own, true
}

// write stores p at off and calls touched for every page it had to make.
func (c *content) write(p []byte, off int64, epoch uint64, touched func(i int)) {
	for len(p) > 0 {
		i := int(off / pageSize)
		pg, fresh := c.own(i, epoch)
		if fresh {
			touched(i)
		}
		n := copy(pg.data[off%pageSize:], p)
		p, off = p[n:], off+int64(n)
	}
	c.size = max(c.size, off)
}

// resize changes the size; what is cut off reads as zeros if the file grows again.
func (c *content) resize(size int64, epoch uint64, touched func(i int)) {
	if size < c.size {
		keep := int((size + pageSize - 1) / pageSize)
		for i := keep; i < len(c.pages); i++ {
			touched(i)
		}
		if keep < len(c.pages) {
			clear(c.pages[keep:])
			c.pages = c.pages[:keep]
		}
		if cut := size % pageSize; cut != 0 && c.page(keep-1) != nil {
			pg, fresh := c.own(keep-1, epoch)
			if fresh {
				touched(keep - 1)
			}
			clear(pg.data[cut:])
		}
	}
	c.size = size
}

// change is one operation on a file that is not durable yet: a write of data at off, or a new size.
type change struct {
	seq  uint64
	data []byte
	off  int64
	size int64 // the new size when data is nil
}

// inode is a file or a directory.
type inode struct {
	dir *directory // nil: a file

	live    content // what reads return
	durable content // what survives a power cut
	epoch   uint64
	touched []int    // pages of live that may differ from durable
	pending []change // since the last sync, in order
	lost    bool     // a sync failed: live shows data that will never be durable
	listed  bool     // in Disk.unsynced
}

func (n *inode) touch(i int) { n.touched = append(n.touched, i) }

func (n *inode) apply(c change) {
	if c.data == nil {
		n.live.resize(c.size, n.epoch, n.touch)
		return
	}
	n.live.write(c.data, c.off, n.epoch, n.touch)
}

// sync makes the pending changes durable.
func (n *inode) sync() {
	if n.lost {
		n.syncChanges()
		return
	}
	n.share(&n.live, &n.durable)
	n.pending = nil
}

// share makes to equal from in the touched pages and ends the epoch, so that neither changes a page of the other.
func (n *inode) share(from, to *content) {
	if keep := int((from.size + pageSize - 1) / pageSize); len(to.pages) > keep {
		clear(to.pages[keep:])
		to.pages = to.pages[:keep]
	}
	for _, i := range n.touched {
		to.set(i, from.page(i))
	}
	to.size = from.size
	n.touched = n.touched[:0]
	n.epoch++
}

// syncChanges writes the pending changes, and only those, to the durable image: pages of an earlier failed sync stay lost.
func (n *inode) syncChanges() {
	n.epoch++
	nothing := func(int) {}
	for _, c := range n.pending {
		if c.data == nil {
			n.durable.resize(c.size, n.epoch, nothing)
		} else {
			n.durable.write(c.data, c.off, n.epoch, nothing)
		}
	}
	n.epoch++
	n.pending = nil
}

// lose is what a failed sync does: the pending changes are forgotten, reads still show them.
func (n *inode) lose() {
	n.pending = nil
	n.lost = true
}

// restart drops from the live state all that is not durable, then applies the changes that survived.
func (n *inode) restart(survivors []change) {
	n.share(&n.durable, &n.live)
	n.lost = false
	n.pending = survivors
	for _, c := range survivors {
		n.apply(c)
	}
}
