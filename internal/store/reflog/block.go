package reflog

import (
	"encoding/binary"
	"errors"
	"math"
	"sort"
)

// maxRuns is how many runs a chunk or a block has at most: some 6 KiB on the disk and 32 KiB in memory. Less would make
// the directory in memory larger, more would make every look-up on the disk read more.
const maxRuns = 1024

// A body is the runs of one lane or of several, in the order of shards, lanes and positions. Every run:
//
//	uvarint  n<<2, + 1 if the lane is another one than that of the run before, + 2 if the position is not the next one
//	         (+ 1) uvarint  shard - shard before
//	               varint   lane - lane before; lane, if the shard is another one
//	         (+ 2) varint   position - position behind the run before
//	varint   index - index before
//	varint   time - time before
//	varint   bytes - bytes before
//	uvarint  slot
//
// What is before the first run is all 0, and its lane is always given. Whoever stores a body adds a checksum.
type encoder struct {
	body  []byte
	key   Key
	prev  Run
	runs  int
	lanes int
}

func (e *encoder) reset() { *e = encoder{body: e.body[:0]} }

func (e *encoder) add(k Key, r Run) {
	another, next := e.runs == 0 || k != e.key, e.prev.Seq+uint64(e.prev.N)
	head := uint64(r.N) << 2
	if another {
		head |= 1
	}
	if r.Seq != next {
		head |= 2
	}
	b := binary.AppendUvarint(e.body, head)
	if another {
		b = binary.AppendUvarint(b, k.Shard-e.key.Shard)
		lane := k.Lane
		if k.Shard == e.key.Shard {
			lane -= e.key.Lane
		}
		b = binary.AppendVarint(b, lane)
		e.key = k
		e.lanes++
	}
	if r.Seq != next {
		b = binary.AppendVarint(b, int64(r.Seq-next))
	}
	b = binary.AppendVarint(b, int64(r.Index-e.prev.Index))
	b = binary.AppendVarint(b, r.Time-e.prev.Time)
	b = binary.AppendVarint(b, int64(r.Bytes)-int64(e.prev.Bytes))
	e.body = binary.AppendUvarint(b, uint64(r.Slot))
	e.prev = r
	e.runs++
}

// encodeLane is the body of one lane's runs.
func encodeLane(k Key, runs []Run) []byte {
	var e encoder
	for _, r := range runs {
		e.add(k, r)
	}
	return e.body
}

// part is where the runs of a lane begin in a block.
type part struct {
	key   Key
	first int
}

// block is a decoded body. It is never changed.
type block struct {
	parts []part
	runs  []Run
}

// size is about how many bytes of memory the block takes.
func (b *block) size() int64 { return int64(32*len(b.runs)+24*len(b.parts)) + 128 }

// of is the runs of a lane.
func (b *block) of(k Key) []Run {
	i := sort.Search(len(b.parts), func(i int) bool { return !b.parts[i].key.less(k) })
	if i == len(b.parts) || b.parts[i].key != k {
		return nil
	}
	if i+1 < len(b.parts) {
		return b.runs[b.parts[i].first:b.parts[i+1].first]
	}
	return b.runs[b.parts[i].first:]
}

var errBody = errors.New("the references do not make sense")

// decodeBody reads a body back. It takes nothing for granted but the size of what it is given.
func decodeBody(body []byte) (*block, error) {
	const least = 5 // bytes of a run
	b := &block{runs: make([]Run, 0, min(len(body)/least, maxRuns))}
	d := decoder{b: body}
	var key Key
	var prev Run
	for len(d.b) > 0 {
		head := d.uint()
		if head&1 != 0 {
			was := key
			key.Shard += d.uint()
			if lane := d.int(); key.Shard == was.Shard {
				key.Lane += lane
			} else {
				key.Lane = lane
			}
			if len(b.parts) > 0 && !was.less(key) {
				return nil, errBody
			}
			b.parts = append(b.parts, part{key: key, first: len(b.runs)})
		}
		seq := prev.Seq + uint64(prev.N)
		if head&2 != 0 {
			seq += uint64(d.int())
		}
		r := Run{Seq: seq, Index: prev.Index + uint64(d.int()), Time: prev.Time + d.int()}
		bytes, slot, n := int64(prev.Bytes)+d.int(), d.uint(), head>>2
		switch {
		case d.bad, len(b.parts) == 0, n == 0, n > math.MaxUint16, slot > math.MaxUint16, slot+n > math.MaxUint16+1,
			bytes < 0, bytes > math.MaxUint32, seq > math.MaxUint64-n, len(b.runs) == maxRuns,
			head&1 == 0 && seq < prev.Seq+uint64(prev.N):
			return nil, errBody
		}
		r.Bytes, r.Slot, r.N = uint32(bytes), uint16(slot), uint16(n)
		b.runs = append(b.runs, r)
		prev = r
	}
	if len(b.runs) == 0 {
		return nil, errBody
	}
	return b, nil
}

// decoder reads varints. Once it is bad it reads zeros.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) fail() { d.bad, d.b = true, nil }

func (d *decoder) uint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) int() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

// upTo is a number that may not be larger than limit.
func (d *decoder) upTo(limit uint64) uint64 {
	v := d.uint()
	if v > limit {
		d.fail()
		return 0
	}
	return v
}

func (d *decoder) uint32() uint32 { return uint32(d.upTo(math.MaxUint32)) }

// count is a number of things of at least one byte each, so that damage cannot ask for endless memory.
func (d *decoder) count() int {
	v := d.uint()
	if v > uint64(len(d.b)) {
		d.fail()
		return 0
	}
	return int(v)
}

func (d *decoder) bytes() []byte {
	n := d.count()
	p := d.b[:n:n]
	d.b = d.b[n:]
	return p
}
