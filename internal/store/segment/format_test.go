package segment

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/opencmq/cmq/internal/vfs"
)

func TestHeaderKeepsEveryField(t *testing.T) {
	h := header{id: identity{cluster: 0x1122334455667788, set: 0x99aa, replica: 77}, number: 88, size: 99 << 20, salt: 0xdeadbeef}
	p := make([]byte, blockSize)
	h.encode(p)
	got, newer, why := decodeHeader(p)
	if got != h || newer != 0 || why != "" {
		t.Fatalf("%+v, %d, %q", got, newer, why)
	}
	allFlipsFound(t, p, func() bool { _, _, why := decodeHeader(p); return why != "" })
}

func TestBeginKeepsEveryField(t *testing.T) {
	b := begin{first: 1, prevTerm: 2, prevEnd: 3, prevSalt: 4, hs: HardState{Term: 5, Vote: 6, Commit: 7}}
	p := make([]byte, blockSize)
	b.encode(p, 42)
	got, ok := decodeBegin(p, 42)
	if got != b || !ok {
		t.Fatalf("%+v, %v", got, ok)
	}
	if _, ok := decodeBegin(p, 43); ok {
		t.Fatal("accepted under another salt")
	}
	allFlipsFound(t, p, func() bool { _, ok := decodeBegin(p, 42); return !ok })
}

func TestRecordKeepsEveryField(t *testing.T) {
	r := record{off: 8192, typ: typeEntry, flags: 2, index: 3, term: 4, payload: []byte("payload")}
	p := make([]byte, recordSize)
	r.encode(p, 42)
	got, why := decodeRecord(p, 42, 8192)
	got.payload = r.payload
	if why != "" || got.typ != r.typ || got.flags != 2 || got.index != 3 || got.term != 4 || got.length != 7 || !got.intact(p) {
		t.Fatalf("%+v, %q", got, why)
	}
	if _, why := decodeRecord(p, 42, 8200); why == "" {
		t.Fatal("accepted at another place")
	}
	allFlipsFound(t, p, func() bool {
		r, why := decodeRecord(p, 42, 8192)
		r.payload = []byte("payload")
		return why != "" || !r.intact(p)
	})
}

func TestCommitKeepsEveryField(t *testing.T) {
	c := commit{syncedUpTo: 1, hs: HardState{Term: 2, Vote: 3, Commit: 4}, records: 5, crc: 6}
	p := make([]byte, commitBody)
	c.encode(p)
	if got := decodeCommit(p); got != c {
		t.Fatalf("%+v", got)
	}
}

func TestSlotKeepsEveryField(t *testing.T) {
	disk := newTestDisk(1)
	id := identity{cluster: 1, set: 2, replica: 3}
	must(t, createSlots(disk.Mount(), "/", id, slot{term: 4, vote: 5, first: 6}))
	s, err := openSlots(disk.Mount(), "/", id)
	must(t, err)
	must(t, s.write(func(next *slot) { next.vote = 9 }))
	s, err = openSlots(disk.Mount(), "/", id)
	must(t, err)
	if s.last != (slot{sequence: 2, term: 4, vote: 9, first: 6}) || s.torn != -1 {
		t.Fatalf("%+v", s.last)
	}
}

func allFlipsFound(t *testing.T, p []byte, found func() bool) {
	t.Helper()
	for i := range p {
		for bit := range 8 {
			p[i] ^= 1 << bit
			if !found() {
				t.Errorf("bit %d of byte %d can flip unseen", bit, i)
			}
			p[i] ^= 1 << bit
		}
	}
}

func TestFooterKeepsEveryField(t *testing.T) {
	tab := table{first: 5, prevTerm: 1}
	for i, term := range []uint64{1, 1, 2, 4, 4} {
		tab.add(5+uint64(i), term, int64(4096+64*i))
	}
	p := tab.encodeFooter()
	if len(p)+recordSize+commitSize > footerSize(5, 3) {
		t.Fatalf("footer of %d bytes is larger than was reserved", len(p))
	}
	got, ok := decodeFooter(p, 8192)
	if !ok || got.first != 5 || got.prevTerm != 1 || !bytes.Equal(got.encodeFooter(), p) || got.term(7) != 2 || got.offset(9) != 4352 {
		t.Fatalf("%+v, %v", got, ok)
	}
	if _, ok := decodeFooter(p, 4352); ok {
		t.Fatal("an entry behind the end was accepted")
	}
	for n := range p {
		if _, ok := decodeFooter(p[:n], 8192); ok {
			t.Fatalf("accepted %d of %d bytes", n, len(p))
		}
	}
}

