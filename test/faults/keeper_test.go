//go:build linux

package faults

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/opencmq/cmq/test/cluster"
)

// held in the environment makes TestKilledInTheMiddle the one that is killed: it says how it is held up.
const held = "CMQ_FAULTS_HELD"

// holdUp makes a disk that this process, and one that it has started, wait for in a way that no signal ends: one that
// does not answer, with its device in this process, or one that is frozen. Then it says so and waits.
func holdUp(t *testing.T, how string) {
	d := NewDisk(t, DiskOptions{Size: 32 << 20, Device: how == "silent"})
	p := startVictim(t, filepath.Join(d.Path, "victim"))
	f, err := os.Create(filepath.Join(d.Path, "file"))
	require.NoError(t, err)
	if how == "silent" {
		d.Cut()
	} else {
		d.Freeze()
	}
	go p.stream()
	go stream(f)
	for _, pid := range []int{os.Getpid(), p.cmd.Process.Pid} {
		require.NoError(t, cluster.Eventually(10*time.Second, func() error { return waits(pid) }))
	}
	fmt.Println("held")
	select {}
}

// waits returns an error unless a thread of the process waits for a disk.
func waits(pid int) error {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	for _, task := range tasks {
		stat, _ := os.ReadFile(task)
		if _, state, _ := strings.Cut(string(stat), ") "); strings.HasPrefix(state, "D") {
			return nil
		}
	}
	return errors.Join(err, fmt.Errorf("no thread of process %d waits for a disk", pid))
}

// family is a test process in its namespaces, seen from outside.
type family struct {
	t                    *testing.T
	outer                *exec.Cmd
	keeper, inner        int
	all                  []int // everybody in the namespaces
	fuse                 []string
	loops                map[string]unix.LoopInfo64
	disks, temp, control string
}

// startHeld starts a test process and waits until it is held up.
func startHeld(t *testing.T, how string) *family {
	f := &family{t: t, disks: t.TempDir(), temp: t.TempDir(), control: t.TempDir(), loops: map[string]unix.LoopInfo64{}}
	require.NoError(t, unix.Mount("fusectl", f.control, "fusectl", 0, ""))
	t.Cleanup(func() { require.NoError(t, unix.Unmount(f.control, 0)) })
	f.outer = exec.Command("/proc/self/exe", "-test.run=^TestKilledInTheMiddle$")
	f.outer.Env = append(without(os.Environ(), confined), held+"="+how, "CMQ_FAULTS_DIR="+f.disks, "TMPDIR="+f.temp)
	f.outer.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := f.outer.StdoutPipe()
	require.NoError(t, err)
	f.outer.Stderr = os.Stderr
	require.NoError(t, f.outer.Start())
	t.Cleanup(func() { f.outer.Process.Kill() })
	lines := bufio.NewScanner(out)
	for lines.Scan() && lines.Text() != "held" {
		t.Log(lines.Text())
	}
	require.Equal(t, "held", lines.Text())
	f.look()
	return f
}

// look notes what is there of the process while it lives.
func (f *family) look() {
	f.keeper = f.child(f.outer.Process.Pid)
	f.inner = f.child(f.keeper)
	space := namespace(f.keeper)
	for _, pid := range processes(f.t) {
		if namespace(pid) == space {
			f.all = append(f.all, pid)
		}
	}
	require.Subset(f.t, f.all, []int{f.keeper, f.inner})
	require.GreaterOrEqual(f.t, len(f.all), 4, "they and the canary and the program")
	table, err := os.Open(fmt.Sprintf("/proc/%d/mountinfo", f.keeper))
	require.NoError(f.t, err)
	defer table.Close()
	mounts, err := readMounts(table)
	require.NoError(f.t, err)
	for _, m := range mounts {
		switch {
		case !strings.HasPrefix(m.path, f.disks):
		case m.kind == "fuse."+deviceKind:
			f.fuse = append(f.fuse, m.minor)
		case strings.HasPrefix(m.source, "/dev/loop"):
			info, err := loopInfo(m.source)
			require.NoError(f.t, err)
			f.loops[m.source] = info
		}
	}
	require.Len(f.t, f.loops, 1)
}

