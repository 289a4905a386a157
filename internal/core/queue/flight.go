package queue

import (
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
}

// flights is the in-flight table: flights by counter, and their ends in order of time. The layout depends on
// its history and must not show: everything that leaves it is ordered by counter or by (deadline, counter).
// A nil table is an empty one that can be asked.
//
// The table is hashed, in pages, of which the first depth bits of a hash name one. A page that is full is split and the
// others stay as they are, so that no add takes long however many flights there are; pages that are nearly empty
// are joined again. A copy shares all pages until they change. Sixteen consecutive counters share a hash and lie side by
// side, because they are handed out together and mostly deleted together.
//
// Invariant: a page whose depth is d is in the 1<<(depth-d) consecutive places of the directory that begin with its bits.
type flights struct {
	pages  []*page // the directory, of 1<<depth places
	depth  uint8
	deep   int    // pages whose depth is that of the directory
	copies uint32 // how often the table was copied: pages made before the newest copy are shared with one
	n      int
	ends   ends
}

// page is a small table with open addressing and linear probing, without pointers.
type page struct {
	slots  []flight // counter 0: free; the length is a power of two, from group to pageSlots
	n      int
	depth  uint8
	copies uint32 // as it was in the table when the page was made
}

const (
	group     = 16  // consecutive counters that lie side by side
	pageSlots = 512 // to split or to copy a page of this size takes a few microseconds
	phi       = 0x9E3779B97F4A7C15
)

func hash(counter uint64) uint64 { return counter / group * phi }

func (t *flights) len() int {
	if t == nil {
		return 0
	}
	return t.n
}

// at is the place of the page for a hash.
func (t *flights) at(hash uint64) int { return int(hash >> (64 - t.depth)) }

// get finds the flight with this counter; nil: there is none. It is good until the table changes.
func (t *flights) get(counter uint64) *flight {
	if t.len() == 0 || counter == 0 {
		return nil
	}
	p := t.pages[t.at(hash(counter))]
	if i, ok := p.find(counter); ok {
		return &p.slots[i]
	}
	return nil
}

// add takes a flight with a counter higher than all before.
func (t *flights) add(f flight) {
	if t.pages == nil {
		t.pages, t.deep = []*page{t.newPage(0, 0)}, 1
	}
	h := hash(f.counter)
	p := t.own(t.at(h))
	for p.n >= len(p.slots)/4*3 {
		if len(p.slots) < pageSlots {
			p.resize(2 * len(p.slots))
			continue
		}
		t.split(t.at(h))
		p = t.pages[t.at(h)]
	}
	p.put(f)
	t.n++
	t.ends.add(f.deadline, f.counter)
}

// move gives the flight with this counter another deadline.
func (t *flights) move(counter uint64, deadline int64) bool {
	f := t.get(counter)
	if f == nil {
		return false
	}
	if f.deadline == deadline || mutant.On(mutant.ExtendedLockEndsEarly) && deadline > f.deadline {
		return true
	}
	t.ends.remove(f.deadline)
	t.ends.add(deadline, counter)
	p := t.own(t.at(hash(counter)))
	i, _ := p.find(counter)
	p.slots[i].deadline = deadline
	return true
}

// remove takes the flight with this counter out.
func (t *flights) remove(counter uint64) (flight, bool) {
	f := t.get(counter)
	if f == nil {
		return flight{}, false
	}
	t.ends.remove(f.deadline)
	return t.release(counter), true
}

// release takes a flight that is there out of its page.
func (t *flights) release(counter uint64) flight {
	at := t.at(hash(counter))
	p := t.own(at)
	i, _ := p.find(counter)
	f := p.slots[i]
	p.free(i)
	t.n--
	t.shrink(at)
	return f
}

// expire takes out the next flight whose lock has ended at now.
func (t *flights) expire(now int64) (flight, bool) {
	for t != nil {
		counter, deadline, ok := t.ends.next(now)
		if !ok {
			break
		}
		if f := t.get(counter); f != nil && f.deadline == deadline {
			t.ends.remove(deadline)
			return t.release(counter), true
		}
	}
	return flight{}, false
}

// ended visits the flights whose lock has ended at now, by (deadline, counter), until visit returns false.
func (t *flights) ended(now int64, visit func(*flight) bool) {
	if t == nil {
		return
	}
	t.ends.until(now, func(counter uint64, deadline int64) bool {
		f := t.get(counter)
		return f == nil || f.deadline != deadline || visit(f)
	})
}

// landing counts the flights whose lock has ended at now.
func (t *flights) landing(now int64) int {
	if t == nil {
		return 0
	}
	return t.ends.count(now)
}

// nextEnd gives the first deadline after now, 0 if there is none.
func (t *flights) nextEnd(now int64) int64 {
	if t == nil {
		return 0
	}
	return t.ends.after(now)
}

// each visits all flights in no particular order.
func (t *flights) each(visit func(*flight)) {
	if t == nil {
		return
	}
	for i := 0; i < len(t.pages); i += t.places(t.pages[i]) {
		slots := t.pages[i].slots
		for k := range slots {
			if slots[k].counter != 0 {
				visit(&slots[k])
			}
		}
	}
}

// ascending visits all flights by counter. It holds their counters meanwhile, not the flights, which may be millions.
func (t *flights) ascending(visit func(*flight)) {
	counters := make([]uint64, 0, t.len())
	t.each(func(f *flight) { counters = append(counters, f.counter) })
	slices.Sort(counters)
	for _, c := range counters {
		visit(t.get(c))
	}
}

