package reflog

import (
	"encoding/binary"
	"math"
)

// An image is the directory of all files and the references that are in none, everything a varint (one that may be negative is
// marked ±):
//
//	version (1)
//	number of the next file
//	files; for each, by number:
//	    number - number before, size, CRC32C
//	main lanes; for each, by shard:
//	    shard - shard before, chunks
//	    for each chunk:
//	        position - position behind the chunk before ±, span, index - index before ±, indexes, time - time before ±,
//	        times, bytes, runs, file (0: the tail)
//	        in a file: offset, size, CRC32C; else: size, body
//	levels; for each, oldest first:
//	    file (0: none), runs, live, shift, base, weights, each weight
//	    blocks; for each:
//	        shard - shard before, lane ±, position, index, indexes, time ±, runs, lanes
//	        in a file: offset, size, CRC32C; else: size, body
//	    shards dropped since; for each: shard - shard before
//
// The file that carries the image has the checksum.
const imageVersion = 1

func encodeImage(v *view, numbers []uint32) []byte {
	u, i := binary.AppendUvarint, binary.AppendVarint
	b := append(make([]byte, 0, imageSize(v)), imageVersion)
	b = u(b, uint64(v.next))
	b = u(b, uint64(len(v.files)))
	before := uint32(0)
	for n, f := range v.files {
		b = u(b, uint64(numbers[n]-before))
		b = u(b, uint64(f.Size))
		b = u(b, uint64(f.CRC))
		before = numbers[n]
	}
	b = u(b, uint64(len(v.main)))
	shard := uint64(0)
	for _, m := range v.main {
		b = u(b, m.shard-shard)
		shard = m.shard
		b = u(b, uint64(len(m.chunks)))
		var p chunk
		for n := range m.chunks {
			c := &m.chunks[n]
			b = i(b, int64(c.seq-p.end()))
			b = u(b, uint64(c.span))
			b = i(b, int64(c.index-p.index))
			b = u(b, uint64(c.indexes))
			b = i(b, c.time-p.time)
			b = u(b, uint64(c.times))
			b = u(b, c.bytes)
			b = u(b, uint64(c.runs))
			b = u(b, uint64(c.file))
			b = appendSource(b, m.source(n))
			p = *c
		}
	}
	b = u(b, uint64(len(v.levels)))
	for _, lv := range v.levels {
		b = u(b, uint64(lv.file))
		b = u(b, lv.runs)
		b = u(b, lv.live)
		b = u(b, uint64(lv.shift))
		b = u(b, lv.base)
		b = u(b, uint64(len(lv.bytes)))
		for _, w := range lv.bytes {
			b = u(b, w)
		}
		b = u(b, uint64(len(lv.blocks)))
		shard := uint64(0)
		for n := range lv.blocks {
			e := &lv.blocks[n]
			b = u(b, e.key.Shard-shard)
			shard = e.key.Shard
			b = i(b, e.key.Lane)
			b = u(b, e.seq)
			b = u(b, e.index)
			b = u(b, uint64(e.indexes))
			b = i(b, e.time)
			b = u(b, uint64(e.runs))
			b = u(b, uint64(e.lanes))
			b = appendSource(b, lv.source(n))
		}
		b = u(b, uint64(len(lv.gone)))
		shard = 0
		for _, s := range lv.gone {
			b = u(b, s-shard)
			shard = s
		}
	}
	return b
}

func appendSource(b []byte, s source) []byte {
	if s.file == 0 {
		b = binary.AppendUvarint(b, uint64(len(s.body)))
		return append(b, s.body...)
	}
	b = binary.AppendUvarint(b, uint64(s.off))
	b = binary.AppendUvarint(b, uint64(s.size))
	return binary.AppendUvarint(b, uint64(s.checksum))
}

// imageSize is about how long the image will be.
func imageSize(v *view) int {
	n := 64 + 24*len(v.files)
	for _, m := range v.main {
		n += 8 + 40*len(m.chunks) + len(m.tail)
	}
	for _, lv := range v.levels {
		n += 64 + 4*len(lv.bytes) + 48*len(lv.blocks)
		for _, body := range lv.bodies {
			n += len(body)
		}
	}
	return n
}

func decodeImage(image []byte) (*view, error) {
	if len(image) == 0 || image[0] != imageVersion {
		return nil, errImage
	}
	d := imageDecoder{decoder: decoder{b: image[1:]}, files: make(map[uint32]int64)}
	v := &view{next: d.uint32()}
	d.readFiles(v)
	for n := d.count(); n > 0 && !d.bad; n-- {
		v.main = append(v.main, d.mainLane(v))
	}
	for n := d.count(); n > 0 && !d.bad; n-- {
		v.levels = append(v.levels, d.level())
	}
	if d.bad || len(d.b) != 0 || v.next == 0 {
		return nil, errImage
	}
	return v, nil
}

type imageDecoder struct {
	decoder
	files map[uint32]int64 // sizes by number
}

func (d *imageDecoder) readFiles(v *view) {
	number := uint64(0)
	for n := d.count(); n > 0 && !d.bad; n-- {
		step := d.uint32()
		number += uint64(step)
		size := d.upTo(math.MaxUint32)
		if step == 0 || number >= uint64(v.next) {
			d.fail()
			return
		}
		d.files[uint32(number)] = int64(size)
		v.files = append(v.files, File{Name: fileName(uint32(number)), Size: int64(size), CRC: d.uint32()})
	}
}

