package vfs

import (
	"io"
	"os"
	"slices"
	"syscall"
)

// handle is an open file of a simulated disk.
type handle struct {
	mount    *mount
	node     *inode
	name     string
	writable bool
	closed   bool // under Disk.mu
}

// begin is mount.begin for an operation on this file.
func (h *handle) begin(op Op) error {
	op.Name = h.name
	if err := h.mount.begin(op); err != nil {
		if op.Kind == OpSync {
			h.lose()
		}
		return err
	}
	if h.closed {
		h.mount.disk.mu.Unlock()
		return os.ErrClosed
	}
	if op.Kind.Changes() && !h.writable {
		h.mount.disk.mu.Unlock()
		return syscall.EBADF
	}
	return nil
}

// lose is a sync that the hook let fail.
func (h *handle) lose() {
	d := h.mount.disk
	d.mu.Lock()
	defer d.mu.Unlock()
	if h.mount.incarnation == d.incarnation && !h.closed {
		h.node.lose()
	}
}

func (h *handle) ReadAt(p []byte, off int64) (int, error) {
	if err := h.begin(Op{Kind: OpRead, Off: off, Len: len(p)}); err != nil {
		return 0, fail("read", h.name, err)
	}
	d := h.mount.disk
	defer d.mu.Unlock()
	if h.node.unreadable(off, min(off+int64(len(p)), h.node.live.size)) {
		d.faults.bites.Unreadable++
		return 0, fail("read", h.name, syscall.EIO)
	}
	n := h.node.live.read(p, off)
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (h *handle) WriteAt(p []byte, off int64) (int, error) {
	if err := h.WritevAt([][]byte{p}, off); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (h *handle) WritevAt(bufs [][]byte, off int64) error {
	data := slices.Concat(bufs...)
	return h.change(Op{Kind: OpWrite, Off: off, Len: len(data)}, change{data: data, off: off})
}

func (h *handle) Truncate(size int64) error {
	return h.change(Op{Kind: OpResize, Off: size}, change{size: size})
}

func (h *handle) Preallocate(size int64) error {
	if old, err := h.Size(); err != nil || old >= size {
		return err
	}
	return h.change(Op{Kind: OpResize, Off: size}, change{size: size})
}

func (h *handle) ZeroRange(off, n int64) error {
	size, err := h.Size()
	if err != nil {
		return err
	}
	n = min(n, size-off)
	return h.change(Op{Kind: OpZero, Off: off, Len: int(max(n, 0))}, change{off: off, zero: n})
}

func (h *handle) change(op Op, c change) error {
	if op.Kind != OpResize && op.Len == 0 {
		return nil
	}
	err := h.begin(op)
	if err == nil {
		if op.Kind == OpWrite {
			c.fate = h.mount.disk.destiny(h.name)
		}
		err = h.mount.disk.change(h.node, c)
		h.mount.disk.mu.Unlock()
	}
	if err != nil {
		return fail("write", h.name, err)
	}
	return nil
}

func (h *handle) Sync() error {
	if err := h.begin(Op{Kind: OpSync}); err != nil {
		return fail("sync", h.name, err)
	}
	d := h.mount.disk
	defer d.mu.Unlock()
	if take(&d.faults.syncs) {
		d.faults.bites.Syncs++
		h.node.lose()
		return fail("sync", h.name, syscall.EIO)
	}
	if len(h.node.pending) > 0 {
		if err := d.writable(); err != nil {
			h.node.lose()
			return fail("sync", h.name, err)
		}
	}
	d.sync(h.node)
	return nil
}

func (h *handle) Size() (int64, error) {
	if err := h.begin(Op{Kind: OpStat}); err != nil {
		return 0, fail("stat", h.name, err)
	}
	defer h.mount.disk.mu.Unlock()
	return h.node.live.size, nil
}

func (h *handle) Close() error {
	d := h.mount.disk
	d.mu.Lock()
	defer d.mu.Unlock()
	if h.mount.incarnation != d.incarnation {
		return fail("close", h.name, ErrCrashed)
	}
	if h.closed {
		return fail("close", h.name, os.ErrClosed)
	}
	h.closed = true
	return nil
}
