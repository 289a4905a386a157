package reflog

import (
	"bytes"
	"cmp"
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sync"
)

// maxSalvaged is how many blocks that were put together are kept until the next Merge writes them; some 6 KiB each.
const maxSalvaged = 512

// salvaged is the bodies of blocks that are damaged in their files.
type salvaged struct {
	mu     sync.Mutex
	bodies map[cacheID][]byte
}

func (s *salvaged) get(id cacheID) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bodies[id]
}

// put reports whether there was room.
func (s *salvaged) put(id cacheID, body []byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.bodies) >= maxSalvaged {
		return false
	}
	s.bodies[id] = body
	return true
}

// keep forgets the blocks of all files but those of a view.
func (s *salvaged) keep(v *view) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id := range s.bodies {
		if v.file(id.file) == nil {
			delete(s.bodies, id)
		}
	}
}

// located is a block with what the directory says of it.
type located struct {
	source
	key   Key    // of the first run
	seq   uint64 // of the first run
	lanes int
	sums  func(*block) bool // whether these can be the runs
}

// locate lists the blocks on the disk that may have positions [lo, hi) of a lane.
func (v *view) locate(k Key, lo, hi uint64) (list []located) {
	if k.Lane == 0 {
		m := v.lane(k.Shard)
		if m == nil {
			return nil
		}
		for i := m.at(lo); i < len(m.chunks) && m.chunks[i].seq < hi; i++ {
			if c := m.chunks[i]; c.file != 0 {
				list = append(list, located{source: m.source(i), key: k, seq: c.seq, lanes: 1, sums: func(b *block) bool { return c.is(k, b) }})
			}
		}
		return list
	}
	for _, lv := range v.levels {
		for i, b := lv.blocksOf(k); i < b; i++ {
			first, end := lv.bounds(i, k)
			if e := lv.blocks[i]; lv.file != 0 && e.size > 0 && first < hi && lo < end {
				list = append(list, located{source: lv.source(i), key: e.key, seq: e.seq, lanes: int(e.lanes), sums: func(b *block) bool { return e.is(b) }})
			}
		}
	}
	return list
}

// is tells whether a block can be this chunk.
func (c *chunk) is(k Key, b *block) bool {
	if len(b.parts) != 1 || b.parts[0].key != k || len(b.runs) != int(c.runs) || !inOrder(k, b.runs) {
		return false
	}
	got := chunkOf(b.runs)
	got.place(source{file: c.file, off: c.off, size: c.size, checksum: c.checksum})
	return got == *c
}

// is tells whether a block can be the one of this entry.
func (e *entry) is(b *block) bool {
	if len(b.runs) != int(e.runs) || len(b.parts) != int(e.lanes) {
		return false
	}
	got := entry{key: b.parts[0].key, seq: b.runs[0].Seq, index: b.runs[0].Index, time: b.runs[0].Time}
	for i := range b.runs {
		if !got.covers(&b.runs[i]) {
			return false
		}
		got.cover(&b.runs[i])
	}
	got.off, got.size, got.checksum, got.runs, got.lanes = e.off, e.size, e.checksum, e.runs, e.lanes
	return got == *e
}

// raw is the body as it is in the file, however damaged; nil if there is nothing.
func (l *Log) raw(b *located) []byte {
	f, err := l.fs.OpenFile(l.path(b.file), os.O_RDONLY, 0)
	if err != nil {
		return nil
	}
	defer f.Close()
	p := make([]byte, b.size)
	if n, _ := f.ReadAt(p, int64(b.off)+blockHead); n < len(p) {
		return nil
	}
	return p
}

// A wreck is what a replica gives of the blocks that it cannot read, one behind the other:
//
//	0   shard  u64   lane of the first run
//	8   lane   i64
//	16  seq    u64   of the first run
//	24  runs   u16
//	26  lanes  u16
//	28  size   u32   of the body
//	32  body, damaged
const wreckHead = 32

// Wreck gives what is left of damaged blocks with positions [lo, hi) of a lane, at most about limit bytes, for Salvage on another replica.
func (l *Log) Wreck(k Key, lo, hi uint64, limit int) (p []byte) {
	for _, b := range l.current().locate(k, lo, hi) {
		if len(p)+wreckHead+int(b.size) > limit {
			break
		}
		if _, err := l.readBody(&b.source); !isDamage(err) {
			continue
		}
		if body := l.raw(&b); body != nil {
			p = le.AppendUint64(p, b.key.Shard)
			p = le.AppendUint64(p, uint64(b.key.Lane))
			p = le.AppendUint64(p, b.seq)
			p = le.AppendUint16(p, uint16(b.runs))
			p = le.AppendUint16(p, uint16(b.lanes))
			p = le.AppendUint32(p, b.size)
			p = append(p, body...)
		}
	}
	return p
}

