package store

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/opencmq/cmq/internal/store/segment"
	"github.com/opencmq/cmq/internal/vfs"
)

func newTestDisk(seed uint64) *vfs.Disk { return vfs.NewDisk(rand.New(rand.NewPCG(seed, 2))) }

func testOptions() Options {
	return Options{Cluster: 9, Set: 4, Replica: 1, SegmentSize: 16 << 10, CacheBytes: 1, Rand: rand.NewChaCha8([32]byte{1})}
}

func testImage(index uint64) Image {
	return Image{Index: index, Term: 1, ConfState: []byte("conf"), Time: int64(1000 + index), Data: []byte(fmt.Sprintf("machine after %d", index))}
}

func testEntries(term, lo, hi uint64) []segment.Entry {
	var es []segment.Entry
	for i := lo; i < hi; i++ {
		es = append(es, segment.Entry{Index: i, Term: term, Data: []byte(strings.Repeat(fmt.Sprintf("entry %d/%d ", i, term), 60))})
	}
	return es
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error %v, want %v", err, want)
	}
}

func wantDamage(t testing.TB, err error, file string) {
	t.Helper()
	var d *segment.DamageError
	if !errors.As(err, &d) || !strings.Contains(d.File, file) || d.Why == "" || d.Fix == "" {
		t.Fatalf("error %v, want damage of %s", err, file)
	}
}

func TestLifeOfAStore(t *testing.T) {
	disk := newTestDisk(1)
	_, err := Open(disk.Mount(), "data/set-4", testOptions())
	wantErr(t, err, fs.ErrNotExist)
	s, err := Create(disk.Mount(), "data/set-4", testOptions(), testImage(10))
	must(t, err)
	if hs := s.Log().HardState(); hs != (segment.HardState{Term: 1, Commit: 10}) || s.Log().FirstIndex() != 11 {
		t.Fatalf("hard state %+v, first index %d", hs, s.Log().FirstIndex())
	}
	_, err = Open(disk.Mount(), "data/set-4", testOptions())
	wantErr(t, err, vfs.ErrLocked)
	for i := uint64(11); i < 200; i++ {
		must(t, s.Log().Append(testEntries(1, i, i+1), segment.HardState{Term: 1, Commit: min(i, 150)}, true))
	}
	wantErr(t, s.DropBefore(100), ErrNeeded)
	wantErr(t, s.SaveImage(testImage(200)), ErrNotDurable)
	must(t, s.SaveImage(testImage(100)))
	must(t, s.SaveImage(testImage(150)))
	must(t, s.SaveImage(testImage(120)))
	must(t, s.DropBefore(101))
	first := s.Log().FirstIndex()
	if first == 11 || first > 101 {
		t.Fatalf("first index %d", first)
	}
	must(t, s.Close())
	_, err = Create(disk.Mount(), "data/set-4", testOptions(), testImage(10))
	wantErr(t, err, fs.ErrExist)
	disk.Crash(vfs.LoseAll)
	s, err = Open(disk.Mount(), "data/set-4", testOptions())
	must(t, err)
	img, err := s.LatestImage()
	must(t, err)
	if img.Index != 150 || string(img.Data) != "machine after 150" || string(img.ConfState) != "conf" || img.Time != 1150 || s.NewestIndex() != 150 {
		t.Fatalf("image %+v", img)
	}
	if s.Log().FirstIndex() != first || s.Log().LastIndex() != 199 {
		t.Fatalf("log %d to %d", s.Log().FirstIndex(), s.Log().LastIndex())
	}
}

func TestInstall(t *testing.T) {
	disk := newTestDisk(1)
	s, err := Create(disk.Mount(), "set", testOptions(), testImage(10))
	must(t, err)
	old := s.Log()
	must(t, old.Append(testEntries(1, 11, 20), segment.HardState{Term: 2, Vote: 3, Commit: 10}, true))
	st, err := s.Stage(0, 0)
	must(t, err)
	must(t, st.Append(testEntries(1, 950, 990)))
	must(t, st.Abort())
	st, err = s.Stage(0, 0)
	must(t, err)
	must(t, st.Append(testEntries(1, 950, 990)))
	wantDamage(t, st.Finish(testImage(1000), segment.HardState{Term: 2, Vote: 3}), "gen-000002")
	must(t, st.Append(testEntries(1, 990, 1003)))
	must(t, st.Finish(testImage(1000), segment.HardState{Term: 2, Vote: 3}))
	must(t, s.Install(st))
	_, err = old.Entry(15)
	wantErr(t, err, segment.ErrClosed)
	for range 2 {
		l := s.Log()
		if l.FirstIndex() != 950 || l.LastIndex() != 1002 || l.HardState() != (segment.HardState{Term: 2, Vote: 3, Commit: 1000}) || s.NewestIndex() != 1000 {
			t.Fatalf("log %d to %d, %+v", l.FirstIndex(), l.LastIndex(), l.HardState())
		}
		_, err = l.Term(949)
		wantErr(t, err, segment.ErrCompacted)
		disk.Crash(vfs.LoseAll)
		s, err = Open(disk.Mount(), "set", testOptions())
		must(t, err)
	}
}
