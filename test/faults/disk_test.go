//go:build linux

package faults

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func write(t *testing.T, name, text string, synced bool) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	require.NoError(t, err)
	_, err = f.WriteString(text)
	require.NoError(t, err)
	if synced {
		require.NoError(t, f.Sync())
	}
	require.NoError(t, f.Close())
}

// A power cut takes what was not synced, file and name, and leaves what was; a kill of the process would leave both.
func TestCutLosesWhatWasNotSynced(t *testing.T) {
	d := NewDisk(t, DiskOptions{Size: 32 << 20})
	kept, lost := filepath.Join(d.Path, "kept"), filepath.Join(d.Path, "lost")
	for range 3 {
		write(t, kept, "synced ", true)
		write(t, kept, "not synced ", false)
		write(t, lost, "not synced ", false)
		d.Cut()
		_, err := os.Create(filepath.Join(d.Path, "new"))
		require.ErrorIs(t, err, syscall.EIO)
		d.Restore()
		_, err = os.Stat(lost)
		require.ErrorIs(t, err, os.ErrNotExist)
		text, err := os.ReadFile(kept)
		require.NoError(t, err)
		require.Equal(t, "synced ", string(text))
		require.NoError(t, os.Remove(kept))
	}
}

// A power cut is also one for a process that is writing: it gets errors until it is killed.
func TestCutUnderAProcess(t *testing.T) {
	d := NewDisk(t, DiskOptions{Size: 32 << 20})
	file := filepath.Join(d.Path, "file")
	p := startVictim(t, file)
	for _, op := range []string{"write", "sync", "write", "write"} {
		errno, _ := p.do(op)
		require.Zero(t, errno)
	}
	d.Cut()
	errno, _ := p.do("sync")
	require.Equal(t, syscall.EIO, errno)
	require.NoError(t, p.cmd.Process.Kill())
	d.Restore()
	info, err := os.Stat(file)
	require.NoError(t, err)
	require.EqualValues(t, 1, info.Size())
}

// A power cut keeps what was synced, also what is being synced when it comes: a sync that the cut overtakes says so.
func TestCutKeepsWhatWasSynced(t *testing.T) {
	d := NewDisk(t, DiskOptions{Size: 32 << 20})
	for range 300 {
		file := filepath.Join(d.Path, "file")
		p := startVictim(t, file)
		_, err := fmt.Fprintln(p.in, "stream")
		require.NoError(t, err)
		promised := make(chan uint64)
		first := make(chan struct{})
		go func() {
			var last uint64
			defer func() { promised <- last }()
			for {
				line, err := p.out.ReadString('\n')
				if err != nil || line != fmt.Sprintln("synced", last+1) {
					return
				}
				if last++; last == 1 {
					close(first)
				}
			}
		}()
		<-first
		<-time.After(rand.N(5 * time.Millisecond))
		d.Cut()
		last := <-promised
		require.NoError(t, p.cmd.Process.Kill())
		d.Restore()
		data, err := os.ReadFile(file)
		require.NoError(t, err)
		for n := range last {
			require.Equal(t, n+1, binary.BigEndian.Uint64(data[n*record:]), "of %d promised", last)
		}
		require.NoError(t, os.Remove(file))
	}
}

func TestFullDisk(t *testing.T) {
	d := NewDisk(t, DiskOptions{Size: 32 << 20})
	free := d.Fill(0)
	file := filepath.Join(d.Path, "file")
	require.ErrorIs(t, os.WriteFile(file, make([]byte, 64<<10), 0o600), syscall.ENOSPC)
	free()
	require.NoError(t, os.WriteFile(file, make([]byte, 64<<10), 0o600))
	free = d.Fill(4 << 20)
	require.InDelta(t, 4<<20, d.Free(), 64<<10)
	free()
}

func TestNoInodes(t *testing.T) {
	d := NewDisk(t, DiskOptions{Size: 32 << 20, Inodes: 200})
	free := d.FillInodes(0)
	file := filepath.Join(d.Path, "file")
	require.ErrorIs(t, os.WriteFile(file, nil, 0o600), syscall.ENOSPC)
	require.Greater(t, d.Free(), int64(1<<20), "there is room for bytes")
	free()
	require.NoError(t, os.WriteFile(file, nil, 0o600))
}

func TestReadOnlyDisk(t *testing.T) {
	d := NewDisk(t, DiskOptions{Size: 32 << 20})
	file := filepath.Join(d.Path, "file")
	d.ReadOnly()
	require.ErrorIs(t, os.WriteFile(file, nil, 0o600), syscall.EROFS)
	d.ReadWrite()
	p := startVictim(t, file)
	errno, _ := p.do("write")
	require.Zero(t, errno)
	d.Abort()
	errno, _ = p.do("write")
	require.Equal(t, syscall.EROFS, errno)
	require.NoError(t, p.cmd.Process.Kill())
	d.Restore()
	require.NoError(t, os.WriteFile(file, nil, 0o600))
}

// A frozen disk lets a sync wait until it is thawed, and is thawed when whoever froze it has gone.
func TestFrozenDisk(t *testing.T) {
	d := NewDisk(t, DiskOptions{Size: 32 << 20})
	p := startVictim(t, filepath.Join(d.Path, "file"))
	for range 2 {
		d.Freeze()
		type result struct {
			errno syscall.Errno
			took  time.Duration
		}
		done := make(chan result, 1)
		go func() {
			errno, took := p.do("write")
			done <- result{errno, took}
		}()
		select {
		case <-done:
			require.Fail(t, "the write did not wait")
		case <-time.After(300 * time.Millisecond):
		}
		d.Thaw()
		r := <-done
		require.Zero(t, r.errno)
		require.GreaterOrEqual(t, r.took, 300*time.Millisecond)
	}
}
