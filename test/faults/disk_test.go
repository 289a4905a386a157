//go:build linux

package faults

import (
	"encoding/binary"
	"errors"
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

// A power cut keeps what was synced, also what is being synced when it comes: no process has said that something was synced
// that is not there. For a disk without Device that is only so if its processes are stopped before: see Stop.
func TestCutKeepsWhatWasSynced(t *testing.T) {
	for _, device := range []bool{false, true} {
		t.Run(fmt.Sprintf("device=%v", device), func(t *testing.T) {
			d := NewDisk(t, DiskOptions{Size: 64 << 20, Device: device})
			for range 40 {
				cutStreams(t, d)
			}
		})
	}
}

// cutStreams cuts the power under processes that sync all the time, soon after they have begun, and compares what they said
// with what is there.
func cutStreams(t *testing.T, d *Disk) {
	t.Helper()
	const n = 4
	var streams [n]*program
	var promised [n]chan uint64
	file := func(i int) string { return filepath.Join(d.Path, fmt.Sprint("stream", i)) }
	for i := range streams {
		streams[i], promised[i] = startVictim(t, file(i)), make(chan uint64, 1)
		go func() { promised[i] <- streams[i].stream() }()
	}
	<-time.After(3*time.Millisecond + rand.N(8*time.Millisecond))
	if d.Device == nil {
		for _, p := range streams {
			Stop(t, p.cmd.Process.Pid)
		}
	}
	d.Cut()
	if d.Device != nil {
		<-time.After(rand.N(5 * time.Millisecond))
	}
	for _, p := range streams {
		require.NoError(t, p.cmd.Process.Kill())
	}
	d.Off()
	var last [n]uint64
	for i := range streams {
		last[i] = <-promised[i]
	}
	d.Restore()
	for i := range streams {
		data, err := os.ReadFile(file(i))
		require.True(t, err == nil || last[i] == 0 && errors.Is(err, os.ErrNotExist), "%v", err)
		for k := range last[i] {
			require.Equal(t, k+1, binary.BigEndian.Uint64(data[k*record:]), "of %d promised", last[i])
		}
		require.NoError(t, os.RemoveAll(file(i)))
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
