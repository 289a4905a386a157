//go:build linux

package faults

import (
	"fmt"
	"os"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// Descriptors lets a running process open only spare more files than it has open now; further ones fail with EMFILE. It
// returns what gives it its old limit back.
func Descriptors(t testing.TB, pid, spare int) (restore func()) {
	t.Helper()
	Privileged(t)
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	require.NoError(t, err)
	open := make(map[string]bool)
	for _, e := range entries {
		open[e.Name()] = true
	}
	limit := 0 // bounds the number of a new descriptor, which is the lowest that is free
	for free := 0; free < spare || open[strconv.Itoa(limit)]; limit++ {
		if !open[strconv.Itoa(limit)] {
			free++
		}
	}
	var old unix.Rlimit
	require.NoError(t, unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &old))
	require.NoError(t, unix.Prlimit(pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(limit), Max: old.Max}, nil))
	return func() { require.NoError(t, unix.Prlimit(pid, unix.RLIMIT_NOFILE, &old, nil)) }
}
