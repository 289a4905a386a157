package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/client"
)

const (
	secretID  = "AKIDe2e"
	secretKey = "e2eSecret"
)

// cluster is three server processes on this machine.
type cluster struct {
	t     *testing.T
	dir   string
	nodes []*server
}

// server is one process, started again under the same configuration after a kill.
type server struct {
	id          int
	config      string // path of its file
	http, admin string // addresses
	log         string // path
	cmd         *exec.Cmd
}

// startCluster starts three nodes and waits until all are ready.
func startCluster(t *testing.T) *cluster {
	c := &cluster{t: t, dir: t.TempDir()}
	addrs := freeAddresses(t, 12)
	var seeds []string
	for i := range 3 {
		seeds = append(seeds, fmt.Sprintf("    - {id: %d, peer: %q}", i+1, addrs[i*4+2]))
	}
	for i := range 3 {
		a := addrs[i*4:]
		s := &server{id: i + 1, http: a[0], admin: a[3], config: filepath.Join(c.dir, fmt.Sprintf("n%d.yaml", i+1)), log: filepath.Join(c.dir, fmt.Sprintf("n%d.log", i+1))}
		text := fmt.Sprintf("data_dir: %q\nnode: {id: %d}\ncluster:\n  name: e2e\n  nodes:\n%s\nhttp: {addr: %q}\ntcp: {addr: %q}\npeer: {addr: %q}\nadmin: {addr: %q}\nauth: {secret_id: %s, secret_key: %s}\n",
			filepath.Join(c.dir, fmt.Sprintf("n%d", i+1)), i+1, strings.Join(seeds, "\n"), a[0], a[1], a[2], a[3], secretID, secretKey)
		require.NoError(t, os.WriteFile(s.config, []byte(text), 0o600))
		c.nodes = append(c.nodes, s)
	}
	t.Cleanup(c.end)
	for _, s := range c.nodes {
		c.start(s)
	}
	for _, s := range c.nodes {
		c.waitReady(s)
	}
	return c
}

// freeAddresses finds ports that are free now. Another program could take one before the server does; the test
// then fails with the server's message, and running it again helps.
func freeAddresses(t *testing.T, n int) []string {
	var addrs []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer l.Close()
		addrs = append(addrs, l.Addr().String())
	}
	return addrs
}

func (c *cluster) start(s *server) {
	log, err := os.OpenFile(s.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	require.NoError(c.t, err)
	defer log.Close()
	s.cmd = exec.Command(binary, "server", "--config", s.config)
	s.cmd.Stdout, s.cmd.Stderr = log, log
	require.NoError(c.t, s.cmd.Start())
}

// kill ends the process as a crash does.
func (c *cluster) kill(s *server) {
	require.NoError(c.t, s.cmd.Process.Kill())
	s.cmd.Wait() // "signal: killed" is what we want
	s.cmd = nil
}

func (c *cluster) end() {
	for _, s := range c.nodes {
		if s.cmd != nil {
			s.cmd.Process.Kill()
			s.cmd.Wait()
		}
		if c.t.Failed() {
			data, _ := os.ReadFile(s.log)
			c.t.Logf("log of node %d ends with:\n%s", s.id, data[max(0, len(data)-4000):])
		}
	}
}

func (c *cluster) waitReady(s *server) {
	require.NoError(c.t, eventually(60*time.Second, func() error {
		_, err := get("http://" + s.admin + "/readyz")
		return err
	}), "node %d", s.id)
}

func get(url string) (string, error) {
	resp, err := http.Get(url)
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

// leader asks the nodes that run who leads the set, until one that runs does.
func (c *cluster) leader(set uint64) *server {
	var found *server
	require.NoError(c.t, eventually(60*time.Second, func() error {
		for _, s := range c.nodes {
			if s.cmd == nil {
				continue
			}
			text, err := get("http://" + s.admin + "/metrics")
			if err != nil {
				return err
			}
			if id := leaderIn(text, set); id > 0 && c.nodes[id-1].cmd != nil {
				found = c.nodes[id-1]
				return nil
			}
		}
		return fmt.Errorf("set %d has no leader", set)
	}))
	return found
}

func leaderIn(metrics string, set uint64) int {
	prefix := fmt.Sprintf(`cmq_set_leader{set="%d"} `, set)
	sc := bufio.NewScanner(strings.NewReader(metrics))
	for sc.Scan() {
		if v, ok := strings.CutPrefix(sc.Text(), prefix); ok {
			n, _ := strconv.Atoi(v)
			return n
		}
	}
	return 0
}

// setOf is the set in which a message was stored: the top 12 bits of its id.
func setOf(t *testing.T, msgID string) uint64 {
	n, err := strconv.ParseUint(msgID, 10, 64)
	require.NoError(t, err)
	return n >> 52
}

// client makes a client that begins with the i-th node and, if all, goes to the others when it is away.
func (c *cluster) client(i int, all bool) *client.Client {
	opts := []client.Option{client.WithTransport(client.NewLeanTransport()), client.WithTimeout(5 * time.Second), client.WithRetries(0)}
	for k := 1; all && k < len(c.nodes); k++ {
		opts = append(opts, client.WithEndpoints("http://"+c.nodes[(i+k)%len(c.nodes)].http))
	}
	cl, err := client.New("http://"+c.nodes[i%len(c.nodes)].http, secretID, secretKey, opts...)
	require.NoError(c.t, err)
	c.t.Cleanup(func() { cl.Close() })
	return cl
}

// createQueue makes a queue whose locks are short, so that messages a killed client or node held come back soon.
func (c *cluster) createQueue(ctx context.Context, name string) {
	lock := 5 * time.Second
	require.NoError(c.t, eventually(30*time.Second, func() error {
		_, err := c.client(0, true).CreateQueue(ctx, name, client.Settings{VisibilityTimeout: &lock})
		return err
	}))
}

// size reads a number from the environment, so that make can ask for more than make test does.
func size(t *testing.T, name string, usual int) int {
	s := os.Getenv(name)
	if s == "" {
		return usual
	}
	n, err := strconv.Atoi(s)
	require.NoError(t, err, name)
	return n
}
