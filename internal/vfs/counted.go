package vfs

import (
	"os"
	"sync/atomic"
)

// Counted is a file system that adds up in n how many bytes are written to its files. What the kernel says of a process is of
// no use for that: it counts whole pages, or whole groups of them, however little of them was written.
func Counted(fs FS, n *atomic.Uint64) FS { return counted{fs, n} }

type counted struct {
	FS
	n *atomic.Uint64
}

// OpenFile implements FS.
func (c counted) OpenFile(name string, flag int, perm os.FileMode) (File, error) {
	f, err := c.FS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return &countedFile{File: f, n: c.n}, nil
}

type countedFile struct {
	File
	n *atomic.Uint64
}

// WriteAt implements File.
func (f *countedFile) WriteAt(p []byte, off int64) (int, error) {
	n, err := f.File.WriteAt(p, off)
	f.n.Add(uint64(n))
	return n, err
}

// WritevAt implements File. Of a write that failed nobody knows how much was written; it counts as nothing.
func (f *countedFile) WritevAt(bufs [][]byte, off int64) error {
	if err := f.File.WritevAt(bufs, off); err != nil {
		return err
	}
	for _, b := range bufs {
		f.n.Add(uint64(len(b)))
	}
	return nil
}
