package queue

import (
	"cmp"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestFlightsAgreeWithAMap drives the in-flight table through growth, deletes in every order, compaction and
// expiry, next to a map.
func TestFlightsAgreeWithAMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var table flights
		model := map[uint64]flight{}
		counter, now := uint64(rapid.IntRange(0, 1000).Draw(t, "from")), int64(0)
		stride := rapid.SampledFrom([]uint64{1, 1, 16, 17}).Draw(t, "stride")
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			switch rapid.IntRange(0, 4).Draw(t, "do") {
			case 0, 1:
				lock := rapid.Int64Range(0, 50).Draw(t, "lock")
				for range rapid.IntRange(0, 60).Draw(t, "adds") {
					counter += stride
					f := flight{counter: counter, seq: counter * 3, deadline: now + lock, count: 1}
					table.add(f)
					model[counter] = f
				}
			case 2:
				step := uint64(rapid.IntRange(1, 5).Draw(t, "step")) * stride
				for c := counter; c > step && len(model) > 0 && counter-c < 100*step; c -= step {
					got, ok := table.remove(c)
					if want, there := model[c]; ok != there || got != want {
						t.Fatalf("removed %+v, want %+v", got, want)
					}
					delete(model, c)
				}
			case 3:
				now += rapid.Int64Range(0, 20).Draw(t, "later")
				expireAll(t, &table, model, now)
			case 4:
				for _, c := range rapid.SliceOf(rapid.Uint64Range(0, 100)).Draw(t, "moves") {
					c = counter - min(counter, c*stride)
					deadline := now + rapid.Int64Range(1, 3).Draw(t, "to")*10
					f, there := model[c]
					if table.move(c, deadline) != there {
						t.Fatalf("moved %d, which is there: %v", c, there)
					}
					if f.deadline = deadline; there {
						model[c] = f
					}
				}
			}
			compareFlights(t, &table, model, now)
		}
	})
}

func (t *flights) sorted() []flight {
	list := []flight{}
	t.ascending(func(f *flight) { list = append(list, *f) })
	return list
}

func sortedModel(model map[uint64]flight) []flight {
	list := []flight{}
	for _, f := range model {
		list = append(list, f)
	}
	slices.SortFunc(list, func(a, b flight) int {
		return cmp.Or(cmp.Compare(a.deadline, b.deadline), cmp.Compare(a.counter, b.counter))
	})
	return list
}

func expireAll(t *rapid.T, table *flights, model map[uint64]flight, now int64) {
	for _, want := range sortedModel(model) {
		if want.deadline > now {
			break
		}
		if got, ok := table.expire(now); !ok || got != want {
			t.Fatalf("expired %+v, want %+v", got, want)
		}
		delete(model, want.counter)
	}
	if f, ok := table.expire(now); ok {
		t.Fatalf("expired %+v early", f)
	}
}

func compareFlights(t *rapid.T, table *flights, model map[uint64]flight, now int64) {
	want := sortedModel(model)
	slices.SortFunc(want, func(a, b flight) int { return cmp.Compare(a.counter, b.counter) })
	if got := table.sorted(); !slices.Equal(got, want) || table.len() != len(want) {
		t.Fatalf("%d flights, want %d", len(got), len(want))
	}
	at, next := now+10, int64(0)
	var ended []flight
	for _, f := range sortedModel(model) {
		if f.deadline <= at {
			ended = append(ended, f)
		} else if next == 0 {
			next = f.deadline
		}
	}
	if got := table.nextEnd(at); got != next {
		t.Fatalf("next end %d, want %d", got, next)
	}
	if got := table.landing(at); got != len(ended) {
		t.Fatalf("%d ended, want %d", got, len(ended))
	}
	table.ended(at, func(f *flight) bool {
		if len(ended) == 0 || *f != ended[0] {
			t.Fatalf("ended %+v, want the first of %+v", *f, ended)
		}
		ended = ended[1:]
		return true
	})
	if len(ended) > 0 {
		t.Fatalf("%d too few ended", len(ended))
	}
	checkPages(t, table)
}

// TestMovedEndsDoNotPileUp moves one deadline to and fro, beside one that stays.
func TestMovedEndsDoNotPileUp(t *testing.T) {
	var table flights
	table.add(flight{counter: 1, deadline: 1})
	table.add(flight{counter: 2, deadline: 2})
	for i := range 1000 {
		table.move(1, int64(2+i%2))
	}
	n := 0
	table.ends.until(10, func(uint64, int64) bool { n++; return true })
	if n > 3 {
		t.Fatalf("%d ends of two flights", n)
	}
	n = 0
	table.ended(10, func(*flight) bool { n++; return true })
	if n != 2 {
		t.Fatalf("%d flights ended", n)
	}
}

