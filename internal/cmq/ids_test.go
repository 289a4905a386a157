package cmq

import (
	"slices"
	"testing"
)

// TestHandlesOfQueuesAreApart: what one of the first million queues gives out in its first 2^33 deliveries is not given out
// by another, and is never 0.
func TestHandlesOfQueuesAreApart(t *testing.T) {
	starts := []uint64{0, 1 << 56} // the places of 0
	for q := QueueID(1); q <= 1_000_000; q++ {
		starts = append(starts, uint64(NewHandle(0, 0).Outward(q)))
	}
	slices.Sort(starts)
	for i := 1; i < len(starts); i++ {
		if starts[i]-starts[i-1] < 1<<33 {
			t.Fatalf("counters begin at %#x and at %#x", starts[i-1], starts[i])
		}
	}
}

func TestHandleThereAndBack(t *testing.T) {
	for _, q := range []QueueID{1, 2, 3, 1 << 40, 1<<57 - 1} {
		for _, counter := range []uint64{1, 2, 1 << 40, 1<<56 - 1} {
			for _, ordinal := range []uint8{0, 1, MaxShards - 1} {
				h := NewHandle(ordinal, counter)
				out := h.Outward(q)
				switch {
				case out == h || out>>63 != 0:
					t.Errorf("queue %d: handle %#x is given out as %#x", q, h, out)
				case out.Ordinal() != ordinal:
					t.Errorf("queue %d: shard %d's handle is given out as one of shard %d", q, ordinal, out.Ordinal())
				case out.Inward(q) != h:
					t.Errorf("queue %d: handle %#x comes back as %#x", q, h, out.Inward(q))
				}
			}
		}
	}
}
