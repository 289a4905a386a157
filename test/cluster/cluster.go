// Package cluster runs real cmq servers on this machine for tests: a Cluster is a number of processes with
// directories and addresses of their own, a Ledger is what their clients know, a Load is clients that go on until
// they are told to stop. The end-to-end tests and the fault tests stand on it.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/client"
	"github.com/opencmq/cmq/test/loopback"
)

// SecretID and SecretKey are the access key of every cluster.
const (
	SecretID  = "AKIDe2e"
	SecretKey = "e2eSecret"
)

const (
	// patience is how long a node may take until it is ready, and a set until it has a leader.
	patience = 60 * time.Second
)

// Options say what Start starts.
type Options struct {
	Binary string              // path of cmq, from Build
	Nodes  int                 // 0: three
	Dir    func(id int) string // data directory of a node, ids count from 1; nil: one each below a temporary directory
	Config string              // further lines of every node's configuration, YAML
}

// Cluster is server processes on this machine. They end with the test.
type Cluster struct {
	Nodes []*Node

	t      testing.TB
	binary string
}

// Node is one server, started again under the same configuration after its process has ended.
type Node struct {
	ID               int
	HTTP, TCP, Admin string // addresses, host:port
	Dir              string // data directory

	config, log string // paths
	cmd         *exec.Cmd
	exited      chan struct{} // closed when cmd has ended
}

// Build compiles cmq into dir and returns the path of the binary.
func Build(dir string) (string, error) {
	binary := filepath.Join(dir, "cmq")
	build := exec.Command("go", "build", "-o", binary, "github.com/opencmq/cmq/cmd/cmq")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return binary, nil
}

// Start starts a cluster and waits until all nodes are ready.
func Start(t testing.TB, o Options) *Cluster {
	t.Helper()
	if o.Nodes == 0 {
		o.Nodes = 3
	}
	c, dir := &Cluster{t: t, binary: o.Binary}, t.TempDir()
	addrs := freeAddresses(t, 4*o.Nodes)
	var seeds []string
	for i := range o.Nodes {
		seeds = append(seeds, fmt.Sprintf("    - {id: %d, peer: %q}", i+1, addrs[i*4+2]))
	}
	for i := range o.Nodes {
		a := addrs[i*4:]
		name := filepath.Join(dir, fmt.Sprintf("n%d", i+1))
		n := &Node{ID: i + 1, HTTP: a[0], TCP: a[1], Admin: a[3], Dir: name, config: name + ".yaml", log: name + ".log"}
		if o.Dir != nil {
			n.Dir = o.Dir(n.ID)
		}
		text := fmt.Sprintf("data_dir: %q\nnode: {id: %d}\ncluster:\n  name: e2e\n  nodes:\n%s\nhttp: {addr: %q}\ntcp: {addr: %q}\npeer: {addr: %q}\nadmin: {addr: %q}\nauth: {secret_id: %s, secret_key: %s}\n%s\n",
			n.Dir, n.ID, strings.Join(seeds, "\n"), a[0], a[1], a[2], a[3], SecretID, SecretKey, o.Config)
		require.NoError(t, os.WriteFile(n.config, []byte(text), 0o600))
		c.Nodes = append(c.Nodes, n)
	}
	t.Cleanup(c.end)
	for _, n := range c.Nodes {
		c.Start(n)
	}
	for _, n := range c.Nodes {
		c.WaitReady(n)
	}
	return c
}

// freeAddresses finds ports that are free. They stay so until the servers take them, and while a server is down: the host is
// this process's own.
func freeAddresses(t testing.TB, n int) []string {
	var addrs []string
	for range n {
		l, err := loopback.Listen()
		require.NoError(t, err)
		defer l.Close()
		addrs = append(addrs, l.Addr().String())
	}
	return addrs
}

