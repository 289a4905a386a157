package segment

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/opencmq/cmq/internal/vfs"
)

// smallLog is a log of several segments with a truncation, closed in order or not.
func smallLog(t *testing.T, closed bool) (*vfs.Disk, state) {
	disk := newTestDisk(1)
	l := mustCreate(t, disk.Mount(), crashOptions(), 1, 0)
	must(t, l.Append(entries(1, 300, span(1, 8)...), HardState{Term: 1, Vote: 2, Commit: 2}, true))
	must(t, l.Append(entries(2, 333, span(5, 13)...), HardState{Term: 2, Vote: 1, Commit: 4}, true))
	must(t, l.Append(entries(2, 100, 13), HardState{Term: 2, Vote: 1, Commit: 8}, true))
	must(t, l.Append(entries(2, 100, 14), HardState{Term: 2, Vote: 1, Commit: 9}, true))
	v, err := view(l)
	must(t, err)
	if closed {
		must(t, l.Close())
	}
	disk.Crash(vfs.LoseAll)
	return disk, v
}

// readAll shows a log as far as it can be read: an entry that cannot must be reported as damaged.
func readAll(l *Log) (state, error) {
	v := state{first: l.FirstIndex(), hs: l.HardState()}
	for i := v.first; i <= l.LastIndex(); i++ {
		e, err := l.Entry(i)
		if err != nil {
			return v, err
		}
		v.entries = append(v.entries, e)
	}
	return v, nil
}

func isDamage(err error) bool {
	var d *DamageError
	return errors.As(err, &d) && d.File != "" && d.Why != "" && d.Fix != ""
}

// TestEveryFlippedByteIsFoundOrHarmless flips each byte of a closed log. It is all there or reported as damaged.
func TestEveryFlippedByteIsFoundOrHarmless(t *testing.T) {
	disk, want := smallLog(t, true)
	found := flipAll(t, disk, func(v state) bool {
		return v.first == want.first && v.hs == want.hs && slices.EqualFunc(v.entries, want.entries, same)
	})
	if found < 3000 {
		t.Errorf("only %d flips were found", found)
	}
}

// TestFlipInTheUnpromisedTail: without an orderly end the last batch alone is not covered by a promise. It may look torn,
// and nothing else may; term and vote stay.
func TestFlipInTheUnpromisedTail(t *testing.T) {
	disk, want := smallLog(t, false)
	flipAll(t, disk, func(v state) bool {
		lost := len(want.entries) - len(v.entries)
		return v.first == want.first && v.hs.Term == want.hs.Term && v.hs.Vote == want.hs.Vote && v.hs.Commit >= want.hs.Commit-1 &&
			(lost == 0 || lost == 1) && slices.EqualFunc(v.entries, want.entries[:len(v.entries)], same)
	})
}

func flipAll(t *testing.T, disk *vfs.Disk, harmless func(state) bool) (found int) {
	fsys := disk.Mount()
	for _, name := range disk.Files() {
		p, err := vfs.ReadFile(fsys, name)
		must(t, err)
		for off := range p {
			if p[off] == 0 && off%5 != 0 {
				continue // mostly room not used yet
			}
			clone := disk.Clone(nil)
			must(t, clone.Flip(name, int64(off), uint(off%8)))
			l, err := Open(clone.Mount(), "log", crashOptions())
			var v state
			if err == nil {
				v, err = readAll(l)
			}
			switch {
			case isDamage(err):
				found++
			case err != nil:
				t.Fatalf("flip in %s at %d: %v", name, off, err)
			case !harmless(v):
				t.Fatalf("flip in %s at %d: %v", name, off, v)
			}
		}
	}
	return found
}

