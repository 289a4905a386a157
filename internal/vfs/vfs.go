// Package vfs is the seam to the disk: the few file operations the store needs, as interfaces, with two
// implementations. OS is the real one. Disk is a simulated one for tests and for the simulator: it knows which bytes
// and which names would survive a power cut, and can be made to fail in the ways disks fail.
//
// It is no general file system: no permissions, no links, no renames between directories, no memory mapping.
// The store and its tests are the only callers.
package vfs

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Errors that callers tell apart. Missing and existing files are reported as fs.ErrNotExist and fs.ErrExist, a full
// disk as syscall.ENOSPC, by both implementations.
var (
	// ErrCrashed is what every handle and mount of a simulated disk returns after the crash it belonged to.
	ErrCrashed = errors.New("the simulated process has crashed")
	// ErrLocked says that a live process holds the lock.
	ErrLocked = errors.New("locked by another process")
)

// FS is a file system. All methods are safe for concurrent use.
type FS interface {
	// OpenFile is os.OpenFile for regular files; O_CREATE, O_EXCL, O_TRUNC, O_RDONLY and O_RDWR are known.
	OpenFile(name string, flag int, perm os.FileMode) (File, error)
	// Remove removes a file or an empty directory.
	Remove(name string) error
	// Rename replaces to by from, both in one directory, atomically.
	Rename(from, to string) error
	MkdirAll(dir string, perm os.FileMode) error
	// ReadDir lists the names in dir in lexical order.
	ReadDir(dir string) ([]string, error)
	Stat(name string) (Info, error)
	// SyncDir makes the names in dir durable: what was created, renamed and removed in it.
	SyncDir(dir string) error
	// Lock takes an exclusive lock on the file of that name, creating it if need be; ErrLocked if a live process
	// holds it. The lock ends with Close or with the process.
	Lock(name string) (io.Closer, error)
	// Space tells how much room the file system of dir has.
	Space(dir string) (Space, error)
}

// Space is the room of a file system, as a program without privileges may use it.
type Space struct {
	Total, Free uint64 // bytes
	// Inodes is how many files and directories there may be at most; 0: there is no such limit.
	Inodes, FreeInodes uint64
}

// Info describes a name.
type Info struct {
	Size int64
	Dir  bool
	// Links is how many names the file has: one, unless somebody else gave it more. Of a directory it says nothing.
	Links uint64
}

// File is an open file. Reads may run beside writes; a Close beside a read makes the read fail with os.ErrClosed.
type File interface {
	io.ReaderAt
	io.WriterAt
	// WritevAt writes the buffers one after another at off, all bytes or an error.
	WritevAt(bufs [][]byte, off int64) error
	// ZeroRange makes n bytes from off read as zeros without giving their blocks back; the size stays as it is. Fast, if
	// the file system can do it; otherwise errors.ErrUnsupported, and nothing has happened.
	ZeroRange(off, n int64) error
	// Sync makes the bytes and the size durable (fdatasync), not the name. After an error nobody knows what is on the
	// disk: the file must not be trusted or written again.
	Sync() error
	Truncate(size int64) error
	// Preallocate reserves space up to size and makes the file that long; the new part reads as zeros. It never
	// makes a file shorter.
	Preallocate(size int64) error
	Size() (int64, error)
	Close() error
}

// ReadFile returns the bytes of a file.
func ReadFile(fs FS, name string) ([]byte, error) {
	f, err := fs.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	data := make([]byte, size)
	if n, err := f.ReadAt(data, 0); n < len(data) {
		return nil, fmt.Errorf("%s: read %d of %d bytes: %w", name, n, len(data), err)
	}
	return data, nil
}

// TempSuffix ends the names of files that are being written and count for nothing until they are renamed.
const TempSuffix = ".tmp"

// WriteFile replaces the file name by one with the given bytes (buffers one after another): after a crash at any
// moment there is the old file or the new one; after WriteFile returned nil it is the new one.
func WriteFile(fs FS, name string, bufs ...[]byte) error {
	temp := name + TempSuffix
	if err := writeSynced(fs, temp, bufs); err != nil {
		_ = fs.Remove(temp) // only to give the space back
		return err
	}
	if err := fs.Rename(temp, name); err != nil {
		return err
	}
	return fs.SyncDir(filepath.Dir(name))
}

func writeSynced(fs FS, name string, bufs [][]byte) (err error) {
	f, err := fs.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := f.WritevAt(bufs, 0); err != nil {
		return err
	}
	return f.Sync()
}

// MakeDirs is MkdirAll with the names of dir and of the directories it had to make durable.
func MakeDirs(fs FS, dir string) error {
	parents := []string{filepath.Dir(dir)}
	for p := parents[0]; p != filepath.Dir(p); p = filepath.Dir(p) {
		_, err := fs.Stat(p)
		if err == nil {
			break
		}
		if !errors.Is(err, os.ErrNotExist) {
			return err
		}
		parents = append(parents, filepath.Dir(p))
	}
	if err := fs.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for i := len(parents) - 1; i >= 0; i-- {
		if err := fs.SyncDir(parents[i]); err != nil {
			return err
		}
	}
	return nil
}

// RemoveAll removes a directory with everything in it. A directory that is not there is no error. The parent is
// not synced.
func RemoveAll(fs FS, dir string) error {
	names, err := fs.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, n := range names {
		path := filepath.Join(dir, n)
		info, err := fs.Stat(path)
		if err != nil {
			return err
		}
		if info.Dir {
			err = RemoveAll(fs, path)
		} else {
			err = fs.Remove(path)
		}
		if err != nil {
			return err
		}
	}
	return fs.Remove(dir)
}
