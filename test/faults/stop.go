//go:build linux

package faults

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/test/cluster"
)

// Stop stops a process for good: when it returns, none of its threads runs any more, and one that is still in a system call will
// not come back from it, because a thread that has stopped shows that all others have been told. A machine whose power fails computes
// nothing more and answers nobody. A process that is gone is stopped, too.
//
// Before Disk.Cut of a disk without Device this is not only closer to the truth, but needed: ext4 lies to processes that it is shut
// down under. It marks preallocated blocks as written after their data is on the disk; when it is shut down in between
// it drops that mark, tells nobody, and the fdatasync that waits for it may return no error, although the blocks read as
// zeros after the next mount. A process that lives on would pass the promise on.
func Stop(t testing.TB, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil && !errors.Is(err, syscall.ESRCH) {
		require.NoError(t, err)
	}
	require.NoError(t, cluster.Eventually(10*time.Second, func() error {
		tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
		if err != nil {
			return err
		}
		stopped, gone := false, true
		for _, task := range tasks {
			stat, err := os.ReadFile(task)
			if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
				continue // the thread has ended
			}
			if err != nil {
				return err
			}
			_, state, _ := strings.Cut(string(stat), ") ")
			if state == "" || !strings.ContainsAny(state[:1], "TtDZX") {
				return fmt.Errorf("thread %s is not stopped: %.1s", task, state)
			}
			stopped = stopped || strings.ContainsAny(state[:1], "Tt")
			gone = gone && strings.ContainsAny(state[:1], "ZX")
		}
		if !stopped && !gone {
			return fmt.Errorf("no thread of process %d has stopped yet", pid)
		}
		return nil
	}))
}
