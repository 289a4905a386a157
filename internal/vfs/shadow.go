package vfs

import (
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
)

// Shadow is a file system above another one, of which it never changes anything: what is written, renamed or removed
// here stays in memory and shows only here. So a program that repairs what it opens can be asked what it would find, and
// the disk stays as it was. Locks are not taken: somebody else may use the files below meanwhile, and change them.
//
// A file below is opened for reading only. All methods are safe for concurrent use.
type Shadow struct {
	base FS

	mu    sync.Mutex
	files map[string]*shadowNode // by clean path; nil: removed here
	dirs  map[string]bool        // made here
	locks map[string]bool        // taken here
}

// NewShadow is a shadow of base in which nothing has been changed yet.
func NewShadow(base FS) *Shadow {
	return &Shadow{base: base, files: map[string]*shadowNode{}, dirs: map[string]bool{}, locks: map[string]bool{}}
}

// Close closes the files below that are still open for changed ones above.
func (s *Shadow) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var err error
	for _, n := range s.files {
		if n != nil {
			err = errors.Join(err, n.closeBelow())
		}
	}
	clear(s.files)
	return err
}

// OpenFile implements FS.
func (s *Shadow) OpenFile(name string, flag int, perm os.FileMode) (File, error) {
	name = filepath.Clean(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	n, err := s.node(name)
	switch {
	case errors.Is(err, fs.ErrNotExist) && flag&os.O_CREATE != 0:
		n = &shadowNode{changed: true}
		s.files[name] = n
	case err != nil:
		return nil, err
	case flag&(os.O_CREATE|os.O_EXCL) == os.O_CREATE|os.O_EXCL:
		s.release(name, n)
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrExist}
	case flag&os.O_TRUNC != 0:
		n.truncate(0)
	}
	n.handles++
	return &shadowFile{shadow: s, name: name, node: n}, nil
}

// node finds what a name stands for, opening it below if it is not known yet.
func (s *Shadow) node(name string) (*shadowNode, error) {
	if n, known := s.files[name]; known {
		if n == nil {
			return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
		}
		return n, nil
	}
	f, err := s.base.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	size, err := f.Size()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	n := &shadowNode{below: f, shows: size, size: size}
	s.files[name] = n
	return n, nil
}

// release forgets a file that nobody uses and that is as it is below.
func (s *Shadow) release(name string, n *shadowNode) error {
	switch {
	case n.handles > 0:
		return nil
	case s.files[name] != n: // removed or replaced meanwhile
		return n.closeBelow()
	case n.isChanged():
		return nil
	}
	delete(s.files, name)
	return n.closeBelow()
}

// Remove implements FS.
func (s *Shadow) Remove(name string) error {
	name = filepath.Clean(name)
	info, err := s.Stat(name)
	if err != nil {
		return err
	}
	if names, err := s.ReadDir(name); info.Dir && (err != nil || len(names) > 0) {
		return errors.Join(err, &fs.PathError{Op: "remove", Path: name, Err: syscall.ENOTEMPTY})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files[name] = nil
	delete(s.dirs, name)
	return nil
}

// Rename implements FS.
func (s *Shadow) Rename(from, to string) error {
	from, to = filepath.Clean(from), filepath.Clean(to)
	s.mu.Lock()
	defer s.mu.Unlock()
	n, err := s.node(from)
	if err != nil {
		return err
	}
	n.change()
	s.files[to], s.files[from] = n, nil
	return nil
}

// MkdirAll implements FS.
func (s *Shadow) MkdirAll(dir string, _ os.FileMode) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for dir = filepath.Clean(dir); ; dir = filepath.Dir(dir) {
		s.dirs[dir] = true
		if dir == filepath.Dir(dir) {
			return nil
		}
	}
}

// ReadDir implements FS.
func (s *Shadow) ReadDir(dir string) ([]string, error) {
	dir = filepath.Clean(dir)
	names, err := s.base.ReadDir(dir)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil && !(s.dirs[dir] && errors.Is(err, fs.ErrNotExist)) {
		return nil, err
	}
	set := map[string]bool{}
	for _, n := range names {
		set[n] = true
	}
	for path, n := range s.files {
		if filepath.Dir(path) == dir {
			set[filepath.Base(path)] = n != nil
		}
	}
	for path := range s.dirs {
		if filepath.Dir(path) == dir && path != dir {
			set[filepath.Base(path)] = true
		}
	}
	maps.DeleteFunc(set, func(_ string, there bool) bool { return !there })
	return slices.SortedFunc(maps.Keys(set), strings.Compare), nil
}

// Stat implements FS.
func (s *Shadow) Stat(name string) (Info, error) {
	name = filepath.Clean(name)
	s.mu.Lock()
	n, known := s.files[name]
	dir := s.dirs[name]
	s.mu.Unlock()
	switch {
	case n != nil:
		size, _ := n.sizeNow()
		return Info{Size: size, Links: 1}, nil
	case known:
		return Info{}, &fs.PathError{Op: "stat", Path: name, Err: fs.ErrNotExist}
	case dir:
		return Info{Dir: true, Links: 1}, nil
	}
	return s.base.Stat(name)
}

// SyncDir implements FS; there is nothing to make durable.
func (s *Shadow) SyncDir(string) error { return nil }

// Lock implements FS, among those who use this shadow: there is no lock below.
func (s *Shadow) Lock(name string) (io.Closer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.locks[name] {
		return nil, ErrLocked
	}
	s.locks[name] = true
	return shadowLock{s, name}, nil
}

type shadowLock struct {
	s    *Shadow
	name string
}

