//go:build linux

package faults

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

const (
	// shutdown is EXT4_IOC_SHUTDOWN, _IOR('X', 125, __u32); noLogFlush is EXT4_GOING_FLAGS_NOLOGFLUSH: what has not
	// been written to the device, the journal's memory included, is gone.
	shutdown   = 0x8004587D
	noLogFlush = 2
	// freeze is FIFREEZE, _IOWR('X', 119, int). Thawing is left to fsfreeze.
	freeze = 0xC0045877
	// longestFreeze is after how many seconds a frozen disk goes on in any case.
	longestFreeze = 60
)

// DiskOptions say what a Disk is like.
type DiskOptions struct {
	Size   int64 // bytes; 0: 256 MiB
	Inodes int   // 0: as mkfs thinks
	// Device puts a Device below the file system. Then a power cut also loses and tears what the disk had taken, but not
	// flushed; without it that is all kept.
	Device bool
	Seed   uint64 // of what power cuts do to the device; 0: any, which is logged
}

// Disk is an ext4 file system in a file of its own. It goes with the test.
type Disk struct {
	Path   string  // where it is mounted
	Device *Device // nil: the file system is in a plain file
	Torn   Tear    // what power cuts have done to the device so far

	t      testing.TB
	image  string // the file
	source string // what is mounted: the file, or that of the device
	chance *rand.Rand
	thaw   func() // nil: not frozen
}

// NewDisk makes a file system and mounts it. Its file takes only as much room as was written to it.
func NewDisk(t testing.TB, o DiskOptions) *Disk {
	t.Helper()
	Privileged(t)
	if o.Size == 0 {
		o.Size = 256 << 20
	}
	dir, err := os.MkdirTemp(place(), "disk-")
	require.NoError(t, err)
	d := &Disk{Path: filepath.Join(dir, "disk"), t: t, image: filepath.Join(dir, "image")}
	d.source = d.image
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	require.NoError(t, os.Mkdir(d.Path, 0o700))
	f, err := os.Create(d.image)
	require.NoError(t, err)
	require.NoError(t, errors.Join(f.Truncate(o.Size), f.Close()))
	args := []string{"-q", "-F", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0"}
	if o.Inodes > 0 {
		args = append(args, "-N", strconv.Itoa(o.Inodes))
	}
	require.NoError(t, run("mkfs.ext4", append(args, d.image)...))
	if o.Device {
		d.onDevice(o, filepath.Join(dir, "fuse"))
	}
	d.mount()
	t.Cleanup(d.remove)
	return d
}

// onDevice puts a device between the file and what is mounted.
func (d *Disk) onDevice(o DiskOptions, dir string) {
	d.t.Helper()
	if o.Seed == 0 {
		o.Seed = rand.Uint64()
	}
	d.t.Logf("a device with seed %#x", o.Seed)
	d.chance = rand.New(rand.NewPCG(o.Seed, 0))
	f, err := os.OpenFile(d.image, os.O_RDWR, 0)
	require.NoError(d.t, err)
	d.t.Cleanup(func() { f.Close() })
	require.NoError(d.t, os.Mkdir(dir, 0o700))
	d.Device = newDevice(f, o.Size)
	server, err := serve(d.Device, dir)
	require.NoError(d.t, err)
	d.t.Cleanup(func() {
		if err := server.Unmount(); err != nil {
			d.t.Errorf("the device stays mounted: %v", err)
			return
		}
		server.Wait()
	})
	d.source = filepath.Join(dir, deviceName)
}

// remove unmounts the disk for good.
func (d *Disk) remove() {
	d.Thaw()
	d.Off()
	if err := d.unmount(); err != nil {
		d.t.Errorf("the disk stays mounted: %v", err)
	}
}

// mount uses a loop device that the kernel frees after umount.
func (d *Disk) mount() {
	d.t.Helper()
	require.NoError(d.t, run("mount", "-o", "loop", d.source, d.Path))
}

// unmount waits as long as something uses the disk, up to a limit: a process that was killed may take a moment.
func (d *Disk) unmount() error { return unmount(d.Path, 20*time.Second) }

func unmount(path string, longest time.Duration) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(longest)
	for {
		err := unix.Unmount(path, 0)
		if err == nil || errors.Is(err, unix.EINVAL) { // not mounted
			return nil
		}
		select {
		case <-tick.C:
		case <-deadline:
			return fmt.Errorf("umount %s: %w", path, err)
		}
	}
}

// Cut takes the power away: what was not synced is lost. Without a Device whoever writes gets errors, but see Stop. With one, nobody gets
// any answer any more, so that a process that lives on for a moment learns nothing that a machine without power
// could not have known; it must be killed before Off.
func (d *Disk) Cut() {
	d.t.Helper()
	if d.Device != nil {
		d.Device.powerOff()
		return
	}
	require.NoError(d.t, d.control(shutdown, noLogFlush))
}

