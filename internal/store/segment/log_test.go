package segment

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/opencmq/cmq/internal/vfs"
)

func testRand(seed uint64) *rand.ChaCha8 {
	var s [32]byte
	le.PutUint64(s[:], seed)
	return rand.NewChaCha8(s)
}

func testOptions() Options {
	return Options{Cluster: 7, Set: 3, Replica: 2, SegmentSize: 16 << 10, CacheBytes: 1, ReadCacheBytes: 2048, Rand: testRand(1)}
}

func newTestDisk(seed uint64) *vfs.Disk { return vfs.NewDisk(rand.New(rand.NewPCG(seed, 1))) }

// data is a payload that names its entry.
func data(index, term uint64, n int) []byte {
	p := []byte(fmt.Sprintf("entry %d of term %d ", index, term))
	for len(p) < n {
		p = append(p, byte(index), byte(term), byte(len(p)))
	}
	return p[:n]
}

func entries(term uint64, n int, indexes ...uint64) []Entry {
	var es []Entry
	for _, i := range indexes {
		es = append(es, Entry{Index: i, Term: term, Type: uint8(i % 3), Data: data(i, term, n)})
	}
	return es
}

func span(lo, hi uint64) []uint64 {
	var s []uint64
	for i := lo; i < hi; i++ {
		s = append(s, i)
	}
	return s
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

func mustCreate(t testing.TB, fs vfs.FS, opt Options, first, prevTerm uint64) *Log {
	t.Helper()
	must(t, fs.MkdirAll("log", 0o700))
	must(t, fs.SyncDir("/"))
	l, err := Create(fs, "log", opt, first, prevTerm, HardState{Term: prevTerm, Commit: first - 1})
	must(t, err)
	return l
}

// wantEntries checks every entry of the log, by Entry and by Entries.
func wantEntries(t testing.TB, l *Log, want []Entry) {
	t.Helper()
	if len(want) == 0 {
		return
	}
	first := want[0].Index
	if l.FirstIndex() != first || l.LastIndex() != first+uint64(len(want))-1 {
		t.Fatalf("log from %d to %d, want %d to %d", l.FirstIndex(), l.LastIndex(), first, first+uint64(len(want))-1)
	}
	all, err := l.Entries(first, l.LastIndex()+1, 1<<40)
	must(t, err)
	for i, w := range want {
		e, err := l.Entry(w.Index)
		must(t, err)
		term, err := l.Term(w.Index)
		must(t, err)
		if !same(e, w) || !same(all[i], w) || term != w.Term {
			t.Fatalf("entry %d of term %d: got %d/%d %.40q", w.Index, w.Term, e.Index, e.Term, e.Data)
		}
	}
}

func same(a, b Entry) bool {
	return a.Index == b.Index && a.Term == b.Term && a.Type == b.Type && string(a.Data) == string(b.Data)
}

func TestAppendReadReopen(t *testing.T) {
	disk := newTestDisk(1)
	fs := disk.Mount()
	l := mustCreate(t, fs, testOptions(), 1, 0)
	want := entries(1, 700, span(1, 100)...)
	for i := range want {
		must(t, l.Append(want[i:i+1], HardState{Term: 1, Vote: 2, Commit: min(uint64(i), 50)}, true))
	}
	wantEntries(t, l, want)
	repl := entries(2, 1500, span(60, 80)...)
	must(t, l.Append(repl, HardState{}, true))
	want = append(want[:59], repl...)
	wantEntries(t, l, want)
	must(t, l.DropBefore(30))
	if l.FirstIndex() < 10 || l.FirstIndex() > 30 {
		t.Fatalf("first index %d", l.FirstIndex())
	}
	want = want[l.FirstIndex()-1:]
	for _, end := range []string{"close", "kill", "crash"} {
		hs := l.HardState()
		switch end {
		case "close":
			must(t, l.Close())
		case "kill":
			disk.Crash(vfs.KillProcess)
		case "crash":
			disk.Crash(vfs.LoseAll)
		}
		var err error
		l, err = Open(disk.Mount(), "log", testOptions())
		must(t, err)
		wantEntries(t, l, want)
		if l.HardState() != hs {
			t.Fatalf("hard state %+v, want %+v", l.HardState(), hs)
		}
		if term, err := l.Term(l.FirstIndex() - 1); err != nil || term != 1 {
			t.Fatalf("term before the first: %d, %v", term, err)
		}
		more := entries(3, 2000, span(l.LastIndex()+1, l.LastIndex()+5)...)
		must(t, l.Append(more, HardState{}, true))
		want = append(want, more...)
		wantEntries(t, l, want)
	}
	must(t, l.Close())
	_, err := l.Entry(30)
	wantErr(t, err, ErrClosed)
	wantErr(t, l.Append(nil, HardState{}, true), ErrClosed)
}
