package client_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/client"
	"github.com/opencmq/cmq/client/internal/tcptest"
)

// tcpBubble runs f in a synctest bubble, with a network and a client whose endpoints are a and b.
func tcpBubble(t *testing.T, opts []client.Option, f func(t *testing.T, n *tcptest.Network, c *client.Client)) {
	synctest.Test(t, func(t *testing.T) {
		n := tcptest.NewNetwork()
		opts := append([]client.Option{client.WithEndpoints("tcp://b:1"), client.WithDialer(n.Dial)}, opts...)
		c, err := client.New("tcp://a:1", testID, testKey, opts...)
		require.NoError(t, err)
		defer n.Close()
		defer c.Close()
		f(t, n, c)
	})
}

// answering gives the same answer to everything and keeps the last request.
func answering(last *tcptest.Request, next *tcptest.Answer) func(*tcptest.Session, *tcptest.Request) {
	return func(s *tcptest.Session, r *tcptest.Request) {
		*last = *r
		s.Answer(r, *next)
	}
}

func TestMessageActionsOverTCP(t *testing.T) {
	tcpBubble(t, nil, func(t *testing.T, n *tcptest.Network, c *client.Client) {
		var last tcptest.Request
		var next tcptest.Answer
		n.Start("a:1", answering(&last, &next))
		q, ctx := c.Queue("orders"), t.Context()

		for _, body := range []string{"hello", "你好", "", "\x00\xff not UTF-8", strings.Repeat("x", 1<<20)} {
			next = tcptest.Answer{IDs: []uint64{281474976710657}}
			id, err := q.SendDelayed(ctx, body, 1500*time.Millisecond)
			require.NoError(t, err)
			require.Equal(t, "281474976710657", id)
			require.EqualValues(t, 1021, last.Cmd)
			require.Equal(t, "orders", last.Text(1))
			require.Equal(t, body, last.Text(2))
			delay, _ := last.Number(3)
			require.EqualValues(t, 2, delay, "a delay is rounded up")
		}

		next = tcptest.Answer{IDs: []uint64{1, 2}}
		ids, err := q.BatchSend(ctx, []string{"a", "b"}, 0)
		require.NoError(t, err)
		require.Equal(t, []string{"1", "2"}, ids)
		require.Equal(t, []string{"a", "b"}, last.Texts(2))
		_, given := last.Number(3)
		require.False(t, given)

		next = tcptest.Answer{Messages: []tcptest.Message{{ID: 5, Handle: 6, Body: "x", Enqueued: 1700000000, FirstDequeue: 1700000001, NextVisible: 1700000031, Dequeued: 2}}}
		m, err := q.Receive(ctx, 2500*time.Millisecond)
		require.NoError(t, err)
		require.Equal(t, &client.Message{ID: "5", Handle: "6", Body: "x", Enqueued: time.Unix(1700000000, 0),
			FirstDequeue: time.Unix(1700000001, 0), NextVisible: time.Unix(1700000031, 0), DequeueCount: 2}, m)
		wait, _ := last.Number(2)
		require.EqualValues(t, 3, wait)

		next = tcptest.Answer{List: true, Messages: []tcptest.Message{{ID: 5, Handle: 6}, {ID: 7, Handle: 8, Body: "y"}}}
		ms, err := q.ReceiveWith(ctx, client.ReceiveOptions{Max: 16, Wait: client.QueueWait, Visibility: time.Minute})
		require.NoError(t, err)
		require.Len(t, ms, 2)
		require.Equal(t, "y", ms[1].Body)
		max, _ := last.Number(2)
		require.EqualValues(t, 16, max)
		_, given = last.Number(3)
		require.False(t, given, "the wait is left to the queue")
		lock, _ := last.Number(4)
		require.EqualValues(t, 60, lock)

		next = tcptest.Answer{}
		require.NoError(t, q.Delete(ctx, "6"))
		require.Equal(t, []uint64{6}, last.Numbers(2))
		require.NoError(t, q.BatchDelete(ctx, []string{"6", "8"}))
		require.Equal(t, []uint64{6, 8}, last.Numbers(2))
		require.NoError(t, q.BatchChangeVisibility(ctx, []string{"6", "8"}, 40*time.Second))
		require.EqualValues(t, 10001, last.Cmd)
		require.Equal(t, []uint64{6, 8}, last.Numbers(2))
		require.Equal(t, []uint64{40}, last.Numbers(3))

		next = tcptest.Answer{IDs: []uint64{9}}
		id, err := c.Topic("news").Publish(ctx, "x", client.PublishOptions{Tags: []string{"red", "blue"}})
		require.NoError(t, err)
		require.Equal(t, "9", id)
		require.Equal(t, []string{"red", "blue"}, last.Texts(3))
		_, err = c.Topic("news").BatchPublish(ctx, []string{"x"}, client.PublishOptions{RoutingKey: "a.b"})
		require.NoError(t, err)
		require.Equal(t, "a.b", last.Text(4))
		require.Equal(t, 1, n.Dials("a:1"))
		require.Zero(t, n.Dials("b:1"))
	})
}

