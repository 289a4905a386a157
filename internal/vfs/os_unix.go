//go:build unix && !linux

package vfs

import "errors"

// WritevAt writes one buffer after another.
func (f *osFile) WritevAt(bufs [][]byte, off int64) error {
	for _, b := range bufs {
		if _, err := f.WriteAt(b, off); err != nil {
			return err
		}
		off += int64(len(b))
	}
	return nil
}

// Preallocate makes a sparse file: a full disk may be met in the middle of a write.
func (f *osFile) Preallocate(size int64) error {
	old, err := f.Size()
	if err != nil || old >= size {
		return err
	}
	return f.Truncate(size)
}

// ZeroRange is not to be had.
func (f *osFile) ZeroRange(off, n int64) error { return errors.ErrUnsupported }
