package sim

import "time"

// item is one event: something that happens at a moment of true time.
type item struct {
	at  time.Duration
	seq uint64 // events of one moment happen in the order in which they were planned
	run func()
}

// agenda is a binary heap of events.
type agenda struct {
	items []item
	seq   uint64
}

func (a *agenda) before(i, j int) bool {
	x, y := &a.items[i], &a.items[j]
	return x.at < y.at || x.at == y.at && x.seq < y.seq
}

func (a *agenda) push(at time.Duration, run func()) {
	a.seq++
	a.items = append(a.items, item{at, a.seq, run})
	for i := len(a.items) - 1; i > 0; {
		parent := (i - 1) / 2
		if !a.before(i, parent) {
			return
		}
		a.items[i], a.items[parent] = a.items[parent], a.items[i]
		i = parent
	}
}

// pop takes out the next event; false if there is none.
func (a *agenda) pop() (item, bool) {
	n := len(a.items) - 1
	if n < 0 {
		return item{}, false
	}
	top := a.items[0]
	a.items[0] = a.items[n]
	a.items[n] = item{}
	a.items = a.items[:n]
	for i := 0; ; {
		child := 2*i + 1
		if child >= n {
			return top, true
		}
		if child+1 < n && a.before(child+1, child) {
			child++
		}
		if !a.before(child, i) {
			return top, true
		}
		a.items[i], a.items[child] = a.items[child], a.items[i]
		i = child
	}
}
