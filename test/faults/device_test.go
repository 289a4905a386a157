//go:build linux

package faults

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// sectors makes content that says in each sector which it is and of which version.
func sectors(version byte, n int) []byte {
	p := bytes.Repeat([]byte{version}, n*sectorSize)
	for i := range n {
		copy(p[i*sectorSize:], fmt.Sprintf("sector %d of version ", i))
	}
	return p
}

// pattern is the content of a file on a disk with a device. A handle that stays open would keep the disk mounted, so each
// step opens it anew.
type pattern struct {
	t    *testing.T
	d    *Disk
	name string
	n    int // sectors
}

func newPattern(t *testing.T, d *Disk, name string, n int) *pattern {
	p := &pattern{t, d, filepath.Join(d.Path, name), n}
	p.write(1, 0, n)
	p.sync()
	return p
}

func (p *pattern) open(f func(*os.File)) {
	file, err := os.OpenFile(p.name, os.O_RDWR|os.O_CREATE, 0o600)
	require.NoError(p.t, err)
	f(file)
	require.NoError(p.t, file.Close())
}

// write writes sectors [from, to) of a version into the page cache.
func (p *pattern) write(version byte, from, to int) {
	p.open(func(f *os.File) {
		_, err := f.WriteAt(sectors(version, p.n)[from*sectorSize:to*sectorSize], int64(from*sectorSize))
		require.NoError(p.t, err)
	})
}

// push gives what was written to the device and waits until that has taken it, which a sync does too; a flush, which
// only a sync does, is left out.
func (p *pattern) push() error {
	var err error
	p.open(func(f *os.File) {
		err = unix.SyncFileRange(int(f.Fd()), 0, 0, unix.SYNC_FILE_RANGE_WAIT_BEFORE|unix.SYNC_FILE_RANGE_WRITE|unix.SYNC_FILE_RANGE_WAIT_AFTER)
	})
	return err
}

func (p *pattern) sync() { p.open(func(f *os.File) { require.NoError(p.t, f.Sync()) }) }

// versions counts the sectors of each version.
func (p *pattern) versions() map[byte]int {
	data, err := os.ReadFile(p.name)
	require.NoError(p.t, err)
	require.Len(p.t, data, p.n*sectorSize)
	found := make(map[byte]int)
	for i := range p.n {
		sector := data[i*sectorSize : (i+1)*sectorSize]
		version := sector[sectorSize-1]
		require.Equal(p.t, sectors(version, p.n)[i*sectorSize:(i+1)*sectorSize], sector, "sector %d is no version whole", i)
		found[version]++
	}
	return found
}

// extents says where a file is on its device.
func extents(t *testing.T, name string) func(sector int64) bool {
	parts, err := Extents(name)
	require.NoError(t, err)
	require.NotEmpty(t, parts)
	return func(sector int64) bool { return Holds(parts, sector) }
}

// A write that was not flushed is torn by a power cut, sector by sector; what was flushed stays; and the same seed tears it
// in the same way.
func TestDeviceTearsWhatWasNotFlushed(t *testing.T) {
	var first map[byte]int
	for range 2 {
		d := NewDisk(t, DiskOptions{Size: 32 << 20, Device: true, Seed: 7})
		kept, torn := newPattern(t, d, "kept", 64), newPattern(t, d, "torn", 64)
		kept.write(2, 0, 64)
		kept.sync()
		require.Zero(t, d.Device.Pending())
		for version := byte(2); version <= 4; version++ {
			torn.write(version, 0, 64)
			require.NoError(t, torn.push())
		}
		require.Equal(t, 64, d.Device.Pending())
		d.Cut()
		d.Restore()
		require.Equal(t, map[byte]int{2: 64}, kept.versions())
		found := torn.versions()
		require.Len(t, found, 4, "all versions are there: %v", found)
		require.Equal(t, Tear{Kept: found[4], Between: found[2] + found[3], Dropped: found[1]}, d.Torn)
		if first != nil {
			require.Equal(t, first, found)
		}
		first = found
	}
}

// A power cut reorders: of two writes, one after the other, the second may be there without the first.
func TestDeviceReordersWhatWasNotFlushed(t *testing.T) {
	d := NewDisk(t, DiskOptions{Size: 32 << 20, Device: true, Seed: 3})
	p := newPattern(t, d, "file", 64)
	for range 20 {
		p.write(1, 0, 64)
		p.sync()
		p.write(2, 0, 8)
		require.NoError(t, p.push())
		p.write(3, 8, 16)
		require.NoError(t, p.push())
		d.Cut()
		d.Restore()
		if found := p.versions(); found[2] < 8 && found[3] > 0 {
			return
		}
	}
	require.Fail(t, "the first write was never torn with any of the second there")
}

