package store

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// referred is a Live in which so many queues refer to each message.
type referred map[Ref]int

func (a referred) Weigh(f func(lo, hi, bytes uint64)) error {
	for ref, n := range a {
		for range n {
			f(ref.Index, ref.Index+1, bodySize)
		}
	}
	return nil
}

func (a referred) Each(lo, hi uint64, f func(Run) error) error {
	for ref, n := range a {
		for range n {
			if ref.Index < lo || ref.Index >= hi {
				continue
			}
			if err := f(Run{Index: ref.Index, Slot: ref.Slot, N: 1, Bytes: bodySize}); err != nil {
				return err
			}
		}
	}
	return nil
}

// counting counts the walks.
type counting struct {
	referred
	walks *int
}

func (a counting) Each(lo, hi uint64, f func(Run) error) error {
	*a.walks++
	return a.referred.Each(lo, hi, f)
}

// archived is a store of which the entries 11 to 400 are on their way into the archive, all of 5 messages that n queues refer to.
func archived(t *testing.T, queues int) (*Store, referred) {
	disk := newTestDisk(1)
	s, err := Create(disk.Mount(), "data/set-4", testOptions(), testImage(10))
	require.NoError(t, err)
	mustAppend(t, s, 11, 500)
	require.NoError(t, s.SaveImage(testImage(400)))
	require.NoError(t, s.SaveImage(testImage(410)))
	live := referred{}
	for index := uint64(11); index < 400; index++ {
		for slot := range uint16(slots) {
			live[at(index, slot)] = queues
		}
	}
	return s, live
}

// settle maintains until nothing changes, and checks that no more than a third of the archive is dead.
func (a referred) settle(t *testing.T, s *Store) Report {
	t.Helper()
	for {
		r, err := s.Maintain(a, 1<<60, noThrottle)
		require.NoError(t, err)
		if r.Rewritten+r.Dropped > 0 {
			continue
		}
		var have int64
		for _, p := range s.shelf.pieces() {
			have += p.payload()
		}
		require.GreaterOrEqual(t, int64(len(a)*bodySize)*100, have*sparse, "the archive has %d bytes", have)
		return r
	}
}

// TestSharedMessagesDoNotHideDeadOnes: what is left of a file weighs as much as the whole, because five queues refer to it.
func TestSharedMessagesDoNotHideDeadOnes(t *testing.T) {
	s, live := archived(t, 5)
	for ref := range live {
		if ref.Slot > 0 {
			delete(live, ref)
		}
	}
	r := live.settle(t, s)
	require.LessOrEqual(t, r.Bytes*10, r.Live*15+10*4<<10)
	require.Positive(t, r.Live)
	require.LessOrEqual(t, r.Live, int64(len(live)*bodySize), "each is counted once")
}

// TestDeathIsSeenWhateverElseWeighs: messages of one queue die between those of five, so little weight goes.
func TestDeathIsSeenWhateverElseWeighs(t *testing.T) {
	s, live := archived(t, 1)
	for ref := range live {
		if ref.Slot < 2 {
			live[ref] = 5
		}
	}
	_, err := s.Maintain(live, 1<<60, noThrottle)
	require.NoError(t, err)
	for ref := range live {
		if ref.Slot >= 2 {
			delete(live, ref)
		}
	}
	live.settle(t, s)
}

// TestFileIsCountedWhenItMayBeSparse and not with every image.
func TestFileIsCountedWhenItMayBeSparse(t *testing.T) {
	s, live := archived(t, 5)
	maintain := func() (walks int) {
		r, err := s.Maintain(counting{live, &walks}, 1<<60, noThrottle)
		require.NoError(t, err)
		require.Zero(t, r.Rewritten)
		return walks
	}
	live.settle(t, s) // segments are written anew, and counted then
	require.Zero(t, maintain())
	fall := func(to int, every uint64) {
		for ref := range live {
			if ref.Index%every == 0 {
				live[ref] = to
			}
		}
	}
	fall(4, 5) // a fifth may have died, but no more
	require.Zero(t, maintain())
	fall(3, 5) // two fifths
	require.Equal(t, 1, maintain())
	require.Zero(t, maintain())
	fall(1, 1)
	require.Equal(t, 1, maintain())
}

// TestDiskFollowsWhatLives, however many queues refer to a message, and in whatever order they let go of it.
func TestDiskFollowsWhatLives(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 5))
			s, live := archived(t, 1)
			for ref := range live {
				live[ref] = 1 + rng.IntN(8)*rng.IntN(2)
			}
			refs := slices.SortedFunc(maps.Keys(live), func(a, b Ref) int { return cmp.Or(cmp.Compare(a.Index, b.Index), cmp.Compare(a.Slot, b.Slot)) })
			for len(refs) > 0 {
				live.settle(t, s)
				for range 1 + rng.IntN(2000) {
					if len(refs) == 0 {
						break
					}
					i := rng.IntN(len(refs))
					ref := refs[i]
					if live[ref]--; live[ref] == 0 || rng.IntN(3) == 0 {
						delete(live, ref)
						refs = slices.Delete(refs, i, i+1)
					}
				}
			}
			require.Zero(t, live.settle(t, s).Bytes)
		})
	}
}
