//go:build linux

package faults

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// confined is in the environment of the process that Confine starts: the mount namespace outside.
const confined = "CMQ_FAULTS_CONFINED"

// missing says what these tests need and do not have; nil if nothing is missing.
func missing() error {
	if os.Getenv("CMQ_FAULTS") == "" {
		return errors.New("CMQ_FAULTS is not set (make test-faults sets it)")
	}
	if os.Geteuid() != 0 {
		return errors.New("not root")
	}
	for _, dev := range []string{"/dev/loop-control", "/dev/fuse"} {
		if _, err := os.Stat(dev); err != nil {
			return err
		}
	}
	for _, tool := range []string{"mkfs.ext4", "mount", "umount", "strace"} {
		if _, err := exec.LookPath(tool); err != nil {
			return err
		}
	}
	return nil
}

// Privileged skips the test where it may not break things: it says what is missing.
func Privileged(t testing.TB) {
	t.Helper()
	if err := missing(); err != nil {
		t.Skipf("fault tests mount file systems and trace processes, which is not possible here: %v", err)
	}
}

// Confine runs the rest of the test process in namespaces of its own for mounts and processes, so that the kernel ends
// its processes and undoes its mounts when it has ended, however it ended; then the files of its disks are removed. Where
// Privileged skips it does nothing. In the outer process it does not return: it exits as the inner one did.
func Confine() {
	if missing() != nil {
		return
	}
	if os.Getenv(confined) != "" {
		if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
			fmt.Fprintln(os.Stderr, "mount /proc:", err)
			os.Exit(1)
		}
		return
	}
	code, err := runConfined()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// runConfined runs this program again and returns its exit code.
func runConfined() (int, error) {
	dir, err := os.MkdirTemp(place(), "cmq-faults-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	outer, err := os.Readlink("/proc/self/ns/mnt")
	if err != nil {
		return 0, err
	}
	inner := exec.Command("/proc/self/exe", os.Args[1:]...)
	inner.Args[0] = os.Args[0]
	inner.Stdin, inner.Stdout, inner.Stderr = os.Stdin, os.Stdout, os.Stderr
	inner.Env = append(os.Environ(), confined+"="+outer, "CMQ_FAULTS_DIR="+dir)
	inner.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID, Unshareflags: syscall.CLONE_NEWNS, Setpgid: true, Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread() // the death that counts is that of this thread
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGQUIT)
	if err := inner.Start(); err != nil {
		return 0, fmt.Errorf("namespaces are not to be had: %w", err)
	}
	go func() {
		for s := range signals {
			inner.Process.Signal(s)
		}
	}()
	err = inner.Wait()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.ExitCode() >= 0 {
		return exit.ExitCode(), nil
	}
	return 0, err
}

// place is where the files of disks are made: CMQ_FAULTS_DIR, or in memory, where syncs are quick and a power cut is the
// same, or the directory for temporary files.
func place() string {
	if dir := os.Getenv("CMQ_FAULTS_DIR"); dir != "" {
		return dir
	}
	if _, err := os.Stat("/dev/shm"); err == nil {
		return "/dev/shm"
	}
	return os.TempDir()
}

// run runs a tool and puts what it says into the error.
func run(name string, args ...string) error {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
