package vfs

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"testing"
)

// What cannot be read is noise, everything around it is what was written, and the end of the file stays where it is.
func TestPatchyReadsAroundBadSectors(t *testing.T) {
	d := NewDisk(rand.New(rand.NewPCG(1, 2)))
	want := bytes.Repeat([]byte("0123456789abcdef"), 100)
	if err := WriteFile(d.Mount(), "/f", want); err != nil {
		t.Fatal(err)
	}
	if err := d.BadSectors("/f", 600, 10); err != nil {
		t.Fatal(err)
	}
	said := 0
	fs := Patchy(d.Mount(), func(name string, off int64, n int) { said += n })
	f, err := fs.OpenFile("/f", os.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got := make([]byte, len(want)+50)
	n, err := f.ReadAt(got, 0)
	if n != len(want) || !errors.Is(err, io.EOF) {
		t.Fatalf("read %d bytes, %v", n, err)
	}
	if !bytes.Equal(got[:512], want[:512]) || !bytes.Equal(got[1024:n], want[1024:]) {
		t.Error("bytes beside the bad sector are not what was written")
	}
	if bytes.Equal(got[512:1024], want[512:1024]) || said != 512 {
		t.Errorf("%d bytes were said to be unreadable", said)
	}
	if n, err := f.ReadAt(got[:20], 1010); n != 20 || err != nil || !bytes.Equal(got[14:20], want[1024:1030]) {
		t.Errorf("a read across the end of the bad sector: %d bytes, %v", n, err)
	}
	whole, err := ReadFile(d.Mount(), "/f")
	if err == nil {
		t.Errorf("without it, %d bytes were read", len(whole))
	}
}