// TestDiskCalls is the golden trace of what a log does to the disk: one write and one sync a batch, directories synced,
// nothing used before it is durable.
func TestDiskCalls(t *testing.T) {
	disk := newTestDisk(1)
	must(t, vfs.MakeDirs(disk.Mount(), "/log"))
	var trace strings.Builder
	names := [...]string{vfs.OpCreate: "create", vfs.OpWrite: "write", vfs.OpResize: "resize", vfs.OpSync: "sync", vfs.OpRemove: "remove", vfs.OpRename: "rename", vfs.OpSyncDir: "syncdir"}
	disk.OnOp(func(op vfs.Op) error {
		if op.Kind.Changes() && op.Kind != vfs.OpMkdir {
			fmt.Fprintf(&trace, "  %s %s", names[op.Kind], strings.TrimPrefix(op.Name, "/log/"))
			if op.To != "" {
				fmt.Fprintf(&trace, " to %s", strings.TrimPrefix(op.To, "/log/"))
			}
			if op.Off+int64(op.Len) > 0 {
				fmt.Fprintf(&trace, " at %d +%d", op.Off, op.Len)
			}
			trace.WriteString("\n")
		}
		return nil
	})
	step := func(name string, err error) {
		must(t, err)
		fmt.Fprintf(&trace, "^ %s\n", name)
	}
	l, err := Create(disk.Mount(), "log", crashOptions(), 1, 0, HardState{})
	step("create", err)
	step("append two entries", l.Append(entries(1, 100, 1, 2), HardState{Term: 1, Commit: 1}, true))
	step("append without sync", l.Append(nil, HardState{Term: 1, Commit: 2}, false))
	step("append a large entry", l.Append(entries(1, 1200, 3), HardState{}, true))
	step("append and make the next segment", l.Append(entries(1, 1200, 4), HardState{}, true))
	step("append and roll", l.Append(entries(1, 1200, 5), HardState{}, true))
	step("vote", l.Append(nil, HardState{Term: 2, Vote: 1, Commit: 4}, true))
	step("drop", l.DropBefore(5))
	step("close", l.Close())
	l, err = Open(disk.Mount(), "log", crashOptions())
	step("open", err)
	step("append", l.Append(entries(2, 100, 6), HardState{}, true))
	disk.Crash(vfs.LoseAll)
	_, err = Open(disk.Mount(), "log", crashOptions())
	step("open after a crash", err)

	const golden = "testdata/disk_calls.txt"
	if os.Getenv("REWRITE") != "" {
		must(t, os.WriteFile(golden, []byte(trace.String()), 0o600))
	}
	want, err := os.ReadFile(golden)
	must(t, err)
	if trace.String() != string(want) {
		t.Errorf("the calls differ from %s (REWRITE=1 writes it anew):\n%s", golden, trace.String())
	}
}

// TestReadersBesideTheWriter runs reads of all kinds while entries are appended, replaced and dropped.
func TestReadersBesideTheWriter(t *testing.T) {
	opt := testOptions()
	opt.Background = true
	opt.CacheBytes, opt.ReadCacheBytes = 4096, 8192
	dir := t.TempDir()
	l, err := Create(vfs.OS(), dir, opt, 1, 0, HardState{})
	must(t, err)
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for r := range 4 {
		wg.Go(func() {
			for i := uint64(r); ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				first, last := l.FirstIndex(), l.LastIndex()
				index := first + i%(last-first+2)
				e, err := l.Entry(index)
				if err == nil && !bytes.Equal(e.Data, data(e.Index, e.Term, len(e.Data))) {
					t.Errorf("entry %d is wrong", index)
				}
				if err != nil && err != ErrCompacted && err != ErrUnavailable {
					t.Errorf("entry %d: %v", index, err)
				}
				if _, err := l.Entries(first, last+1, 3000); err != nil && err != ErrCompacted && err != ErrUnavailable {
					t.Errorf("entries: %v", err)
				}
				_, _ = l.Term(index)
			}
		})
	}
	for i := uint64(1); i < 300; i += 3 {
		must(t, l.Append(entries(i, 900, i, i+1, i+2), HardState{Term: i, Commit: i - 1}, false))
		must(t, l.Append(entries(i, 700, i+1, i+2), HardState{}, i%5 == 0))
		if i > 60 {
			must(t, l.DropBefore(i-60))
		}
		if i%4 == 0 {
			l.ForgetCached()
			if l.tail.bytes != 0 || len(l.tail.entries) != 0 {
				t.Fatalf("%d bytes are still kept", l.tail.bytes)
			}
		}
	}
	close(stop)
	wg.Wait()
	must(t, l.Close())
	l, err = Open(vfs.OS(), dir, opt)
	must(t, err)
	if l.LastIndex() != 300 {
		t.Fatalf("last index %d", l.LastIndex())
	}
	must(t, l.Close())
}