// in finds the copy of a block in a wreck; nil if there is none.
func (b *located) in(wreck []byte) []byte {
	for len(wreck) >= wreckHead {
		head, rest := wreck[:wreckHead], wreck[wreckHead:]
		size := le.Uint32(head[28:])
		if uint64(size) > uint64(len(rest)) {
			return nil
		}
		if (Key{Shard: le.Uint64(head), Lane: int64(le.Uint64(head[8:]))}) == b.key && le.Uint64(head[16:]) == b.seq &&
			int(le.Uint16(head[24:])) == b.source.runs && int(le.Uint16(head[26:])) == b.lanes && size == b.size {
			return rest[:size]
		}
		wreck = rest[size:]
	}
	return nil
}

// Salvage makes the best of what is left of positions [lo, hi) of a lane when no other replica has them all: runs that some of them could
// read, and wrecks of what they could not. What it finds is used from now on and written by the next Merge. It reports whether nothing is
// lacking now; else the error is the *DamageError of what is still lost, or one that says nothing about what is stored.
func (l *Log) Salvage(k Key, lo, hi uint64, runs []Run, wrecks [][]byte) error {
	for _, piece := range contiguous(runs) {
		lo, hi := piece[0].Seq, piece[len(piece)-1].end()
		if l.repaired(k, lo, hi) { // it is asked for with every message that is lost
			continue
		}
		if err := l.Repair(k, lo, hi, piece); err != nil {
			return err
		}
	}
	v := l.current()
	for _, b := range v.locate(k, lo, hi) {
		_, err := l.readBody(&b.source)
		if !isDamage(err) || l.salvaged.get(b.id()) != nil {
			continue
		}
		l.suspect(b.file)
		if body := b.restore(l.copies(&b, wrecks)); body != nil {
			l.salvaged.put(b.id(), body)
		}
	}
	_, err := l.Readable(k, lo, hi, math.MaxInt)
	var d *DamageError
	if errors.As(err, &d) {
		d.Whole = l.replaced(numberOf(filepath.Base(d.File)))
	}
	return err
}

// repaired tells whether there is a patch for all of [lo, hi).
func (l *Log) repaired(k Key, lo, hi uint64) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.reader(false).patch(k, lo, hi) != nil
}

// copies are the different copies of a block.
func (l *Log) copies(b *located, wrecks [][]byte) (copies [][]byte) {
	add := func(p []byte) {
		if p != nil && !slices.ContainsFunc(copies, func(o []byte) bool { return bytes.Equal(o, p) }) {
			copies = append(copies, p)
		}
	}
	add(l.raw(b))
	for _, w := range wrecks {
		add(b.in(w))
	}
	return copies
}

// contiguous cuts runs, in any order and overlapping, into pieces without gaps.
func contiguous(runs []Run) (pieces [][]Run) {
	runs = slices.Clone(runs)
	slices.SortStableFunc(runs, func(a, b Run) int { return cmp.Compare(a.Seq, b.Seq) })
	var end uint64
	for _, r := range runs {
		n := len(pieces)
		switch {
		case n > 0 && r.end() <= end:
			continue
		case n > 0 && r.Seq <= end:
			pieces[n-1] = append(pieces[n-1], r.cut(end, r.end()))
		default:
			pieces = append(pieces, []Run{r})
		}
		end = r.end()
	}
	return pieces
}

// replaced tells whether the file is lost as a whole: it is missing, of another length, or another one.
func (l *Log) replaced(number uint32) bool {
	f, err := l.fs.OpenFile(l.path(number), os.O_RDONLY, 0)
	if err != nil {
		return errors.Is(err, fs.ErrNotExist)
	}
	defer f.Close()
	size, err := f.Size()
	if want := l.current().file(number); err != nil || want != nil && size != want.Size {
		return err == nil
	}
	head := make([]byte, fileHeader)
	n, _ := f.ReadAt(head, 0)
	return n < len(head) || !bytes.Equal(head, encodeFileHeader(&l.opt, number))
}