// TestSamePatternTornOrRotten writes the same garbage behind the last promise and before it (F-D10).
func TestSamePatternTornOrRotten(t *testing.T) {
	garbage := func(p []byte) {
		for i := range p {
			p[i] = 0xa5
		}
	}
	for _, row := range []struct {
		name   string
		batch  int // whose bytes are spoiled, of three
		damage bool
	}{{"first", 0, true}, {"second", 1, true}, {"last", 2, false}} {
		t.Run(row.name, func(t *testing.T) {
			disk := newTestDisk(1)
			l := mustCreate(t, disk.Mount(), testOptions(), 1, 0)
			var at [4]int64
			for i := range 3 {
				at[i] = l.active().end
				must(t, l.Append(entries(1, 600, uint64(i+1)), HardState{}, true))
			}
			disk.Crash(vfs.LoseAll)
			must(t, disk.Corrupt("log/"+fileName(1), at[row.batch]+100, 40, garbage))
			l, err := Open(disk.Mount(), "log", testOptions())
			if row.damage {
				var d *DamageError
				if !errors.As(err, &d) || d.Offset != at[row.batch] || !strings.HasSuffix(d.File, fileName(1)) {
					t.Fatalf("error %v", err)
				}
				return
			}
			must(t, err)
			wantEntries(t, l, entries(1, 600, 1, 2))
		})
	}
}

// TestFilesMissingOrSwapped does to a closed log what people do to directories (F-D11).
func TestFilesMissingOrSwapped(t *testing.T) {
	foreign := func(change func(*Options)) func(t *testing.T, disk *vfs.Disk, name string) {
		return func(t *testing.T, disk *vfs.Disk, name string) {
			opt := crashOptions()
			change(&opt)
			other := newTestDisk(2)
			l := mustCreate(t, other.Mount(), opt, 1, 0)
			for i := uint64(1); i < 40; i++ {
				must(t, l.Append(entries(1, 600, i), HardState{Term: 1}, true))
			}
			must(t, l.Close())
			p, err := vfs.ReadFile(other.Mount(), name)
			must(t, err)
			must(t, vfs.WriteFile(disk.Mount(), name, p))
		}
	}
	var f *ForeignError
	for _, row := range []struct {
		name   string
		do     func(t *testing.T, disk *vfs.Disk, name string)
		wanted func(err error) bool
	}{
		{"missing", func(t *testing.T, disk *vfs.Disk, name string) { must(t, disk.Mount().Remove(name)) }, isDamage},
		{"empty", func(t *testing.T, disk *vfs.Disk, name string) { resize(t, disk, name, 0) }, isDamage},
		{"header only", func(t *testing.T, disk *vfs.Disk, name string) { resize(t, disk, name, 4096) }, isDamage},
		{"cut in the middle", func(t *testing.T, disk *vfs.Disk, name string) { resize(t, disk, name, 4600) }, isDamage},
		{"of another cluster", foreign(func(o *Options) { o.Cluster++ }), func(err error) bool { return errors.As(err, &f) }},
		{"of another set", foreign(func(o *Options) { o.Set++ }), func(err error) bool { return errors.As(err, &f) }},
		{"of another replica", foreign(func(o *Options) { o.Replica++ }), func(err error) bool { return errors.As(err, &f) }},
		{"of the replica before it was rebuilt", foreign(func(o *Options) { o.Rand = testRand(9) }), isDamage},
	} {
		t.Run(row.name, func(t *testing.T) {
			disk, want := smallLog(t, true)
			for _, name := range disk.Files() {
				if strings.HasSuffix(name, slotsName) && strings.HasPrefix(row.name, "of the replica") {
					continue // an old side file with ids that fit cannot be told; peers remember the incarnation
				}
				clone := disk.Clone(nil)
				row.do(t, clone, name)
				l, err := Open(clone.Mount(), "log", crashOptions())
				if row.wanted(err) {
					continue
				}
				must(t, err)
				v, err := readAll(l) // a spare may go, and one slot of two
				must(t, err)
				if !slices.EqualFunc(v.entries, want.entries, same) || v.hs != want.hs {
					t.Fatalf("%s: the log is %v, was %v", name, v, want)
				}
			}
		})
	}
}

func resize(t *testing.T, disk *vfs.Disk, name string, size int64) {
	f, err := disk.Mount().OpenFile(name, os.O_RDWR, 0)
	must(t, err)
	must(t, f.Truncate(size))
	must(t, f.Sync())
}

func TestSwappedSegments(t *testing.T) {
	disk, _ := smallLog(t, true)
	fsys := disk.Mount()
	a, b := "log/"+fileName(1), "log/"+fileName(2)
	must(t, fsys.Rename(a, "log/x"))
	must(t, fsys.Rename(b, a))
	must(t, fsys.Rename("log/x", b))
	_, err := Open(fsys, "log", crashOptions())
	if !isDamage(err) {
		t.Fatalf("error %v", err)
	}
}

