package vfs

import (
	"errors"
	"math/rand/v2"
	"os"
	"testing"
)

// slow is a file system whose reads, once they have begun, end only when they are let go, even if their file is closed meanwhile, as
// the kernel's do.
type slow struct {
	FS
	begun chan struct{}
	goOn  chan struct{}
}

func (s slow) OpenFile(name string, flag int, perm os.FileMode) (File, error) {
	f, err := s.FS.OpenFile(name, flag, perm)
	return slowFile{f, s}, err
}

type slowFile struct {
	File
	fs slow
}

func (f slowFile) ReadAt(p []byte, off int64) (int, error) {
	f.fs.begun <- struct{}{}
	<-f.fs.goOn
	return f.File.ReadAt(p, off)
}

func TestWatchedKnowsWhoReads(t *testing.T) {
	below := slow{NewDisk(rand.New(rand.NewPCG(1, 2))).Mount(), make(chan struct{}), make(chan struct{})}
	fs := Watch(below)
	uses := func(name string, want bool) {
		t.Helper()
		if fs.InUse(name) != want {
			t.Fatalf("%s in use: %t", name, !want)
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(WriteFile(fs, "/f", []byte("abc")))
	uses("/f", false)
	if _, err := fs.OpenFile("/none", os.O_RDONLY, 0); err == nil {
		t.Fatal("what is not there was opened")
	}
	uses("/none", false)

	f, err := fs.OpenFile("/f", os.O_RDONLY, 0)
	must(err)
	other, err := fs.OpenFile("f", os.O_RDONLY, 0)
	must(err)
	must(other.Close())
	uses("/f", true)
	must(fs.Rename("/f", "/g"))
	uses("/f", false)
	uses("/g", true)

	read := make(chan error)
	go func() {
		_, err := f.ReadAt(make([]byte, 3), 0)
		read <- err
	}()
	<-below.begun
	must(f.Close())
	uses("/g", true)
	if err := f.Close(); !errors.Is(err, os.ErrClosed) {
		t.Fatal(err)
	}
	uses("/g", true)
	below.goOn <- struct{}{}
	<-read
	uses("/g", false)

	go func() { // too late: it finds the file closed
		_, err := f.ReadAt(make([]byte, 3), 0)
		read <- err
	}()
	<-below.begun
	below.goOn <- struct{}{}
	if err := <-read; !errors.Is(err, os.ErrClosed) {
		t.Fatal(err)
	}
	uses("/g", false)
	if len(fs.uses) > 0 {
		t.Fatalf("%d files are remembered for ever", len(fs.uses))
	}
}

// Who uses a file that is replaced does not keep anybody from anything for ever, but may do so for a while.
func TestWatchedRenameOverAFileInUse(t *testing.T) {
	fs := Watch(NewDisk(rand.New(rand.NewPCG(1, 2))).Mount())
	for _, name := range []string{"/a", "/b"} {
		if err := WriteFile(fs, name, []byte(name)); err != nil {
			t.Fatal(err)
		}
	}
	a, err := fs.OpenFile("/a", os.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	b, err := fs.OpenFile("/b", os.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := fs.Rename("/a", "/b"); err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil || !fs.InUse("/b") {
		t.Fatal(err, "not in use")
	}
	if err := b.Close(); err != nil || fs.InUse("/b") {
		t.Fatal(err, "in use")
	}
}
