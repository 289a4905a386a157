package queue

import (
	"cmp"

	"github.com/tidwall/btree"
)

// run is n messages in consecutive positions of one lane which share their history.
type run struct {
	lane  int64
	seq   uint64
	n     uint64
	count uint32 // deliveries so far
	first int64  // time of the first one, 0 if there was none
}

func (r run) compare(o run) int {
	return cmp.Or(cmp.Compare(r.lane, o.lane), cmp.Compare(r.seq, o.seq))
}

// split cuts the run at position at into what lies below and what does not. Either may be empty (n = 0).
func (r run) split(at uint64) (below, above run) {
	below, above = r, r
	below.n = 0
	if at > r.seq {
		below.n = min(r.n, at-r.seq)
	}
	above.seq, above.n = r.seq+below.n, r.n-below.n
	return below, above
}

// returned holds the messages whose lock ended without a delete, ordered by (lane, position): they are
// received again before anything new. n is how many messages they are.
type returned struct {
	tree *btree.BTreeG[run] // nil: empty; made when first needed, as most shards are idle
	n    uint64
}

func (t *returned) add(r run) {
	if r.n == 0 {
		return
	}
	if t.tree == nil {
		less := func(a, b run) bool { return a.compare(b) < 0 }
		t.tree = btree.NewBTreeGOptions(less, btree.Options{NoLocks: true})
	}
	t.n += r.n
	t.tree.Set(t.joined(r))
}

// joined takes out the runs that r goes on with or that go on with r, and gives what they are together: so what was
// received together and never deleted is one run again, and how runs are cut depends on what is in them only.
func (t *returned) joined(r run) run {
	var before, after run
	t.tree.Descend(r, func(v run) bool { before = v; return false })
	t.tree.Ascend(r, func(v run) bool { after = v; return false })
	if before.goesOn(r) {
		t.tree.Delete(before)
		r.seq, r.n = before.seq, before.n+r.n
	}
	if r.goesOn(after) {
		t.tree.Delete(after)
		r.n += after.n
	}
	return r
}

// goesOn reports whether o begins where r ends and has the same history.
func (r run) goesOn(o run) bool {
	return r.n > 0 && o.n > 0 && r.lane == o.lane && r.seq+r.n == o.seq && r.count == o.count && r.first == o.first
}

// put puts back what is left of a run.
func (t *returned) put(r run) {
	if r.n > 0 {
		t.tree.Set(r)
		t.n += r.n
	}
}

// pop takes the first message out; there must be one.
func (t *returned) pop() run {
	r, _ := t.tree.PopMin()
	t.n -= r.n
	one, rest := r.split(r.seq + 1)
	t.put(rest)
	return one
}

// below takes out, in order, the messages of the lane whose position is below limit.
func (t *returned) below(lane int64, limit uint64, visit func(run)) {
	for t.n > 0 {
		var r run
		t.tree.Ascend(run{lane: lane}, func(f run) bool { r = f; return false })
		if r.n == 0 || r.lane != lane || r.seq >= limit {
			return
		}
		t.tree.Delete(r)
		t.n -= r.n
		under, rest := r.split(limit)
		t.put(rest)
		visit(under)
	}
}

// each visits all runs in order.
func (t *returned) each(visit func(run)) {
	if t.tree != nil {
		t.tree.Scan(func(r run) bool { visit(r); return true })
	}
}
