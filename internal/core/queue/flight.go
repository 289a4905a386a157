package queue

import (
	"cmp"
	"slices"
)

// flight is one message in flight: delivered, locked, not yet deleted.
type flight struct {
	counter  uint64 // of the delivery, from 1; the handle is made of it
	seq      uint64
	lane     int64
	deadline int64 // Unix milliseconds: the lock holds before it
	first    int64 // time of the first delivery
	count    uint32
}

// end says when a flight's lock ends. It outlives the flight if that is deleted earlier.
type end struct {
	deadline int64
	counter  uint64
	slot     uint32
}

func (e end) before(f end) bool {
	return e.deadline < f.deadline || e.deadline == f.deadline && e.counter < f.counter
}

// flights is the in-flight table: flights by counter and their ends in order of time. The layout depends on
// its history and must not show: everything that leaves it is ordered by counter or by (deadline, counter).
//
// The slab keeps flights free of pointers and in place, so that the heap refers to them by slot. Deleting a
// flight leaves its end in the heap, where it is passed over later: most messages are deleted long before
// their lock ends, and then no end is ever sifted.
type flights struct {
	slab  []flight // counter 0: free
	free  []uint32
	index map[uint64]uint32 // counter → slot
	ends  []end             // binary heap
}

// keep is how large an empty table may stay: an idle queue should not hold the memory of its busiest hour.
const keep = 4096

func (t *flights) len() int { return len(t.index) }

// add takes a flight with a counter higher than all before.
func (t *flights) add(f flight) {
	if t.index == nil {
		t.index = make(map[uint64]uint32)
	}
	var slot uint32
	if n := len(t.free); n > 0 {
		slot, t.free = t.free[n-1], t.free[:n-1]
		t.slab[slot] = f
	} else {
		slot = uint32(len(t.slab))
		t.slab = append(t.slab, f)
	}
	t.index[f.counter] = slot
	if len(t.ends) >= 2*len(t.index)+64 {
		t.compact()
	}
	t.push(end{f.deadline, f.counter, slot})
}

// remove takes the flight with this counter out.
func (t *flights) remove(counter uint64) (flight, bool) {
	slot, ok := t.index[counter]
	if !ok {
		return flight{}, false
	}
	f := t.slab[slot]
	t.release(slot)
	return f, true
}

func (t *flights) release(slot uint32) {
	delete(t.index, t.slab[slot].counter)
	t.slab[slot].counter = 0
	if len(t.index) == 0 && len(t.slab) > keep {
		*t = flights{}
		return
	}
	t.free = append(t.free, slot)
}

// live reports whether the end belongs to a flight that is still there.
func (t *flights) live(e end) bool {
	return int(e.slot) < len(t.slab) && t.slab[e.slot].counter == e.counter
}

// top gives the next end, dropping those whose flight is gone.
func (t *flights) top() (end, bool) {
	for len(t.ends) > 0 {
		if t.live(t.ends[0]) {
			return t.ends[0], true
		}
		t.pop()
	}
	return end{}, false
}

// expire takes out the next flight whose lock has ended at now.
func (t *flights) expire(now int64) (flight, bool) {
	e, ok := t.top()
	if !ok || e.deadline > now {
		return flight{}, false
	}
	f := t.slab[e.slot]
	t.release(e.slot)
	return f, true
}

// ended visits the flights whose lock has ended at now, in no particular order, and gives the first deadline
// after now, 0 if there is none. Only the part of the heap up to there is looked at.
func (t *flights) ended(now int64, visit func(*flight)) (next int64) {
	if e, ok := t.top(); !ok {
		return 0
	} else if e.deadline > now {
		return e.deadline
	}
	var walk func(i int)
	walk = func(i int) {
		if i >= len(t.ends) {
			return
		}
		e := t.ends[i]
		if e.deadline > now {
			if next == 0 || e.deadline < next {
				next = e.deadline
			}
			return
		}
		if t.live(e) {
			visit(&t.slab[e.slot])
		}
		walk(2*i + 1)
		walk(2*i + 2)
	}
	walk(0)
	return next
}

// each visits all flights in no particular order.
func (t *flights) each(visit func(*flight)) {
	for i := range t.slab {
		if t.slab[i].counter != 0 {
			visit(&t.slab[i])
		}
	}
}

// sorted lists all flights by counter.
func (t *flights) sorted() []flight {
	list := make([]flight, 0, t.len())
	t.each(func(f *flight) { list = append(list, *f) })
	slices.SortFunc(list, func(a, b flight) int { return cmp.Compare(a.counter, b.counter) })
	return list
}

// compact drops the ends whose flights are gone.
func (t *flights) compact() {
	t.ends = slices.DeleteFunc(t.ends, func(e end) bool { return !t.live(e) })
	for i := len(t.ends)/2 - 1; i >= 0; i-- {
		t.sink(i)
	}
}

func (t *flights) push(e end) {
	t.ends = append(t.ends, e)
	i := len(t.ends) - 1
	for i > 0 {
		parent := (i - 1) / 2
		if !e.before(t.ends[parent]) {
			break
		}
		t.ends[i] = t.ends[parent]
		i = parent
	}
	t.ends[i] = e
}

func (t *flights) pop() {
	last := len(t.ends) - 1
	t.ends[0] = t.ends[last]
	t.ends = t.ends[:last]
	if last > 1 {
		t.sink(0)
	}
}

func (t *flights) sink(i int) {
	e, n := t.ends[i], len(t.ends)
	for {
		child := 2*i + 1
		if child >= n {
			break
		}
		if right := child + 1; right < n && t.ends[right].before(t.ends[child]) {
			child = right
		}
		if !t.ends[child].before(e) {
			break
		}
		t.ends[i] = t.ends[child]
		i = child
	}
	t.ends[i] = e
}