// The server checks what the client says about itself, as the protocol's text describes it.
func TestAuthenticationOverTCP(t *testing.T) {
	tcpBubble(t, []client.Option{client.WithClientID("10.1.2.3@test")}, func(t *testing.T, n *tcptest.Network, c *client.Client) {
		n.Auth = true
		result := int32(0)
		n.Start("a:1", func(s *tcptest.Session, r *tcptest.Request) {
			if r.Cmd != 1020 {
				s.Answer(r, tcptest.Answer{IDs: []uint64{1}})
				return
			}
			mac := hmac.New(sha256.New, []byte(testKey))
			io.WriteString(mac, r.Text(3)+r.Text(1))
			if r.Text(2) != base64.StdEncoding.EncodeToString(mac.Sum(nil)) || r.Text(1) != testID || r.Text(4) != "HmacSHA256" || r.Text(3) != "10.1.2.3@test" {
				result = 10030
			}
			s.Answer(r, tcptest.Answer{Result: result, Error: "authentication failed"})
		})
		_, err := c.Queue("q").Send(t.Context(), "x")
		require.NoError(t, err)
	})
	tcpBubble(t, []client.Option{client.WithRetries(0)}, func(t *testing.T, n *tcptest.Network, c *client.Client) {
		n.Auth = true
		refuse := func(s *tcptest.Session, r *tcptest.Request) {
			s.Answer(r, tcptest.Answer{Result: 10270, Error: "secret id is not existed"})
		}
		n.Start("a:1", refuse)
		n.Start("b:1", refuse)
		_, err := c.Queue("q").Send(t.Context(), "x")
		require.ErrorIs(t, err, client.ErrKeyUnknown)
		require.Equal(t, client.NotStored, client.OutcomeOf(err))
		require.False(t, client.Temporary(err))
	})
}

// Results are module codes; the errors are those of the HTTP protocol.
func TestRefusalsOverTCP(t *testing.T) {
	for module, want := range map[int32]error{
		10200: client.ErrNoMessage, 10100: client.ErrQueueNotExist, 10260: client.ErrHandleInvalid, 10240: client.ErrHeapFull,
		10690: client.ErrTooMany, 10800: client.ErrDiskFull, 10250: client.ErrThrottled, 10230: client.ErrMsgSize,
		10600: client.ErrTopicNotExist, 10650: client.ErrNobody, 10730: client.ErrNoMatch, 10030: client.ErrSignature,
		10460: client.ErrFrequency,
	} {
		tcpBubble(t, []client.Option{client.WithRetries(0)}, func(t *testing.T, n *tcptest.Network, c *client.Client) {
			var last tcptest.Request
			n.Start("a:1", answering(&last, &tcptest.Answer{Result: module, Error: "why"}))
			_, err := c.Queue("q").Send(t.Context(), "x")
			require.ErrorIs(t, err, want)
			var refused *client.Error
			require.ErrorAs(t, err, &refused)
			require.Equal(t, "why", refused.Message)
			require.Equal(t, "SendMessage", refused.Action)
			require.Equal(t, client.NotStored, client.OutcomeOf(err))
		})
	}
	tcpBubble(t, nil, func(t *testing.T, n *tcptest.Network, c *client.Client) {
		var last tcptest.Request
		next := tcptest.Answer{Result: 10150, Error: "partially", Failed: []tcptest.Failure{{Handle: 9, Code: 10260, Text: "receipt handle is invalid"}}}
		n.Start("a:1", answering(&last, &next))
		err := c.Queue("q").BatchDelete(t.Context(), []string{"6", "9"})
		var batch *client.BatchError
		require.ErrorAs(t, err, &batch)
		require.Equal(t, 6010, batch.Refusal.Code)
		require.Len(t, batch.Failed, 1)
		require.Equal(t, "9", batch.Failed[0].Handle)
		require.ErrorIs(t, err, client.ErrHandleInvalid)

		next.Result = 10830
		err = c.Queue("q").ChangeVisibility(t.Context(), "9", 0)
		require.ErrorIs(t, err, client.ErrHandleInvalid)
		require.False(t, errors.As(err, new(*client.BatchError)), "one handle is no batch")

		require.ErrorContains(t, c.Queue("q").Delete(t.Context(), "abc"), `"abc" is not a number`)
		next = tcptest.Answer{Result: 10430, Error: "action name 10001 is not existed"}
		require.True(t, client.Unsupported(c.Queue("q").ChangeVisibility(t.Context(), "9", 0)))
	})
}

