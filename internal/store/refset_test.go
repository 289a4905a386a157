package store

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// shared is a Live in which two queues refer to every message.
type shared struct{ alive }

func (a shared) Each(lo, hi uint64, f func(Run) error) error {
	if err := a.alive.Each(lo, hi, f); err != nil {
		return err
	}
	return a.alive.Each(lo, hi, f)
}

func TestMessageOfTwoQueuesIsCopiedOnce(t *testing.T) {
	disk := newTestDisk(1)
	s, err := Create(disk.Mount(), "data/set-4", testOptions(), testImage(10))
	require.NoError(t, err)
	mustAppend(t, s, 11, 400)
	require.NoError(t, s.SaveImage(testImage(100)))
	require.NoError(t, s.SaveImage(testImage(300)))
	live := shared{alive{at(50, 1): true, at(51, 0): true, at(51, 4): true}}
	r, err := s.Maintain(live, 1<<60, noThrottle)
	require.NoError(t, err)
	require.Positive(t, r.Rewritten)
	live.mustHave(t, s)
	var messages uint64
	for _, info := range s.Contents().Files {
		messages += info.Messages
	}
	require.EqualValues(t, 3, messages)
}

// TestWhatTwoQueuesReferToIsCountedOnce: what is counted is what lives, not how often it is referred to.
func TestWhatTwoQueuesReferToIsCountedOnce(t *testing.T) {
	disk := newTestDisk(1)
	s, err := Create(disk.Mount(), "data/set-4", testOptions(), testImage(10))
	require.NoError(t, err)
	mustAppend(t, s, 11, 400)
	require.NoError(t, s.SaveImage(testImage(100)))
	require.NoError(t, s.SaveImage(testImage(300)))
	live := alive{}
	for index := uint64(11); index < 101; index++ { // two of five live: sparse, but not if they were four
		live[at(index, 0)], live[at(index, 3)] = true, true
	}
	r, err := s.Maintain(shared{live}, 1<<60, noThrottle)
	require.NoError(t, err)
	require.Positive(t, r.Rewritten)
	live.mustHave(t, s)
}

func TestMissingMessageOfTwoQueuesIsNamedOnce(t *testing.T) {
	disk := newTestDisk(1)
	s, err := Create(disk.Mount(), "data/set-4", testOptions(), testImage(10))
	require.NoError(t, err)
	var missing []Ref
	live := shared{alive{at(3, 1): true, at(4, 0): true}}
	require.NoError(t, s.Missing(live, noThrottle, func(ref Ref) error { missing = append(missing, ref); return nil }))
	require.ElementsMatch(t, []Ref{at(3, 1), at(4, 0)}, missing)
}

func TestRefSet(t *testing.T) {
	s := RefSet{}
	for _, ref := range []Ref{at(1, 0), at(1, 63), at(1, 64), at(1, 1<<12-1), at(1<<40, 0)} {
		require.True(t, s.Add(ref), "%v", ref)
		require.False(t, s.Add(ref), "%v", ref)
	}
	require.Len(t, s, 4)
	require.Equal(t, 2, s.fresh(Run{Index: 1, Slot: 62, N: 4}))
	require.Zero(t, s.fresh(Run{Index: 1, Slot: 62, N: 4}))
}
