//go:build linux

package faults

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestFailingSyscalls(t *testing.T) {
	Privileged(t)
	p := startVictim(t, filepath.Join(t.TempDir(), "file"))
	s := Failing(t, p.cmd.Process.Pid, "fdatasync", "EIO", "")
	for range 2 {
		errno, _ := p.do("sync")
		require.Equal(t, syscall.EIO, errno)
	}
	s.End()
	errno, _ := p.do("sync")
	require.Zero(t, errno)
}

func TestSlowSyscalls(t *testing.T) {
	Privileged(t)
	p := startVictim(t, filepath.Join(t.TempDir(), "file"))
	s := Slow(t, p.cmd.Process.Pid, "fdatasync", 300*time.Millisecond)
	_, took := p.do("sync")
	require.GreaterOrEqual(t, took, 300*time.Millisecond)
	s.End()
}

func TestNoDescriptors(t *testing.T) {
	Privileged(t)
	p := startVictim(t, filepath.Join(t.TempDir(), "file"))
	restore := Descriptors(t, p.cmd.Process.Pid, 2)
	for i, want := range []syscall.Errno{0, 0, syscall.EMFILE, syscall.EMFILE} {
		errno, _ := p.do("open")
		require.Equal(t, want, errno, i)
	}
	restore()
	errno, _ := p.do("open")
	require.Zero(t, errno)
}

func TestFlip(t *testing.T) {
	Privileged(t)
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, []byte("abc"), 0o600))
	f := NewFlip(t, file, 1, 1)
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, "acc", string(text))
	require.True(t, f.There())
	NewFlip(t, file, 1, 1)
	require.False(t, f.There())
}