// Close implements io.Closer.
func (l shadowLock) Close() error {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	delete(l.s.locks, l.name)
	return nil
}

// Space implements FS.
func (s *Shadow) Space(dir string) (Space, error) { return s.base.Space(dir) }

// shadowNode is a file: pages that were written here, and below them the file as it is on the disk.
type shadowNode struct {
	handles int // under Shadow.mu

	mu      sync.RWMutex
	below   File  // nil: there is nothing below
	shows   int64 // how much of below shows where there is no page
	pages   map[int64]*[pageSize]byte
	size    int64
	changed bool
}

func (n *shadowNode) closeBelow() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	below := n.below
	n.below, n.shows = nil, 0
	if below == nil {
		return nil
	}
	return below.Close()
}

func (n *shadowNode) isChanged() bool {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.changed
}

func (n *shadowNode) change() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.changed = true
}

func (n *shadowNode) sizeNow() (int64, error) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.size, nil
}

func (n *shadowNode) readAt(p []byte, off int64) (int, error) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	if off >= n.size {
		return 0, io.EOF
	}
	whole := len(p)
	p = p[:min(int64(len(p)), n.size-off)]
	for done := 0; done < len(p); {
		got, err := n.part(p[done:], off+int64(done))
		done += got
		if err != nil {
			return done, err
		}
	}
	if len(p) < whole {
		return len(p), io.EOF
	}
	return len(p), nil
}

// part reads the bytes from off on that come from one place.
func (n *shadowNode) part(p []byte, off int64) (int, error) {
	i := off / pageSize
	if page := n.pages[i]; page != nil {
		return copy(p, page[off%pageSize:]), nil
	}
	end := (i + 1) * pageSize
	for len(n.pages) > 0 && end < off+int64(len(p)) && n.pages[end/pageSize] == nil {
		end += pageSize
	}
	if len(n.pages) == 0 {
		end = off + int64(len(p))
	}
	p = p[:min(int64(len(p)), end-off)]
	if off >= n.shows {
		clear(p)
		return len(p), nil
	}
	p = p[:min(int64(len(p)), n.shows-off)]
	got, err := n.below.ReadAt(p, off)
	if got < len(p) {
		if err == nil || errors.Is(err, io.EOF) { // somebody made the file below shorter
			err = io.ErrUnexpectedEOF
		}
		return got, err
	}
	return got, nil
}

// own returns page i ready to be changed.
func (n *shadowNode) own(i int64) (*[pageSize]byte, error) {
	if page := n.pages[i]; page != nil {
		return page, nil
	}
	page := new([pageSize]byte)
	if off := i * pageSize; off < min(n.shows, n.size) {
		part := page[:min(pageSize, n.shows-off)]
		if got, err := n.below.ReadAt(part, off); got < len(part) {
			return nil, err
		}
	}
	if n.pages == nil {
		n.pages = map[int64]*[pageSize]byte{}
	}
	n.pages[i] = page
	return page, nil
}

func (n *shadowNode) writeAt(p []byte, off int64) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.changed = true
	for done := 0; done < len(p); {
		at := off + int64(done)
		page, err := n.own(at / pageSize)
		if err != nil {
			return done, err
		}
		done += copy(page[at%pageSize:], p[done:])
		n.size = max(n.size, off+int64(done))
	}
	return len(p), nil
}

func (n *shadowNode) truncate(size int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.changed = true
	if size < n.size {
		n.shows = min(n.shows, size)
		for i, page := range n.pages {
			switch at := i * pageSize; {
			case at >= size:
				delete(n.pages, i)
			case at+pageSize > size:
				clear(page[size-at:])
			}
		}
	}
	n.size = size
}

// shadowFile is an open file of a Shadow.
type shadowFile struct {
	shadow *Shadow
	name   string
	node   *shadowNode
	once   sync.Once
	closed atomic.Bool
}

// ReadAt implements File.
func (f *shadowFile) ReadAt(p []byte, off int64) (int, error) {
	if f.closed.Load() {
		return 0, os.ErrClosed
	}
	return f.node.readAt(p, off)
}

// WriteAt implements File.
func (f *shadowFile) WriteAt(p []byte, off int64) (int, error) {
	if f.closed.Load() {
		return 0, os.ErrClosed
	}
	return f.node.writeAt(p, off)
}

// WritevAt implements File.
func (f *shadowFile) WritevAt(bufs [][]byte, off int64) error {
	for _, b := range bufs {
		if _, err := f.WriteAt(b, off); err != nil {
			return err
		}
		off += int64(len(b))
	}
	return nil
}

// ZeroRange implements File; it is not to be had, so that nobody depends on it here.
func (f *shadowFile) ZeroRange(_, _ int64) error { return errors.ErrUnsupported }

// Sync implements File; there is nothing to make durable.
func (f *shadowFile) Sync() error { return nil }

// Truncate implements File.
func (f *shadowFile) Truncate(size int64) error {
	f.node.truncate(size)
	return nil
}

// Preallocate implements File.
func (f *shadowFile) Preallocate(size int64) error {
	if have, _ := f.node.sizeNow(); size > have {
		f.node.truncate(size)
	}
	return nil
}

// Size implements File.
func (f *shadowFile) Size() (int64, error) { return f.node.sizeNow() }

// Close implements File.
func (f *shadowFile) Close() (err error) {
	f.once.Do(func() {
		f.closed.Store(true)
		f.shadow.mu.Lock()
		defer f.shadow.mu.Unlock()
		f.node.handles--
		err = f.shadow.release(f.name, f.node)
	})
	return err
}