func TestNewerFormatIsRefusedAndUntouched(t *testing.T) {
	disk, _ := smallLog(t, true)
	name := "log/" + fileName(1)
	must(t, disk.Corrupt(name, 0, blockSize, func(p []byte) {
		le.PutUint32(p[8:], version+1)
		le.PutUint32(p[60:], checksum(p[:60]))
	}))
	before := dump(t, disk)
	_, err := Open(disk.Mount(), "log", crashOptions())
	var v *VersionError
	if !errors.As(err, &v) || v.Version != version+1 {
		t.Fatalf("error %v", err)
	}
	if dump(t, disk) != before {
		t.Fatal("files were changed")
	}
}

// dump is all names and bytes of a disk.
func dump(t *testing.T, disk *vfs.Disk) string {
	var b strings.Builder
	fsys := disk.Mount()
	for _, name := range disk.Files() {
		p, err := vfs.ReadFile(fsys, name)
		must(t, err)
		fmt.Fprintf(&b, "%s %x\n", name, p)
	}
	return b.String()
}

// TestDamageIsRefusedAndUntouched: Open must not repair, cut or remove anything before it knows that all is well.
func TestDamageIsRefusedAndUntouched(t *testing.T) {
	disk, _ := smallLog(t, false)
	must(t, vfs.WriteFile(disk.Mount(), "log/"+fileName(9)+vfs.TempSuffix+"x", []byte("unknown")))
	must(t, disk.Flip("log/"+fileName(2), beginAt, 0))
	before := dump(t, disk)
	_, err := Open(disk.Mount(), "log", crashOptions())
	if !isDamage(err) || dump(t, disk) != before {
		t.Fatalf("error %v, or files were changed", err)
	}
}

func TestNoLog(t *testing.T) {
	disk := newTestDisk(1)
	_, err := Open(disk.Mount(), "log", testOptions())
	wantErr(t, err, fs.ErrNotExist)
	must(t, disk.Mount().MkdirAll("log", 0o700))
	_, err = Open(disk.Mount(), "log", testOptions())
	wantErr(t, err, fs.ErrNotExist)
	mustCreate(t, disk.Mount(), testOptions(), 1, 0)
	_, err = Create(disk.Mount(), "log", testOptions(), 1, 0, HardState{})
	wantErr(t, err, fs.ErrExist)
	must(t, disk.Mount().Remove("log/"+slotsName))
	if _, err = Open(disk.Mount(), "log", testOptions()); !isDamage(err) {
		t.Fatalf("error %v", err)
	}
}

// TestFullDiskPasses: a full disk refuses the batch that needs a new segment, and only that; it heals by itself.
func TestFullDiskPasses(t *testing.T) {
	disk := newTestDisk(1)
	l := mustCreate(t, disk.Mount(), crashOptions(), 1, 0)
	disk.SetBudget(disk.Used() + 100)
	var err error
	next := uint64(1)
	for ; next < 100; next++ {
		if err = l.Append(entries(1, 500, next), HardState{}, true); err != nil {
			break
		}
	}
	wantErr(t, err, ErrNoSpace)
	wantErr(t, err, syscall.ENOSPC)
	wantEntries(t, l, entries(1, 500, span(1, next)...))
	wantErr(t, l.Append(entries(1, 500, next), HardState{}, true), ErrNoSpace)
	if names, _ := disk.Mount().ReadDir("log"); len(names) != 2 {
		t.Fatalf("files %v", names)
	}
	disk.SetBudget(-1)
	must(t, l.Append(entries(1, 500, next), HardState{}, true))
	wantEntries(t, l, entries(1, 500, span(1, next+1)...))
}