// Start starts the node's process. It does not wait until it is ready.
func (c *Cluster) Start(n *Node) {
	log, err := os.OpenFile(n.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	require.NoError(c.t, err)
	defer log.Close()
	cmd, exited := exec.Command(c.binary, "server", "--config", n.config), make(chan struct{})
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for the test, which ends its nodes itself
	require.NoError(c.t, cmd.Start())
	n.cmd, n.exited = cmd, exited
	go func() {
		cmd.Wait() // "signal: killed" is what a test wants
		close(exited)
	}()
}

// Pid is the id of the node's process, 0 if it does not run.
func (n *Node) Pid() int {
	if n.cmd == nil {
		return 0
	}
	return n.cmd.Process.Pid
}

// Exited is closed when the process that runs now has ended by itself or was killed.
func (n *Node) Exited() <-chan struct{} { return n.exited }

// Ended notes that the process has ended and gives its exit code, -1 if it was killed. It waits for the end.
func (n *Node) Ended() int {
	<-n.exited
	code := n.cmd.ProcessState.ExitCode()
	n.cmd = nil
	return code
}

// Signal sends the process a signal and does not wait.
func (c *Cluster) Signal(n *Node, s os.Signal) { require.NoError(c.t, n.cmd.Process.Signal(s)) }

// Kill ends the process as a crash does.
func (c *Cluster) Kill(n *Node) {
	c.Doom(n)
	n.Ended()
}

// Doom is Kill for a process that waits for a disk, and ends only when that has answered: it computes nothing any more. Kill waits
// for its end.
func (c *Cluster) Doom(n *Node) {
	if err := n.cmd.Process.Kill(); !errors.Is(err, os.ErrProcessDone) {
		require.NoError(c.t, err)
	}
}

func (c *Cluster) end() {
	for _, n := range c.Nodes {
		if n.cmd != nil && c.t.Failed() {
			text, err := Get("http://" + n.Admin + "/metrics")
			c.t.Logf("figures of node %d: %v\n%s", n.ID, err, regexp.MustCompile(`(?m)^cmq_(set|messages)_.*\n`).FindAllString(text, -1))
		}
	}
	for _, n := range c.Nodes {
		if n.cmd != nil {
			n.cmd.Process.Kill()
			n.Ended()
		}
		if data := n.Log(); c.t.Failed() {
			if dir := os.Getenv("CMQ_LOGS"); dir != "" {
				name := filepath.Join(dir, fmt.Sprintf("%s-n%d.log", strings.ReplaceAll(c.t.Name(), "/", "-"), n.ID))
				c.t.Log(name, os.WriteFile(name, []byte(data), 0o600))
			}
			c.t.Logf("log of node %d ends with:\n%s", n.ID, data[max(0, len(data)-4000):])
		}
	}
}

// Log is what the node's processes have written so far to standard output and standard error.
func (n *Node) Log() string {
	data, err := os.ReadFile(n.log)
	if err != nil {
		return err.Error()
	}
	return string(data)
}

// WaitReady waits until the node's /readyz says that it serves.
func (c *Cluster) WaitReady(n *Node) {
	c.t.Helper()
	require.NoError(c.t, Eventually(patience, func() error {
		select {
		case <-n.exited:
			return Final(fmt.Errorf("its process has ended:\n%s", n.Log()))
		default:
		}
		_, err := Get("http://" + n.Admin + "/readyz")
		return err
	}), "node %d", n.ID)
}

var admin = &http.Client{Timeout: 10 * time.Second}

// Get reads url; an answer that is not 200 is an error.
func Get(url string) (string, error) {
	resp, err := admin.Get(url)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", url, resp.Status, body)
	}
	return string(body), err
}

// Metrics are a node's figures by name and labels, as in cmq_set_leader{set="1"}.
type Metrics map[string]float64

// Metrics asks the node.
func (n *Node) Metrics() (Metrics, error) {
	text, err := Get("http://" + n.Admin + "/metrics")
	if err != nil {
		return nil, err
	}
	m := make(Metrics)
	for line := range strings.Lines(text) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok || strings.HasPrefix(line, "#") {
			continue
		}
		if v, err := strconv.ParseFloat(value, 64); err == nil {
			m[name] = v
		}
	}
	return m, nil
}

// Of is the figure of one set.
func (m Metrics) Of(name string, set uint64) float64 {
	return m[fmt.Sprintf(`%s{set="%d"}`, name, set)]
}

// Sum adds the figure up over all labels.
func (m Metrics) Sum(name string) (sum float64) {
	for k, v := range m {
		if base, _, _ := strings.Cut(k, "{"); base == name {
			sum += v
		}
	}
	return sum
}

