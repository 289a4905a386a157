package reflog

import (
	"math"
	"sort"
)

func (k Key) less(o Key) bool {
	return k.Shard < o.Shard || k.Shard == o.Shard && k.Lane < o.Lane
}

// end is the position behind the run.
func (r *Run) end() uint64 { return r.Seq + uint64(r.N) }

// ref is where the message at a position of the run is.
func (r *Run) ref(seq uint64) Ref {
	return Ref{Index: r.Index, Slot: r.Slot + uint16(seq-r.Seq), Time: r.Time, Bytes: r.Bytes / uint32(r.N)}
}

// cut is what of the run lies in [lo, hi), of which it must have something; the bytes in proportion.
func (r *Run) cut(lo, hi uint64) Run {
	c := *r
	if c.Seq < lo {
		c.Slot += uint16(lo - c.Seq)
		c.N -= uint16(lo - c.Seq)
		c.Seq = lo
	}
	if c.end() > hi {
		c.N = uint16(hi - c.Seq)
	}
	if c.N != r.N {
		c.Bytes = uint32(uint64(r.Bytes) * uint64(c.N) / uint64(r.N))
	}
	return c
}

// from is the runs that end behind seq.
func from(runs []Run, seq uint64) []Run {
	return runs[sort.Search(len(runs), func(i int) bool { return runs[i].end() > seq }):]
}

// older is how many of the runs were sent before time.
func older(runs []Run, time int64) int {
	return sort.Search(len(runs), func(i int) bool { return runs[i].Time >= time })
}

// inOrder reports whether the runs can be those of the lane. In a main lane a message may have been stored long before it
// got its position, so indexes are in no order there.
func inOrder(k Key, runs []Run) bool {
	var before Run
	for i := range runs {
		r := &runs[i]
		if r.N == 0 || r.end() < r.Seq || r.Seq < before.end() || k.Lane != 0 && r.Index < before.Index || i > 0 && r.Time < before.Time {
			return false
		}
		before = *r
	}
	return true
}

// cutTo is what of the runs lies in [lo, hi).
func cutTo(runs []Run, lo, hi uint64) []Run {
	var out []Run
	for _, r := range from(runs, lo) {
		if r.Seq >= hi {
			break
		}
		out = append(out, r.cut(lo, hi))
	}
	return out
}

// fits reports whether a chunk that begins with first can end with a run that ends at seq and time, and have the indexes
// [lo, hi].
func fits(first *Run, seq uint64, time int64, lo, hi uint64) bool {
	return seq-first.Seq <= math.MaxUint32 && time >= first.Time && time-first.Time <= math.MaxUint32 && hi-lo <= math.MaxUint32
}
