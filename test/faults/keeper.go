//go:build linux

package faults

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// thaw is FITHAW, _IOWR('X', 120, int).
	thaw = 0xC0045878
	// releasePause is between two looks for what may hold up a process that is ending.
	releasePause = 50 * time.Millisecond
	// longestUnmount is how long a mount is tried to be undone that something uses; its users have ended by then.
	longestUnmount = 10 * time.Second
)

// keeper outlives the confined process and undoes what is left of it. The kernel alone cannot: a thread that waits for a disk below
// which is a Device of its own process waits for an answer that nobody gives any more, and as long as it waits the
// process has not ended, its end of the device is open, and nothing is told that it is gone. The same goes for a disk
// that is frozen, because whoever would have thawed it is killed with the rest.
//
// The keeper itself never uses any of these disks.
type keeper struct {
	disks, temporary string   // directories that go
	control          string   // where the control file system of FUSE is mounted
	mounts           *os.File // the mount table of this namespace, which is that of inner
	inner            *exec.Cmd
}

// runInner runs this program as the confined process and returns its exit code when nothing is left of it.
func runInner() (code int, err error) {
	outer, alarm := os.NewFile(inherited, "outer"), (*os.File)(nil)
	unix.CloseOnExec(inherited)
	k := &keeper{}
	if alarm, err = k.start(); err == nil {
		code, err = k.wait(outer, alarm)
	}
	return code, errors.Join(err, k.clean())
}

// start makes the directories and starts inner. alarm ends when inner does.
func (k *keeper) start() (alarm *os.File, err error) {
	if k.disks, err = os.MkdirTemp(place(), "cmq-faults-"); err != nil {
		return nil, err
	}
	if k.temporary, err = os.MkdirTemp("", "cmq-faults-"); err != nil {
		return nil, err
	}
	control := filepath.Join(k.temporary, "fusectl")
	if err := os.Mkdir(control, 0o700); err != nil {
		return nil, err
	}
	if err := unix.Mount("fusectl", control, "fusectl", 0, ""); err != nil {
		return nil, fmt.Errorf("mount the control file system of FUSE: %w", err)
	}
	k.control = control
	// It is opened now, because inner mounts another /proc over this one.
	if k.mounts, err = os.Open("/proc/self/mountinfo"); err != nil {
		return nil, err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer w.Close()
	k.inner = again(confined+"="+os.Getenv(kept), w)
	k.inner.Env = append(without(k.inner.Env, kept), "CMQ_FAULTS_DIR="+k.disks, "TMPDIR="+k.temporary)
	k.inner.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID, Setpgid: true, Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread() // the death that counts is that of this thread
	return r, k.inner.Start()
}

// wait waits until inner and all its processes have ended, and makes sure that they do if outer or the canary has.
func (k *keeper) wait(outer, alarm *os.File) (int, error) {
	passSignals(k.inner.Process)
	gone := make(chan struct{}, 2)
	for _, f := range []*os.File{outer, alarm} {
		go func() {
			io.Copy(io.Discard, f)
			gone <- struct{}{}
		}()
	}
	ended := make(chan error, 1)
	go func() { ended <- k.inner.Wait() }()
	select {
	case err := <-ended:
		return exitCode(err)
	case <-gone:
	}
	k.inner.Process.Kill() // if it is ending already, its exit code stays what it is
	tick := time.NewTicker(releasePause)
	defer tick.Stop()
	for {
		k.release()
		select {
		case err := <-ended:
			return exitCode(err)
		case <-tick.C:
		}
	}
}

// release lets go whoever waits for a disk: devices answer with errors, and what is frozen thaws.
func (k *keeper) release() {
	mounts, err := k.mounted()
	if err != nil {
		fmt.Fprintln(os.Stderr, "the mount table of the tests:", err)
		return
	}
	for _, m := range mounts {
		if m.kind == "fuse."+deviceKind {
			os.WriteFile(filepath.Join(k.control, m.minor, "abort"), []byte("1"), 0) // an error: it is gone
		}
	}
	for _, m := range mounts {
		if m.kind != "ext4" {
			continue
		}
		if f, err := os.Open(m.path); err == nil {
			unix.Syscall(unix.SYS_IOCTL, f.Fd(), thaw, 0) // an error: it is not frozen
			f.Close()
		}
	}
}

// clean undoes the mounts and removes the files.
func (k *keeper) clean() error {
	var err error
	if k.mounts != nil {
		mounts, listErr := k.mounted()
		err = listErr
		for _, m := range slices.Backward(mounts) {
			err = errors.Join(err, unmount(m.path, longestUnmount))
		}
	}
	if k.control != "" {
		err = errors.Join(err, unmount(k.control, longestUnmount))
	}
	for _, dir := range []string{k.disks, k.temporary} {
		if dir != "" {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}
	return err
}

// mount is one line of a mount table.
type mount struct {
	minor  string // of the device's number; the number of the connection, if it is FUSE
	path   string
	kind   string // of file system
	source string
}

// mounted lists what is mounted below the directory of the disks, in the order in which it was.
func (k *keeper) mounted() (below []mount, err error) {
	if _, err := k.mounts.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	all, err := readMounts(k.mounts)
	for _, m := range all {
		if strings.HasPrefix(m.path, k.disks+"/") {
			below = append(below, m)
		}
	}
	return below, err
}

// readMounts reads a mount table: id, parent, major:minor, root, path, options, any more, "-", kind, source, options.
func readMounts(table io.Reader) (mounts []mount, err error) {
	text, err := io.ReadAll(table)
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		left, right, _ := strings.Cut(lines.Text(), " - ")
		l, r := strings.Fields(left), strings.Fields(right)
		if len(l) < 6 || len(r) < 2 {
			return mounts, fmt.Errorf("no line of a mount table: %q", lines.Text())
		}
		_, minor, _ := strings.Cut(l[2], ":")
		mounts = append(mounts, mount{minor, l[4], r[0], r[1]})
	}
	return mounts, err
}
