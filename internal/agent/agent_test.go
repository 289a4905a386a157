package agent

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/client"
	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/dispatch/push"
)

func status500(context.Context) error {
	return &push.Failure{Reason: push.Answered, Status: 500}
}

// TestDeliveries: what is published before and after the agent came, each message once, with other subscriptions left to
// others.
func TestDeliveries(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.subscribe("s", "http://10.0.0.7/")
		w.subscribe("theirs", "http://10.0.0.7/", func(s *cmq.SubscriptionSettings) { *s.Agent = "office" })
		w.publish("a")
		a := w.start(1, nil)
		w.pass(time.Second)
		require.Equal(t, 1, a.connected)
		w.publish("b", "c")
		w.pass(time.Second)
		require.ElementsMatch(t, []string{"a", "b", "c"}, bodies(w.tries()))
		require.Zero(t, w.waiting("s"))
		require.EqualValues(t, 3, w.waiting("theirs"))

		w.subscribe("later", "http://10.0.0.8/")
		w.publish("d")
		w.pass(askEvery)
		require.ElementsMatch(t, []string{"a", "b", "c", "d", "d"}, bodies(w.tries()), "a new subscription is delivered soon")
		require.NoError(t, w.fake.Unsubscribe(t.Context(), owner, "news", "later"))
		w.pass(time.Minute)
		require.NoError(t, a.close(t.Context()))
		require.EqualValues(t, 5, a.Stats().Delivered.Load())
	})
}

func bodies(tries []seen) (list []string) {
	for _, s := range tries {
		list = append(list, s.body)
	}
	return list
}

// TestRetriesAtTheirTimes: as the schedule says, to the millisecond, and through an agent that is started anew.
func TestRetriesAtTheirTimes(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.answers(status500)
		w.subscribe("s", "http://10.0.0.7/")
		a := w.start(1, nil)
		w.pass(time.Second)
		w.publish("m")
		w.pass(10 * time.Second)
		require.NoError(t, a.close(t.Context()))
		b := w.start(2, nil)
		w.pass(60 * time.Second)
		require.NoError(t, b.close(t.Context()))
		at := time.Second
		for i, s := range w.tries() {
			require.Equal(t, i+1, s.try)
			require.InDelta(t, at.Seconds(), s.at.Seconds(), 1, "try %d", s.try)
			at += time.Second << i
		}
		require.Len(t, w.tries(), 7, "after 0, 1, 3, 7, 15, 31 and 63 s")
		require.EqualValues(t, 1, w.waiting("s"))
	})
}

// TestTwoAgentsShare: the work, and what a subscription bounds. When one dies with a delivery under way, the other makes it
// again after its lock; when one leaves, it is known at once.
func TestTwoAgentsShare(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		ten, one := int64(10), int64(1)
		w.subscribe("s", "http://10.0.0.7/", func(s *cmq.SubscriptionSettings) { s.Rate, s.Concurrency = &ten, &one })
		a, b := w.start(1, nil), w.start(2, nil)
		w.pass(2 * askEvery)
		require.Equal(t, 2, a.agents)
		require.Equal(t, 2, b.agents)
		began := time.Since(w.began)
		for i := range 200 {
			w.publish(fmt.Sprint(i))
		}
		w.pass(30 * time.Second)
		by := map[uint64]int{}
		got := map[string]int{}
		for _, s := range w.tries() {
			by[s.by]++
			got[s.body]++
		}
		require.Len(t, got, 200)
		require.Len(t, w.tries(), 200, "each once")
		require.Equal(t, map[uint64]int{1: 100, 2: 100}, by)
		last := w.tries()[199].at - began
		require.InDelta(t, 20, last.Seconds(), 1, "ten a second in all")
		require.Equal(t, 1, a.part(1), "but at least one each")

		w.answers(func(ctx context.Context) error { // hang
			<-ctx.Done()
			return ctx.Err()
		})
		w.publish("x")
		w.pass(2 * time.Second)
		tries := w.tries()
		first := tries[200]
		dying, other := a, b
		if first.by == 2 {
			dying, other = b, a
		}
		w.answers(nil)
		dying.stop()
		require.NoError(t, <-dying.ended)
		cut, cancel := context.WithCancel(t.Context())
		cancel()
		dying.Close(cut)
		require.Equal(t, 1, w.connected("s"))
		w.pass(31 * time.Second)
		require.Len(t, w.tries(), 202)
		again := w.tries()[201]
		require.Equal(t, "x", again.body)
		require.Equal(t, 2, again.try)
		require.InDelta(t, 30, (again.at - first.at).Seconds(), 1)
		require.Equal(t, 1, other.agents)
		require.NoError(t, other.close(t.Context()))
		require.Zero(t, w.connected("s"))
	})
}

