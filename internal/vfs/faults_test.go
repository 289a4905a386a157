package vfs

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// durable makes a synced file on a new disk.
func durable(t *testing.T, d *Disk, name, content string) File {
	t.Helper()
	f := create(t, d.Mount(), name)
	write(t, f, 0, content)
	must(t, f.Sync())
	must(t, d.Mount().SyncDir("/"))
	return f
}

func wantBites(t *testing.T, d *Disk, want Bites) {
	t.Helper()
	if got := d.Bites(); got != want {
		t.Fatalf("bites %+v, want %+v", got, want)
	}
}

func TestLostWrite(t *testing.T) {
	for _, crash := range []bool{false, true} {
		d := newDisk(1)
		f := durable(t, d, "a", "old old old")
		d.LoseWrites(1, func(name string) bool { return name == "/a" })
		write(t, create(t, d.Mount(), "other"), 0, "x")
		write(t, f, 4, "new new new")
		write(t, f, 15, "!")
		if got := content1(t, d, "a"); got != "old new new new!" {
			t.Fatalf("before the sync: %q", got)
		}
		if crash {
			d.Crash(KillProcess)
			f = create(t, d.Mount(), "a")
		}
		must(t, f.Sync())
		if got := content1(t, d, "a"); got != "old old old\x00\x00\x00\x00!" {
			t.Fatalf("after the sync: %q", got)
		}
		d.Crash(LoseAll)
		if got := content1(t, d, "a"); got != "old old old\x00\x00\x00\x00!" {
			t.Fatalf("after a power cut: %q", got)
		}
		wantBites(t, d, Bites{Lost: 1})
	}
}

func TestLostWriteOfTheSameBytesDoesNotCount(t *testing.T) {
	d := newDisk(1)
	f := durable(t, d, "a", "same")
	d.LoseWrites(1, nil)
	write(t, f, 0, "same")
	must(t, f.Sync())
	wantBites(t, d, Bites{})
}

// TestMisdirectedWrite finds the bytes elsewhere, once in a while in another file, and the old ones in their place.
func TestMisdirectedWrite(t *testing.T) {
	same, other := 0, 0
	for seed := range uint64(50) {
		d := newDisk(seed)
		durable(t, d, "b", strings.Repeat("b", 8*sectorSize))
		f := durable(t, d, "a", strings.Repeat("a", 8*sectorSize))
		d.MisdirectWrites(1, nil)
		write(t, f, 3*sectorSize+10, strings.Repeat("N", 100))
		must(t, f.Sync())
		d.Crash(LoseAll)
		a, b := content1(t, d, "a"), content1(t, d, "b")
		if len(a) != 8*sectorSize || strings.Contains(a[3*sectorSize:4*sectorSize], "N") {
			t.Fatalf("seed %d: the write is in its place", seed)
		}
		same += strings.Count(a, "N")
		other += strings.Count(b, "N")
		wantBites(t, d, Bites{Misdirected: 1})
	}
	if same+other != 50*100 || same == 0 || other == 0 {
		t.Fatalf("%d bytes in the file, %d in the other", same, other)
	}
}

func TestUnreadableSector(t *testing.T) {
	d := newDisk(1)
	f := durable(t, d, "a", strings.Repeat("a", 4*sectorSize))
	must(t, d.BadSectors("a", sectorSize+5, sectorSize))
	p := make([]byte, sectorSize)
	for i, bad := range []bool{false, true, true, false} {
		_, err := f.ReadAt(p, int64(i)*sectorSize)
		if bad {
			wantErr(t, err, syscall.EIO)
		} else {
			must(t, err)
		}
	}
	_, err := f.WriteAt([]byte("part"), sectorSize)
	wantErr(t, err, syscall.EIO)
	d.Crash(LoseAll)
	f = create(t, d.Mount(), "a")
	_, err = f.ReadAt(p, sectorSize-1)
	wantErr(t, err, syscall.EIO)
	must(t, f.WritevAt([][]byte{p}, sectorSize))
	must(t, f.ZeroRange(2*sectorSize, sectorSize))
	_, err = f.ReadAt(make([]byte, 4*sectorSize), 0)
	must(t, err)
	wantBites(t, d, Bites{Unreadable: 4})
}