// checkPages checks the invariants of the directory.
func checkPages(t interface{ Fatalf(string, ...any) }, table *flights) {
	n, deep := 0, 0
	for i := 0; i < len(table.pages); i += table.places(table.pages[i]) {
		p, used := table.pages[i], 0
		for k := range table.places(p) {
			if table.pages[i+k] != p {
				t.Fatalf("place %d is not that of the page at %d", i+k, i)
			}
		}
		for k := range p.slots {
			if c := p.slots[k].counter; c != 0 {
				used++
				if at := table.at(hash(c)); table.pages[at] != p {
					t.Fatalf("flight %d is in the page of another hash", c)
				}
			}
		}
		if used != p.n || len(p.slots) > pageSlots || p.n > len(p.slots)/4*3 {
			t.Fatalf("page %d has %d flights in %d slots and says %d", i, used, len(p.slots), p.n)
		}
		if n += p.n; p.depth == table.depth {
			deep++
		}
	}
	if n != table.n || deep != table.deep || len(table.pages) > 0 && len(table.pages) != 1<<table.depth || table.depth > 0 && deep == 0 {
		t.Fatalf("%d flights, %d deep pages of %d; the table says %d and %d", n, deep, len(table.pages), table.n, table.deep)
	}
}

// TestFlightsGiveTheirMemoryBack: what is held depends on what is in flight now, also if that is one in a thousand of
// what once was.
func TestFlightsGiveTheirMemoryBack(t *testing.T) {
	const many = 200_000
	var table flights
	for i := range uint64(many) {
		table.add(flight{counter: i + 1, deadline: int64(i / 100)})
	}
	checkPages(t, &table)
	for i := range uint64(many) {
		if i%1000 != 0 {
			table.remove(i + 1)
		}
	}
	checkPages(t, &table)
	slots := 0
	for i := 0; i < len(table.pages); i += table.places(table.pages[i]) {
		slots += len(table.pages[i].slots)
	}
	if table.n != many/1000 || slots > 32*table.n || len(table.pages) > table.n || table.ends.at.Len() != table.n {
		t.Fatalf("%d flights hold %d slots in %d pages and %d ends", table.n, slots, len(table.pages), table.ends.at.Len())
	}
}

// TestFlightsAreCopied: a copy stays as it was, whatever happens to the table, and the other way round.
func TestFlightsAreCopied(t *testing.T) {
	var table flights
	var copies []*flights
	var wants [][]flight
	counter := uint64(0)
	for range 20 {
		for range 3000 {
			counter++
			table.add(flight{counter: counter, seq: counter, deadline: int64(counter % 7)})
			if counter%3 != 0 {
				table.remove(counter - counter%2*2)
			}
		}
		copies, wants = append(copies, table.copy()), append(wants, table.sorted())
	}
	for range 25_000 {
		table.expire(7)
	}
	checkPages(t, &table)
	for i, c := range copies {
		if !slices.Equal(c.sorted(), wants[i]) {
			t.Fatalf("copy %d has changed", i)
		}
	}
}

// TestSpansAgreeWithASet compares the operations on spans with those on a set of numbers.
func TestSpansAgreeWithASet(t *testing.T) {
	draw := rapid.Custom(func(t *rapid.T) spans {
		var list []span
		for range rapid.IntRange(0, 5).Draw(t, "spans") {
			lo := rapid.Uint64Range(0, 30).Draw(t, "lo")
			list = append(list, span{lo, lo + rapid.Uint64Range(0, 6).Draw(t, "n")})
		}
		return newSpans(list)
	})
	rapid.Check(t, func(t *rapid.T) {
		a, b, at := draw.Draw(t, "a"), draw.Draw(t, "b"), rapid.Uint64Range(0, 40).Draw(t, "at")
		before := slices.Clone(a.list)
		checkSpans(t, union(a, b), func(x uint64) bool { return a.has(x) || b.has(x) })
		checkSpans(t, a.minus(b), func(x uint64) bool { return a.has(x) && !b.has(x) })
		checkSpans(t, a.from(at), func(x uint64) bool { return a.has(x) && x >= at })
		end := at
		for a.has(end) {
			end++
		}
		got, rest := a.from(at).pass(at)
		if got != end {
			t.Fatalf("passed to %d, want %d", got, end)
		}
		checkSpans(t, rest, func(x uint64) bool { return a.has(x) && x >= end })
		if !slices.Equal(a.list, before) {
			t.Fatal("an operand was changed")
		}
	})
}

func (s spans) has(x uint64) bool {
	return slices.ContainsFunc(s.list, func(p span) bool { return p.lo <= x && x < p.hi })
}

func checkSpans(t *rapid.T, s spans, want func(uint64) bool) {
	n := uint64(0)
	for x := range uint64(60) {
		if s.has(x) != want(x) {
			t.Fatalf("%d in %v: %v", x, s.list, s.has(x))
		}
		if want(x) {
			n++
		}
	}
	if s.n != n {
		t.Fatalf("count %d, want %d", s.n, n)
	}
	for i := range s.list {
		if s.list[i].lo >= s.list[i].hi || i > 0 && s.list[i].lo <= s.list[i-1].hi {
			t.Fatalf("not in normal form: %v", s.list)
		}
	}
}
