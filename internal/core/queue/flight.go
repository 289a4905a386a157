package queue

import (
	"cmp"
	"math/bits"
	"slices"

	"github.com/opencmq/cmq/internal/mutant"
)

// flight is one message in flight: delivered, locked, not yet deleted.
type flight struct {
	counter  uint64 // of the delivery, from 1; the handle is made of it
	seq      uint64
	lane     int64
	deadline int64 // Unix milliseconds: the lock holds before it
	first    int64 // time of the first delivery
	count    uint32
	seen     uint32 // the walk over the ends that met it last; of no meaning elsewhere
}

// end says when a flight's lock ends. It outlives the flight if that is deleted earlier, and its own meaning if the
// flight's deadline is moved: only an end whose deadline is the flight's counts.
type end struct {
	deadline int64
	counter  uint64
}

func (e end) before(f end) bool {
	return e.deadline < f.deadline || e.deadline == f.deadline && e.counter < f.counter
}

// flights is the in-flight table: flights by counter and their ends in order of time. The layout depends on
// its history and must not show: everything that leaves it is ordered by counter or by (deadline, counter).
//
// The table is open addressing with linear probing, and has no pointers. Sixteen consecutive counters share a
// hash and lie side by side, because they are handed out together and mostly deleted together. Deleting a
// flight leaves its end in the heap, where it is passed over later: most messages are deleted long before
// their lock ends, and then no end is ever sifted.
type flights struct {
	table []flight // counter 0: free; the length is a power of two
	n     int
	shift int   // makes a hash of groups out of 64 bits
	ends  []end // binary heap
	walk  uint32
}

const (
	group = 16      // consecutive counters that lie side by side
	keep  = 1 << 13 // how large an empty table may stay: an idle queue should not hold the memory of its busiest hour
	phi   = 0x9E3779B97F4A7C15
)

func (t *flights) len() int { return t.n }

// home is where the flight with this counter lies if nothing is in the way.
func (t *flights) home(counter uint64) int {
	return int(counter/group*phi>>t.shift*group | counter%group)
}

// find gives the place of the flight with this counter.
func (t *flights) find(counter uint64) (int, bool) {
	if t.n == 0 || counter == 0 {
		return 0, false
	}
	mask := len(t.table) - 1
	for i := t.home(counter); ; i = (i + 1) & mask {
		switch t.table[i].counter {
		case counter:
			return i, true
		case 0:
			return 0, false
		}
	}
}

// add takes a flight with a counter higher than all before.
func (t *flights) add(f flight) {
	if t.n >= len(t.table)/4*3 {
		t.grow()
	}
	t.put(f)
	t.n++
	t.pushEnd(end{f.deadline, f.counter})
}

// move gives the flight with this counter another deadline.
func (t *flights) move(counter uint64, deadline int64) bool {
	i, ok := t.find(counter)
	if !ok {
		return false
	}
	if t.table[i].deadline != deadline {
		t.table[i].deadline = deadline
		t.pushEnd(end{deadline, counter})
	}
	return true
}

// of finds the flight whose lock ends with e.
func (t *flights) of(e end) (int, bool) {
	i, ok := t.find(e.counter)
	return i, ok && (t.table[i].deadline == e.deadline || mutant.On(mutant.ExtendedLockEndsEarly))
}

func (t *flights) pushEnd(e end) {
	if len(t.ends) >= 2*t.n+64 {
		t.compact()
	}
	t.push(e)
}

func (t *flights) put(f flight) {
	mask := len(t.table) - 1
	i := t.home(f.counter)
	for t.table[i].counter != 0 {
		i = (i + 1) & mask
	}
	t.table[i] = f
}

func (t *flights) grow() {
	old := t.table
	t.table = make([]flight, max(group, 2*len(old)))
	t.shift = 64 - bits.Len(uint(len(t.table)/group-1))
	for i := range old {
		if old[i].counter != 0 {
			t.put(old[i])
		}
	}
}

// remove takes the flight with this counter out.
func (t *flights) remove(counter uint64) (flight, bool) {
	i, ok := t.find(counter)
	if !ok {
		return flight{}, false
	}
	f := t.table[i]
	f.seen = 0
	t.release(i)
	return f, true
}

// release frees place i and moves those up that had to make way for its flight.
func (t *flights) release(i int) {
	t.n--
	if t.n == 0 && len(t.table) > keep {
		*t = flights{}
		return
	}
	mask := len(t.table) - 1
	for j := (i + 1) & mask; t.table[j].counter != 0; j = (j + 1) & mask {
		if home := t.home(t.table[j].counter); (j-home)&mask >= (j-i)&mask {
			t.table[i] = t.table[j]
			i = j
		}
	}
	t.table[i].counter = 0
}

// top gives the next end, dropping those that count no more.
func (t *flights) top() (end, bool) {
	for len(t.ends) > 0 {
		if _, ok := t.of(t.ends[0]); ok {
			return t.ends[0], true
		}
		t.pop()
	}
	return end{}, false
}

// expire takes out the next flight whose lock has ended at now.
func (t *flights) expire(now int64) (flight, bool) {
	if len(t.ends) == 0 || t.ends[0].deadline > now {
		return flight{}, false
	}
	e, ok := t.top()
	if !ok || e.deadline > now {
		return flight{}, false
	}
	return t.remove(e.counter)
}

// ended visits the flights whose lock has ended at now, in no particular order, and gives the first deadline
// after now, 0 if there is none. Only the part of the heap up to there is looked at. A deadline that was moved away
// and back is there twice, but its flight is visited once.
func (t *flights) ended(now int64, visit func(*flight)) (next int64) {
	if e, ok := t.top(); !ok {
		return 0
	} else if e.deadline > now {
		return e.deadline
	}
	t.mark()
	var walk func(i int)
	walk = func(i int) {
		if i >= len(t.ends) || next != 0 && t.ends[i].deadline >= next {
			return
		}
		e := t.ends[i]
		if at, ok := t.of(e); ok {
			f := &t.table[at]
			if e.deadline > now {
				next = e.deadline
				return
			}
			if f.seen != t.walk {
				f.seen = t.walk
				visit(f)
			}
		}
		walk(2*i + 1)
		walk(2*i + 2)
	}
	walk(0)
	return next
}

// mark begins a walk over the ends.
func (t *flights) mark() {
	if t.walk++; t.walk == 0 {
		t.walk = 1
		t.each(func(f *flight) { f.seen = 0 })
	}
}

// each visits all flights in no particular order.
func (t *flights) each(visit func(*flight)) {
	if t.n == 0 {
		return
	}
	for i := range t.table {
		if t.table[i].counter != 0 {
			visit(&t.table[i])
		}
	}
}

// sorted lists all flights by counter.
func (t *flights) sorted() []flight {
	list := make([]flight, 0, t.len())
	t.each(func(f *flight) {
		list = append(list, *f)
		list[len(list)-1].seen = 0
	})
	slices.SortFunc(list, func(a, b flight) int { return cmp.Compare(a.counter, b.counter) })
	return list
}

// compact drops the ends that count no more, and those that are there twice.
func (t *flights) compact() {
	t.mark()
	t.ends = slices.DeleteFunc(t.ends, func(e end) bool {
		i, ok := t.of(e)
		if !ok || t.table[i].seen == t.walk {
			return true
		}
		t.table[i].seen = t.walk
		return false
	})
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
