package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/client"
	"github.com/opencmq/cmq/test/cluster"
)

// agentProcess is a running cmq agent.
type agentProcess struct {
	cmd *exec.Cmd
	log string
}

// startAgent starts an agent that may deliver to loopback, and knows all nodes.
func startAgent(t *testing.T, c *cluster.Cluster, log string) *agentProcess {
	var endpoints []string
	for _, n := range c.Nodes {
		endpoints = append(endpoints, "http://"+n.HTTP)
	}
	out, err := os.Create(log)
	require.NoError(t, err)
	defer out.Close()
	a := &agentProcess{exec.Command(binary, "agent", "--name", "plant", "--push-allow", "127.0.0.0/8", "--endpoint", strings.Join(endpoints, ","),
		"--secret-id", cluster.SecretID, "--secret-key", cluster.SecretKey), log}
	a.cmd.Stdout, a.cmd.Stderr = out, out
	require.NoError(t, a.cmd.Start())
	t.Cleanup(func() { a.end(syscall.SIGKILL) })
	return a
}

// end sends the signal and waits for the end.
func (a *agentProcess) end(s syscall.Signal) {
	if a.cmd.ProcessState == nil {
		a.cmd.Process.Signal(s) // it may have ended
		a.cmd.Wait()
	}
}

// TestAgentThroughKills: an endpoint that the cluster may not deliver to gets every message from agents, one of which is killed
// with a delivery under way, and so is the leader. The other agent ends in order.
func TestAgentThroughKills(t *testing.T) {
	messages := cluster.Size(t, "CMQ_E2E_PUSHES", 2000)
	c := cluster.Start(t, cluster.Options{Binary: binary})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	sdk := c.SDK(false)
	_, err := sdk.CreateTopic(ctx, "news", client.TopicSettings{})
	require.NoError(t, err)
	to := &arrivals{times: map[string]int{}}
	held := make(chan struct{})
	var hold sync.Once
	to.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		taken := true
		if string(body) == "hold" {
			hold.Do(func() {
				close(held)
				<-r.Context().Done() // until the agent is killed
				taken = false
			})
		}
		if !taken {
			return
		}
		to.mu.Lock()
		defer to.mu.Unlock()
		to.times[string(body)]++
	}))
	t.Cleanup(to.Close)
	hook := client.Subscription{Protocol: client.ToHTTP, Endpoint: to.URL, NotifyContentFormat: client.FormatSimplified, NotifyStrategy: client.ExponentialRetry}
	_, err = sdk.Topic("news").Subscribe(ctx, "refused", hook)
	require.ErrorIs(t, err, client.ErrEndpoint, "the cluster does not deliver there")
	hook.Push.Agent = new("plant")
	_, err = sdk.Topic("news").Subscribe(ctx, "s", hook)
	require.NoError(t, err)
	probe, err := sdk.Topic("news").Publish(ctx, "hold", client.PublishOptions{})
	require.NoError(t, err)
	set := cluster.SetOf(t, probe)

	dir := t.TempDir()
	first := startAgent(t, c, dir+"/first.log")
	<-held
	p := &publisher{confirmed: map[string]bool{"hold": true}, n: messages}
	var publishing sync.WaitGroup
	for i := range 4 {
		topic := c.Client(i, true).Topic("news")
		publishing.Go(func() { p.run(ctx, topic) })
	}
	came := func(n int) func() error {
		return func() error {
			if got := to.count(); got < n {
				return fmt.Errorf("only %d messages came", got)
			}
			return nil
		}
	}
	require.NoError(t, cluster.Eventually(time.Minute, came(messages/8)))
	second := startAgent(t, c, dir+"/second.log")
	first.end(syscall.SIGKILL)
	require.NoError(t, cluster.Eventually(time.Minute, came(messages/4)))
	victim := c.Leader(set)
	c.Kill(victim)
	publishing.Wait()
	require.NoError(t, cluster.Eventually(3*time.Minute, func() error {
		to.mu.Lock()
		defer to.mu.Unlock()
		missing := 0
		for body := range p.confirmed {
			if to.times[body] == 0 {
				missing++
			}
		}
		if missing > 0 {
			return fmt.Errorf("%d of %d confirmed messages have not come", missing, len(p.confirmed))
		}
		return nil
	}))
	second.end(syscall.SIGTERM)
	require.Zero(t, second.cmd.ProcessState.ExitCode())
	said, err := os.ReadFile(second.log)
	require.NoError(t, err)
	require.Contains(t, string(said), `"msg":"stopped","agent":"plant"`)
	to.mu.Lock()
	defer to.mu.Unlock()
	twice := 0
	for _, n := range to.times {
		twice += n - 1
	}
	t.Logf("%d messages confirmed and delivered by agents, %d deliveries were repeated", len(p.confirmed), twice)
	require.LessOrEqual(t, twice, 2*pushWindow, "more messages were repeated than were under way")
}