func TestNoDescriptors(t *testing.T) {
	d := newDisk(1)
	f := durable(t, d, "a", "x")
	fsys := d.Mount()
	d.FailOpens(4, syscall.EMFILE)
	_, err := fsys.OpenFile("b", os.O_RDWR|os.O_CREATE, 0o600)
	wantErr(t, err, syscall.EMFILE)
	_, err = fsys.ReadDir("/")
	wantErr(t, err, syscall.EMFILE)
	_, err = fsys.Lock("LOCK")
	wantErr(t, err, syscall.EMFILE)
	wantErr(t, fsys.SyncDir("/"), syscall.EMFILE)
	write(t, f, 0, "y")
	must(t, f.Sync())
	create(t, fsys, "b")
	wantBites(t, d, Bites{Opens: 4})
	if got := d.Files(); !slices.Equal(got, []string{"/a", "/b"}) {
		t.Fatalf("files %v", got)
	}
}

func TestReadOnly(t *testing.T) {
	d := newDisk(1)
	f := durable(t, d, "a", "old")
	fsys := d.Mount()
	write(t, f, 0, "new")
	d.SetReadOnly(true)
	_, err := f.WriteAt([]byte("x"), 0)
	wantErr(t, err, syscall.EROFS)
	wantErr(t, f.Truncate(0), syscall.EROFS)
	wantErr(t, f.ZeroRange(0, 1), syscall.EROFS)
	wantErr(t, f.Sync(), syscall.EROFS)
	wantErr(t, fsys.Remove("a"), syscall.EROFS)
	wantErr(t, fsys.Rename("a", "b"), syscall.EROFS)
	wantErr(t, fsys.MkdirAll("dir", 0o700), syscall.EROFS)
	_, err = fsys.OpenFile("b", os.O_RDONLY|os.O_CREATE, 0o600)
	wantErr(t, err, syscall.EROFS)
	_, err = fsys.OpenFile("a", os.O_RDWR, 0)
	wantErr(t, err, syscall.EROFS)
	_, err = fsys.Lock("LOCK")
	wantErr(t, err, syscall.EROFS)
	must(t, fsys.MkdirAll("/", 0o700))
	must(t, fsys.SyncDir("/"))
	if got := content1(t, d, "a"); got != "new" {
		t.Fatalf("%q", got)
	}
	wantBites(t, d, Bites{ReadOnly: 10})
	d.Crash(KillProcess)
	d.SetReadOnly(false)
	if got := content1(t, d, "a"); got != "old" {
		t.Fatalf("what was not synced came through: %q", got)
	}
	create(t, d.Mount(), "b")
}

func TestInodes(t *testing.T) {
	d := newDisk(1)
	fsys := d.Mount()
	d.SetInodes(3)
	must(t, fsys.MkdirAll("dir", 0o700))
	create(t, fsys, "dir/a")
	create(t, fsys, "dir/b")
	_, err := fsys.OpenFile("dir/c", os.O_RDWR|os.O_CREATE, 0o600)
	wantErr(t, err, syscall.ENOSPC)
	wantErr(t, fsys.MkdirAll("other", 0o700), syscall.ENOSPC)
	if s, err := fsys.Space("/"); err != nil || s.Inodes != 3 || s.FreeInodes != 0 {
		t.Fatalf("%+v, %v", s, err)
	}
	must(t, fsys.Rename("dir/a", "dir/b"))
	create(t, fsys, "dir/c")
	must(t, fsys.Remove("dir/b"))
	if s, _ := fsys.Space("/"); s.FreeInodes != 1 {
		t.Fatalf("%+v", s)
	}
	wantBites(t, d, Bites{Inodes: 2})
}

func TestSpaceAndSyncsCount(t *testing.T) {
	d := newDisk(1)
	f := durable(t, d, "a", "x")
	d.SetBudget(10)
	_, err := f.WriteAt(make([]byte, 11), 0)
	wantErr(t, err, syscall.ENOSPC)
	d.FailSyncs(1)
	wantErr(t, f.Sync(), syscall.EIO)
	wantBites(t, d, Bites{Space: 1, Syncs: 1})
}

