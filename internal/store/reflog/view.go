package reflog

import (
	"cmp"
	"math"
	"slices"
	"sort"
)

// view is what an image describes: all that is not in tables. It is never changed.
type view struct {
	next   uint32 // number of the next file
	files  []File // by number
	main   []*mainLane
	levels []*level // oldest first: what a lane has in one lies before what it has in the next
}

// mainLane is the main lane of one shard.
type mainLane struct {
	shard  uint64
	chunks []chunk // the last one may be the tail
	tail   []byte  // body of the last chunk, if that is in memory
}

// chunk is one piece of a main lane, [seq, seq+span).
type chunk struct {
	seq, index uint64 // of the first run; lowest
	time       int64
	bytes      uint64
	span       uint32
	indexes    uint32 // highest index - index
	times      uint32 // time of the last run - time
	file       uint32 // 0: the tail
	off, size  uint32
	checksum   uint32
	runs       uint16
}

func (c *chunk) end() uint64     { return c.seq + uint64(c.span) }
func (c *chunk) last() uint64    { return c.index + uint64(c.indexes) }
func (c *chunk) lastTime() int64 { return c.time + int64(c.times) }

// chunkOf describes runs, of which there is one at least, that lie nowhere yet.
func chunkOf(runs []Run) chunk {
	first, last := &runs[0], &runs[len(runs)-1]
	c := chunk{
		seq: first.Seq, index: first.Index, time: first.Time, runs: uint16(len(runs)),
		span: uint32(last.end() - first.Seq), times: uint32(last.Time - first.Time),
	}
	highest := first.Index
	for i := range runs {
		c.bytes += uint64(runs[i].Bytes)
		c.index, highest = min(c.index, runs[i].Index), max(highest, runs[i].Index)
	}
	c.indexes = uint32(highest - c.index)
	return c
}

func (c *chunk) place(s source) {
	c.file, c.off, c.size, c.checksum = s.file, s.off, s.size, s.checksum
}

func (m *mainLane) source(i int) source {
	c := &m.chunks[i]
	s := source{file: c.file, off: c.off, size: c.size, checksum: c.checksum, runs: int(c.runs)}
	if c.file == 0 {
		s.body = m.tail
	}
	return s
}

// at is the first chunk that ends behind seq.
func (m *mainLane) at(seq uint64) int {
	return sort.Search(len(m.chunks), func(i int) bool { return m.chunks[i].end() > seq })
}

// lane is the main lane of a shard, or nil.
func (v *view) lane(shard uint64) *mainLane {
	i := sort.Search(len(v.main), func(i int) bool { return v.main[i].shard >= shard })
	if i == len(v.main) || v.main[i].shard != shard {
		return nil
	}
	return v.main[i]
}

func (v *view) file(number uint32) *File {
	i, ok := slices.BinarySearchFunc(v.files, number, func(f File, number uint32) int {
		return cmp.Compare(numberOf(f.Name), number)
	})
	if !ok {
		return nil
	}
	return &v.files[i]
}

// level is runs of delayed lanes in the order of shards, lanes and positions.
type level struct {
	file   uint32 // 0: the bodies are in memory and in the image
	runs   uint64
	live   uint64 // of the runs, as the newest Merge estimated it
	blocks []entry
	bodies [][]byte
	holes  bool     // there is an entry without a block
	gone   []uint64 // shards dropped since the level was written, ascending: what it has of them counts no more
	weights
}

// entry is one block of a level. What the block has lies from here up to the next entry.
//
// An entry of size 0 is a hole: what the block before a Merge had of this lane could not be read.
type entry struct {
	key       Key
	seq       uint64 // of the first run
	index     uint64 // lowest
	time      int64  // earliest
	indexes   uint32 // highest index - index
	off, size uint32
	checksum  uint32
	runs      uint16
	lanes     uint16
}

func (e *entry) last() uint64 { return e.index + uint64(e.indexes) }

func (lv *level) source(i int) source {
	e := &lv.blocks[i]
	s := source{file: lv.file, off: e.off, size: e.size, checksum: e.checksum, runs: int(e.runs)}
	if lv.file == 0 {
		s.body = lv.bodies[i]
	}
	return s
}

// search is the number of entries that begin before position seq of lane k.
func (lv *level) search(k Key, seq uint64) int {
	return sort.Search(len(lv.blocks), func(i int) bool {
		e := &lv.blocks[i]
		return !(e.key.less(k) || e.key == k && e.seq < seq)
	})
}

// dropped reports whether what the level has of a shard counts no more.
func (lv *level) dropped(shard uint64) bool {
	_, ok := slices.BinarySearch(lv.gone, shard)
	return ok
}

// mayHave reports whether there may be something of a shard.
func (lv *level) mayHave(shard uint64) bool {
	a, b := lv.search(Key{Shard: shard, Lane: math.MinInt64}, 0), lv.search(Key{Shard: shard, Lane: math.MaxInt64}, math.MaxUint64)
	return a < b || a > 0 && lv.blocks[a-1].lanes > 1
}

// blocksOf are the entries [a, b) that may have runs of the lane.
func (lv *level) blocksOf(k Key) (a, b int) {
	if lv.dropped(k.Shard) {
		return 0, 0
	}
	a = max(lv.search(k, 0)-1, 0)
	b = a + sort.Search(len(lv.blocks)-a, func(i int) bool { return k.less(lv.blocks[a+i].key) })
	return a, b
}

// bounds are the positions of the lane that entry i may have.
func (lv *level) bounds(i int, k Key) (lo, hi uint64) {
	hi = math.MaxUint64
	if lv.blocks[i].key == k {
		lo = lv.blocks[i].seq
	}
	if i+1 < len(lv.blocks) && lv.blocks[i+1].key == k {
		hi = lv.blocks[i+1].seq
	}
	return lo, hi
}

// maxWeights is how finely a level remembers where in the log its messages are.
const maxWeights = 1024

// weights are bytes by index: weight i is of the indexes with (index >> shift) == base + i.
type weights struct {
	shift uint8
	base  uint64
	bytes []uint64
}

func newWeights(lo, hi uint64) weights {
	w := weights{}
	for hi>>w.shift-lo>>w.shift >= maxWeights {
		w.shift++
	}
	w.base = lo >> w.shift
	w.bytes = make([]uint64, hi>>w.shift-w.base+1)
	return w
}

func (w *weights) add(index, bytes uint64) { w.bytes[index>>w.shift-w.base] += max(bytes, 1) }

// cover makes sure that no index in [lo, hi] has the weight 0.
func (w *weights) cover(lo, hi uint64) {
	for i := lo >> w.shift; i <= hi>>w.shift; i++ {
		w.bytes[i-w.base] = max(w.bytes[i-w.base], 1)
	}
}

// trim lets go of the ends that weigh nothing.
func (w *weights) trim() {
	for len(w.bytes) > 1 && w.bytes[0] == 0 {
		w.bytes, w.base = w.bytes[1:], w.base+1
	}
	for n := len(w.bytes); n > 1 && w.bytes[n-1] == 0; n-- {
		w.bytes = w.bytes[:n-1]
	}
}