// Answers that are not what was asked for are errors of unknown outcome, never a success.
func TestAnswersThatDoNotFit(t *testing.T) {
	tcpBubble(t, nil, func(t *testing.T, n *tcptest.Network, c *client.Client) {
		var last tcptest.Request
		n.Start("a:1", answering(&last, &tcptest.Answer{}))
		q := c.Queue("q")
		_, err := q.Send(t.Context(), "x")
		require.Equal(t, client.Unknown, client.OutcomeOf(err))
		require.Error(t, err)
		_, err = q.BatchSend(t.Context(), []string{"x", "y"}, 0)
		require.ErrorContains(t, err, "0 ids for 2 messages")
		_, err = q.Receive(t.Context(), 0)
		require.ErrorContains(t, err, "no message")
	})
}

// A send is repeated when it certainly was not carried out, over the other address; else the caller is told.
func TestRetriesOverTCP(t *testing.T) {
	ok := tcptest.Answer{IDs: []uint64{1}}
	t.Run("throttled", func(t *testing.T) {
		tcpBubble(t, nil, func(t *testing.T, n *tcptest.Network, c *client.Client) {
			var calls int
			var ids []uint64
			n.Start("a:1", func(s *tcptest.Session, r *tcptest.Request) {
				ids = append(ids, r.RequestID)
				if calls++; calls < 3 {
					s.Answer(r, tcptest.Answer{Result: 10250, Error: "qps throttling"})
					return
				}
				s.Answer(r, ok)
			})
			_, err := c.Queue("q").Send(t.Context(), "x")
			require.NoError(t, err)
			require.Equal(t, []uint64{1, 1, 1}, ids, "all attempts of a call have one request id")
		})
	})
	t.Run("306", func(t *testing.T) {
		tcpBubble(t, nil, func(t *testing.T, n *tcptest.Network, c *client.Client) {
			n.Start("a:1", func(s *tcptest.Session, r *tcptest.Request) {
				if s.N == 1 {
					s.Answer(r, tcptest.Answer{Result: 306, Error: "not authorized"})
					return
				}
				s.Answer(r, ok)
			})
			_, err := c.Queue("q").Send(t.Context(), "x")
			require.NoError(t, err)
		})
	})
	t.Run("connection lost", func(t *testing.T) {
		tcpBubble(t, nil, func(t *testing.T, n *tcptest.Network, c *client.Client) {
			var calls atomic.Int32
			n.Start("a:1", func(s *tcptest.Session, r *tcptest.Request) {
				calls.Add(1)
				s.Conn.Close()
			})
			_, err := c.Queue("q").Send(t.Context(), "x")
			require.Equal(t, client.Unknown, client.OutcomeOf(err))
			require.True(t, client.Temporary(err))
			require.EqualValues(t, 1, calls.Load())
		})
	})
	t.Run("time-out", func(t *testing.T) {
		tcpBubble(t, []client.Option{client.WithTimeout(2 * time.Second)}, func(t *testing.T, n *tcptest.Network, c *client.Client) {
			n.Start("a:1", func(s *tcptest.Session, r *tcptest.Request) {})
			begun := time.Now()
			_, err := c.Queue("q").Send(t.Context(), "x")
			require.Equal(t, client.Unknown, client.OutcomeOf(err))
			require.InDelta(t, 2, time.Since(begun).Seconds(), 0.2)
			begun = time.Now()
			_, err = c.Queue("q").Receive(t.Context(), 5*time.Second)
			require.Equal(t, client.Unknown, client.OutcomeOf(err))
			require.InDelta(t, 7, time.Since(begun).Seconds(), 0.3, "a receive may take as long as it waits, and the time-out on top")
		})
	})
	t.Run("first address away", func(t *testing.T) {
		tcpBubble(t, []client.Option{client.WithRetries(0)}, func(t *testing.T, n *tcptest.Network, c *client.Client) {
			var last tcptest.Request
			n.Start("b:1", answering(&last, &ok))
			_, err := c.Queue("q").Send(t.Context(), "x")
			require.NoError(t, err)
		})
	})
	t.Run("nobody there", func(t *testing.T) {
		tcpBubble(t, nil, func(t *testing.T, n *tcptest.Network, c *client.Client) {
			_, err := c.Queue("q").Send(t.Context(), "x")
			var broken *client.TransportError
			require.ErrorAs(t, err, &broken)
			require.False(t, broken.Sent)
			require.Equal(t, client.NotStored, client.OutcomeOf(err))
			require.ErrorContains(t, err, "tcp://")
			require.Equal(t, 4, n.Dials("a:1"), "the first attempt and DefaultRetries more")
		})
	})
	t.Run("server restarts", func(t *testing.T) {
		tcpBubble(t, nil, func(t *testing.T, n *tcptest.Network, c *client.Client) {
			var last tcptest.Request
			n.Start("a:1", answering(&last, &ok))
			for range 3 {
				_, err := c.Queue("q").Send(t.Context(), "x")
				require.NoError(t, err)
				n.Stop("a:1")
				n.Start("a:1", answering(&last, &ok))
				synctest.Wait()
			}
		})
	})
	t.Run("closed", func(t *testing.T) {
		tcpBubble(t, nil, func(t *testing.T, n *tcptest.Network, c *client.Client) {
			require.NoError(t, c.Close())
			_, err := c.Queue("q").Send(t.Context(), "x")
			require.ErrorIs(t, err, client.ErrClosed)
			require.Equal(t, client.NotStored, client.OutcomeOf(err))
		})
	})
}

