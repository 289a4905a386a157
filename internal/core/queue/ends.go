package queue

import (
	"slices"

	"github.com/tidwall/btree"
)

// ends says when the locks of the flights end. Flights that end at the same moment are one entry, and those handed out
// together one span of counters in it: a hundred messages of one receive cost as much as one. A flight that goes
// earlier, or whose lock is moved, is only counted off; with the last one its entry goes.
type ends struct {
	at   btree.Map[int64, *end] // by deadline
	last *end                   // in at; used last. nil: none
}

// end is one moment at which locks end.
//
// Invariant: n > 0; the flights with this deadline are among the counters in the spans, which ascend and do not touch.
type end struct {
	deadline int64
	n        int
	spans    []span
	one      [1]span // backs spans as long as there is one
}

// find gives the entry of a moment, nil if there is none.
func (e *ends) find(deadline int64) *end {
	if e.last == nil || e.last.deadline != deadline {
		e.last, _ = e.at.Get(deadline)
	}
	return e.last
}

// add takes the end of a lock.
func (e *ends) add(deadline int64, counter uint64) {
	at := e.find(deadline)
	if at == nil {
		at = &end{deadline: deadline}
		at.spans = at.one[:0]
		e.at.Set(deadline, at)
		e.last = at
	}
	at.n++
	at.include(counter)
}

// include puts a counter into the spans; almost always it is higher than all in them.
func (at *end) include(counter uint64) {
	i := len(at.spans)
	if i > 0 && counter < at.spans[i-1].hi {
		i, _ = slices.BinarySearchFunc(at.spans, counter, func(s span, c uint64) int {
			if s.hi > c {
				return 1
			}
			return -1
		})
		if at.spans[i].lo <= counter {
			return // it was here before, and its lock has been moved away and back
		}
	}
	before := i > 0 && at.spans[i-1].hi == counter
	after := i < len(at.spans) && at.spans[i].lo == counter+1
	switch {
	case before && after:
		at.spans[i-1].hi = at.spans[i].hi
		at.spans = slices.Delete(at.spans, i, i+1)
	case before:
		at.spans[i-1].hi++
	case after:
		at.spans[i].lo--
	default:
		at.spans = slices.Insert(at.spans, i, span{counter, counter + 1})
	}
}

// remove counts off a flight with this deadline.
func (e *ends) remove(deadline int64) {
	at := e.find(deadline)
	if at.n--; at.n == 0 {
		e.at.Delete(deadline)
		e.last = nil
	}
}

// next passes over the first counter whose deadline is not after now and gives both; its flight may have gone before, or
// have another deadline.
func (e *ends) next(now int64) (counter uint64, deadline int64, ok bool) {
	_, at, ok := e.at.Min()
	if !ok || at.deadline > now {
		return 0, 0, false
	}
	s := &at.spans[0]
	counter = s.lo
	if s.lo++; s.lo == s.hi {
		at.spans = at.spans[1:]
	}
	return counter, at.deadline, true
}

// until visits, by (deadline, counter), the counters whose deadline is not after now, until visit returns false; the
// flights of some may have gone, or have another deadline.
func (e *ends) until(now int64, visit func(counter uint64, deadline int64) bool) {
	e.at.Scan(func(deadline int64, at *end) bool {
		if deadline > now {
			return false
		}
		for _, s := range at.spans {
			for c := s.lo; c < s.hi; c++ {
				if !visit(c, deadline) {
					return false
				}
			}
		}
		return true
	})
}

// count is how many flights have a deadline that is not after now.
func (e *ends) count(now int64) (n int) {
	e.at.Scan(func(deadline int64, at *end) bool {
		if deadline > now {
			return false
		}
		n += at.n
		return true
	})
	return n
}

// after gives the first deadline after now, 0 if there is none.
func (e *ends) after(now int64) (next int64) {
	e.at.Ascend(now, func(deadline int64, _ *end) bool {
		if deadline > now {
			next = deadline
		}
		return next == 0
	})
	return next
}
