package vfs

import (
	"errors"
	"io"

	"golang.org/x/sys/unix"
)

// maxVectors is what one pwritev takes (IOV_MAX).
const maxVectors = 1024

// WritevAt is one pwritev in the ordinary case; the kernel may write less than asked, then it goes on from there.
func (f *osFile) WritevAt(bufs [][]byte, off int64) error {
	rest := append([][]byte(nil), bufs...)
	return f.control("pwritev", func(fd int) error {
		for len(rest) > 0 {
			n, err := unix.Pwritev(fd, rest[:min(len(rest), maxVectors)], off)
			if err != nil {
				return err
			}
			if n == 0 && len(rest[0]) > 0 {
				return io.ErrShortWrite
			}
			off += int64(n)
			rest = advance(rest, n)
		}
		return nil
	})
}

// advance drops the first n bytes, and the empty buffers behind them.
func advance(bufs [][]byte, n int) [][]byte {
	for len(bufs) > 0 && n >= len(bufs[0]) {
		n -= len(bufs[0])
		bufs = bufs[1:]
	}
	if n > 0 {
		bufs[0] = bufs[0][n:]
	}
	return bufs
}

// Sync is fdatasync: the size is made durable too, the times are not.
func (f *osFile) Sync() error { return f.control("fdatasync", unix.Fdatasync) }

// Preallocate is fallocate with the size visible. File systems without it get a sparse file: then a full disk may
// be met in the middle of a write.
func (f *osFile) Preallocate(size int64) error {
	old, err := f.Size()
	if err != nil || old >= size {
		return err
	}
	err = f.control("fallocate", func(fd int) error { return unix.Fallocate(fd, 0, 0, size) })
	if errors.Is(err, unix.EOPNOTSUPP) {
		return f.Truncate(size)
	}
	return err
}

// ZeroRange is fallocate with FALLOC_FL_ZERO_RANGE: the extents are marked as unwritten, no byte is written.
func (f *osFile) ZeroRange(off, n int64) error {
	return f.control("fallocate", func(fd int) error {
		return unix.Fallocate(fd, unix.FALLOC_FL_ZERO_RANGE|unix.FALLOC_FL_KEEP_SIZE, off, n)
	})
}
