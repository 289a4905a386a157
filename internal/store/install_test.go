package store

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/internal/store/checkpoint"
	"github.com/opencmq/cmq/internal/store/segment"
	"github.com/opencmq/cmq/internal/vfs"
)

// spoilEntries flips a bit in entries of a stopped log.
func spoilEntries(t *testing.T, disk *vfs.Disk, indexes ...uint64) {
	t.Helper()
	for _, index := range indexes {
		text, found := fmt.Appendf(nil, "slot 0 of entry %d ", index), false
		for _, name := range filesWith(disk, ".seg") {
			p, err := vfs.ReadFile(disk.Mount(), name)
			require.NoError(t, err)
			if i := bytes.Index(p, text); i >= 0 {
				require.NoError(t, disk.Flip(name, int64(i), 0))
				found = true
			}
		}
		require.True(t, found, "entry %d is in no segment", index)
	}
}

// stageImage fetches an image of term 1, all but its installation.
func stageImage(t *testing.T, s *Store, index uint64) *Staging {
	t.Helper()
	st, err := s.Stage(index, 1, ImageSum([]byte("machine of another")))
	require.NoError(t, err)
	require.NoError(t, st.AddImage(0, []byte("machine of another")))
	img := testImage(index)
	img.Parts = [][]byte{[]byte("machine of another")}
	require.NoError(t, st.Finish(img, segment.HardState{}))
	return st
}

// TestInstallKeepsWhatWasAcknowledged behind the image, though the log has lost the image's entry or its term, so that it cannot be
// compared.
func TestInstallKeepsWhatWasAcknowledged(t *testing.T) {
	const last, commit = 220, 210
	for name, row := range map[string]struct {
		harm  func(t *testing.T, disk *vfs.Disk)
		index func(l *segment.Log) uint64
		holes bool // are left behind the image
	}{
		"the log begins behind it, and images and the segment before are lost": {
			func(t *testing.T, disk *vfs.Disk) { require.NoError(t, disk.Vanish(filesWith(disk, ".seg")[0])) },
			func(l *segment.Log) uint64 { return l.FirstIndex() - 1 }, false,
		},
		"it is the last of those that are lost": {
			func(t *testing.T, disk *vfs.Disk) { spoilEntries(t, disk, 150, 151, 152) },
			func(*segment.Log) uint64 { return 152 }, false,
		},
		"it is in the middle of those that are lost": {
			func(t *testing.T, disk *vfs.Disk) { spoilEntries(t, disk, 150, 151, 152) },
			func(*segment.Log) uint64 { return 151 }, true,
		},
		"it is before others that are lost": {
			func(t *testing.T, disk *vfs.Disk) { spoilEntries(t, disk, 150, 190) },
			func(*segment.Log) uint64 { return 150 }, true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			disk := newTestDisk(1)
			s, err := Create(disk.Mount(), "set", testOptions(), testImage(10))
			require.NoError(t, err)
			for i := uint64(11); i <= last; i += 10 {
				require.NoError(t, s.Log().Append(testEntries(1, i, i+10), segment.HardState{Term: 1, Commit: min(i+9, commit)}, true))
			}
			require.NoError(t, s.SaveImage(testImage(60)))
			require.NoError(t, s.SaveImage(testImage(100)))
			_, err = s.Maintain(alive{}, 1<<60, noThrottle) // the first segments leave the log
			require.NoError(t, err)
			require.NoError(t, s.Close())
			for _, name := range filesWith(disk, checkpoint.Suffix) {
				require.NoError(t, disk.Vanish(name))
			}
			row.harm(t, disk)
			s, err = Open(disk.Mount(), "set", testOptions())
			require.NoError(t, err)
			index := row.index(s.Log())
			_, err = s.Log().Term(index)
			require.Error(t, err, "the log cannot say whether it has the entry")
			require.NoError(t, s.Install(stageImage(t, s, index), 0))
			for range 2 {
				l := s.Log()
				require.EqualValues(t, last, l.LastIndex())
				require.Equal(t, segment.HardState{Term: 1, Commit: commit}, l.HardState())
				require.False(t, l.Short())
				require.Equal(t, index, s.NewestIndex())
				holes := slices.DeleteFunc(l.Holes(), func(h segment.Hole) bool { return h.Hi <= index+1 })
				require.Equal(t, row.holes, len(holes) > 0)
				es, err := l.Entries(200, last+1, 1<<62)
				require.NoError(t, err)
				require.Equal(t, testEntries(1, 200, last+1), es)
				require.NoError(t, s.Close())
				disk.Crash(vfs.LoseAll)
				s, err = Open(disk.Mount(), "set", testOptions())
				require.NoError(t, err)
			}
			require.NoError(t, s.Close())
		})
	}
}

// TestInstallDropsWhatTheTermsShowIsAnotherBranch: entries behind a lost one, of an older term than the image's entry, followed another
// entry than that, and were never confirmed.
func TestInstallDropsWhatTheTermsShowIsAnotherBranch(t *testing.T) {
	disk := newTestDisk(1)
	s, err := Create(disk.Mount(), "set", testOptions(), testImage(10))
	require.NoError(t, err)
	mustAppend(t, s, 11, 100)
	require.NoError(t, s.Log().Append(testEntries(1, 100, 120), segment.HardState{Term: 1, Commit: 99}, true))
	require.NoError(t, s.Close())
	spoilEntries(t, disk, 105)
	s, err = Open(disk.Mount(), "set", testOptions())
	require.NoError(t, err)
	st, err := s.Stage(105, 2, ImageSum([]byte("machine")))
	require.NoError(t, err)
	require.NoError(t, st.AddImage(0, []byte("machine")))
	img := testImage(105)
	img.Term, img.Parts = 2, [][]byte{[]byte("machine")}
	require.NoError(t, st.Finish(img, segment.HardState{}))
	require.NoError(t, s.Install(st, 0))
	require.EqualValues(t, 106, s.Log().FirstIndex())
	require.EqualValues(t, 105, s.Log().LastIndex())
	require.Equal(t, segment.HardState{Term: 1, Commit: 105}, s.Log().HardState())
	require.NoError(t, s.Close())
}

// TestInstallKeepsWhatHasCountedOn: a replica knows of a commit index before its log's hard state says so. What Has says is here, with
// that index, is not fetched, so the replaced log must not take it along.
func TestInstallKeepsWhatHasCountedOn(t *testing.T) {
	disk := newTestDisk(1)
	s, err := Create(disk.Mount(), "set", testOptions(), testImage(10))
	require.NoError(t, err)
	mustAppend(t, s, 11, 100)
	require.NoError(t, s.Log().Append(testEntries(1, 100, 120), segment.HardState{Term: 1, Commit: 99}, true))
	require.True(t, s.Has(at(105, 1), 110))
	require.NoError(t, s.Install(stageImage(t, s, 1000), 110))
	for range 2 {
		require.EqualValues(t, 1001, s.Log().FirstIndex())
		alive{at(105, 1): true, at(110, 0): true}.mustHave(t, s)
		_, err := s.Message(at(111, 0)) // the set may have agreed on another entry
		require.ErrorIs(t, err, ErrGone)
		disk.Crash(vfs.LoseAll)
		s, err = Open(disk.Mount(), "set", testOptions())
		require.NoError(t, err)
	}
	require.NoError(t, s.Close())
}
