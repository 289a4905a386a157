package vfs

import (
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
)

// Watched is a file system that knows which of its files are in use by this program: open, or closed while a read of
// them was under way, for Close does not wait for reads. A file whose last name is removed stays whole for those who use it; whoever
// wants to make one shorter that nobody needs has to ask first.
type Watched struct {
	FS

	mu   sync.Mutex
	uses map[string]map[*watchedFile]bool // by the clean name that the file has now
}

// Watch is fs, watched from now on.
func Watch(fs FS) *Watched { return &Watched{FS: fs, uses: map[string]map[*watchedFile]bool{}} }

// InUse tells whether the file of that name is in use. The answer false is good for as long as nobody opens it: of a file that was
// renamed to a name that nobody knows, for ever. What other programs do it does not know.
func (w *Watched) InUse(name string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.uses[filepath.Clean(name)]) > 0
}

// OpenFile implements FS. The use is noted before the file is opened: who renames it meanwhile finds it noted.
func (w *Watched) OpenFile(name string, flag int, perm os.FileMode) (File, error) {
	f := &watchedFile{watch: w, name: filepath.Clean(name)}
	f.users.Store(1)
	w.mu.Lock()
	w.note(f)
	w.mu.Unlock()
	var err error
	if f.File, err = w.FS.OpenFile(name, flag, perm); err != nil {
		f.done()
		return nil, err
	}
	return f, nil
}

// Rename implements FS. Those who use a file of the new name, which goes, are taken for users of the one that comes.
func (w *Watched) Rename(from, to string) error {
	if err := w.FS.Rename(from, to); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	from, to = filepath.Clean(from), filepath.Clean(to)
	moved := w.uses[from]
	if from == to {
		return nil
	}
	delete(w.uses, from)
	for f := range moved {
		f.name = to
		w.note(f)
	}
	return nil
}

func (w *Watched) note(f *watchedFile) {
	if w.uses[f.name] == nil {
		w.uses[f.name] = map[*watchedFile]bool{}
	}
	w.uses[f.name][f] = true
}

func (w *Watched) forget(f *watchedFile) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.uses[f.name], f)
	if len(w.uses[f.name]) == 0 {
		delete(w.uses, f.name)
	}
}

// watchedFile is an open file. A read that begins after Close is counted too, and finds the file closed.
type watchedFile struct {
	File
	watch  *Watched
	name   string       // under Watched.mu
	users  atomic.Int64 // reads under way, and one while it is open
	closed atomic.Bool
}

func (f *watchedFile) done() {
	if f.users.Add(-1) == 0 {
		f.watch.forget(f)
	}
}

// ReadAt implements File.
func (f *watchedFile) ReadAt(p []byte, off int64) (int, error) {
	f.users.Add(1)
	defer f.done()
	return f.File.ReadAt(p, off)
}

// Close implements File.
func (f *watchedFile) Close() error {
	err := f.File.Close()
	if !f.closed.Swap(true) {
		f.done()
	}
	return err
}
