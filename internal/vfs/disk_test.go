package vfs

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"strings"
	"syscall"
	"testing"
)

func create(t testing.TB, fsys FS, name string) File {
	t.Helper()
	f, err := fsys.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func write(t testing.TB, f File, off int64, s string) {
	t.Helper()
	if _, err := f.WriteAt([]byte(s), off); err != nil {
		t.Fatal(err)
	}
}

func content1(t testing.TB, d *Disk, name string) string {
	t.Helper()
	p, err := ReadFile(d.Mount(), name)
	if err != nil {
		t.Fatal(err)
	}
	return string(p)
}

func TestPowerCutLosesWhatWasNotSynced(t *testing.T) {
	d := newDisk(1)
	fsys := d.Mount()
	f := create(t, fsys, "a")
	write(t, f, 0, "durable")
	must(t, f.Sync())
	must(t, fsys.SyncDir("/"))
	write(t, f, 0, "DURAB")
	write(t, f, 5000, "far away")
	create(t, fsys, "b")
	d.Crash(KillProcess)
	if got := content1(t, d, "a"); !strings.HasPrefix(got, "DURABle") || len(got) != 5008 {
		t.Fatalf("after a kill: %.10q, %d bytes", got, len(got))
	}
	d.Crash(LoseAll)
	if got := content1(t, d, "a"); got != "durable" {
		t.Fatalf("after a power cut: %q", got)
	}
	if files := d.Files(); len(files) != 1 {
		t.Fatalf("files %v", files)
	}
}

func TestNamesAreDurableWithTheirDirectory(t *testing.T) {
	d := newDisk(1)
	fsys := d.Mount()
	f := create(t, fsys, "a")
	write(t, f, 0, "x")
	must(t, f.Sync())
	d.Crash(LoseAll)
	if files := d.Files(); len(files) != 0 {
		t.Fatalf("a synced file without a synced name is there: %v", files)
	}
	fsys = d.Mount()
	must(t, WriteFile(fsys, "a", []byte("old")))
	f = create(t, fsys, "b")
	write(t, f, 0, "new")
	must(t, f.Sync())
	must(t, fsys.Rename("b", "a"))
	c := d.Clone(nil)
	if got := content1(t, c, "a"); got != "old" {
		t.Fatalf("a rename without directory sync: %q", got)
	}
	must(t, fsys.SyncDir("/"))
	must(t, fsys.Remove("a"))
	d.Crash(LoseAll)
	if got := content1(t, d, "a"); got != "new" {
		t.Fatalf("a remove without directory sync: %q", got)
	}
}

// TestUnsyncedWritesMayTear looks for real tears: new next to old, within one write, in units of sectors or bytes.
func TestUnsyncedWritesMayTear(t *testing.T) {
	oldSector, newSector := bytes.Repeat([]byte("o"), sectorSize), bytes.Repeat([]byte("n"), sectorSize)
	for _, mode := range []CrashMode{KeepSectors, Torn, KeepPrefix} {
		whole, lost, torn := 0, 0, 0
		for seed := range uint64(200) {
			d := newDisk(seed)
			f := create(t, d.Mount(), "a")
			write(t, f, 0, strings.Repeat(string(oldSector), 8))
			must(t, f.Sync())
			must(t, f.(*handle).mount.SyncDir("/"))
			write(t, f, 0, strings.Repeat(string(newSector), 8))
			d.Crash(mode)
			got := content1(t, d, "a")
			n := strings.Count(got, "n")
			switch {
			case n == len(got):
				whole++
			case n == 0:
				lost++
			default:
				torn++
			}
			if mode == KeepSectors {
				for i := 0; i < len(got); i += sectorSize {
					if s := got[i : i+sectorSize]; s != string(oldSector) && s != string(newSector) {
						t.Fatalf("seed %d: sector %d is mixed", seed, i/sectorSize)
					}
				}
			}
		}
		if (mode == KeepPrefix) != (torn == 0) || mode == KeepPrefix && (whole == 0 || lost == 0) {
			t.Errorf("%v: %d whole, %d lost, %d torn", mode, whole, lost, torn)
		}
	}
}

func TestPrefixKeepsTheOrderOverFiles(t *testing.T) {
	for seed := range uint64(100) {
		d := newDisk(seed)
		fsys := d.Mount()
		a, b := create(t, fsys, "a"), create(t, fsys, "b")
		must(t, fsys.SyncDir("/"))
		write(t, a, 0, "1")
		write(t, b, 0, "2")
		write(t, a, 1, "3")
		d.Crash(KeepPrefix)
		got := content1(t, d, "a") + "|" + content1(t, d, "b")
		if got != "|" && got != "1|" && got != "1|2" && got != "13|2" {
			t.Fatalf("seed %d: %s", seed, got)
		}
	}
}

// TestFailedSync is the lie of the page cache: new data until the restart, old data after it.
func TestFailedSync(t *testing.T) {
	d := newDisk(1)
	fsys := d.Mount()
	f := create(t, fsys, "a")
	write(t, f, 0, "old")
	must(t, f.Sync())
	must(t, fsys.SyncDir("/"))
	write(t, f, 0, "new")
	d.FailSyncs(1)
	wantErr(t, f.Sync(), syscall.EIO)
	if got := content1(t, d, "a"); got != "new" {
		t.Fatalf("before the restart: %q", got)
	}
	write(t, f, 3, "er")
	must(t, f.Sync())
	d.Crash(KillProcess)
	if got := content1(t, d, "a"); got != "older" {
		t.Fatalf("after the restart: %q", got)
	}
	d.FailSyncs(-1)
	f = create(t, d.Mount(), "a")
	wantErr(t, f.Sync(), syscall.EIO)
	wantErr(t, f.Sync(), syscall.EIO)
	d.FailSyncs(0)
	must(t, f.Sync())
}

func TestOldHandlesAreDead(t *testing.T) {
	d := newDisk(1)
	fsys := d.Mount()
	f := create(t, fsys, "a")
	lock, err := fsys.Lock("LOCK")
	must(t, err)
	d.Crash(LoseAll)
	_, err = f.WriteAt([]byte("x"), 0)
	wantErr(t, err, ErrCrashed)
	_, err = f.ReadAt(make([]byte, 1), 0)
	wantErr(t, err, ErrCrashed)
	wantErr(t, f.Sync(), ErrCrashed)
	wantErr(t, f.Close(), ErrCrashed)
	wantErr(t, fsys.Remove("a"), ErrCrashed)
	wantErr(t, fsys.SyncDir("/"), ErrCrashed)
	again, err := d.Mount().Lock("LOCK")
	must(t, err)
	must(t, lock.Close()) // of the dead process: must not free the new one's lock
	_, err = d.Mount().Lock("LOCK")
	wantErr(t, err, ErrLocked)
	must(t, again.Close())
}

func TestBudget(t *testing.T) {
	d := newDisk(1)
	fsys := d.Mount()
	d.SetBudget(10_000)
	f := create(t, fsys, "a")
	must(t, f.Preallocate(8000))
	_, err := f.WriteAt(make([]byte, 100), 9950)
	wantErr(t, err, syscall.ENOSPC)
	wantErr(t, f.Preallocate(10_001), syscall.ENOSPC)
	must(t, fsys.SyncDir("/"))
	if s, _ := fsys.Space("/"); s.Free != 2000 || s.Total != 10_000 {
		t.Fatalf("space %+v", s)
	}
	must(t, fsys.Remove("a"))
	if d.Used() != 0 {
		t.Fatalf("used %d", d.Used())
	}
	d.Crash(LoseAll) // the remove was not durable, nor was the size
	if d.Used() != 0 || len(d.Files()) != 1 {
		t.Fatalf("used %d, files %v", d.Used(), d.Files())
	}
}

func TestHook(t *testing.T) {
	d := newDisk(1)
	injected := errors.New("injected")
	var ops []Op
	d.OnOp(func(op Op) error {
		ops = append(ops, op)
		if op.Kind == OpWrite {
			return injected
		}
		return nil
	})
	f := create(t, d.Mount(), "a")
	_, err := f.WriteAt([]byte("abc"), 7)
	wantErr(t, err, injected)
	if len(ops) != 2 || ops[0].Kind != OpCreate || ops[1] != (Op{N: 2, Kind: OpWrite, Name: "/a", Off: 7, Len: 3}) {
		t.Fatalf("%+v", ops)
	}
	if size, _ := f.Size(); size != 0 {
		t.Fatal("the write happened")
	}
}

func TestFlipIsSeenAndDurable(t *testing.T) {
	for _, synced := range []bool{true, false} {
		d := newDisk(1)
		fsys := d.Mount()
		f := create(t, fsys, "a")
		write(t, f, 0, "abc")
		must(t, f.Sync())
		must(t, fsys.SyncDir("/"))
		if !synced {
			write(t, f, 10, "pending")
		}
		must(t, d.Flip("a", 1, 0))
		if got := content1(t, d, "a"); got[:3] != "acc" {
			t.Fatalf("%q", got)
		}
		d.Crash(LoseAll)
		if got := content1(t, d, "a"); got != "acc" {
			t.Fatalf("%q", got)
		}
	}
}

// TestDiskAgainstModel compares a file with a byte slice for what is seen and one for what is durable.
func TestDiskAgainstModel(t *testing.T) {
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 9))
		d := newDisk(seed)
		f := create(t, d.Mount(), "a")
		must(t, f.(*handle).mount.SyncDir("/"))
		var live, durable []byte
		resized := func(p []byte, n int) []byte {
			return append(append([]byte(nil), p[:min(n, len(p))]...), make([]byte, max(0, n-len(p)))...)
		}
		for range 60 {
			switch off := rng.IntN(20_000); rng.IntN(7) {
			case 0, 1, 2:
				p := bytes.Repeat([]byte{byte(rng.Uint32())}, 1+rng.IntN(6000))
				live = resized(live, max(len(live), off+len(p)))
				copy(live[off:], p)
				must(t, f.WritevAt([][]byte{p[:len(p)/2], p[len(p)/2:]}, int64(off)))
			case 3:
				live = resized(live, off)
				must(t, f.Truncate(int64(off)))
			case 4:
				durable = bytes.Clone(live)
				must(t, f.Sync())
			case 5:
				n := rng.IntN(9000)
				if end := min(off+n, len(live)); off < end {
					clear(live[off:end])
				}
				must(t, f.ZeroRange(int64(off), int64(n)))
			case 6:
				if clone := d.Clone(nil); content1(t, clone, "a") != string(durable) {
					t.Fatalf("seed %d: a clone differs", seed)
				}
				d.Crash(LoseAll)
				live = bytes.Clone(durable)
				f = create(t, d.Mount(), "a")
			}
			if content1(t, d, "a") != string(live) {
				t.Fatalf("seed %d: the file differs", seed)
			}
		}
	}
}

// BenchmarkDisk is the simulator's ordinary work: make a log segment, write and sync small batches, crash.
func BenchmarkDisk(b *testing.B) {
	p := make([]byte, 600)
	for b.Loop() {
		d := newDisk(1)
		f := create(b, d.Mount(), "a")
		if err := f.Preallocate(64 << 20); err != nil {
			b.Fatal(err)
		}
		for i := range 100 {
			write(b, f, int64(4096+i*len(p)), string(p))
			if err := f.Sync(); err != nil {
				b.Fatal(err)
			}
		}
		d.Crash(KeepSectors)
	}
}
