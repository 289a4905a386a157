package compat

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"
)

const (
	secretID  = "AKIDcompat0000000000000000000000001"
	secretKey = "compat0123456789secret"
)

// binary is set once, before the tests run.
var binary string

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "cmq-compat-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "cmq")
	build := exec.Command("go", "build", "-o", binary, "github.com/opencmq/cmq/cmd/cmq")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building cmq: %v\n%s", err, output)
		return 1
	}
	return m.Run()
}

// startTimeout is how long a cluster may take until it serves, on a machine with other work to do.
const startTimeout = 60 * time.Second

// startCluster runs `cmq dev` until the test ends and gives the HTTP addresses of its nodes.
func startCluster(t *testing.T, nodes int) []string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(binary, "dev", "--nodes", strconv.Itoa(nodes), "--data-dir", dir,
		"--http-addr", "127.0.0.1:0", "--tcp-addr", "127.0.0.1:0", "--peer-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0",
		"--secret-id", secretID, "--secret-key", secretKey)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan struct{})
	go func() {
		cmd.Wait()
		close(exited)
	}()
	t.Cleanup(func() {
		stop(cmd, exited)
		if text, err := os.ReadFile(log.Name()); err == nil && t.Failed() {
			t.Logf("output of cmq dev:\n%s", text)
		}
	})
	return awaitPorts(t, filepath.Join(dir, "ports.json"), log.Name(), nodes, exited)
}

// stop ends the cluster as an operator would, and by force if it does not end.
func stop(cmd *exec.Cmd, exited <-chan struct{}) {
	cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-exited:
	case <-time.After(30 * time.Second):
		cmd.Process.Kill()
		<-exited
	}
}

func awaitPorts(t *testing.T, file, log string, nodes int, exited <-chan struct{}) []string {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(startTimeout)
	for {
		if addresses := readPorts(file); len(addresses) == nodes {
			return addresses
		}
		select {
		case <-tick.C:
		case <-exited:
			text, _ := os.ReadFile(log)
			t.Fatalf("cmq dev ended:\n%s", text)
		case <-deadline:
			text, _ := os.ReadFile(log)
			t.Fatalf("cmq dev is not ready after %v:\n%s", startTimeout, text)
		}
	}
}

// readPorts gives nothing while the file is not there or not complete.
func readPorts(file string) (addresses []string) {
	var ports []struct {
		Node int    `json:"node"`
		HTTP string `json:"http"`
	}
	text, err := os.ReadFile(file)
	if err != nil || json.Unmarshal(text, &ports) != nil {
		return nil
	}
	for _, p := range ports {
		addresses = append(addresses, p.HTTP)
	}
	return addresses
}

// onBoth runs the test on a single node and on a cluster of three.
func onBoth(t *testing.T, test func(t *testing.T, addresses []string)) {
	for _, nodes := range []int{1, 3} {
		t.Run(fmt.Sprintf("%d nodes", nodes), func(t *testing.T) {
			test(t, startCluster(t, nodes))
		})
	}
}