// A receive whose context ends is taken back, so that no message is locked for nobody.
func TestReceiveIsTakenBack(t *testing.T) {
	tcpBubble(t, nil, func(t *testing.T, n *tcptest.Network, c *client.Client) {
		queue := tcptest.NewQueue()
		n.Start("a:1", queue.Handle)
		ctx, cancel := context.WithCancel(t.Context())
		got := make(chan error, 1)
		go func() {
			_, err := c.Queue("q").Receive(ctx, 30*time.Second)
			got <- err
		}()
		synctest.Wait()
		require.Equal(t, 1, queue.Waiting())
		cancel()
		err := <-got
		require.ErrorIs(t, err, context.Canceled)
		require.Equal(t, client.NotStored, client.OutcomeOf(err))
		queue.Put("later")
		_, ready, locked := queue.Counts()
		require.Equal(t, 1, ready)
		require.Zero(t, locked)
	})
}

func TestActionsThatNeedTheOtherProtocol(t *testing.T) {
	tcpBubble(t, nil, func(t *testing.T, n *tcptest.Network, c *client.Client) {
		_, err := c.ListQueues(t.Context(), client.ListOptions{})
		require.ErrorContains(t, err, `WithEndpoints("http://HOST:PORT")`)
		require.Equal(t, client.NotStored, client.OutcomeOf(err))
		require.False(t, client.Temporary(err))
	})
	c := newClient(t, "http://127.0.0.1:1")
	_, err := c.Queue("q").SendPrepared(t.Context(), "x", 0)
	require.ErrorContains(t, err, "WithTCP")
	for _, e := range []string{"tcp://", "tcp://a", "tcp://a:1:2"} {
		_, err := client.New(e, testID, testKey)
		require.Error(t, err, e)
	}
}

