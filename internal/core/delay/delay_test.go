package delay

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

func TestDue(t *testing.T) {
	const day = 24 * hour
	for _, c := range []struct {
		name             string
		now, delay, want int64
	}{
		{"a millisecond", 12_345, 1, 12_346},
		{"a minute is exact", 12_345, minute, 72_345},
		{"beyond a minute in tenths", 12_345, minute + 1, 72_400},
		{"on a tenth", 12_300, 2 * minute, 132_300},
		{"an hour in tenths", 12_345, hour, 3_612_400},
		{"beyond an hour in seconds", 12_345, hour + 1, 3_613_000},
		{"90 days", 1_700_000_000_001, 90 * day, 1_700_000_001_000 + 90*day},
		{"longer than time", 5, math.MaxInt64, math.MaxInt64},
		{"just within time", 5, math.MaxInt64 - second - 5, (math.MaxInt64 - 1) / 1000 * 1000},
	} {
		if got := Due(c.now, c.delay); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}

func TestDueIsNeverEarlyAndHardlyLate(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := rapid.Int64Range(0, 1<<42).Draw(t, "now")
		delay := rapid.Int64Range(1, 100*24*hour).Draw(t, "delay")
		if late := Due(now, delay) - now - delay; late < 0 || late*500 > delay {
			t.Fatalf("late by %d", late)
		}
	})
}

// TestSetAgreesWithAList compares a Set with a plain list of messages.
func TestSetAgreesWithAList(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s Set
		var model []int64 // due times
		now := int64(0)
		for range 60 {
			due := rapid.Int64Range(1, 40).Draw(t, "due")
			n := rapid.Uint64Range(0, 3).Draw(t, "n")
			switch rapid.IntRange(0, 4).Draw(t, "do") {
			case 0, 1:
				s.Add(due, 7, n)
				for range n {
					model = append(model, due)
				}
			case 2:
				if lane, ok := s.Get(due); ok {
					n = min(n, lane.N)
					s.Take(due, n)
					model = without(model, due, n)
				}
			case 3:
				now = max(now, rapid.Int64Range(0, 45).Draw(t, "now"))
				s.Advance(now)
			case 4:
				if rapid.IntRange(0, 9).Draw(t, "clear") == 0 {
					s.Clear()
					model = nil
				}
			}
			compare(t, &s, model, now, now+rapid.Int64Range(0, 10).Draw(t, "ahead"))
		}
	})
}

func without(list []int64, due int64, n uint64) []int64 {
	var kept []int64
	for _, d := range list {
		if d == due && n > 0 {
			n--
			continue
		}
		kept = append(kept, d)
	}
	return kept
}

func compare(t *rapid.T, s *Set, model []int64, now, at int64) {
	var ready uint64
	var first, next int64
	for _, due := range model {
		if due <= at {
			ready++
		} else if next == 0 || due < next {
			next = due
		}
		if due <= now && (first == 0 || due < first) {
			first = due
		}
	}
	if s.Total() != uint64(len(model)) || s.Ready(at) != ready || s.Next(at) != next {
		t.Fatalf("total %d ready %d next %d, want %d %d %d", s.Total(), s.Ready(at), s.Next(at), len(model), ready, next)
	}
	lane, ok := s.First()
	if lane.Due != first || ok != (first > 0) {
		t.Fatalf("first %+v, want %d", lane, first)
	}
	sum, last := uint64(0), int64(0)
	s.Lanes(func(l Lane) bool {
		if l.Due <= last || l.N == 0 || l.First != 7 {
			t.Fatalf("%+v after %d", l, last)
		}
		sum, last = sum+l.N, l.Due
		return true
	})
	if sum != s.Total() {
		t.Fatalf("lanes have %d of %d", sum, s.Total())
	}
}
