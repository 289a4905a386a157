package segment

import (
	"testing"

	"github.com/opencmq/cmq/internal/vfs"
)

// BenchmarkAppend appends the batches that a busy leader makes, 512 KiB each, and syncs each one.
func BenchmarkAppend(b *testing.B) {
	for _, row := range []struct {
		name  string
		count int
		size  int
	}{{"one entry of 512 KiB", 1, 512 << 10}, {"512 entries of 1 KiB", 512, 1 << 10}, {"one entry of 1 KiB", 1, 1 << 10}} {
		b.Run(row.name, func(b *testing.B) {
			l, err := Create(vfs.OS(), b.TempDir(), Options{Background: true}, 1, 0, HardState{})
			must(b, err)
			batch := entries(1, row.size, span(1, uint64(row.count)+1)...)
			b.SetBytes(int64(row.count * row.size))
			b.ReportAllocs()
			for b.Loop() {
				must(b, l.Append(batch, HardState{}, true))
				for i := range batch {
					batch[i].Index += uint64(row.count)
				}
				if last := l.LastIndex(); l.Size() > 1<<30 {
					must(b, l.DropBefore(last))
				}
			}
			must(b, l.Close())
		})
	}
}

// BenchmarkOpen opens a log of one full segment: after an orderly end, and after a crash.
func BenchmarkOpen(b *testing.B) {
	dir := b.TempDir()
	l, err := Create(vfs.OS(), dir, Options{}, 1, 0, HardState{})
	must(b, err)
	for i := uint64(1); i <= 110; i++ {
		must(b, l.Append(entries(1, 512<<10, i), HardState{}, i%20 == 0))
	}
	must(b, l.Close())
	for b.Loop() {
		l, err := Open(vfs.OS(), dir, Options{})
		must(b, err)
		must(b, l.Close())
	}
}
