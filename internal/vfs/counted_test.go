package vfs

import (
	"math/rand/v2"
	"os"
	"sync/atomic"
	"testing"
)

// What is written counts, whichever way; what is reserved or refused does not.
func TestCountedCountsWhatIsWritten(t *testing.T) {
	d := NewDisk(rand.New(rand.NewPCG(1, 2)))
	var n atomic.Uint64
	fs := Counted(d.Mount(), &n)
	wants := func(want uint64) {
		t.Helper()
		if got := n.Load(); got != want {
			t.Fatalf("%d bytes written, want %d", got, want)
		}
	}
	if err := WriteFile(fs, "/f", []byte("abc"), []byte("de")); err != nil {
		t.Fatal(err)
	}
	wants(5)
	f, err := fs.OpenFile("/f", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("xy"), 1); err != nil {
		t.Fatal(err)
	}
	wants(7)
	if err := f.Preallocate(1 << 20); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	if data, err := ReadFile(fs, "/f"); err != nil || string(data[:6]) != "axyde\x00" {
		t.Fatalf("%q, %v", data[:6], err)
	}
	d.Crash(LoseAll)
	if f.WritevAt([][]byte{[]byte("z")}, 0) == nil {
		t.Fatal("a write after a crash")
	}
	wants(7)
}