// Off makes a Device that lost its power answer with errors, so that killed processes that wait for it can go. Without a
// Device nothing is to be done.
func (d *Disk) Off() {
	if d.Device != nil {
		d.Device.fail()
	}
}

// Restore mounts the disk again after a Cut, as a machine does that boots: the journal is replayed. No process may use the disk
// any more.
func (d *Disk) Restore() {
	d.t.Helper()
	d.Off()
	require.NoError(d.t, d.unmount())
	if d.Device != nil {
		tear, err := d.Device.powerOn(d.chance)
		require.NoError(d.t, err)
		d.Torn.Kept += tear.Kept
		d.Torn.Dropped += tear.Dropped
		d.Torn.Between += tear.Between
	}
	d.mount()
}

// Remount unmounts the disk and mounts it again, so that reads come from it and not from memory. No process may use it.
func (d *Disk) Remount() {
	d.t.Helper()
	require.NoError(d.t, d.unmount())
	d.mount()
}

// control is an ioctl on the mounted file system.
func (d *Disk) control(request uintptr, arg uint32) error {
	f, err := os.Open(d.Path)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), request, uintptr(unsafe.Pointer(&arg))); errno != 0 {
		return fmt.Errorf("ioctl %#x of %s: %w", request, d.Path, errno)
	}
	return nil
}

// Freeze makes the disk hang: all writes and syncs wait until Thaw. It thaws by itself when the test or its process
// ends, and after a minute.
func (d *Disk) Freeze() {
	d.t.Helper()
	// The thawing process waits for its standard input to end, which the kernel does for us if need be. The shell must
	// be there before the disk hangs.
	thaw := exec.Command("bash", "-c", `echo; read -t "$1"; exec fsfreeze --unfreeze "$0"`, d.Path, strconv.Itoa(longestFreeze))
	thaw.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stdin, err := thaw.StdinPipe()
	require.NoError(d.t, err)
	stdout, err := thaw.StdoutPipe()
	require.NoError(d.t, err)
	require.NoError(d.t, thaw.Start())
	_, err = stdout.Read(make([]byte, 1))
	require.NoError(d.t, err)
	d.thaw = func() {
		stdin.Close()
		if err := thaw.Wait(); err != nil {
			d.t.Errorf("the disk was not frozen any more, or does not thaw: %v", err)
		}
	}
	require.NoError(d.t, d.control(freeze, 0))
}

// Thaw ends a Freeze.
func (d *Disk) Thaw() {
	if d.thaw != nil {
		d.thaw()
		d.thaw = nil
	}
}

// Abort makes all writes fail with EROFS, also of files that are open, as ext4 does by itself after an error it cannot
// live with. Restore ends it.
func (d *Disk) Abort() {
	d.t.Helper()
	require.NoError(d.t, run("mount", "-o", "remount,abort", d.Path))
}

// ReadOnly mounts the disk for reading only. No file may be open for writing.
func (d *Disk) ReadOnly() {
	d.t.Helper()
	require.NoError(d.t, run("mount", "-o", "remount,ro", d.Path))
}

// ReadWrite ends ReadOnly.
func (d *Disk) ReadWrite() {
	d.t.Helper()
	require.NoError(d.t, run("mount", "-o", "remount,rw", d.Path))
}

// Fill takes all free bytes but this many with one file and returns what gives them back.
func (d *Disk) Fill(leave int64) (free func()) {
	d.t.Helper()
	f, err := os.CreateTemp(d.Path, "filler-")
	require.NoError(d.t, err)
	name := f.Name()
	defer f.Close()
	// The table of the file's own blocks needs some room too, so near the end the steps get smaller.
	for size, step := int64(0), d.Free()-leave; step >= 4096; step = min(step, d.Free()-leave) {
		switch err := unix.Fallocate(int(f.Fd()), 0, size, step); {
		case errors.Is(err, unix.ENOSPC):
			step /= 2
		default:
			require.NoError(d.t, err)
			size += step
		}
	}
	return func() { require.NoError(d.t, os.Remove(name)) }
}

// Free is how many bytes a process may still write.
func (d *Disk) Free() int64 {
	var s unix.Statfs_t
	require.NoError(d.t, unix.Statfs(d.Path, &s))
	return int64(s.Bavail) * s.Bsize
}

// FillInodes makes files until there are only so many inodes left, and returns what removes them.
func (d *Disk) FillInodes(leave uint64) (free func()) {
	d.t.Helper()
	dir := filepath.Join(d.Path, "many")
	require.NoError(d.t, os.Mkdir(dir, 0o700))
	for n := 0; ; n++ {
		var s unix.Statfs_t
		require.NoError(d.t, unix.Statfs(d.Path, &s))
		if s.Ffree <= leave {
			break
		}
		err := os.WriteFile(filepath.Join(dir, strconv.Itoa(n)), nil, 0o600)
		if errors.Is(err, unix.ENOSPC) {
			break
		}
		require.NoError(d.t, err)
	}
	return func() { require.NoError(d.t, os.RemoveAll(dir)) }
}
