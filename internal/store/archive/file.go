package archive

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"sync"

	"github.com/opencmq/cmq/internal/mutant"
	"github.com/opencmq/cmq/internal/store/segment"
	"github.com/opencmq/cmq/internal/vfs"
)

// ErrNotFound: the file does not have the message.
var ErrNotFound = errors.New("no such message in the archive file")

// File reads one file. It is opened, and its directory read, with the first use.
type File struct {
	fs   vfs.FS
	path string
	id   ID
	info Info

	mu     sync.Mutex
	file   vfs.File // nil: not open
	blocks []block
	end    int64 // of the bodies
	last   int   // the block of items
	items  []item
	closed bool
}

// Open makes a reader for the file that a root describes. Nothing is read yet.
func Open(fsys vfs.FS, dir string, id ID, info Info) *File {
	return &File{fs: fsys, path: filepath.Join(dir, info.Name()), id: id, info: info, last: -1}
}

// Info is what the root says of the file.
func (f *File) Info() Info { return f.info }

// Check opens the file, if it is not open, and compares it with what the root says. *segment.DamageError,
// fs.ErrNotExist or the disk's error.
func (f *File) Check() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.openLocked()
}

func (f *File) openLocked() error {
	switch {
	case f.closed:
		return os.ErrClosed
	case f.file != nil:
		return nil
	}
	file, err := f.fs.OpenFile(f.path, os.O_RDONLY, 0)
	if err != nil {
		return fmt.Errorf("open archive file: %w", err)
	}
	f.file = file
	if err := f.readEnds(); err != nil {
		f.file = nil
		return errors.Join(segment.Disowned(err), file.Close())
	}
	return nil
}

// readEnds reads header, tail and directory.
func (f *File) readEnds() error {
	size, err := f.file.Size()
	if err != nil {
		return fmt.Errorf("open %s: %w", f.path, err)
	}
	if size != f.info.Size || size < headSize+tailSize {
		return damage(f.path, size, "the file has %d bytes, it was written with %d", size, f.info.Size)
	}
	head, err := f.read(0, headSize)
	if err != nil {
		return err
	}
	if err := checkHead(f.path, head, f.id, f.info.Number); err != nil {
		return err
	}
	p, err := f.read(size-tailSize, tailSize)
	if err != nil {
		return err
	}
	t, ok := decodeTail(p, size)
	if !ok || le.Uint32(p[60:]) != f.info.Sum {
		return damage(f.path, size-tailSize, "the end of the file is not what was written")
	}
	dir, err := f.read(t.dir, int(size-tailSize-t.dir))
	if err != nil {
		return err
	}
	if checksum(dir) != t.dirSum {
		return damage(f.path, t.dir, "the checksum of the directory is wrong")
	}
	f.blocks, f.end = decodeDir(dir), headSize+t.bytes
	for _, b := range f.blocks {
		if b.off < f.end || b.length < sumSize || b.off > t.dir || int64(b.length) > t.dir-b.off {
			return damage(f.path, t.dir, "the directory contradicts itself")
		}
	}
	return nil
}

func (f *File) read(off int64, n int) ([]byte, error) {
	p := make([]byte, n)
	if got, err := f.file.ReadAt(p, off); got < n {
		if err == nil || errors.Is(err, io.EOF) {
			return nil, damage(f.path, off, "the file ends within what was written")
		}
		return nil, fmt.Errorf("read %s at offset %d: %w", f.path, off, err)
	}
	return p, nil
}

// findLocked looks a message up in the index.
func (f *File) findLocked(ref Ref) (item, error) {
	if err := f.openLocked(); err != nil {
		return item{}, err
	}
	i := sort.Search(len(f.blocks), func(i int) bool { return ref.before(f.blocks[i].first) }) - 1
	if i < 0 {
		return item{}, ErrNotFound
	}
	if err := f.loadLocked(i); err != nil {
		return item{}, err
	}
	j := sort.Search(len(f.items), func(j int) bool { return !f.items[j].before(ref) })
	if j == len(f.items) || f.items[j].Ref != ref {
		return item{}, ErrNotFound
	}
	return f.items[j], nil
}

// loadLocked reads an index block, unless it is the one read last.
func (f *File) loadLocked(i int) error {
	if f.last == i {
		return nil
	}
	b := f.blocks[i]
	p, err := f.read(b.off, b.length)
	if err != nil {
		return err
	}
	items, why := decodeBlock(p, f.end)
	if why != "" {
		return damage(f.path, b.off, "%s", why)
	}
	f.items, f.last = items, i
	return nil
}

// Has reports whether the file has the message, as far as the index says.
func (f *File) Has(ref Ref) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, err := f.findLocked(ref)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// Get reads a message and checks it. ErrNotFound, or an error as of Check.
func (f *File) Get(ref Ref) (Message, error) {
	f.mu.Lock()
	it, err := f.findLocked(ref)
	file := f.file
	f.mu.Unlock()
	if err != nil {
		return Message{}, err
	}
	return f.message(file, it)
}

func (f *File) message(file vfs.File, it item) (Message, error) {
	m := Message{Ref: it.Ref, Origin: it.origin, Time: it.time, Body: make([]byte, it.length)}
	if n, err := file.ReadAt(m.Body, it.off); n < it.length {
		if err == nil || errors.Is(err, io.EOF) {
			return Message{}, damage(f.path, it.off, "the file ends within a message")
		}
		return Message{}, fmt.Errorf("read %s at offset %d: %w", f.path, it.off, err)
	}
	if sumOf(&m) != it.sum {
		return Message{}, damage(f.path, it.off, "the checksum of the message in slot %d of entry %d is wrong", it.Slot, it.Index)
	}
	return m, nil
}

// Verify reads the whole file again, from the disk, and reports what is damaged: every piece by its offset. throttle is told
// of the bytes read, its error ends the reading; any other error is of the disk.
func (f *File) Verify(throttle func(bytes int) error, report func(error)) error {
	fresh := Open(f.fs, filepath.Dir(f.path), f.id, f.info)
	defer fresh.Close()
	if err := fresh.Check(); err != nil {
		report(err)
		return nil
	}
	for i := range fresh.blocks {
		if mutant.On(mutant.ScrubSkipsBlock) && i == 0 {
			continue
		}
		if err := fresh.verifyBlock(i, throttle, report); err != nil {
			return err
		}
	}
	return nil
}

func (f *File) verifyBlock(i int, throttle func(int) error, report func(error)) error {
	f.mu.Lock()
	err := f.loadLocked(i)
	items, file, n := f.items, f.file, f.blocks[i].length
	f.mu.Unlock()
	if err != nil {
		report(err)
		return throttle(n)
	}
	for _, it := range items {
		if _, err := f.message(file, it); err != nil {
			report(err)
		}
		n += it.length
	}
	return throttle(n)
}

// Each visits all messages that can be read, by (index, slot).
func (f *File) Each(visit func(Ref) error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.openLocked(); err != nil {
		return err
	}
	for i := range f.blocks {
		if err := f.loadLocked(i); err != nil {
			return err
		}
		for _, it := range f.items {
			if err := visit(it.Ref); err != nil {
				return err
			}
		}
	}
	return nil
}

// Release closes the file until it is needed again.
func (f *File) Release() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	file := f.file
	f.file, f.blocks, f.items, f.last = nil, nil, nil, -1
	if file == nil {
		return nil
	}
	return file.Close()
}

// Close ends the reader; what is being read fails with os.ErrClosed.
func (f *File) Close() error {
	f.mu.Lock()
	f.closed = true
	f.mu.Unlock()
	return f.Release()
}
