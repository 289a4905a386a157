package vfs

import (
	"bytes"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
)

func newDisk(seed uint64) *Disk { return NewDisk(rand.New(rand.NewPCG(seed, 0))) }

// TestBothFileSystemsAgree runs one script on the real and on the simulated file system.
func TestBothFileSystemsAgree(t *testing.T) {
	t.Run("os", func(t *testing.T) { conform(t, OS(), t.TempDir()) })
	t.Run("disk", func(t *testing.T) { conform(t, newDisk(1).Mount(), "/") })
}

func conform(t *testing.T, fsys FS, root string) {
	dir := filepath.Join(root, "a", "b")
	name := filepath.Join(dir, "file")
	must(t, fsys.MkdirAll(dir, 0o700))
	_, err := fsys.OpenFile(name, os.O_RDWR, 0)
	wantErr(t, err, fs.ErrNotExist)
	f, err := fsys.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	must(t, err)
	_, err = fsys.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	wantErr(t, err, fs.ErrExist)

	must(t, f.Preallocate(10000))
	must(t, f.Preallocate(5000))
	must(t, f.WritevAt([][]byte{[]byte("hello "), nil, []byte("world")}, 4090))
	must(t, f.Sync())
	want := make([]byte, 10000)
	copy(want[4090:], "hello world")
	got, err := ReadFile(fsys, name)
	must(t, err)
	if !bytes.Equal(got, want) {
		t.Fatal("bytes differ after a vector write")
	}
	must(t, f.Truncate(4093))
	must(t, f.Truncate(4200))
	clear(want[4093:])
	got, err = ReadFile(fsys, name)
	must(t, err)
	if !bytes.Equal(got, want[:4200]) {
		t.Fatal("bytes cut off came back")
	}
	p := make([]byte, 10)
	if n, err := f.ReadAt(p, 4195); n != 5 || err == nil {
		t.Fatalf("read across the end: %d, %v", n, err)
	}

	conformZeroRange(t, f)

	must(t, WriteFile(fsys, filepath.Join(dir, "other"), []byte("ab"), []byte("c")))
	must(t, fsys.Rename(filepath.Join(dir, "other"), name))
	names, err := fsys.ReadDir(dir)
	must(t, err)
	if !slices.Equal(names, []string{"file"}) {
		t.Fatalf("names %v", names)
	}
	info, err := fsys.Stat(name)
	must(t, err)
	if info != (Info{Size: 3, Links: 1}) {
		t.Fatalf("info %+v", info)
	}
	wantErr(t, fsys.Remove(dir), syscall.ENOTEMPTY)
	must(t, f.Close())
	_, err = f.ReadAt(p, 0)
	wantErr(t, err, os.ErrClosed)

	lock, err := fsys.Lock(filepath.Join(root, "LOCK"))
	must(t, err)
	_, err = fsys.Lock(filepath.Join(root, "LOCK"))
	wantErr(t, err, ErrLocked)
	must(t, lock.Close())
	lock, err = fsys.Lock(filepath.Join(root, "LOCK"))
	must(t, err)
	must(t, lock.Close())

	must(t, RemoveAll(fsys, filepath.Join(root, "a")))
	must(t, RemoveAll(fsys, filepath.Join(root, "a")))
	must(t, fsys.SyncDir(root))
	space, err := fsys.Space(root)
	must(t, err)
	if space.Free == 0 || space.Free > space.Total || space.FreeInodes > space.Inodes {
		t.Fatalf("space %+v", space)
	}
	_, err = fsys.Space(filepath.Join(root, "nowhere"))
	wantErr(t, err, fs.ErrNotExist)
}

// conformZeroRange clears the middle of a file, and a range that ends behind it.
func conformZeroRange(t *testing.T, f File) {
	want := bytes.Repeat([]byte("0123456789abcdef"), 2000)
	must(t, f.WritevAt([][]byte{want}, 0))
	must(t, f.Truncate(int64(len(want))))
	err := f.ZeroRange(5000, 20_001)
	if errors.Is(err, errors.ErrUnsupported) {
		return
	}
	must(t, err)
	clear(want[5000:25_001])
	must(t, f.ZeroRange(31_000, 50_000))
	clear(want[31_000:])
	size, err := f.Size()
	must(t, err)
	if size != int64(len(want)) {
		t.Fatalf("%d bytes after zeroing behind the end", size)
	}
	got := make([]byte, len(want))
	_, err = f.ReadAt(got, 0)
	must(t, err)
	if !bytes.Equal(got, want) {
		t.Fatal("bytes differ after zeroing a range")
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error %v, want %v", err, want)
	}
}