// Without power nothing is answered until the processes are dead, and then errors are; nothing gets to the disk any more.
func TestDeviceWithoutPowerAnswersNothing(t *testing.T) {
	d := NewDisk(t, DiskOptions{Size: 32 << 20, Device: true})
	file := filepath.Join(d.Path, "file")
	p := startVictim(t, file)
	for _, op := range []string{"write", "sync", "write"} {
		errno, _ := p.do(op)
		require.Zero(t, errno)
	}
	d.Cut()
	answered := make(chan syscall.Errno, 1)
	go func() {
		errno, _ := p.do("sync")
		answered <- errno
	}()
	select {
	case errno := <-answered:
		require.Fail(t, "a sync was answered without power", "%v", errno)
	case <-time.After(300 * time.Millisecond):
	}
	d.Off()
	require.Equal(t, syscall.EIO, <-answered)
	require.NoError(t, p.cmd.Process.Kill())
	d.Restore()
	info, err := os.Stat(file)
	require.NoError(t, err)
	require.EqualValues(t, 1, info.Size())
}

// A write that is lost is acknowledged, flushed and not there.
func TestDeviceLosesWrites(t *testing.T) {
	d := NewDisk(t, DiskOptions{Size: 32 << 20, Device: true})
	p := newPattern(t, d, "file", 64)
	d.Device.Lose(extents(t, p.name))
	p.write(2, 8, 16)
	p.sync()
	d.Device.Lose(nil)
	require.Equal(t, 8, d.Device.Stats().Lost)
	require.Equal(t, map[byte]int{1: 56, 2: 8}, p.versions(), "the page cache does not know")
	d.Remount()
	require.Equal(t, map[byte]int{1: 64}, p.versions())
}

// A write that is misdirected is where it does not belong, and what was there is gone.
func TestDeviceMisdirectsWrites(t *testing.T) {
	d := NewDisk(t, DiskOptions{Size: 32 << 20, Device: true})
	p := newPattern(t, d, "file", 64)
	here := extents(t, p.name)
	d.Device.Misdirect(func(sector int64) int64 {
		if here(sector) && here(sector+8) {
			return sector + 8
		}
		return sector
	})
	p.write(2, 8, 16)
	p.sync()
	d.Device.Misdirect(nil)
	require.Equal(t, 8, d.Device.Stats().Moved)
	d.Remount()
	data, err := os.ReadFile(p.name)
	require.NoError(t, err)
	want := sectors(1, 64)
	copy(want[16*sectorSize:], sectors(2, 64)[8*sectorSize:16*sectorSize])
	require.True(t, bytes.Equal(want, data))
}

func TestDeviceFails(t *testing.T) {
	d := NewDisk(t, DiskOptions{Size: 32 << 20, Device: true})
	for _, fail := range []func(syscall.Errno){d.Device.FailWrites, d.Device.FailFlushes} {
		p := startVictim(t, filepath.Join(d.Path, "file"))
		errno, _ := p.do("write")
		require.Zero(t, errno)
		fail(syscall.EIO)
		before := d.Device.Stats().Failed
		errno, _ = p.do("sync")
		require.Equal(t, syscall.EIO, errno)
		require.Greater(t, d.Device.Stats().Failed, before)
		fail(0)
		require.NoError(t, p.cmd.Process.Kill())
		d.Cut() // the file system has given up
		d.Restore()
	}
}

func TestDeviceIsSlow(t *testing.T) {
	d := NewDisk(t, DiskOptions{Size: 32 << 20, Device: true})
	p := startVictim(t, filepath.Join(d.Path, "file"))
	for _, slow := range [][2]time.Duration{{200 * time.Millisecond, 0}, {0, 200 * time.Millisecond}} {
		d.Device.Slow(slow[0], slow[1])
		errno, _ := p.do("write")
		require.Zero(t, errno)
		errno, took := p.do("sync")
		require.Zero(t, errno)
		require.GreaterOrEqual(t, took, 200*time.Millisecond)
	}
	d.Device.Slow(0, 0)
}