// Sets lists the sets of which the node has a replica.
func (m Metrics) Sets() (sets []uint64) {
	for k := range m {
		if rest, ok := strings.CutPrefix(k, `cmq_set_leader{set="`); ok {
			if id, err := strconv.ParseUint(strings.TrimSuffix(rest, `"}`), 10, 64); err == nil {
				sets = append(sets, id)
			}
		}
	}
	return sets
}

// Leader asks the nodes that run who leads the set, until one that runs does.
func (c *Cluster) Leader(set uint64) *Node {
	c.t.Helper()
	var found *Node
	require.NoError(c.t, Eventually(patience, func() error {
		for _, n := range c.Nodes {
			if n.cmd == nil {
				continue
			}
			m, err := n.Metrics()
			if err != nil {
				return err
			}
			if id := int(m.Of("cmq_set_leader", set)); id > 0 && c.Nodes[id-1].cmd != nil {
				found = c.Nodes[id-1]
				return nil
			}
		}
		return fmt.Errorf("set %d has no leader", set)
	}))
	return found
}

// SetOf is the set in which a message was stored: the top 12 bits of its id.
func SetOf(t testing.TB, msgID string) uint64 {
	n, err := strconv.ParseUint(msgID, 10, 64)
	require.NoError(t, err)
	return n >> 52
}

// Client makes a client that begins with the i-th node, counted from 0, and, if all, goes to the others when it is
// away. It repeats nothing by itself.
func (c *Cluster) Client(i int, all bool) *client.Client {
	opts := []client.Option{client.WithTransport(client.NewLeanTransport()), client.WithTimeout(5 * time.Second), client.WithRetries(0)}
	for k := 1; all && k < len(c.Nodes); k++ {
		opts = append(opts, client.WithEndpoints("http://"+c.Nodes[(i+k)%len(c.Nodes)].HTTP))
	}
	cl, err := client.New("http://"+c.Nodes[i%len(c.Nodes)].HTTP, SecretID, SecretKey, opts...)
	require.NoError(c.t, err)
	c.t.Cleanup(func() { cl.Close() })
	return cl
}

// SDK makes a client as a program has it: all nodes' endpoints, of TCP too if tcp is set, and the usual repetitions.
func (c *Cluster) SDK(tcp bool, opts ...client.Option) *client.Client {
	for _, n := range c.Nodes[1:] {
		opts = append(opts, client.WithEndpoints("http://"+n.HTTP))
	}
	if tcp {
		for _, n := range c.Nodes {
			opts = append(opts, client.WithEndpoints("tcp://"+n.TCP))
		}
	}
	cl, err := client.New("http://"+c.Nodes[0].HTTP, SecretID, SecretKey, opts...)
	require.NoError(c.t, err)
	c.t.Cleanup(func() { cl.Close() })
	return cl
}

// CreateQueue makes a queue whose locks are short, so that messages a killed client or node held come back soon.
func (c *Cluster) CreateQueue(ctx context.Context, name string) {
	c.t.Helper()
	lock := 5 * time.Second
	require.NoError(c.t, Eventually(30*time.Second, func() error {
		_, err := c.Client(0, true).CreateQueue(ctx, name, client.Settings{VisibilityTimeout: &lock})
		return err
	}))
}

// Size reads a number from the environment, so that make can ask for more than make test does.
func Size(t testing.TB, name string, usual int) int {
	s := os.Getenv(name)
	if s == "" {
		return usual
	}
	n, err := strconv.Atoi(s)
	require.NoError(t, err, name)
	return n
}

// final is an error after which asking again is of no use.
type final struct{ error }

// Final marks an error that ends Eventually at once.
func Final(err error) error { return final{err} }

// Eventually asks again until there is no error, and returns the last one when limit is over.
func Eventually(limit time.Duration, f func() error) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(limit)
	for {
		err := f()
		if err == nil || errors.As(err, new(final)) {
			return err
		}
		select {
		case <-tick.C:
		case <-deadline:
			return errors.Join(fmt.Errorf("not within %s", limit), err)
		}
	}
}

// Pause waits a moment after a failure, or not at all once ctx has ended.
func Pause(ctx context.Context) {
	t := time.NewTimer(20 * time.Millisecond)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
