package node

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/client"
	"github.com/opencmq/cmq/internal/agent"
	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/dispatch"
	"github.com/opencmq/cmq/internal/dispatch/push/guard"
)

// outside is an agent in a network of its own: to it loopback is allowed, to the nodes it is not.
type outside struct {
	*agent.Agent
	connected chan int
	stop      context.CancelFunc
	ended     chan error
}

// startAgent starts an agent that knows the doors of all nodes, the given one first.
func (c *cluster) startAgent(first int) *outside {
	var endpoints []string
	for i := range c.opts {
		endpoints = append(endpoints, "http://"+c.opts[(first+i)%len(c.opts)].HTTP.Addr().String())
	}
	sdk, err := client.New(endpoints[0], testKey.ID, testKey.Secret, client.WithEndpoints(endpoints[1:]...))
	require.NoError(c.t, err)
	allow, err := guard.ParseAllowed([]string{"127.0.0.0/8"})
	require.NoError(c.t, err)
	a := &outside{Agent: agent.New(agent.Config{Name: "plant", Service: sdk.Agent("plant"), Allow: allow, Logger: slog.New(slog.DiscardHandler)}),
		connected: make(chan int, 1), ended: make(chan error, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	a.stop = cancel
	go func() { a.ended <- a.Run(ctx, func(n int) { a.connected <- n }) }()
	c.t.Cleanup(func() {
		a.kill()
		sdk.Close()
	})
	return a
}

// kill cuts off what is under way, so that nothing is written down of it.
func (a *outside) kill() {
	over, cancel := context.WithCancel(context.Background())
	cancel()
	a.stop()
	a.Close(over)
}

// first reports whether the body is here for the first time.
func (r *receiver) first(body string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen["held "+body]++
	return r.seen["held "+body] == 1
}

func toAgent(url, name string) cmq.SubscriptionSettings {
	return toHTTP(url, func(s *cmq.SubscriptionSettings) { s.Agent = &name })
}

// TestAgentsDeliverWhereTheClusterCannot: the nodes may not reach the endpoint, two agents may. One is killed with deliveries
// under way, then the leader is stopped. Each message arrives; twice only what was under way then.
func TestAgentsDeliverWhereTheClusterCannot(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3)
	ctx := timeout(t)
	c.ready(ctx)
	to := newReceiver(t)
	held := make(chan struct{})
	to.cut = func(req *http.Request, body string) bool {
		if body != "5/5" || !to.first(body) {
			return false
		}
		close(held)
		<-req.Context().Done() // until the agent is killed
		return true
	}
	to.refuse = func(body string, count int) bool { return body[0] == '7' && count == 1 } // these need a second try
	r := c.nodes[0].router
	_, err := r.CreateTopic(ctx, "1", "news", cmq.TopicSettings{})
	require.NoError(t, err)
	_, err = r.Subscribe(ctx, "1", "news", "s", toAgent(to.URL, "plant"))
	require.NoError(t, err)
	_, err = r.Subscribe(ctx, "1", "news", "elsewhere", toAgent(to.URL, "office"))
	require.NoError(t, err)
	const batches = 20
	again := 0
	publish := func(from, to int) {
		for i := from; i < to; i++ {
			var bodies [][]byte
			for j := range 16 {
				bodies = append(bodies, fmt.Appendf(nil, "%d/%d", i, j))
			}
			again += c.publish(ctx, r, "news", bodies)
		}
	}
	publish(0, 1)
	first := c.startAgent(0)
	require.Equal(t, 1, <-first.connected)
	to.wait(ctx, t, 16)
	publish(1, batches/2)
	<-held
	second := c.startAgent(1)
	require.Equal(t, 1, <-second.connected)
	first.kill()

	leader := c.leaderOfTopic(ctx, "news")
	r = c.nodes[(leader+1)%3].router
	publish(batches/2, batches/2+2)
	c.stop(leader)
	publish(batches/2+2, batches)
	to.mu.Lock()
	before := len(to.bodies)
	to.mu.Unlock()
	require.Less(t, before, 16*batches)
	to.wait(ctx, t, 16*batches)
	pending := func(name string) int64 {
		_, n, err := r.SubscriptionAttributes(ctx, "1", "news", name)
		require.NoError(t, err)
		return n
	}
	for pending("s") > 0 {
		require.NoError(t, ctx.Err())
		c.nodes[(leader+1)%3].pause(nil, 10*time.Millisecond)
	}
	twice := 0
	for body, times := range to.wait(ctx, t, 16*batches) {
		require.LessOrEqual(t, times, 2+again, body)
		twice += times - 1
	}
	require.LessOrEqual(t, twice, (2+again)*16, "no more than the killed agent and the stopped node had under way")
	require.Contains(t, []int64{16 * batches, 16 * int64(batches+again)}, pending("elsewhere"), "nobody delivers what another agent has to")
}

// TestWhichAgentsAreThereIsKnown: wherever it is asked, by the metrics, and after a change of leader, once the new one can know.
func TestWhichAgentsAreThereIsKnown(t *testing.T) {
	t.Parallel()
	began := time.Now()
	c := startCluster(t, 3)
	ctx := timeout(t)
	c.ready(ctx)
	_, err := c.nodes[0].router.CreateTopic(ctx, "1", "news", cmq.TopicSettings{})
	require.NoError(t, err)
	_, err = c.nodes[0].router.Subscribe(ctx, "1", "news", "s", toAgent("http://127.0.0.1:1/", "plant"))
	require.NoError(t, err)
	shown := func(i int) int {
		s, _, err := c.nodes[i].router.SubscriptionAttributes(ctx, "1", "news", "s")
		require.NoError(t, err)
		return s.Push.Agents
	}
	until := func(want int) {
		for i := range c.nodes {
			for c.nodes[i] != nil && shown(i) != want {
				require.NoError(t, ctx.Err())
				c.nodes[i].pause(nil, 50*time.Millisecond)
			}
		}
	}
	sum := func() (connected, waiting int) {
		for _, n := range c.nodes {
			if n != nil {
				a, w := n.agents()
				connected, waiting = connected+a, waiting+w
			}
		}
		return connected, waiting
	}
	if n := shown(0); time.Since(began) < dispatch.MaxStay {
		require.Equal(t, -1, n, "the leader is new")
	}
	a := c.startAgent(2)
	<-a.connected
	until(1)
	connected, waiting := sum()
	require.Equal(t, []int{1, 0}, []int{connected, waiting})

	leader := c.awaitLeader(ctx, func(*Node) (cmq.SetID, bool) { return cmq.ControllerSet, true })
	c.stop(leader)
	until(1)
	a.stop()
	a.Close(ctx)
	until(0)
	connected, waiting = sum()
	require.Equal(t, []int{0, 1}, []int{connected, waiting})
}