// TestStopEndsWhatIsUnderWay: nothing more is received, a delivery that has begun is ended and written down.
func TestStopEndsWhatIsUnderWay(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.answers(func(context.Context) error {
			<-time.After(10 * time.Second)
			return nil
		})
		w.subscribe("s", "http://10.0.0.7/", func(s *cmq.SubscriptionSettings) { ordered := true; s.Ordered = &ordered })
		w.publish("a", "b")
		a := w.start(1, nil)
		w.pass(time.Second)
		closed := make(chan struct{})
		go func() {
			defer close(closed)
			a.close(t.Context())
		}()
		w.pass(8 * time.Second)
		require.Len(t, w.tries(), 1)
		<-closed
		w.pass(time.Minute)
		require.Equal(t, []string{"a"}, bodies(w.tries()))
		require.EqualValues(t, 1, w.waiting("s"))
		require.Zero(t, w.connected("s"))
	})
}

// TestClusterOutOfReach: the agent waits for it at first; later it delivers what it knows of and can get, and tells what has
// become of deliveries when that is possible again.
func TestClusterOutOfReach(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.subscribe("s", "http://10.0.0.7/")
		var down faults
		down.set("list")
		a := w.start(1, down.of)
		w.publish("a")
		w.pass(time.Minute)
		require.Equal(t, -1, a.connected)
		require.Equal(t, 1, strings.Count(a.log.String(), "level=WARN"), "it is said once: %s", a.log)
		down.set()
		w.pass(lastPause)
		require.Equal(t, []string{"a"}, bodies(w.tries()))

		down.set("list", "delete")
		w.publish("b")
		w.pass(20 * time.Second)
		require.Len(t, w.tries(), 2)
		require.EqualValues(t, 1, w.waiting("s"))
		down.set()
		w.pass(20 * time.Second)
		require.Zero(t, w.waiting("s"))
		require.Len(t, w.tries(), 2, "it was not delivered again")
		require.Zero(t, a.Stats().Unsettled.Load())
		require.Equal(t, 2, strings.Count(a.log.String(), "the cluster answers again"), a.log)
		require.NoError(t, a.close(t.Context()))
	})
}

// TestRefusedAtFirst: a wrong key is told at once, and not waited for.
func TestRefusedAtFirst(t *testing.T) {
	for _, refusal := range []error{client.ErrSignature, client.ErrKeyUnknown, &client.Error{Code: 4000, Module: 10430, Message: "action not existed"}} {
		bubble(t, func(t *testing.T, w *world) {
			a := w.start(1, func(string) error { return refusal })
			require.ErrorIs(t, <-a.ended, refusal)
			a.Close(t.Context())
			require.Zero(t, time.Since(w.began))
		})
	}
}

// TestEndpointsOutsideOfWhatIsAllowed are left alone: the messages wait and use up no tries.
func TestEndpointsOutsideOfWhatIsAllowed(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.subscribe("public", "http://93.184.216.34/")
		w.subscribe("loopback", "http://127.0.0.1:80/")
		w.subscribe("good", "http://10.0.0.7/")
		w.publish("a")
		a := w.start(1, nil)
		w.pass(time.Minute)
		require.Len(t, w.tries(), 1)
		require.EqualValues(t, 1, w.waiting("public"))
		require.EqualValues(t, 1, w.waiting("loopback"))
		require.Equal(t, 3, a.connected)
		require.Contains(t, a.log.String(), `subscription=public error="the address of the endpoint is not allowed: 93.184.216.34:80 (public); push.allow lists what is allowed"`)
		require.NoError(t, a.close(t.Context()))
	})
}

// TestWhatTheClusterSendsIsChecked: an answer that makes no sense is an error, and ends nothing.
func TestWhatTheClusterSendsIsChecked(t *testing.T) {
	a := New(Config{Name: "plant", Logger: slog.New(slog.DiscardHandler)})
	for _, s := range []client.AgentSubscription{
		{ID: "7", Subscription: client.Subscription{Protocol: "http"}},
		{ID: "subsc-00000002", Subscription: client.Subscription{Protocol: "queue"}},
		{ID: "subsc-00000002", Subscription: client.Subscription{Protocol: "smoke"}},
	} {
		_, err := a.outlet(&s)
		require.Error(t, err)
	}
	for _, m := range []client.PublishedMessage{{ID: "x", Handle: "1"}, {ID: "1", Handle: "-1"}} {
		_, err := message(&m)
		require.Error(t, err)
	}
	require.Panics(t, func() { a.do(t.Context(), 0, &cmq.Request{Kind: cmq.KindSend}) })
}

func TestTranslate(t *testing.T) {
	require.ErrorIs(t, translate(client.ErrTooMany), cmq.ErrTooMany)
	require.ErrorIs(t, translate(client.ErrNotSubscribed), cmq.ErrQueueNotExist)
	require.ErrorIs(t, translate(&client.TransportError{Sent: true}), cmq.ErrUnknownOutcome)
	require.NotErrorIs(t, translate(&client.TransportError{}), cmq.ErrUnknownOutcome)
	require.ErrorIs(t, translate(&client.Error{Code: 6000}), cmq.ErrUnknownOutcome)
	require.ErrorIs(t, translate(client.ErrThrottled), client.ErrThrottled)
}
