//go:build linux

package faults

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Syscalls is a process whose system calls fail or are slow, by strace. Every traced call costs the process some 0.1
// ms, so no figures are taken meanwhile.
type Syscalls struct {
	t    testing.TB
	cmd  *exec.Cmd
	done chan struct{} // closed when strace has ended
}

// Failing makes calls of a running process fail with an error, "EIO" or another name of errno(3). calls is a list as
// strace takes it: "fdatasync,fsync". when is "" for all of them, "1" for only the first of each thread's.
func Failing(t testing.TB, pid int, calls, errno, when string) *Syscalls {
	t.Helper()
	action := "error=" + errno
	if when != "" {
		action += ":when=" + when
	}
	return inject(t, pid, calls, action)
}

// Slow makes calls of a running process take this much longer.
func Slow(t testing.TB, pid int, calls string, by time.Duration) *Syscalls {
	t.Helper()
	return inject(t, pid, calls, fmt.Sprintf("delay_enter=%d", by.Microseconds()))
}

func inject(t testing.TB, pid int, calls, action string) *Syscalls {
	t.Helper()
	Privileged(t)
	s := &Syscalls{t: t, done: make(chan struct{})}
	s.cmd = exec.Command("strace", "-f", "-p", fmt.Sprint(pid), "-o", os.DevNull, "-e", "trace="+calls, "-e", "inject="+calls+":"+action)
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stderr, err := s.cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, s.cmd.Start())
	t.Cleanup(s.End)
	first := make(chan string, 1)
	go func() {
		defer close(s.done)
		r := bufio.NewReader(stderr)
		line, _ := r.ReadString('\n')
		first <- line
		io.Copy(io.Discard, r)
		s.cmd.Wait() // its exit code is that of the signal
	}()
	line := <-first // "strace: Process 4711 attached with 12 threads"
	require.Contains(t, line, "attached", "strace does not attach")
	return s
}

// End lets the process go on as before. Ending twice is ending once.
func (s *Syscalls) End() {
	if err := s.cmd.Process.Signal(syscall.SIGINT); err != nil && !errors.Is(err, os.ErrProcessDone) {
		s.t.Error(err)
	}
	<-s.done
}