// copy is a table that stays as this one is now, for each, get and ascending only; another goroutine may use it. It costs as much
// as the directory is long.
func (t *flights) copy() *flights {
	if t == nil {
		return nil
	}
	t.copies++
	return &flights{pages: slices.Clone(t.pages), depth: t.depth, n: t.n}
}

// places is in how many places of the directory a page is.
func (t *flights) places(p *page) int { return 1 << (t.depth - p.depth) }

// set puts a page into all its places, of which at is one.
func (t *flights) set(at int, p *page) {
	n := t.places(p)
	for i := range n {
		t.pages[at&^(n-1)+i] = p
	}
}

// own gives the page at this place, made this table's alone.
func (t *flights) own(at int) *page {
	p := t.pages[at]
	if p.copies != t.copies {
		p = &page{slots: slices.Clone(p.slots), n: p.n, depth: p.depth, copies: t.copies}
		t.set(at, p)
	}
	return p
}

// newPage makes a page with room for n flights and some more.
func (t *flights) newPage(depth uint8, n int) *page {
	return &page{slots: make([]flight, slotsFor(n)), depth: depth, copies: t.copies}
}

// slotsFor is the length of a page that n flights fill to between three eighths and three quarters.
func slotsFor(n int) int { return max(group, 1<<bits.Len(uint(n*4/3))) }

// split makes two of the page at this place.
func (t *flights) split(at int) {
	old := t.pages[at]
	if old.depth == t.depth {
		t.double()
		at *= 2
	}
	if old.depth+1 == t.depth {
		t.deep += 2
	}
	low, high := t.newPage(old.depth+1, old.n/2), t.newPage(old.depth+1, old.n/2)
	bit := uint64(1) << (63 - old.depth)
	for i := range old.slots {
		if f := &old.slots[i]; f.counter != 0 {
			half := low
			if hash(f.counter)&bit != 0 {
				half = high
			}
			if half.n >= len(half.slots)/4*3 {
				half.resize(2 * len(half.slots))
			}
			half.put(*f)
		}
	}
	n := t.places(old)
	t.set(at&^(n-1), low)
	t.set(at&^(n-1)+n/2, high)
}

// double makes the directory twice as long.
func (t *flights) double() {
	pages := make([]*page, 2*len(t.pages))
	for i, p := range t.pages {
		pages[2*i], pages[2*i+1] = p, p
	}
	t.pages, t.depth, t.deep = pages, t.depth+1, 0
}

// shrink makes the page at this place smaller, or one with its other half, if there is little left.
func (t *flights) shrink(at int) {
	p := t.pages[at]
	if p.depth == 0 {
		return // see fit
	}
	if len(p.slots) > group && p.n < len(p.slots)/8 {
		p.resize(len(p.slots) / 2)
	}
	other := t.pages[at^t.places(p)]
	if other.depth != p.depth || p.n+other.n > pageSlots/4 {
		return
	}
	if p.depth == t.depth {
		t.deep -= 2
	}
	joined := t.newPage(p.depth-1, p.n+other.n)
	joined.take(p.slots)
	joined.take(other.slots)
	t.set(at, joined)
	if joined.depth+1 == t.depth && t.deep == 0 {
		t.halve()
	}
}

// fit makes the only page of a small table as small as can be.
func (t *flights) fit() {
	if t.depth == 0 && len(t.pages) > 0 && len(t.pages[0].slots) > slotsFor(t.n) {
		t.own(0).resize(slotsFor(t.n))
	}
}

// halve makes the directory half as long, as often as no page needs it longer.
func (t *flights) halve() {
	for t.deep == 0 && t.depth > 0 {
		pages := make([]*page, len(t.pages)/2)
		for i := range pages {
			pages[i] = t.pages[2*i]
		}
		t.pages, t.depth = pages, t.depth-1
		for _, p := range pages {
			if p.depth == t.depth {
				t.deep++
			}
		}
	}
}

// home is where the flight with this counter lies if nothing is in the way.
func (p *page) home(counter uint64) int {
	groups := uint(len(p.slots) / group)
	return int(hash(counter)<<p.depth>>(64-bits.Len(groups-1))*group | counter%group)
}

// find gives the place of the flight with this counter.
func (p *page) find(counter uint64) (int, bool) {
	mask := len(p.slots) - 1
	for i := p.home(counter); ; i = (i + 1) & mask {
		switch p.slots[i].counter {
		case counter:
			return i, true
		case 0:
			return 0, false
		}
	}
}

// put takes a flight for which there is room.
func (p *page) put(f flight) {
	mask := len(p.slots) - 1
	i := p.home(f.counter)
	for p.slots[i].counter != 0 {
		i = (i + 1) & mask
	}
	p.slots[i] = f
	p.n++
}

func (p *page) take(slots []flight) {
	for i := range slots {
		if slots[i].counter != 0 {
			p.put(slots[i])
		}
	}
}

// resize lays the flights out anew.
func (p *page) resize(slots int) {
	old := p.slots
	p.slots, p.n = make([]flight, slots), 0
	p.take(old)
}

// free empties place i and moves those up that had to make way for its flight.
func (p *page) free(i int) {
	p.n--
	mask := len(p.slots) - 1
	for j := (i + 1) & mask; p.slots[j].counter != 0; j = (j + 1) & mask {
		if home := p.home(p.slots[j].counter); (j-home)&mask >= (j-i)&mask {
			p.slots[i] = p.slots[j]
			i = j
		}
	}
	p.slots[i].counter = 0
}
