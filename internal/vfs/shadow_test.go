package vfs

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// readOnly is a file system that fails the test when anything would change it.
type readOnly struct {
	FS
	t *testing.T
}

func (r readOnly) OpenFile(name string, flag int, perm os.FileMode) (File, error) {
	if flag != os.O_RDONLY {
		r.t.Errorf("%s is opened with flags %x", name, flag)
	}
	return r.FS.OpenFile(name, flag, perm)
}

func (r readOnly) Remove(name string) error {
	r.t.Errorf("%s is removed", name)
	return nil
}

func (r readOnly) Rename(from, to string) error {
	r.t.Errorf("%s is renamed to %s", from, to)
	return nil
}

func (r readOnly) MkdirAll(dir string, _ os.FileMode) error {
	r.t.Errorf("%s is made", dir)
	return nil
}

func (r readOnly) SyncDir(dir string) error {
	r.t.Errorf("%s is synced", dir)
	return nil
}

func TestShadowIsAFileSystem(t *testing.T) {
	s := NewShadow(readOnly{OS(), t})
	conform(t, s, t.TempDir())
	must(t, s.Close())
}

func TestShadowLeavesWhatIsBelow(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "a")
	old := bytes.Repeat([]byte("below..."), 4000)
	must(t, os.WriteFile(name, old, 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "b"), []byte("b"), 0o600))
	s := NewShadow(readOnly{OS(), t})

	f, err := s.OpenFile(name, os.O_RDWR, 0)
	must(t, err)
	_, err = f.WriteAt([]byte("above"), 10_000)
	must(t, err)
	must(t, f.Close())
	want := bytes.Clone(old)
	copy(want[10_000:], "above")
	got, err := ReadFile(s, name)
	must(t, err)
	if !bytes.Equal(got, want) {
		t.Fatal("what was written does not show above what is below")
	}

	must(t, s.Rename(name, filepath.Join(dir, "c")))
	must(t, s.Remove(filepath.Join(dir, "b")))
	wantErr(t, s.Remove(filepath.Join(dir, "b")), fs.ErrNotExist)
	_, err = s.OpenFile(name, os.O_RDONLY, 0)
	wantErr(t, err, fs.ErrNotExist)
	names, err := s.ReadDir(dir)
	must(t, err)
	if !slices.Equal(names, []string{"c"}) {
		t.Fatalf("names %v", names)
	}
	got, err = ReadFile(s, filepath.Join(dir, "c"))
	must(t, err)
	if !bytes.Equal(got, want) {
		t.Fatal("bytes differ after a rename")
	}
	f, err = s.OpenFile(filepath.Join(dir, "c"), os.O_RDWR|os.O_TRUNC, 0)
	must(t, err)
	must(t, f.Truncate(20))
	got, err = ReadFile(s, filepath.Join(dir, "c"))
	must(t, err)
	if !bytes.Equal(got, make([]byte, 20)) {
		t.Fatal("bytes from below show in a file that was emptied")
	}
	must(t, f.Close())
	must(t, s.Close())

	have, err := os.ReadFile(name)
	must(t, err)
	if !bytes.Equal(have, old) {
		t.Fatal("the file below has changed")
	}
}

// Files that were only read do not stay open below.
func TestShadowClosesWhatIsNotUsed(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "a")
	must(t, os.WriteFile(name, []byte("a"), 0o600))
	s := NewShadow(OS())
	for range 3 {
		_, err := ReadFile(s, name)
		must(t, err)
		_, err = s.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0)
		wantErr(t, err, fs.ErrExist)
	}
	if len(s.files) != 0 {
		t.Fatalf("%d files are open", len(s.files))
	}
}
