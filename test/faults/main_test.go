//go:build linux

package faults

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/opencmq/cmq/test/cluster"
)

// cmq is where TestMain has built cmq.
var cmq string

// victim in the environment makes the test binary a plain program to which faults are done, see runVictim.
const victim = "CMQ_FAULTS_VICTIM"

func TestMain(m *testing.M) {
	if file := os.Getenv(victim); file != "" {
		runVictim(file)
		return
	}
	Confine()
	os.Exit(buildAndRun(m))
}

func buildAndRun(m *testing.M) int {
	if missing() != nil || os.Getenv(held) != "" {
		return m.Run() // all tests are skipped, or the one that runs does not need it
	}
	dir, err := os.MkdirTemp("", "cmq-faults-")
	if err == nil {
		defer os.RemoveAll(dir)
		cmq, err = cluster.Build(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// runVictim does for each line of its input what the line says and answers with one line: the number of the error, 0 for
// none.
func runVictim(file string) {
	f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("ready")
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		var err error
		switch in.Text() {
		case "write":
			_, err = f.Write([]byte("x"))
		case "sync":
			err = unix.Fdatasync(int(f.Fd()))
		case "open":
			_, err = syscall.Open(file, os.O_RDONLY, 0) // and keep it
		case "stream":
			err = stream(f)
		}
		var errno syscall.Errno
		errors.As(err, &errno)
		fmt.Println(int(errno))
	}
}

// record is how many bytes one number takes in a stream.
const record = 5000

// stream writes numbers into preallocated room, syncs each and says so, until that fails.
func stream(f *os.File) error {
	if err := unix.Fallocate(int(f.Fd()), 0, 0, 4<<20); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	for n := range uint64(4 << 20 / record) {
		b := make([]byte, record)
		binary.BigEndian.PutUint64(b, n+1)
		if _, err := f.WriteAt(b, int64(n*record)); err != nil {
			return err
		}
		if err := unix.Fdatasync(int(f.Fd())); err != nil {
			return err
		}
		fmt.Println("synced", n+1)
	}
	return nil
}

// program is a running victim.
type program struct {
	t   testing.TB
	cmd *exec.Cmd
	in  interface{ Write([]byte) (int, error) }
	out *bufio.Reader
}

func startVictim(t testing.TB, file string) *program {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), victim+"="+file)
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	p := &program{t, cmd, in, bufio.NewReader(out)}
	t.Cleanup(func() {
		in.Close()
		cmd.Wait()
	})
	line, err := p.out.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "ready\n", line)
	return p
}

// stream lets the program stream until it ends, and returns the last number that it said was synced.
func (p *program) stream() (last uint64) {
	if _, err := fmt.Fprintln(p.in, "stream"); err != nil {
		return 0
	}
	for {
		line, err := p.out.ReadString('\n')
		if err != nil || line != fmt.Sprintln("synced", last+1) {
			return last
		}
		last++
	}
}

// do gives the error of one operation and how long it took.
func (p *program) do(what string) (syscall.Errno, time.Duration) {
	start := time.Now()
	_, err := fmt.Fprintln(p.in, what)
	require.NoError(p.t, err)
	line, err := p.out.ReadString('\n')
	require.NoError(p.t, err)
	var n int
	_, err = fmt.Sscan(strings.TrimSpace(line), &n)
	require.NoError(p.t, err)
	return syscall.Errno(n), time.Since(start)
}

// The mounts of these tests are seen by nobody else, and go with the process, as do its children.
func TestConfined(t *testing.T) {
	Privileged(t)
	own, err := os.Readlink("/proc/self/ns/mnt")
	require.NoError(t, err)
	require.NotEmpty(t, os.Getenv(confined))
	require.NotEqual(t, os.Getenv(confined), own)
	require.Equal(t, 1, os.Getpid())
}
