package vfs

import (
	"errors"
	"io"
	"os"
	"syscall"
)

// Patchy is a file system whose bytes can always be read: where the disk says that it cannot read a part of a file (EIO), the
// reader gets noise instead, and said is told of it. It is for programs that check all they read and know what to do about wrong
// bytes; then a sector that cannot be read is one case of damage more and not another kind of error in each of them. What the
// disk refuses to write stays an error.
func Patchy(fs FS, said func(name string, off int64, n int)) FS { return patchy{fs, said} }

type patchy struct {
	FS
	said func(name string, off int64, n int)
}

// OpenFile implements FS.
func (p patchy) OpenFile(name string, flag int, perm os.FileMode) (File, error) {
	f, err := p.FS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return &patchyFile{File: f, name: name, said: p.said}, nil
}

type patchyFile struct {
	File
	name string
	said func(name string, off int64, n int)
}

// ReadAt implements File. After an error each sector is read by itself.
func (f *patchyFile) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.File.ReadAt(p, off)
	if !errors.Is(err, syscall.EIO) {
		return n, err
	}
	for n = 0; n < len(p); {
		end := min(int((off+int64(n))/sectorSize*sectorSize+sectorSize-off), len(p))
		got, err := f.File.ReadAt(p[n:end], off+int64(n))
		switch {
		case errors.Is(err, syscall.EIO):
			f.said(f.name, off+int64(n), end-n)
			for i := n; i < end; i++ {
				p[i] = 0xa5 // no zeros: they would be taken for room that nobody has used
			}
		case err != nil && (got < end-n || !errors.Is(err, io.EOF)):
			return n + got, err
		}
		n = end
	}
	return n, nil
}