// end waits for the end of the process that was started. If it is held up, that is an error, and it is let go.
func (f *family) end() error {
	ended := make(chan error, 1)
	go func() { ended <- f.outer.Wait() }()
	select {
	case err := <-ended:
		return err
	case <-time.After(30 * time.Second):
		for _, minor := range f.fuse {
			os.WriteFile(filepath.Join(f.control, minor, "abort"), []byte("1"), 0)
		}
		require.Fail(f.t, "the process that was killed does not end")
		return nil
	}
}

// left is an error as long as anything of the process is there.
func (f *family) left() (err error) {
	for _, pid := range append([]int{f.outer.Process.Pid}, f.all...) {
		if stat, readErr := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); readErr == nil && !strings.Contains(string(stat), ") Z ") {
			err = errors.Join(err, fmt.Errorf("process %d is there: %.60s", pid, stat))
		}
	}
	for _, minor := range f.fuse {
		if _, statErr := os.Stat(filepath.Join(f.control, minor)); statErr == nil {
			err = errors.Join(err, fmt.Errorf("the connection of FUSE %s is there", minor))
		}
	}
	for loop, was := range f.loops {
		if is, loopErr := loopInfo(loop); loopErr == nil && is.Device == was.Device && is.Inode == was.Inode {
			err = errors.Join(err, fmt.Errorf("%s is in use", loop))
		}
	}
	for _, dir := range []string{f.disks, f.temp} {
		if names, readErr := os.ReadDir(dir); readErr != nil || len(names) > 0 {
			err = errors.Join(err, readErr, fmt.Errorf("there are still files: %v", names))
		}
	}
	return err
}

// child is the only child of a process.
func (f *family) child(of int) int {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", of))
	require.NoError(f.t, err, "%s", text)
	var found []int
	for _, pid := range processes(f.t) {
		stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		_, rest, _ := strings.Cut(string(stat), ") ")
		if fields := strings.Fields(rest); len(fields) > 1 && fields[1] == strconv.Itoa(of) {
			found = append(found, pid)
		}
	}
	require.Len(f.t, found, 1)
	return found[0]
}

func processes(t *testing.T) (pids []int) {
	names, err := os.ReadDir("/proc")
	require.NoError(t, err)
	for _, n := range names {
		if pid, err := strconv.Atoi(n.Name()); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// namespace is the mount namespace of a process; of one that is gone a name of its own.
func namespace(pid int) string {
	name, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/mnt", pid))
	if err != nil {
		return fmt.Sprint("none of ", pid)
	}
	return name
}

func loopInfo(name string) (unix.LoopInfo64, error) {
	f, err := os.Open(name)
	if err != nil {
		return unix.LoopInfo64{}, err
	}
	defer f.Close()
	info, err := unix.IoctlLoopGetStatus64(int(f.Fd()))
	if err != nil {
		return unix.LoopInfo64{}, err
	}
	return *info, nil
}

// A test process that is killed in the middle, while its own threads and those of its processes wait for a disk that nobody will
// ever serve again, goes with all it had: processes, mounts, connections, loop devices, files. So it does whichever of its
// three processes is killed, but for the keeper itself.
func TestKilledInTheMiddle(t *testing.T) {
	Privileged(t)
	if how := os.Getenv(held); how != "" {
		holdUp(t, how)
	}
	for _, how := range []string{"silent", "frozen"} {
		for _, who := range []string{"inner", "outer"} {
			t.Run(how+", "+who, func(t *testing.T) {
				f := startHeld(t, how)
				require.Equal(t, how == "silent", len(f.fuse) == 1)
				victim := map[string]int{"inner": f.inner, "outer": f.outer.Process.Pid}[who]
				require.NoError(t, syscall.Kill(victim, syscall.SIGKILL))
				require.Error(t, f.end())
				require.NoError(t, cluster.Eventually(30*time.Second, f.left))
			})
		}
	}
}

// One that fails, or ends without undoing anything, leaves nothing, either, and its exit code is what go test gets.
func TestEndedInTheMiddle(t *testing.T) {
	Privileged(t)
	f := startHeld(t, "silent")
	require.NoError(t, syscall.Kill(f.outer.Process.Pid, syscall.SIGTERM)) // which is passed on, and makes a Go program exit
	var exit *exec.ExitError
	require.ErrorAs(t, f.end(), &exit)
	require.Equal(t, 2, exit.ExitCode())
	require.NoError(t, f.left())
}
