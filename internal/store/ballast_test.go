package store

import (
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/internal/store/segment"
	"github.com/opencmq/cmq/internal/vfs"
)

// appendUntilFull appends entries from next on until there is no room, and returns the first that did not go in.
func appendUntilFull(t *testing.T, s *Store, next uint64) uint64 {
	t.Helper()
	for {
		err := s.Log().Append(testEntries(1, next, next+1), segment.HardState{Term: 1, Commit: next - 1}, true)
		if err != nil {
			require.ErrorIs(t, err, segment.ErrNoSpace)
			return next
		}
		next++
	}
}

// What is kept for a full disk takes further entries and an image, on a disk without a free byte, and is made again later.
func TestBallastIsRoomOnAFullDisk(t *testing.T) {
	disk := newTestDisk(1)
	s, err := Create(disk.Mount(), "set", testOptions(), testImage(10))
	require.NoError(t, err)
	mustAppend(t, s, 11, 20)
	require.NoError(t, s.KeepBallast())
	require.NoError(t, s.KeepBallast())
	require.Len(t, filesWith(disk, ""), len(filesWith(disk, ".seg"))+len(filesWith(disk, ".image"))+3+ballastFiles, "lock, root, side file and ballast")
	disk.SetBudget(disk.Used())
	require.ErrorIs(t, s.SaveImage(testImage(15)), syscall.ENOSPC)
	require.True(t, s.DropBallast())
	require.NoError(t, s.SaveImage(testImage(15)))

	without := newTestDisk(1)
	other, err := Create(without.Mount(), "set", testOptions(), testImage(10))
	require.NoError(t, err)
	mustAppend(t, other, 11, 20)
	without.SetBudget(without.Used())
	bare, full := appendUntilFull(t, other, 20), appendUntilFull(t, s, 20)
	require.Greater(t, full, bare+8, "so many entries more fit")
	require.False(t, s.DropBallast(), "nothing is left of it")

	disk.SetBudget(-1)
	require.NoError(t, s.KeepBallast())
	require.True(t, s.DropBallast())
}

// The ballast is nobody's data: a crash may take it or leave it, and no start minds.
func TestBallastAndCrashes(t *testing.T) {
	for _, lose := range []vfs.CrashMode{vfs.LoseAll, vfs.KillProcess, vfs.Torn} {
		disk := newTestDisk(1)
		s, err := Create(disk.Mount(), "set", testOptions(), testImage(10))
		require.NoError(t, err)
		mustAppend(t, s, 11, 20)
		require.NoError(t, s.KeepBallast())
		disk.Crash(lose)
		s, err = Open(disk.Mount(), "set", testOptions())
		require.NoError(t, err)
		require.Equal(t, uint64(19), s.Log().LastIndex())
		foreign, leftovers, err := s.Strangers(disk.Mount())
		require.NoError(t, err)
		require.Empty(t, foreign)
		require.Empty(t, leftovers)
		require.NoError(t, s.KeepBallast())
		disk.SetBudget(disk.Used())
		for range ballastFiles {
			require.True(t, s.DropBallast())
		}
		require.False(t, s.DropBallast())
	}
}

// A restart copies the end of the log, for which a full disk has no room but that of the ballast.
func TestBallastIsRoomForARestart(t *testing.T) {
	disk := newTestDisk(1)
	s, err := Create(disk.Mount(), "set", testOptions(), testImage(10))
	require.NoError(t, err)
	require.NoError(t, s.KeepBallast())
	mustAppend(t, s, 11, 14)
	disk.Crash(vfs.KillProcess)
	disk.SetBudget(disk.Used())
	s, err = Open(disk.Mount(), "set", testOptions())
	require.NoError(t, err)
	require.Equal(t, uint64(13), s.Log().LastIndex())
}
