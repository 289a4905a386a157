//go:build linux

package faults

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

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
	for _, tool := range []string{"mkfs.ext4", "mount", "umount", "strace", "cat"} {
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
