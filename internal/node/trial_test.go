package node

import (
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/internal/cmq"
)

// A test goes from the node that leads to the endpoint, whichever node is asked, and leaves nothing behind.
func TestTrialsThroughThreeNodes(t *testing.T) {
	c := startCluster(t, 3, allowLoopback)
	ctx := timeout(t)
	c.ready(ctx)
	var status atomic.Int64
	var came atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		came.Add(1)
		w.WriteHeader(int(status.Load()))
	}))
	t.Cleanup(s.Close)
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, closed.Close())

	r := c.nodes[0].router
	_, err = r.CreateTopic(ctx, "1", "news", cmq.TopicSettings{})
	require.NoError(t, err)
	subscriptions := map[string]cmq.SubscriptionSettings{
		"good": toHTTP(s.URL), "closed": toHTTP("http://" + closed.Addr().String()), "private": toHTTP("http://10.1.2.3/"), "queue": toQueue("later"),
		"agent": toHTTP(s.URL, func(s *cmq.SubscriptionSettings) { s.Agent = new("plant") }),
	}
	for name, settings := range subscriptions {
		_, err := r.Subscribe(ctx, "1", "news", name, settings)
		require.NoError(t, err)
	}
	test := func(i int, name string) *cmq.Trial {
		trial, err := c.nodes[i].router.TestSubscription(ctx, "1", "news", name, []byte("hello"))
		require.NoError(t, err)
		return trial
	}
	for i := range c.nodes {
		status.Store(202)
		good := test(i, "Good")
		require.True(t, good.Taken, "%+v", good)
		require.Equal(t, 202, good.Status)
		require.Contains(t, good.Sent, "\n\nhello")
		require.Positive(t, good.Took)
		status.Store(302)
		moved := test(i, "good")
		require.Equal(t, []any{false, "status", 302}, []any{moved.Taken, moved.Reason, moved.Status})
		require.Equal(t, "unreachable", test(i, "closed").Reason)
		require.Equal(t, "refused", test(i, "private").Reason)
		require.Equal(t, "agent", test(i, "agent").Reason)
		require.Equal(t, "no queue", test(i, "queue").Reason)
	}
	require.EqualValues(t, 2*len(c.nodes), came.Load(), "each test is made once")
	_, err = r.CreateQueue(ctx, "1", "later", cmq.QueueSettings{})
	require.NoError(t, err)
	require.True(t, test(0, "queue").Taken)
	_, err = r.TestSubscription(ctx, "1", "news", "nobody", nil)
	require.ErrorIs(t, err, cmq.ErrSubscriptionNotExist)

	leader := c.nodes[c.leaderOfTopic(ctx, "news")]
	for range mostTrials {
		leader.trials <- struct{}{}
	}
	_, err = r.TestSubscription(ctx, "1", "news", "good", []byte("x"))
	require.ErrorIs(t, err, cmq.ErrFrequency)
	c.delivered(ctx, 0, "news")
}