// With an endpoint of HTTP the service names the addresses for each queue; they are asked for again after failures.
func TestRoutes(t *testing.T) {
	var mu sync.Mutex
	addrs := `"a:1","b:1"`
	asked := 0
	srv := service(t, func(f url.Values) string {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case f.Get("Action") == "QueryQueueRoute" && f.Get("queueName") == "orders", f.Get("Action") == "QueryTopicRoute" && f.Get("topicName") == "news":
			asked++
			return `{"code":0,"message":"","requestId":"1","addr":[` + addrs + `]}`
		case f.Get("Action") == "QueryQueueRoute":
			return `{"code":4440,"message":"(10100)queue is not existed, or deleted","requestId":"1"}`
		}
		return `{"code":4000,"message":"(10430)action name is not existed","requestId":"1"}`
	})
	n := tcptest.NewNetwork()
	defer n.Close()
	by := func(name uint64) func(*tcptest.Session, *tcptest.Request) {
		return func(s *tcptest.Session, r *tcptest.Request) { s.Answer(r, tcptest.Answer{IDs: []uint64{name}}) }
	}
	n.Start("a:1", by(1))
	n.Start("b:1", by(2))
	c := newClient(t, srv.URL, client.WithTCP(), client.WithDialer(n.Dial))
	q, ctx := c.Queue("orders"), t.Context()
	var callers sync.WaitGroup
	for range 50 {
		callers.Go(func() {
			if id, err := q.Send(ctx, "x"); err != nil || id != "1" {
				t.Errorf("%s, %v", id, err)
			}
		})
	}
	callers.Wait()
	require.Equal(t, 1, asked, "one asks for all")
	_, err := c.Topic("news").Publish(ctx, "x", client.PublishOptions{})
	require.NoError(t, err)
	require.Equal(t, 2, asked)
	_, err = c.Queue("nowhere").Send(ctx, "x")
	require.ErrorIs(t, err, client.ErrQueueNotExist)

	mu.Lock()
	addrs = `"b:1","a:1"`
	mu.Unlock()
	n.Stop("a:1")
	id, err := q.Send(ctx, "x")
	for err != nil { // the connection broke at that moment
		id, err = q.Send(ctx, "x")
	}
	require.Equal(t, "2", id)
}

// Without an answer about routes the endpoints of TCP are used.
func TestRouteFallsBackToEndpoints(t *testing.T) {
	srv := service(t, func(f url.Values) string {
		return `{"code":6000,"message":"(10050)server internal error","requestId":"1"}`
	})
	n := tcptest.NewNetwork()
	defer n.Close()
	n.Start("a:1", func(s *tcptest.Session, r *tcptest.Request) { s.Answer(r, tcptest.Answer{IDs: []uint64{1}}) })
	c := newClient(t, "tcp://a:1", client.WithEndpoints(srv.URL), client.WithDialer(n.Dial))
	_, err := c.Queue("orders").Send(t.Context(), "x")
	require.NoError(t, err)
	c = newClient(t, srv.URL, client.WithTCP(), client.WithDialer(n.Dial))
	_, err = c.Queue("orders").Send(t.Context(), "x")
	require.ErrorContains(t, err, "server internal error")
	require.Equal(t, client.NotStored, client.OutcomeOf(err), "only the question failed")
}

func TestOutcomes(t *testing.T) {
	for _, c := range []struct {
		err       error
		outcome   client.Outcome
		temporary bool
	}{
		{nil, client.Stored, false},
		{client.ErrQueueNotExist, client.NotStored, false},
		{client.ErrHeapFull, client.NotStored, true},
		{client.ErrDiskFull, client.NotStored, true},
		{client.ErrTooMany, client.NotStored, true},
		{client.ErrThrottled, client.NotStored, true},
		{client.ErrFrequency, client.NotStored, true},
		{&client.Error{Code: 6000, Module: 10090}, client.Unknown, true},
		{&client.TransportError{Sent: true, Err: io.EOF}, client.Unknown, true},
		{&client.TransportError{Err: io.EOF}, client.NotStored, true},
		{fmt.Errorf("wrapped: %w", &client.TransportError{Err: io.EOF}), client.NotStored, true},
		{&client.TransportError{Err: client.ErrClosed}, client.NotStored, false},
		{&client.BatchError{Refusal: client.ErrHandleInvalid}, client.Unknown, false},
		{&client.DeliveryError{Outcome: client.NotStored, Err: io.EOF}, client.NotStored, false},
		{&client.NeedsEndpointError{}, client.NotStored, false},
		{&client.TransportError{Err: &client.NeedsEndpointError{}}, client.NotStored, false},
		{client.ErrSession, client.Unknown, false},
		{client.ErrRequestOld, client.Unknown, false},
		{client.ErrClosed, client.NotStored, false},
		{io.EOF, client.Unknown, false},
	} {
		require.Equal(t, c.outcome, client.OutcomeOf(c.err), "%v", c.err)
		require.Equal(t, c.temporary, client.Temporary(c.err), "%v", c.err)
	}
	require.Equal(t, "unknown, not stored, stored", fmt.Sprint(client.Unknown, ", ", client.NotStored, ", ", client.Stored))
}