// TestFilesBehindThePrograms: each must be seen at once and after a power cut, whatever was not synced before.
func TestFilesBehindThePrograms(t *testing.T) {
	for _, mode := range CrashModes() {
		d, foreign := newDisk(1), newDisk(2)
		fsys := d.Mount()
		must(t, fsys.MkdirAll("dir", 0o700))
		for _, name := range []string{"a", "b", "c", "dir/x", "dir/y"} {
			write(t, create(t, fsys, name), 0, name)
		}
		old, err := d.Keep("a")
		must(t, err)
		oldDir, err := d.Keep("dir")
		must(t, err)
		write(t, create(t, fsys, "a"), 0, "newer")
		write(t, create(t, fsys, "dir/x"), 0, "newer")
		must(t, fsys.Remove("dir/y"))
		write(t, create(t, foreign.Mount(), "z"), 0, "foreign")
		stranger, err := foreign.Keep("z")
		must(t, err)

		must(t, d.Put(old, "a"))
		must(t, d.Put(oldDir, "dir"))
		must(t, d.Put(stranger, "z"))
		must(t, d.Vanish("b"))
		must(t, d.Shorten("dir/y", 3))
		must(t, d.Exchange("c", "dir/x"))
		want := map[string]string{"/a": "a", "/c": "dir/x", "/dir/x": "c", "/dir/y": "dir", "/z": "foreign"}
		compare(t, d, want)
		d.Crash(mode)
		compare(t, d, want)
		if d.Bites().Whole != 6 || d.Used() != 1+5+1+3+7 || d.nodes != 6 {
			t.Fatalf("bites %+v, used %d, %d names", d.Bites(), d.Used(), d.nodes)
		}
		write(t, create(t, d.Mount(), "a"), 0, "A")
		must(t, d.Put(old, "a")) // a copy is used up by no use
		if got := content1(t, d, "a"); got != "a" {
			t.Fatalf("%q", got)
		}
	}
}

func compare(t *testing.T, d *Disk, want map[string]string) {
	t.Helper()
	if got := d.Files(); len(got) != len(want) {
		t.Fatalf("files %v", got)
	}
	for name, content := range want {
		if got := content1(t, d, name); got != content {
			t.Fatalf("%s: %q, want %q", name, got, content)
		}
	}
}

func TestDamageOfWhatIsNotThere(t *testing.T) {
	d := newDisk(1)
	durable(t, d, "a", "abc")
	k, err := d.Keep("a")
	must(t, err)
	for i, err := range []error{
		d.Vanish("x"), d.Shorten("x", 0), d.Shorten("a", 3), d.Exchange("a", "x"), d.Exchange("x", "a"), d.Put(k, "/"), d.Put(k, "x/y"),
		d.BadSectors("a", 2, 2), d.BadSectors("x", 0, 1), d.Flip("a", 3, 0), d.Flip("/", 0, 0),
	} {
		if err == nil {
			t.Errorf("damage %d was done", i)
		}
	}
	if d.Size("a") != 3 || d.Size("/") != 3 || d.Size("x") != -1 {
		t.Error("sizes")
	}
	wantBites(t, d, Bites{})
}

// TestKeptIsACopy: neither the program nor another Put changes it.
func TestKeptIsACopy(t *testing.T) {
	d := newDisk(1)
	f := durable(t, d, "a", strings.Repeat("a", 3*pageSize))
	k, err := d.Keep("a")
	must(t, err)
	for i := range 3 {
		write(t, f, int64(i)*pageSize+7, fmt.Sprint(i))
		must(t, f.Sync())
		must(t, d.Put(k, "a"))
		f = create(t, d.Mount(), "a")
	}
	if got := content1(t, d, "a"); got != strings.Repeat("a", 3*pageSize) {
		t.Fatal("the copy has changed")
	}
}

// TestZeroRangeMaySurviveInParts: after a power cut each page has the old bytes or zeros, and both come about.
func TestZeroRangeMaySurviveInParts(t *testing.T) {
	old, zeros := bytes.Repeat([]byte("o"), sectorSize), make([]byte, sectorSize)
	mixed := 0
	for seed := range uint64(100) {
		d := newDisk(seed)
		f := durable(t, d, "a", strings.Repeat("o", 16*sectorSize))
		must(t, f.ZeroRange(0, 16*sectorSize))
		d.Crash(KeepSectors)
		got := []byte(content1(t, d, "a"))
		n := bytes.Count(got, old)
		for s := range slices.Chunk(got, sectorSize) {
			if !bytes.Equal(s, old) && !bytes.Equal(s, zeros) {
				t.Fatalf("seed %d: a sector of both", seed)
			}
		}
		if n > 0 && n < 16 {
			mixed++
		}
	}
	if mixed < 10 {
		t.Fatalf("%d of 100 power cuts kept a part", mixed)
	}
}
