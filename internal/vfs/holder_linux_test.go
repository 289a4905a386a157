package vfs

import (
	"os"
	"path/filepath"
	"testing"
)

func TestHolder(t *testing.T) {
	name := filepath.Join(t.TempDir(), "LOCK")
	holder := func(want int) {
		t.Helper()
		pid, err := Holder(name)
		must(t, err)
		if pid != want {
			t.Fatalf("process %d holds the lock, want %d", pid, want)
		}
	}
	holder(0)
	lock, err := OS().Lock(name)
	must(t, err)
	holder(os.Getpid())
	must(t, lock.Close())
	holder(0)
}

func TestParseLock(t *testing.T) {
	for line, want := range map[string]int{
		"1: FLOCK  ADVISORY  WRITE 17615 fe:00:9978423 0 EOF":    17615,
		"1: -> FLOCK  ADVISORY  WRITE 17615 fe:00:9978423 0 EOF": 0, // waits for it
		"2: POSIX  ADVISORY  WRITE 17615 fe:00:9978423 0 EOF":    0,
		"": 0,
		"3: FLOCK  ADVISORY  WRITE x fe:00:9978423 0 EOF": 0,
		"3: FLOCK  ADVISORY  WRITE 5 nonsense 0 EOF":      0,
	} {
		if pid, _, _ := parseLock(line); pid != want {
			t.Errorf("%q is held by %d, want %d", line, pid, want)
		}
	}
}
