package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/client"
	"github.com/opencmq/cmq/test/cluster"
	"github.com/opencmq/cmq/test/loopback"
)

// perTopic is how many subscriptions a topic may have.
const perTopic = 500

// latencies are the times from before a publish to the arrival at a good endpoint.
type latencies struct {
	mu     sync.Mutex
	all    []time.Duration
	bodies map[string]int // by endpoint and message
}

// good is an endpoint that takes everything. The body of a message is its number and when it was published.
func (l *latencies) good(name int) http.HandlerFunc {
	return func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		arrived := time.Now()
		var number, at int64
		if _, scan := fmt.Sscanf(string(body), "%d %d", &number, &at); err != nil || scan != nil {
			return
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		l.all = append(l.all, arrived.Sub(time.Unix(0, at)))
		l.bodies[fmt.Sprint(name, " ", number)]++
	}
}

func (l *latencies) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.bodies)
}

func (l *latencies) eachOnce(t *testing.T) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for which, times := range l.bodies {
		require.Equal(t, 1, times, "deliveries of what is for endpoint and message %s", which)
	}
}

func (l *latencies) at(percent int) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	slices.Sort(l.all)
	return l.all[(len(l.all)-1)*percent/100]
}

// nuisances are endpoints that cost whoever delivers to them as much as they can.
var nuisances = []http.HandlerFunc{
	func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, // takes the request, then hangs
	func(w http.ResponseWriter, r *http.Request) { // one byte a second
		w.Header().Set("Content-Length", "1000000")
		for tick := time.NewTicker(time.Second); r.Context().Err() == nil; {
			select {
			case <-tick.C:
			case <-r.Context().Done():
			}
			io.WriteString(w, "x")
			http.NewResponseController(w).Flush()
		}
	},
	func(w http.ResponseWriter, _ *http.Request) { // endless body
		for part := make([]byte, 1<<15); ; {
			if _, err := w.Write(part); err != nil {
				return
			}
		}
	},
	func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) },
	func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) },
}

// endpoints opens n endpoints and gives their URLs. If mixed, one in ten is closed and one in ten a nuisance. Those are
// closed when all others are open: before, another could get the port, and with it what is not for it.
func endpoints(t *testing.T, n int, mixed bool, l *latencies) (urls []string, healthy int) {
	for i := range n {
		h := http.Handler(l.good(i))
		switch {
		case mixed && i%10 == 3:
			closed, err := loopback.Listen() // nobody else gets its port, and with it what is not for it
			require.NoError(t, err)
			urls = append(urls, "http://"+closed.Addr().String())
			defer closed.Close()
			continue
		case mixed && i%10 == 7:
			h = nuisances[i/10%len(nuisances)]
		default:
			healthy++
		}
		s := httptest.NewServer(h)
		t.Cleanup(s.CloseClientConnections)
		urls = append(urls, s.URL)
	}
	return urls, healthy
}

// pushTo publishes to all endpoints, some of which may be bad, and wants each good one to get each message once.
func pushTo(t *testing.T, c *cluster.Cluster, ctx context.Context, name string, n, messages int, every time.Duration, mixed bool) *latencies {
	l := &latencies{bodies: map[string]int{}}
	urls, healthy := endpoints(t, n, mixed, l)
	sdk := c.SDK(false)
	var topics []*client.Topic
	for i, url := range urls {
		if i%perTopic == 0 {
			topic := fmt.Sprint(name, i/perTopic)
			_, err := sdk.CreateTopic(ctx, topic, client.TopicSettings{})
			require.NoError(t, err)
			topics = append(topics, sdk.Topic(topic))
		}
		_, err := topics[len(topics)-1].Subscribe(ctx, "s"+strconv.Itoa(i), client.Subscription{Protocol: client.ToHTTP, Endpoint: url, NotifyContentFormat: client.FormatSimplified})
		require.NoError(t, err)
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for i := range messages {
		<-tick.C
		for _, topic := range topics {
			_, err := topic.Publish(ctx, fmt.Sprintf("%d %d", i, time.Now().UnixNano()), client.PublishOptions{})
			require.NoError(t, err)
		}
	}
	require.NoError(t, cluster.Eventually(2*time.Minute, func() error {
		if got := l.count(); got < healthy*messages {
			return fmt.Errorf("%d of %d deliveries to good endpoints", got, healthy*messages)
		}
		return nil
	}))
	l.eachOnce(t)
	for _, topic := range topics { // so that the next run has the machine for itself
		page, err := topic.Subscriptions(ctx, client.ListOptions{Limit: 100})
		for ; err == nil && len(page.Subscriptions) > 0; page, err = topic.Subscriptions(ctx, client.ListOptions{Limit: 100}) {
			for _, s := range page.Subscriptions {
				require.NoError(t, topic.Unsubscribe(ctx, s.Name))
			}
		}
		require.NoError(t, err)
	}
	return l
}

// TestBadEndpointsBesideGoodOnes: one endpoint in ten is dead, and one in ten as bad as can be. The others get each
// message once all the same. How much later, make push-bench tells, with many endpoints on a quiet machine.
func TestBadEndpointsBesideGoodOnes(t *testing.T) {
	n := cluster.Size(t, "CMQ_E2E_ENDPOINTS", 50)
	messages := cluster.Size(t, "CMQ_E2E_PUSHES_EACH", 10)
	every := time.Duration(cluster.Size(t, "CMQ_E2E_PUSH_EVERY_MS", 50)) * time.Millisecond
	c := cluster.Start(t, cluster.Options{Binary: binary, Config: "push: {allow: [127.0.0.0/8]}"})
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	clean := pushTo(t, c, ctx, "clean", n, messages, every, false)
	mixed := pushTo(t, c, ctx, "mixed", n, messages, every, true)
	t.Logf("%d endpoints, %d messages each, one each %v: p50 %v, p99 %v; with bad ones among them p50 %v, p99 %v, which is %.2f times the clean run's",
		n, messages, every, clean.at(50), clean.at(99), mixed.at(50), mixed.at(99), float64(mixed.at(99))/float64(clean.at(99)))
}
