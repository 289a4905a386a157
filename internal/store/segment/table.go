package segment

import (
	"slices"
	"sort"
)

// table says which entries a segment holds, where, and of which terms: 4 bytes an entry and 16 a change of term.
//
// An entry that was promised and cannot be read has offset 0 and, if nothing says it, term 0: it is lost.
//
// Invariant: the entries are contiguous from first; offsets grow.
type table struct {
	first    uint64
	prevTerm uint64   // of the entry before first; 0: not known
	offsets  []uint32 // of entry first+i, in units of align
	runs     []run    // first run begins at first if there are entries
}

// run is a stretch of entries of one term, up to the next run.
type run struct{ first, term uint64 }

func (t *table) clone() table {
	c := *t
	c.offsets, c.runs = slices.Clone(t.offsets), slices.Clone(t.runs)
	return c
}

func (t *table) last() uint64 { return t.first + uint64(len(t.offsets)) - 1 }

func (t *table) offset(index uint64) int64 { return int64(t.offsets[index-t.first]) * align }

func (t *table) term(index uint64) uint64 {
	i := sort.Search(len(t.runs), func(i int) bool { return t.runs[i].first > index })
	return t.runs[i-1].term
}

func (t *table) add(index, term uint64, off int64) {
	if index != t.last()+1 {
		panic("BUG: a segment's entries are not contiguous")
	}
	t.offsets = append(t.offsets, uint32(off/align))
	if n := len(t.runs); n == 0 || t.runs[n-1].term != term {
		t.runs = append(t.runs, run{index, term})
	}
}

// truncate forgets the entries from index on. prevTerm is the term of the entry before index.
func (t *table) truncate(index, prevTerm uint64) {
	if index > t.last() {
		return
	}
	if index <= t.first {
		*t = table{first: index, prevTerm: prevTerm}
		return
	}
	t.offsets = t.offsets[:index-t.first]
	for len(t.runs) > 0 && t.runs[len(t.runs)-1].first >= index {
		t.runs = t.runs[:len(t.runs)-1]
	}
}

// limit is truncate for an older segment when a newer one begins at index; an empty one moves along, so that the
// segments' first entries never decrease.
func (t *table) limit(index, prevTerm uint64) {
	t.truncate(index, prevTerm)
	if t.first > index {
		t.first, t.prevTerm = index, prevTerm
	}
}

// lose notes that the entry is lost. It may be the one behind the last.
func (t *table) lose(index uint64) {
	if index == t.last()+1 {
		t.offsets = append(t.offsets, 0)
		if n := len(t.runs); n == 0 || t.runs[n-1].term != 0 {
			t.runs = append(t.runs, run{index, 0})
		}
		return
	}
	t.offsets[index-t.first] = 0
}

func (t *table) lost(index uint64) bool { return t.offsets[index-t.first] == 0 }

// holes lists the lost entries, [lo, hi) each.
func (t *table) holes() (list [][2]uint64) {
	for i := t.first; i <= t.last(); i++ {
		if !t.lost(i) {
			continue
		}
		if n := len(list); n > 0 && list[n-1][1] == i {
			list[n-1][1]++
		} else {
			list = append(list, [2]uint64{i, i + 1})
		}
	}
	return list
}