// place reads where the body of a block is; the memory of one that is in the image is not shared with it.
func (d *imageDecoder) place(file uint32) (s source) {
	s.file = file
	if file == 0 {
		s.body = append([]byte(nil), d.bytes()...)
		s.size = uint32(len(s.body))
		return s
	}
	s.off, s.size, s.checksum = d.uint32(), d.uint32(), d.uint32()
	size, ok := d.files[file]
	if !ok || s.size > 0 && int64(s.off)+blockHead+int64(s.size) > size || s.size > 1<<20 {
		d.fail()
	}
	return s
}

func (d *imageDecoder) mainLane(v *view) *mainLane {
	m := &mainLane{shard: d.uint()}
	if n := len(v.main); n > 0 {
		before := v.main[n-1].shard
		m.shard += before
		if m.shard <= before {
			d.fail()
		}
	}
	n := d.count()
	if n == 0 {
		d.fail()
	}
	var p chunk
	for ; n > 0 && !d.bad; n-- {
		c := chunk{seq: p.end() + uint64(d.int()), span: d.uint32()}
		c.index, c.indexes = p.index+uint64(d.int()), d.uint32()
		c.time, c.times = p.time+d.int(), d.uint32()
		c.bytes, c.runs = d.uint(), uint16(d.upTo(maxRuns))
		c.file = d.uint32()
		s := d.place(c.file)
		c.place(s)
		if c.end() <= c.seq || c.seq < p.end() || c.file == 0 && n != 1 || c.file != 0 && c.size == 0 {
			d.fail()
		}
		if c.file == 0 {
			m.tail = s.body
			d.checkTail(m.shard, &c, s.body)
		}
		m.chunks = append(m.chunks, c)
		p = c
	}
	return m
}

// checkTail makes sure that a tail is what its chunk says, because no checksum is between the two later on.
func (d *imageDecoder) checkTail(shard uint64, c *chunk, body []byte) {
	b, err := decodeBody(body)
	if err != nil || len(b.parts) != 1 || b.parts[0].key != (Key{Shard: shard}) {
		d.fail()
		return
	}
	is := chunkOf(b.runs)
	is.place(source{size: c.size})
	if is != *c {
		d.fail()
	}
}

func (d *imageDecoder) level() *level {
	lv := &level{file: d.uint32(), runs: d.uint(), live: d.uint()}
	lv.shift, lv.base = uint8(d.upTo(63)), d.uint()
	for n := d.upTo(min(maxWeights, uint64(len(d.b)))); n > 0; n-- {
		lv.bytes = append(lv.bytes, d.uint())
	}
	n := d.count()
	if n == 0 || len(lv.bytes) == 0 {
		d.fail()
	}
	shard, runs := uint64(0), uint64(0)
	for ; n > 0 && !d.bad; n-- {
		e := entry{key: Key{Shard: shard + d.uint(), Lane: d.int()}, seq: d.uint(), index: d.uint(), indexes: d.uint32()}
		e.time, e.runs, e.lanes = d.int(), uint16(d.upTo(maxRuns)), uint16(d.upTo(maxRuns))
		s := d.place(lv.file)
		e.off, e.size, e.checksum = s.off, s.size, s.checksum
		if lv.file == 0 {
			lv.bodies = append(lv.bodies, s.body)
			d.checkBlock(&e, s.body)
		}
		lv.holes = lv.holes || e.size == 0
		d.checkOrder(lv, &e)
		lv.blocks = append(lv.blocks, e)
		shard, runs = e.key.Shard, runs+uint64(e.runs)
	}
	shard = 0
	for n := d.count(); n > 0 && !d.bad; n-- {
		step := d.uint()
		if shard += step; step == 0 && len(lv.gone) > 0 || shard < step {
			d.fail()
		}
		lv.gone = append(lv.gone, shard)
	}
	if runs != lv.runs || lv.live > lv.runs {
		d.fail()
	}
	return lv
}

// checkOrder makes sure that an entry lies behind those before it and within the weights.
func (d *imageDecoder) checkOrder(lv *level, e *entry) {
	if n := len(lv.blocks); n > 0 {
		if p := &lv.blocks[n-1]; !(p.key.less(e.key) || p.key == e.key && p.seq <= e.seq) {
			d.fail()
		}
	}
	if e.last() < e.index || e.index>>lv.shift < lv.base || e.last()>>lv.shift-lv.base >= uint64(len(lv.bytes)) {
		d.fail()
	}
	if (e.size == 0) != (e.runs == 0) {
		d.fail()
	}
}

// checkBlock makes sure that a block in memory is what its entry says. A hole is no block.
func (d *imageDecoder) checkBlock(e *entry, body []byte) {
	if len(body) == 0 {
		return
	}
	b, err := decodeBody(body)
	if err != nil || len(b.runs) != int(e.runs) || len(b.parts) != int(e.lanes) ||
		b.parts[0].key != e.key || b.runs[0].Seq != e.seq {
		d.fail()
		return
	}
	is := entry{index: b.runs[0].Index, time: b.runs[0].Time}
	for i := range b.runs {
		if !is.covers(&b.runs[i]) {
			d.fail()
			return
		}
		is.cover(&b.runs[i])
	}
	if is.index != e.index || is.indexes != e.indexes || is.time != e.time {
		d.fail()
	}
}
