package queue

import "slices"

// span is the positions [lo, hi).
type span struct{ lo, hi uint64 }

// spans is a set of positions: sorted, disjoint, not touching, none empty. n is how many positions it has.
// Lists are never changed in place, so copies may share them.
type spans struct {
	list []span
	n    uint64
}

// newSpans makes a set of spans in any order, which it may overwrite.
func newSpans(list []span) spans {
	slices.SortFunc(list, func(a, b span) int {
		switch {
		case a.lo < b.lo:
			return -1
		case a.lo > b.lo:
			return 1
		}
		return 0
	})
	out := list[:0]
	for _, p := range list {
		switch last := len(out) - 1; {
		case p.lo >= p.hi:
		case last >= 0 && p.lo <= out[last].hi:
			out[last].hi = max(out[last].hi, p.hi)
		default:
			out = append(out, p)
		}
	}
	s := spans{list: out}
	for _, p := range out {
		s.n += p.hi - p.lo
	}
	return s
}

// from is the part of the set at or above lo.
func (s spans) from(lo uint64) spans {
	for len(s.list) > 0 && s.list[0].hi <= lo {
		s.n -= s.list[0].hi - s.list[0].lo
		s.list = s.list[1:]
	}
	if len(s.list) > 0 && s.list[0].lo < lo {
		s.n -= lo - s.list[0].lo
		s.list = slices.Clone(s.list)
		s.list[0].lo = lo
	}
	if len(s.list) == 0 {
		return spans{}
	}
	return s
}

// pass gives the first position at or above at that is not in the set, and the part of the set above it. No
// position of the set may be below at.
func (s spans) pass(at uint64) (uint64, spans) {
	if len(s.list) == 0 || s.list[0].lo != at {
		return at, s
	}
	at = s.list[0].hi
	return at, s.from(at)
}

// union is the positions in any of the sets.
func union(sets ...spans) spans {
	var list []span
	for _, s := range sets {
		list = append(list, s.list...)
	}
	return newSpans(list)
}

// minus is the positions of s that are not in t.
func (s spans) minus(t spans) spans {
	var list []span
	for _, p := range s.list {
		for len(t.list) > 0 && t.list[0].hi <= p.lo {
			t.list = t.list[1:]
		}
		for _, q := range t.list {
			if q.lo >= p.hi {
				break
			}
			list = append(list, span{p.lo, q.lo})
			p.lo = min(q.hi, p.hi)
		}
		list = append(list, p)
	}
	return newSpans(slices.DeleteFunc(list, func(p span) bool { return p.lo >= p.hi }))
}
