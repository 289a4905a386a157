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

	"golang.org/x/sys/unix"
)

const (
	// kept is in the environment of the process that keeps the confined one: the mount namespace outside.
	kept = "CMQ_FAULTS_KEPT"
	// confined is in the environment of the confined process; it says the same.
	confined = "CMQ_FAULTS_CONFINED"
	// inherited is the descriptor of the first file that a process is started with.
	inherited = 3
)

// Confine runs the rest of the test process in namespaces of its own for mounts and processes, so that its processes and
// its mounts end with it, however it ended; then its files are removed. Where Privileged skips it does nothing.
//
//	outer    what go test started; passes signals on
//	keeper   has the mount namespace, undoes what is left (keeper.go)
//	inner    runs the tests; the first process of its namespace
//	canary   dies with one thread of inner, so that the keeper learns of it
//
// If one of the first three is killed, the others end, too. Only in inner does Confine return: the others exit as inner did.
func Confine() {
	if missing() != nil {
		return
	}
	if os.Getenv(confined) != "" {
		must("mount /proc", unix.Mount("proc", "/proc", "proc", 0, ""))
		must("start the canary", startCanary(os.NewFile(inherited, "canary")))
		return
	}
	run := runKeeper
	if os.Getenv(kept) != "" {
		run = runInner
	}
	code, err := run()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	os.Exit(code)
}

func must(what string, err error) {
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", what, err)
		os.Exit(1)
	}
}

// again is this program with the same arguments and one more variable in its environment, and with files that are open.
func again(variable string, open ...*os.File) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env, cmd.ExtraFiles = append(os.Environ(), variable), open
	return cmd
}

// runKeeper runs this program as the keeper, in a session of its own, so that what ends this process group spares it, and
// returns its exit code.
func runKeeper() (int, error) {
	outside, err := os.Readlink("/proc/self/ns/mnt")
	if err != nil {
		return 0, err
	}
	// The keeper finds its end of this closed when this process has ended.
	r, w, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer w.Close()
	keeper := again(kept+"="+outside, r)
	keeper.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Setsid: true}
	if err := keeper.Start(); err != nil {
		return 0, fmt.Errorf("namespaces are not to be had: %w", err)
	}
	r.Close()
	passSignals(keeper.Process)
	return exitCode(keeper.Wait())
}

// passSignals gives the signals that end a process to another one.
func passSignals(to *os.Process) {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGQUIT)
	go func() {
		for s := range signals {
			to.Signal(s)
		}
	}()
}

// exitCode is that of a process that Wait says this of. The error is that of one that did not exit, but was killed.
func exitCode(err error) (int, error) {
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.ExitCode() >= 0 {
		return exit.ExitCode(), nil
	}
	return 0, err
}

// startCanary starts a process that does nothing and has alarm open. The kernel kills it when one thread of this process ends,
// one that only waits. So whoever reads the other end of alarm learns that this process is ending even if other threads
// cannot, because they wait for a disk that is served by this process or frozen.
func startCanary(alarm *os.File) error {
	canary := exec.Command("cat")
	canary.Stdout = alarm
	canary.Env = []string{"PATH=" + os.Getenv("PATH")}
	canary.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	in, err := canary.StdinPipe() // which nobody writes to
	if err != nil {
		return err
	}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := canary.Start()
		started <- err
		if err == nil {
			canary.Wait()
			in.Close()
		}
	}()
	err = <-started
	return errors.Join(err, alarm.Close())
}

// without is an environment without some variables.
func without(environ []string, names ...string) (rest []string) {
	for _, v := range environ {
		drop := false
		for _, name := range names {
			drop = drop || strings.HasPrefix(v, name+"=")
		}
		if !drop {
			rest = append(rest, v)
		}
	}
	return rest
}
