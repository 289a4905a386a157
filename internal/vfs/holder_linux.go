package vfs

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Holder says which process holds the lock on the file of that name (see FS.Lock), without touching it; 0 if none does, or
// none that this process may know of. It is a look and no lock: the answer may be wrong by the time it is read.
func Holder(name string) (pid int, err error) {
	var st unix.Stat_t
	switch err := ignoringEINTR(func() error { return unix.Stat(name, &st) }); {
	case errors.Is(err, fs.ErrNotExist):
		return 0, nil
	case err != nil:
		return 0, fmt.Errorf("stat %s: %w", name, err)
	}
	f, err := os.Open("/proc/locks")
	if err != nil {
		return 0, fmt.Errorf("who holds a lock cannot be found out: %w", err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		pid, dev, ino := parseLock(lines.Text())
		if pid > 0 && ino == st.Ino && (dev == deviceOf(&st) || hasOpen(pid, name)) {
			return pid, nil
		}
	}
	return 0, lines.Err()
}

func deviceOf(st *unix.Stat_t) string {
	return fmt.Sprintf("%02x:%02x", unix.Major(uint64(st.Dev)), unix.Minor(uint64(st.Dev)))
}

// parseLock reads a line of /proc/locks that somebody holds; pid is 0 for others.
//
//	1: FLOCK  ADVISORY  WRITE 17615 fe:00:9978423 0 EOF
func parseLock(line string) (pid int, dev string, inode uint64) {
	w := strings.Fields(line)
	if len(w) < 6 || w[1] != "FLOCK" {
		return 0, "", 0
	}
	at := strings.LastIndexByte(w[5], ':')
	pid, err := strconv.Atoi(w[4])
	if err != nil || at < 0 {
		return 0, "", 0
	}
	inode, err = strconv.ParseUint(w[5][at+1:], 10, 64)
	if err != nil {
		return 0, "", 0
	}
	return pid, w[5][:at], inode
}

// hasOpen tells whether a process has the file open. Some file systems (btrfs, overlayfs) show programs another device
// than the kernel's list of locks does.
func hasOpen(pid int, name string) bool {
	want, err := os.Stat(name)
	if err != nil {
		return false
	}
	fds, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil {
		return false
	}
	for _, fd := range fds {
		if have, err := os.Stat(fd); err == nil && os.SameFile(have, want) {
			return true
		}
	}
	return false
}
