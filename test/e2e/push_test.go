package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/client"
	"github.com/opencmq/cmq/test/cluster"
)

// pushWindow is how many deliveries one subscription has under way at most, if it does not say.
const pushWindow = 16

// arrivals is an endpoint that counts what comes.
type arrivals struct {
	*httptest.Server
	mu    sync.Mutex
	times map[string]int
}

func newArrivals(t *testing.T) *arrivals {
	a := &arrivals{times: map[string]int{}}
	a.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // the node that sent it was killed
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		a.times[string(body)]++
	}))
	t.Cleanup(a.Close)
	return a
}

func (a *arrivals) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.times)
}

// publisher publishes batches until n messages are confirmed, and remembers which.
type publisher struct {
	mu        sync.Mutex
	confirmed map[string]bool
	batches   atomic.Int64
	n         int
}

func (p *publisher) done() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.confirmed)
}

func (p *publisher) run(ctx context.Context, topic *client.Topic) {
	for p.done() < p.n && ctx.Err() == nil {
		batch := p.batches.Add(1)
		var bodies []string
		for i := range client.MaxBatch {
			bodies = append(bodies, fmt.Sprintf("%d/%d", batch, i))
		}
		if _, err := topic.BatchPublish(ctx, bodies, client.PublishOptions{}); err != nil {
			cluster.Pause(ctx)
			continue // these may arrive or not
		}
		p.mu.Lock()
		for _, b := range bodies {
			p.confirmed[b] = true
		}
		p.mu.Unlock()
	}
}

// TestPushThroughFailover: the node that delivers is killed again and again while messages are published and delivered. No
// message that was confirmed is lost. One comes twice only if it was under way when its node was killed: then nobody knows
// whether the endpoint has it.
func TestPushThroughFailover(t *testing.T) {
	messages := cluster.Size(t, "CMQ_E2E_PUSHES", 2000)
	every := time.Duration(cluster.Size(t, "CMQ_E2E_PUSH_PAUSE", 0)) * time.Second
	most := cluster.Size(t, "CMQ_E2E_PUSH_KILLS", 2)
	c := cluster.Start(t, cluster.Options{Binary: binary, Config: "push: {allow: [127.0.0.0/8]}"})
	ctx, cancel := context.WithTimeout(t.Context(), 25*time.Minute)
	defer cancel()
	sdk := c.SDK(false)
	_, err := sdk.CreateTopic(ctx, "news", client.TopicSettings{})
	require.NoError(t, err)
	to := newArrivals(t)
	_, err = sdk.Topic("news").Subscribe(ctx, "s", client.Subscription{Protocol: client.ToHTTP, Endpoint: to.URL, NotifyContentFormat: client.FormatSimplified})
	require.NoError(t, err)
	probe, err := sdk.Topic("news").Publish(ctx, "probe", client.PublishOptions{})
	require.NoError(t, err)
	set := cluster.SetOf(t, probe)

	p := &publisher{confirmed: map[string]bool{"probe": true}, n: messages}
	var publishing sync.WaitGroup
	for i := range 4 {
		topic := c.Client(i, true).Topic("news")
		publishing.Go(func() { p.run(ctx, topic) })
	}
	kills := 0
	for kills < most && (p.done() < messages || to.count() < messages) {
		next := time.After(every)
		arrived := to.count()
		require.NoError(t, cluster.Eventually(time.Minute, func() error { // while it delivers, not before
			if n := to.count(); n < arrived+100 && n < messages {
				return fmt.Errorf("only %d messages came", n-arrived)
			}
			return nil
		}))
		<-next
		victim := c.Leader(set)
		c.Kill(victim)
		kills++
		c.Start(victim)
		c.WaitReady(victim)
	}
	publishing.Wait()
	missing := func() (n int) {
		to.mu.Lock()
		defer to.mu.Unlock()
		for body := range p.confirmed {
			if to.times[body] == 0 {
				n++
			}
		}
		return n
	}
	require.NoError(t, cluster.Eventually(3*time.Minute, func() error {
		if n := missing(); n > 0 {
			return fmt.Errorf("%d of %d confirmed messages have not come", n, len(p.confirmed))
		}
		return nil
	}))
	to.mu.Lock()
	defer to.mu.Unlock()
	twice := 0
	for _, n := range to.times {
		twice += n - 1
	}
	t.Logf("%d messages confirmed and delivered, %d times the leader was killed, %d deliveries were repeated", len(p.confirmed), kills, twice)
	require.LessOrEqual(t, twice, kills*pushWindow, "more messages were repeated than were under way")
}
