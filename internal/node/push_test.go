package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/dispatch/push/sms"
	"github.com/opencmq/cmq/internal/route"
)

// receiver is an endpoint that counts what it takes.
type receiver struct {
	*httptest.Server
	mu     sync.Mutex
	bodies map[string]int
	news   chan struct{}
	refuse func(body string, count int) bool // asked with the lock held; count includes this time
	seen   map[string]int
	cut    func(req *http.Request, body string) bool // asked first: whoever sent it is gone; nil: nobody is
}

func newReceiver(t *testing.T) *receiver {
	r := &receiver{bodies: map[string]int{}, seen: map[string]int{}, news: make(chan struct{}, 1)}
	r.Server = httptest.NewServer(http.HandlerFunc(r.take))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) take(w http.ResponseWriter, req *http.Request) {
	raw, err := io.ReadAll(req.Body)
	if err != nil {
		return
	}
	body := string(raw)
	var object struct{ MsgBody string }
	if json.Unmarshal(raw, &object) == nil && object.MsgBody != "" {
		body = object.MsgBody
	}
	if r.cut != nil && r.cut(req, body) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen[body]++
	if r.refuse != nil && r.refuse(body, r.seen[body]) {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	r.bodies[body]++
	select {
	case r.news <- struct{}{}:
	default:
	}
}

// wait waits until n different messages have been taken, and gives how often each was.
func (r *receiver) wait(ctx context.Context, t *testing.T, n int) map[string]int {
	for {
		r.mu.Lock()
		got := maps.Clone(r.bodies)
		r.mu.Unlock()
		if len(got) >= n {
			return got
		}
		select {
		case <-r.news:
		case <-ctx.Done():
			require.Equal(t, n, len(got), "messages that arrived")
		}
	}
}

func toHTTP(url string, change ...func(*cmq.SubscriptionSettings)) cmq.SubscriptionSettings {
	protocol, format := cmq.ProtocolHTTP, cmq.FormatSimplified
	s := cmq.SubscriptionSettings{Protocol: &protocol, Endpoint: &url, Format: &format}
	for _, f := range change {
		f(&s)
	}
	return s
}

func allowLoopback(o *Options) { o.PushAllow = []string{"127.0.0.0/8"} }

// TestPushThroughThreeNodes: whichever node leads, an endpoint gets each message, in both forms, and a try that failed again.
func TestPushThroughThreeNodes(t *testing.T) {
	c := startCluster(t, 3, allowLoopback)
	ctx := timeout(t)
	c.ready(ctx)
	plain, object := newReceiver(t), newReceiver(t)
	object.refuse = func(_ string, count int) bool { return count == 1 }
	r := c.nodes[0].router
	_, err := r.CreateTopic(ctx, "1", "news", cmq.TopicSettings{})
	require.NoError(t, err)
	_, err = r.Subscribe(ctx, "1", "news", "plain", toHTTP(plain.URL))
	require.NoError(t, err)
	format := cmq.FormatJSON
	_, err = r.Subscribe(ctx, "1", "news", "object", toHTTP(object.URL, func(s *cmq.SubscriptionSettings) { s.Format = &format }))
	require.NoError(t, err)
	for i := range c.nodes {
		_, err := c.nodes[i].router.Publish(ctx, "1", "news", [][]byte{fmt.Append(nil, "m", i)}, cmq.Publication{Tags: []string{"a"}})
		require.NoError(t, err)
	}
	want := map[string]int{"m0": 1, "m1": 1, "m2": 1}
	require.Equal(t, want, plain.wait(ctx, t, 3))
	require.Equal(t, want, object.wait(ctx, t, 3))
	c.delivered(ctx, 0, "news")
}

// TestPushIsRefusedWhereItIsNotAllowed: nothing reaches an endpoint on loopback, nor the cluster's own doors though they
// are in an allowed range.
func TestPushIsRefusedWhereItIsNotAllowed(t *testing.T) {
	c := startCluster(t, 1)
	ctx := timeout(t)
	c.ready(ctx)
	require.Error(t, c.nodes[0].endpointProblem("http://127.0.0.1:9999/"))
	require.NoError(t, c.nodes[0].endpointProblem("http://example.com/"))

	allowed := startCluster(t, 1, allowLoopback)
	allowed.ready(ctx)
	require.NoError(t, allowed.nodes[0].endpointProblem("http://127.0.0.1:9999/"))
	for _, l := range []interface{ String() string }{allowed.opts[0].HTTP.Addr(), allowed.opts[0].Admin.Addr()} {
		require.Error(t, allowed.nodes[0].endpointProblem("http://"+l.String()+"/"), "a door of the cluster itself")
	}
}

// TestPushSurvivesItsLeader: leaders are stopped while they deliver. Every message arrives; one that arrives twice had been
// taken from a node that could not write it down any more.
func TestPushSurvivesItsLeader(t *testing.T) {
	c := startCluster(t, 3, allowLoopback)
	ctx := timeout(t)
	c.ready(ctx)
	to := newReceiver(t)
	r := c.nodes[0].router
	_, err := r.CreateTopic(ctx, "1", "news", cmq.TopicSettings{})
	require.NoError(t, err)
	_, err = r.Subscribe(ctx, "1", "news", "s", toHTTP(to.URL))
	require.NoError(t, err)
	const batches = 40
	again := 0
	for i := range batches {
		var bodies [][]byte
		for j := range 16 {
			bodies = append(bodies, fmt.Appendf(nil, "%d/%d", i, j))
		}
		again += c.publish(ctx, r, "news", bodies)
		if i == batches/2 {
			leader := c.leaderOfTopic(ctx, "news")
			c.stop(leader)
			r = c.nodes[(leader+1)%3].router
		}
	}
	got := to.wait(ctx, t, 16*batches)
	for body, times := range got {
		require.LessOrEqual(t, times, 2+again, body)
	}
}

// publish publishes the messages, again when the answer was lost with a node that was just stopped, and tells how often again.
func (c *cluster) publish(ctx context.Context, r *route.Router, topic string, bodies [][]byte) (again int) {
	for {
		_, err := r.Publish(ctx, "1", topic, bodies, cmq.Publication{})
		if !errors.Is(err, cmq.ErrUnknownOutcome) {
			require.NoError(c.t, err)
			return again
		}
		again++
	}
}

// TestTextMessagesWhereThereIsAGateway: the door takes only what there is a target for, and the gateway gets the call.
func TestTextMessagesWhereThereIsAGateway(t *testing.T) {
	gateway := newReceiver(t)
	c := startCluster(t, 1, func(o *Options) {
		o.SMS = sms.Gateway{URL: gateway.URL, Body: "{to} {text}", ContentType: "text/plain"}
	})
	ctx := timeout(t)
	c.ready(ctx)
	require.Contains(t, c.nodes[0].protocols(), cmq.ProtocolSMS)
	require.NotContains(t, c.nodes[0].protocols(), cmq.ProtocolMail)
	r := c.nodes[0].router
	_, err := r.CreateTopic(ctx, "1", "news", cmq.TopicSettings{})
	require.NoError(t, err)
	_, err = r.Subscribe(ctx, "1", "news", "s", toHTTP("+4917012345", func(s *cmq.SubscriptionSettings) {
		protocol := cmq.ProtocolSMS
		s.Protocol = &protocol
	}))
	require.NoError(t, err)
	_, err = r.Publish(ctx, "1", "news", [][]byte{[]byte("hello")}, cmq.Publication{})
	require.NoError(t, err)
	require.Equal(t, map[string]int{"+4917012345 hello": 1}, gateway.wait(ctx, t, 1))
}
