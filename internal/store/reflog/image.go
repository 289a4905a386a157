package reflog

import (
	"encoding/binary"
	"errors"
)

// An image is all lanes, ascending by shard and due time, everything a varint:
//
//	version (1)
//	number of shards
//	  shard, number of lanes
//	    due time (zigzag), number of runs
//	      seq - end of the run before, index - index before, time - time before (zigzag), slot, n
//
// The file that carries the image has the checksum.
const imageVersion = 1

var errImage = errors.New("reflog: the image is damaged or of another version")

// AppendImage appends the encoded map to b.
func (l *Log) AppendImage(b []byte) []byte {
	b = append(b, imageVersion)
	b = binary.AppendUvarint(b, uint64(len(l.shards)))
	for _, shard := range sortedKeys(l.shards) {
		lanes := l.shards[shard]
		b = binary.AppendUvarint(b, shard)
		b = binary.AppendUvarint(b, uint64(len(lanes)))
		for _, due := range sortedKeys(lanes) {
			b = binary.AppendVarint(b, due)
			b = appendRuns(b, lanes[due].live())
		}
	}
	return b
}

func appendRuns(b []byte, runs []run) []byte {
	b = binary.AppendUvarint(b, uint64(len(runs)))
	var end, index uint64
	var time int64
	for _, r := range runs {
		b = binary.AppendUvarint(b, r.seq-end)
		b = binary.AppendUvarint(b, r.index-index)
		b = binary.AppendVarint(b, r.time-time)
		b = binary.AppendUvarint(b, uint64(r.slot))
		b = binary.AppendUvarint(b, uint64(r.n))
		end, index, time = r.seq+uint64(r.n), r.index, r.time
	}
	return b
}

// ParseImage decodes what AppendImage wrote.
func ParseImage(data []byte) (*Log, error) {
	d := decoder{b: data}
	if d.byte() != imageVersion {
		return nil, errImage
	}
	l := New()
	for range d.count() {
		shard := d.uint()
		lanes := make(map[int64]*lane)
		l.shards[shard] = lanes
		for range d.count() {
			due := d.int()
			runs := d.runs()
			lanes[due] = &lane{runs: runs}
			l.runs += len(runs)
		}
	}
	if d.bad || len(d.b) != 0 {
		return nil, errImage
	}
	return l, nil
}

type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) byte() byte {
	if len(d.b) == 0 {
		d.bad = true
		return 0
	}
	v := d.b[0]
	d.b = d.b[1:]
	return v
}

func (d *decoder) uint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.bad, d.b = true, nil
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) int() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.bad, d.b = true, nil
		return 0
	}
	d.b = d.b[n:]
	return v
}

// count is a number of things of at least one byte each, so that damage cannot ask for endless memory.
func (d *decoder) count() int {
	v := d.uint()
	if v > uint64(len(d.b)) {
		d.bad, d.b = true, nil
		return 0
	}
	return int(v)
}

func (d *decoder) runs() []run {
	n := d.count()
	runs := make([]run, 0, n)
	var end, index uint64
	var time int64
	for range n {
		r := run{seq: end + d.uint(), index: index + d.uint(), time: time + d.int()}
		slot, count := d.uint(), d.uint()
		if slot > 1<<16-1 || count == 0 || count > 1<<16-1 || d.bad {
			d.bad = true
			return nil
		}
		r.slot, r.n = uint16(slot), uint16(count)
		runs = append(runs, r)
		end, index, time = r.seq+count, r.index, r.time
	}
	return runs
}
