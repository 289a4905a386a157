package reflog

import (
	"iter"
	"os"
	"runtime"
	"sort"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/internal/vfs"
)

// BenchmarkAdd is messages sent singly: to main lanes and to delayed ones, with a new table every million.
func BenchmarkAdd(b *testing.B) {
	for _, load := range []struct {
		name    string
		delayed bool
		shards  uint64
	}{{"main", false, 1000}, {"one lane", false, 1}, {"delayed", true, 1000}} {
		b.Run(load.name, func(b *testing.B) {
			l := New(vfs.OS(), b.TempDir(), Options{})
			seq := make([]uint64, load.shards)
			b.ReportAllocs()
			for i := range b.N {
				if i%1_000_000 == 999_999 {
					l.tables = []*table{newTable()}
				}
				s := uint64(i) % load.shards
				k := Key{Shard: s}
				if load.delayed {
					k.Lane = int64(1+(i*7919)%3_600_000) * 1000
				}
				l.Add(k, seq[s], uint64(1+i/500), uint16(i%500), 1, int64(i/500), 1000)
				seq[s] += 2 // not one run with the one before
			}
		})
	}
}

// BenchmarkSize fills a map and prints what it takes: memory, disk and image for each run, and how long it takes to open.
func BenchmarkSize(b *testing.B) {
	for _, load := range []struct {
		name   string
		shards uint64
		key    func(i uint64) Key
	}{
		{"main", 100, func(i uint64) Key { return Key{Shard: i % 100} }},
		{"delayed", 100, func(i uint64) Key { return Key{Shard: i % 100, Lane: int64(1+(i*7919)%1_296_000) * 1000} }},
	} {
		b.Run(load.name, func(b *testing.B) {
			for range b.N {
				const runs, each = 4_000_000, 1_000_000
				dir := b.TempDir()
				l := New(vfs.OS(), dir, Options{})
				before := memory()
				keep := needed{}
				seq := make([]uint64, load.shards)
				var image []byte
				var files []File
				var freeze, merge time.Duration
				for i := range uint64(runs) {
					k := load.key(i)
					if _, ok := keep[k]; !ok {
						keep[k] = 0
					}
					l.Add(k, seq[k.Shard], 1+i/500, uint16(i%500), 1, int64(i/500), 1000)
					seq[k.Shard]++
					if (i+1)%each == 0 {
						at := time.Now()
						f := l.Freeze()
						freeze = max(freeze, time.Since(at))
						all := sorted(keep)
						at = time.Now()
						var err error
						image, files, err = f.Merge(all, nil)
						require.NoError(b, err)
						merge = max(merge, time.Since(at))
						l.Install(f)
					}
				}
				keep = nil
				used := memory() - before
				l.cache.empty()
				var disk int64
				for _, f := range files {
					disk += f.Size
				}
				b.ReportMetric(float64(used)/runs, "mem-B/run")
				b.ReportMetric(float64(disk)/runs, "disk-B/run")
				b.ReportMetric(float64(len(image))/runs, "image-B/run")
				b.ReportMetric(float64(len(files)), "files")
				b.ReportMetric(float64(merge.Milliseconds()), "longest-merge-ms")
				b.ReportMetric(float64(freeze.Nanoseconds()), "longest-freeze-ns")
				at := time.Now()
				opened, err := Open(vfs.OS(), dir, Options{}, image, files)
				require.NoError(b, err)
				b.ReportMetric(float64(time.Since(at).Microseconds()), "open-µs")
				runtime.KeepAlive(l)
				runtime.KeepAlive(opened)
				require.NoError(b, os.RemoveAll(dir))
			}
		})
	}
}

// sortedNeeded is needed, sorted once.
type sortedNeeded []Key

func sorted(n needed) sortedNeeded {
	all := make([]Key, 0, len(n))
	for k := range n {
		all = append(all, k)
	}
	sort.Slice(all, func(i, j int) bool { return all[i].less(all[j]) })
	return all
}

func (n sortedNeeded) Shards(f func(shard uint64, lanes iter.Seq2[int64, uint64]) error) error {
	for len(n) > 0 {
		end := sort.Search(len(n), func(i int) bool { return n[i].Shard > n[0].Shard })
		err := f(n[0].Shard, func(yield func(int64, uint64) bool) {
			for _, k := range n[:end] {
				if !yield(k.Lane, 0) {
					return
				}
			}
		})
		if err != nil {
			return err
		}
		n = n[end:]
	}
	return nil
}

func memory() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