// TestFullDiskAsksForRoom: on a full disk a smaller segment does; then the log asks for room, as often as there is some.
func TestFullDiskAsksForRoom(t *testing.T) {
	disk := newTestDisk(1)
	opt := crashOptions()
	opt.SegmentSize = 128 << 10
	given := 0
	opt.Room = func() bool {
		if given == 3 {
			return false
		}
		given++
		disk.SetBudget(disk.Used() + opt.SegmentSize/smallShare)
		return true
	}
	l := mustCreate(t, disk.Mount(), opt, 1, 0)
	disk.SetBudget(disk.Used() + opt.SegmentSize/smallShare)
	var err error
	var sizes []int64
	next := uint64(1)
	for ; next < 1000; next++ {
		if err = l.Append(entries(1, 500, next), HardState{}, true); err != nil {
			break
		}
		if size := l.active().size; len(sizes) == 0 || size != sizes[len(sizes)-1] {
			sizes = append(sizes, size)
		}
	}
	wantErr(t, err, ErrNoSpace)
	if given != 3 || len(sizes) != 2 || sizes[1] != opt.SegmentSize/smallShare || len(l.segs) < 5 {
		t.Fatalf("room was given %d times; sizes %v, %d segments", given, sizes, len(l.segs))
	}
	disk.SetBudget(-1)
	must(t, l.Append(entries(1, 500, next), HardState{}, true))
	must(t, l.Close())
	l, err = Open(disk.Mount(), "log", opt)
	must(t, err)
	wantEntries(t, l, entries(1, 500, span(1, next+1)...))
}

// TestWantOfDescriptorsAndInodesPasses: whatever keeps the next segment from being made, nothing has happened to the log.
func TestWantOfDescriptorsAndInodesPasses(t *testing.T) {
	for name, row := range map[string]struct {
		begin, end func(d *vfs.Disk)
		want       error
	}{
		"descriptors": {func(d *vfs.Disk) { d.FailOpens(-1, syscall.EMFILE) }, func(d *vfs.Disk) { d.FailOpens(0, nil) }, syscall.EMFILE},
		"files":       {func(d *vfs.Disk) { d.FailOpens(-1, syscall.ENFILE) }, func(d *vfs.Disk) { d.FailOpens(0, nil) }, syscall.ENFILE},
		"inodes":      {func(d *vfs.Disk) { d.SetInodes(0) }, func(d *vfs.Disk) { d.SetInodes(-1) }, syscall.ENOSPC},
	} {
		disk := newTestDisk(1)
		l := mustCreate(t, disk.Mount(), crashOptions(), 1, 0)
		row.begin(disk)
		var err error
		next := uint64(1)
		for ; err == nil && next < 100; next++ {
			err = l.Append(entries(1, 500, next), HardState{}, true)
		}
		next--
		wantErr(t, err, ErrNoSpace)
		wantErr(t, err, row.want)
		row.end(disk)
		must(t, l.Append(entries(1, 500, next), HardState{}, true))
		wantEntries(t, l, entries(1, 500, span(1, next+1)...))
		if bites := disk.Bites(); bites.Opens+bites.Inodes == 0 {
			t.Errorf("%s: %+v", name, bites)
		}
	}
}

// TestReadOnlyDiskIsFatal: a disk that refuses a write may have refused a part of it only.
func TestReadOnlyDiskIsFatal(t *testing.T) {
	disk := newTestDisk(1)
	l := mustCreate(t, disk.Mount(), crashOptions(), 1, 0)
	disk.SetReadOnly(true)
	err := l.Append(entries(1, 50, 1), HardState{}, true)
	wantErr(t, err, syscall.EROFS)
	wantErr(t, err, ErrFailed)
	disk.SetReadOnly(false)
	wantErr(t, l.Append(entries(1, 50, 1), HardState{}, true), ErrFailed)
}

// TestRecoveryOnAFullDisk: a restart needs little room for the copy of the tail; without it Open fails, changes nothing, and works later.
func TestRecoveryOnAFullDisk(t *testing.T) {
	disk := newTestDisk(1)
	opt := testOptions()
	opt.SegmentSize = 1 << 20
	l := mustCreate(t, disk.Mount(), opt, 1, 0)
	must(t, l.Append(entries(1, 500, 1, 2), HardState{}, true))
	disk.Crash(vfs.LoseAll)
	before := dump(t, disk)
	disk.SetBudget(disk.Used() + 1000)
	_, err := Open(disk.Mount(), "log", opt)
	wantErr(t, err, syscall.ENOSPC)
	if dump(t, disk) != before {
		t.Fatal("files were changed")
	}
	disk.SetBudget(disk.Used() + 50_000)
	l, err = Open(disk.Mount(), "log", opt)
	must(t, err)
	wantEntries(t, l, entries(1, 500, 1, 2))
}
