// Package examples has the scenario programs: what cmq is made for, each as a program that uses nothing but the public SDK
// and checks that it came out as it should. The test runs them as anybody would, against a server.
package examples

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/test/cluster"
)

// loopback lets the service deliver to endpoints of the scenarios, which are on this machine.
const loopback = "push: {allow: [127.0.0.0/8]}"

func TestScenarios(t *testing.T) {
	dir, binary := build(t)
	c := cluster.Start(t, cluster.Options{Binary: binary, Nodes: 1, Config: loopback})
	for _, name := range scenarios(t) {
		t.Run(name, func(t *testing.T) {
			out, err := program(t, filepath.Join(dir, name), c).CombinedOutput()
			require.NoError(t, err, "%s", out)
			t.Logf("%s", out)
		})
	}
}

// TestScenariosThroughALeaderKill: the node that leads what a scenario works with is killed in the middle of it, and the
// scenario comes out as it should all the same.
func TestScenariosThroughALeaderKill(t *testing.T) {
	dir, binary := build(t)
	for name, middle := range map[string]struct {
		metric string
		count  float64
	}{
		"redpacket": {"cmq_messages_sent_total", 30},
		"images":    {"cmq_messages_deleted_total", 20},
	} {
		t.Run(name, func(t *testing.T) {
			c := cluster.Start(t, cluster.Options{Binary: binary, Config: loopback})
			var out bytes.Buffer
			p := program(t, filepath.Join(dir, name), c)
			p.Stdout, p.Stderr = &out, &out
			require.NoError(t, p.Start())
			ended := make(chan error, 1)
			go func() { ended <- p.Wait() }()

			victim := leaderAfter(t, c, middle.metric, middle.count)
			c.Kill(victim)
			select {
			case err := <-ended:
				t.Fatalf("the scenario had ended before its leader was killed: %v\n%s", err, &out)
			default:
			}
			c.Start(victim)
			c.WaitReady(victim)
			require.NoError(t, <-ended, "%s", &out)
			t.Logf("node %d was killed\n%s", victim.ID, &out)
		})
	}
}

// leaderAfter waits until so much has happened on one set, and gives its leader.
func leaderAfter(t *testing.T, c *cluster.Cluster, metric string, count float64) (leader *cluster.Node) {
	require.NoError(t, cluster.Eventually(time.Minute, func() error {
		for _, n := range c.Nodes {
			m, err := n.Metrics()
			if err != nil {
				return err
			}
			for _, set := range m.Sets() {
				if m.Of(metric, set) >= count {
					leader = c.Leader(set)
					return nil
				}
			}
		}
		return fmt.Errorf("%s is less than %v everywhere", metric, count)
	}))
	return leader
}

// build compiles the server and all programs into a directory.
func build(t *testing.T) (dir, binary string) {
	dir = t.TempDir()
	binary, err := cluster.Build(dir)
	require.NoError(t, err)
	out, err := exec.Command("go", "build", "-o", dir+string(filepath.Separator), "./...").CombinedOutput()
	require.NoError(t, err, "%s", out)
	return dir, binary
}

// program is a scenario that knows all nodes.
func program(t *testing.T, path string, c *cluster.Cluster) *exec.Cmd {
	var endpoints []string
	for _, n := range c.Nodes {
		endpoints = append(endpoints, "http://"+n.HTTP)
	}
	p := exec.CommandContext(t.Context(), path)
	p.Env = append(os.Environ(), "CMQ_ENDPOINT="+strings.Join(endpoints, ","), "CMQ_SECRET_ID="+cluster.SecretID, "CMQ_SECRET_KEY="+cluster.SecretKey)
	return p
}

// scenarios are the folders with a program.
func scenarios(t *testing.T) (names []string) {
	mains, err := filepath.Glob("*/main.go")
	require.NoError(t, err)
	for _, main := range mains {
		names = append(names, filepath.Dir(main))
	}
	require.NotEmpty(t, names)
	return names
}
