package client_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/url"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/client"
	"github.com/opencmq/cmq/client/internal/tcptest"
)

// Answers are lost with their connections, servers come and go: every message is stored, and once.
func TestProducerSendsOnce(t *testing.T) {
	for seed := range uint64(20) {
		tcpBubble(t, []client.Option{client.WithTimeout(2 * time.Second)}, func(t *testing.T, n *tcptest.Network, c *client.Client) {
			queue := tcptest.NewQueue()
			var mu sync.Mutex // Drop is called by several connections
			dropped := rand.New(rand.NewPCG(seed, 1))
			queue.Drop = func(r *tcptest.Request) bool {
				mu.Lock()
				defer mu.Unlock()
				return dropped.IntN(4) == 0
			}
			n.Start("a:1", queue.Handle)
			n.Start("b:1", queue.Handle)
			p := c.Queue("q").NewProducer(client.ProducerOptions{Once: true, RetryFor: time.Hour, Linger: 5 * time.Millisecond})
			var futures []client.Future
			for i := range 200 {
				futures = append(futures, accept(t, p, fmt.Sprint(i))...)
				tcptest.Pass(time.Millisecond)
				if i == 100 {
					n.Stop("a:1")
				}
			}
			ids := make(map[string]bool)
			for _, f := range futures {
				id, err := f.Wait(context.Background())
				require.NoError(t, err)
				ids[id] = true
			}
			require.Len(t, ids, 200)
			require.NoError(t, p.Close(t.Context()))
			bodies := queue.Bodies()
			require.Len(t, bodies, 200, "seed %d", seed)
			slices.Sort(bodies)
			require.Len(t, slices.Compact(bodies), 200)
		})
	}
}

// When the service has forgotten the session, nobody knows about the request; later ones go in a new session.
func TestLostSession(t *testing.T) {
	tcpBubble(t, nil, func(t *testing.T, n *tcptest.Network, c *client.Client) {
		queue := tcptest.NewQueue()
		n.Start("a:1", queue.Handle)
		p := c.Queue("q").NewProducer(client.ProducerOptions{Once: true})
		_, err := p.Send(t.Context(), "1")
		require.NoError(t, err)
		queue.ForgetSessions()
		_, err = p.Send(t.Context(), "2")
		require.ErrorIs(t, err, client.ErrSession)
		require.Equal(t, client.Unknown, client.OutcomeOf(err))
		require.False(t, client.Temporary(err))
		_, err = p.Send(t.Context(), "3")
		require.NoError(t, err)
		require.Equal(t, []string{"1", "3"}, queue.Bodies())
		require.NoError(t, p.Close(t.Context()))
	})
}

// Numbers of requests, and what is acknowledged, as the service sees them.
func TestSessionStamps(t *testing.T) {
	tcpBubble(t, nil, func(t *testing.T, n *tcptest.Network, c *client.Client) {
		queue := tcptest.NewQueue()
		var stamps []string
		n.Start("a:1", func(s *tcptest.Session, r *tcptest.Request) {
			if r.Cmd == 1021 {
				stamps = append(stamps, r.Text(10000)[len(r.Text(10000))-6:])
			}
			queue.Handle(s, r)
		})
		p := c.Queue("q").NewProducer(client.ProducerOptions{Once: true, InFlight: 1, Batch: 1})
		for _, f := range accept(t, p, "a", "b", "c") {
			_, err := f.Wait(t.Context())
			require.NoError(t, err)
		}
		require.Equal(t, []string{"\x10\x01\x18\x01\x20\x01", "\x10\x01\x18\x02\x20\x02", "\x10\x01\x18\x03\x20\x03"}, stamps, "epoch, number, acknowledged below")
		require.NoError(t, p.Close(t.Context()))
	})
}

// Elsewhere than at cmq there are no sessions: the sends fail and say why.
func TestNoSessions(t *testing.T) {
	tcpBubble(t, nil, func(t *testing.T, n *tcptest.Network, c *client.Client) {
		queue := tcptest.NewQueue()
		queue.NoExtensions = true
		n.Start("a:1", queue.Handle)
		p := c.Queue("q").NewProducer(client.ProducerOptions{Once: true})
		_, err := p.Send(t.Context(), "x")
		require.True(t, client.Unsupported(err))
		require.Equal(t, client.NotStored, client.OutcomeOf(err))
		require.NoError(t, p.Close(t.Context()))
		require.Empty(t, queue.Bodies())
	})
	srv := service(t, func(form url.Values) string {
		require.Equal(t, "OpenSession", form.Get("Action"), "nothing is sent without a session")
		return `{"code":4000,"message":"(10430)action name OpenSession is not existed","requestId":"1"}`
	})
	p := newClient(t, srv.URL).Queue("q").NewProducer(client.ProducerOptions{Once: true})
	_, err := p.Send(t.Context(), "x")
	require.True(t, client.Unsupported(err))
	require.Equal(t, client.NotStored, client.OutcomeOf(err))
}

// TestSessionOverHTTP: a request whose answer was lost is repeated with the same number.
func TestSessionOverHTTP(t *testing.T) {
	var mu sync.Mutex
	var sent []string
	var id string
	srv := service(t, func(form url.Values) string {
		mu.Lock()
		defer mu.Unlock()
		if form.Get("Action") == "OpenSession" {
			id = form.Get("sessionId")
			return `{"code":0,"message":"","requestId":"1","sessionEpoch":18446744073709551615}`
		}
		require.Equal(t, id, form.Get("sessionId"))
		sent = append(sent, fmt.Sprint(form.Get("Action"), form.Get("msgBody"), form.Get("msgBody.2"), " ", form.Get("sessionEpoch"), " ", form.Get("sessionNumber"), " ", form.Get("sessionAcked")))
		switch {
		case len(sent) == 1:
			return "no answer that anybody understands"
		case form.Has("msgBody.2"):
			return `{"code":0,"message":"","requestId":"1","msgList":[{"msgId":"6"},{"msgId":"7"}]}`
		}
		return `{"code":0,"message":"","requestId":"1","msgId":"5"}`
	})
	p := newClient(t, srv.URL).Queue("q").NewProducer(client.ProducerOptions{Once: true, InFlight: 1, Linger: time.Millisecond})
	got, err := p.Send(t.Context(), "a")
	require.NoError(t, err)
	require.Equal(t, "5", got)
	first, err := p.SendAsync(t.Context(), "b")
	require.NoError(t, err)
	second, err := p.SendAsync(t.Context(), "c")
	require.NoError(t, err)
	require.NoError(t, p.Close(t.Context()))
	for f, want := range map[client.Future]string{first: "6", second: "7"} {
		got, err := f.Wait(t.Context())
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	const epoch = "18446744073709551615"
	require.Equal(t, []string{"SendMessagea " + epoch + " 1 1", "SendMessagea " + epoch + " 1 1", "BatchSendMessagec " + epoch + " 2 2"}, sent)
}
