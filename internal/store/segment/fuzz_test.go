package segment

import (
	"testing"

	"github.com/opencmq/cmq/internal/vfs"
)

// FuzzOpen lets Open read any bytes as the only segment of a log. It may refuse them or show entries, all of
// which can be read then; it must not panic, hang or change what it refuses.
func FuzzOpen(f *testing.F) {
	disk := newTestDisk(1)
	l := mustCreate(f, disk.Mount(), crashOptions(), 1, 0)
	must(f, l.Append(entries(1, 20, 1, 2, 3), HardState{Term: 1, Vote: 1}, true))
	must(f, l.Append(entries(2, 20, 2, 3), HardState{Term: 2, Commit: 1}, true))
	good, err := vfs.ReadFile(disk.Mount(), "log/"+fileName(1))
	must(f, err)
	f.Add(good[:l.active().end], uint16(0), byte(0))
	f.Add(good[:l.active().end], uint16(headerSize), byte(1))
	f.Fuzz(func(t *testing.T, p []byte, at uint16, x byte) {
		p = append(p, make([]byte, max(0, minSegmentSize-len(p)))...)
		p[int(at)%len(p)] ^= x
		disk := newTestDisk(1)
		mustCreate(t, disk.Mount(), crashOptions(), 1, 0)
		must(t, vfs.WriteFile(disk.Mount(), "log/"+fileName(1), p))
		l, err := Open(disk.Mount(), "log", crashOptions())
		if err != nil {
			return
		}
		if _, err := view(l); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzFooter: what the decoder accepts it encodes the same way.
func FuzzFooter(f *testing.F) {
	tab := table{first: 5, prevTerm: 1}
	for i, term := range []uint64{1, 1, 2, 4, 4} {
		tab.add(5+uint64(i), term, int64(4096+64*i))
	}
	f.Add(tab.encodeFooter(), int64(8192))
	f.Fuzz(func(t *testing.T, p []byte, end int64) {
		got, ok := decodeFooter(p, end)
		if !ok {
			return
		}
		if again := got.encodeFooter(); string(again) != string(p) {
			t.Fatalf("%x became %x", p, again)
		}
		for i := got.first; i <= got.last() && len(got.offsets) > 0; i++ {
			_, _ = got.term(i), got.offset(i)
		}
	})
}
