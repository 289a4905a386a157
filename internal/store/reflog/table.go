package reflog

import (
	"slices"
	"sort"
)

const pageRuns = 512 // runs of a lane that lie together; no Add copies more than that

// table is what was added between two freezes.
type table struct {
	lanes lanes

	// dropped says for shards that were dropped up to which index of the log: what was added up to then is gone, in this
	// table and everywhere before it.
	dropped map[uint64]uint64

	delayed uint64 // runs not in main lanes
	lo, hi  uint64 // their indexes, [lo, hi]
	size    int64  // bytes of memory, about

	newest *lane // the one added to last
}

// lane is runs in the order of their positions. The first one has its own place: most delayed lanes have no other.
type lane struct {
	key  Key
	one  [1]Run
	rest [][]Run
}

func newTable() *table { return &table{lanes: newLanes(), dropped: make(map[uint64]uint64)} }

func (t *table) lane(k Key) *lane { return t.lanes.get(k) }

// laneBytes is about the memory of a lane with one run, its place in the hash table included.
const laneBytes = 88

func (t *table) add(k Key, r Run) {
	ln := t.newest
	if ln == nil || k != ln.key {
		ln = t.lane(k)
	}
	if len(t.dropped) > 0 && ln != nil {
		// A shard that comes back counts its positions from the beginning.
		if upTo, ok := t.dropped[k.Shard]; ok && ln.last().Index <= upTo {
			ln = nil
		}
	}
	switch {
	case ln == nil:
		ln = t.lanes.set(k)
		ln.one[0] = r
		t.size += laneBytes
	case ln.extend(&r):
		t.newest = ln
		return
	default:
		ln.append(r)
		t.size += 32
	}
	t.newest = ln
	if k.Lane == 0 {
		return
	}
	if t.delayed == 0 {
		t.lo = r.Index
	}
	t.lo, t.hi = min(t.lo, r.Index), max(t.hi, r.Index)
	t.delayed++
}

func (ln *lane) last() *Run {
	if n := len(ln.rest); n > 0 {
		p := ln.rest[n-1]
		return &p[len(p)-1]
	}
	return &ln.one[0]
}

// extend puts r into the last run, if it goes on where that ends. Messages of one entry may be sent at different times: those that were
// prepared together are sent when each is committed.
func (ln *lane) extend(r *Run) bool {
	l := ln.last()
	if l.Index != r.Index || l.Time != r.Time || l.end() != r.Seq || int(l.Slot)+int(l.N) != int(r.Slot) || int(l.N)+int(r.N) > 1<<16-1 {
		return false
	}
	l.N += r.N
	l.Bytes += r.Bytes
	return true
}

func (ln *lane) append(r Run) {
	n := len(ln.rest)
	if n == 0 || len(ln.rest[n-1]) == pageRuns {
		ln.rest = append(ln.rest, make([]Run, 0, min(pageRuns, 1<<min(2*n, 16))))
		n++
	}
	ln.rest[n-1] = append(ln.rest[n-1], r)
}

// parts calls f for the runs of the lane, piece by piece in order, until it returns false.
func (ln *lane) parts(f func([]Run) bool) {
	if !f(ln.one[:]) {
		return
	}
	for _, p := range ln.rest {
		if !f(p) {
			return
		}
	}
}

// find is the first run for which is holds, which then holds for all behind it; nil: there is none.
func (ln *lane) find(is func(*Run) bool) *Run {
	if is(&ln.one[0]) {
		return &ln.one[0]
	}
	i := sort.Search(len(ln.rest), func(i int) bool { return is(&ln.rest[i][len(ln.rest[i])-1]) })
	if i == len(ln.rest) {
		return nil
	}
	p := ln.rest[i]
	return &p[sort.Search(len(p), func(j int) bool { return is(&p[j]) })]
}

// before is the last run for which is does not hold.
func (ln *lane) before(is func(*Run) bool) *Run {
	if is(&ln.one[0]) {
		return nil
	}
	i := sort.Search(len(ln.rest), func(i int) bool { return is(&ln.rest[i][0]) })
	if i == 0 {
		return &ln.one[0]
	}
	p := ln.rest[i-1]
	return &p[sort.Search(len(p), func(j int) bool { return is(&p[j]) })-1]
}

// snapshot is the runs as they are now. Only the last run and what is behind it ever changes.
func (ln *lane) snapshot() [][]Run {
	last := *ln.last()
	n := len(ln.rest)
	if n == 0 {
		return [][]Run{{last}}
	}
	out := append(make([][]Run, 0, n+2), []Run{ln.one[0]})
	out = append(out, ln.rest...)
	out[n] = out[n][:len(out[n])-1]
	return append(out, []Run{last})
}

// keys are those of all lanes in the tables, ascending.
func keys(tables []*table) []Key {
	n := 0
	for _, t := range tables {
		n += t.lanes.n
	}
	all := make([]Key, 0, n)
	for _, t := range tables {
		all = t.lanes.keys(all)
	}
	slices.SortFunc(all, func(a, b Key) int {
		switch {
		case a.less(b):
			return -1
		case b.less(a):
			return 1
		}
		return 0
	})
	return slices.Compact(all)
}

// fate says what of a shard was dropped.
type fate struct {
	dropped bool
	index   uint64 // what was added up to here is gone, and all that was there before the oldest table
}

func fateOf(tables []*table, shard uint64) (f fate) {
	for _, t := range tables {
		if len(t.dropped) == 0 {
			continue
		}
		if index, ok := t.dropped[shard]; ok {
			f = fate{dropped: true, index: max(index, f.index)}
		}
	}
	return f
}

// gone reports whether the run is of before a drop.
func (f fate) gone(r *Run) bool { return f.dropped && r.Index <= f.index }
