package client_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sort"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/client"
)

const (
	testID  = "AKIDtest"
	testKey = "secretKeyOfTheTest"
)

// verified checks the signature as the protocol's text describes it, written independently of the client's code.
func verified(r *http.Request, form url.Values) error {
	var names []string
	for n, vs := range form {
		if len(vs) != 1 {
			return fmt.Errorf("parameter %s given %d times", n, len(vs))
		}
		if n != "Signature" {
			names = append(names, n)
		}
	}
	sort.Strings(names)
	for i, n := range names {
		names[i] = strings.ReplaceAll(n, "_", ".") + "=" + form.Get(n)
	}
	mac := hmac.New(sha256.New, []byte(testKey))
	io.WriteString(mac, r.Method+r.Host+r.URL.EscapedPath()+"?"+strings.Join(names, "&"))
	if want := base64.StdEncoding.EncodeToString(mac.Sum(nil)); want != form.Get("Signature") {
		return fmt.Errorf("signature %q, want %q", form.Get("Signature"), want)
	}
	if form.Get("SignatureMethod") != "HmacSHA256" || form.Get("SecretId") != testID {
		return fmt.Errorf("wrong common parameters: %v", form)
	}
	return nil
}

// service answers signed requests with whatever answer returns.
func service(t testing.TB, answer func(form url.Values) string) *httptest.Server {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		form, err := url.ParseQuery(string(data))
		if err == nil {
			err = verified(r, form)
		}
		if err != nil {
			fmt.Fprintf(w, `{"code":4100,"message":"(10030)authentication failed","requestId":"%s"}`, url.QueryEscape(err.Error()))
			return
		}
		io.WriteString(w, answer(form))
	}))
	t.Cleanup(srv.Close)
	return srv
}

func newClient(t testing.TB, endpoint string, opts ...client.Option) *client.Client {
	t.Helper()
	c, err := client.New(endpoint, testID, testKey, opts...)
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

// transports runs f with each transport.
func transports(t *testing.T, f func(t *testing.T, opts ...client.Option)) {
	t.Run("net/http", func(t *testing.T) { f(t) })
	t.Run("lean", func(t *testing.T) { f(t, client.WithTransport(client.NewLeanTransport())) })
}

func TestMessageActions(t *testing.T) {
	bodies := []string{"hello world & =+", "你好", "a \"quoted\" \\ line\n", "@all", strings.Repeat("x", 60000)}
	transports(t, func(t *testing.T, opts ...client.Option) {
		var last url.Values
		var next string
		srv := service(t, func(f url.Values) string { last = f; return next })
		q := newClient(t, srv.URL, opts...).Queue("orders")
		ctx := t.Context()

		for _, body := range bodies {
			next = `{"code":0,"message":"","requestId":"7","msgId":"281474976710657"}`
			id, err := q.SendDelayed(ctx, body, 1500*time.Millisecond)
			require.NoError(t, err)
			require.Equal(t, "281474976710657", id)
			require.Equal(t, body, last.Get("msgBody"))
			require.Equal(t, "2", last.Get("delaySeconds"), "a delay is rounded up")
			require.Equal(t, "SendMessage", last.Get("Action"))
		}

		next = `{"code":0,"message":"","requestId":"1","msgList":[{"msgId":"1"},{"msgId":"2"},{"msgId":"3"},{"msgId":"4"},{"msgId":"5"}]}`
		ids, err := q.BatchSend(ctx, bodies, 0)
		require.NoError(t, err)
		require.Equal(t, []string{"1", "2", "3", "4", "5"}, ids)
		require.Equal(t, bodies[1], last.Get("msgBody.2"))
		require.False(t, last.Has("delaySeconds"))

		next = `{"code":0,"message":"","requestId":"1","msgBody":"a \"b\"\n\u4f60","msgId":"5","receiptHandle":"6","enqueueTime":1700000000,"firstDequeueTime":1700000001,"nextVisibleTime":1700000031,"dequeueCount":2}`
		m, err := q.Receive(ctx, 3*time.Second)
		require.NoError(t, err)
		require.Equal(t, &client.Message{ID: "5", Handle: "6", Body: "a \"b\"\n你", Enqueued: time.Unix(1700000000, 0),
			FirstDequeue: time.Unix(1700000001, 0), NextVisible: time.Unix(1700000031, 0), DequeueCount: 2}, m)
		require.Equal(t, "3", last.Get("pollingWaitSeconds"))

		next = `{"code":0,"message":"","requestId":"1","msgInfoList":[{"msgBody":"x","msgId":"5","receiptHandle":"6","dequeueCount":1,"more":[1,{"a":null}]},` +
			`{"msgBody":"y","msgId":"7","receiptHandle":"8","originalQueueId":"queue-00000009","originalEnqueueTime":1600000000,"originalDequeueCount":3}]}`
		ms, err := q.BatchReceive(ctx, 16, client.QueueWait)
		require.NoError(t, err)
		require.Len(t, ms, 2)
		require.Equal(t, "y", ms[1].Body)
		require.Nil(t, ms[0].Origin)
		require.Equal(t, &client.Origin{QueueID: "queue-00000009", Enqueued: time.Unix(1600000000, 0), DequeueCount: 3}, ms[1].Origin)
		require.Equal(t, "16", last.Get("numOfMsg"))
		require.False(t, last.Has("pollingWaitSeconds"))

		next = `{"code":0,"message":"","requestId":"1"}`
		require.NoError(t, q.Delete(ctx, "6"))
		require.NoError(t, q.BatchDelete(ctx, []string{"6", "8"}))
		require.Equal(t, "8", last.Get("receiptHandle.2"))
	})
}

func TestRefusals(t *testing.T) {
	var next string
	srv := service(t, func(url.Values) string { return next })
	q := newClient(t, srv.URL).Queue("orders")

	next = `{"code":7000,"message":"(10200)no message","requestId":"14534664555"}`
	_, err := q.Receive(t.Context(), 0)
	require.ErrorIs(t, err, client.ErrNoMessage)
	require.NotErrorIs(t, err, client.ErrQueueNotExist)
	var refused *client.Error
	require.ErrorAs(t, err, &refused)
	require.Equal(t, client.Error{Code: 7000, Module: 10200, Message: "no message", RequestID: "14534664555", Action: "ReceiveMessage"}, *refused)

	next = `{"code":6010,"message":"(10150)delete message partially failed","requestId":"1","errorList":[{"code":4430,"message":"(10260)receipt handle is invalid","receiptHandle":"9"}]}`
	err = q.BatchDelete(t.Context(), []string{"6", "9"})
	var batch *client.BatchError
	require.ErrorAs(t, err, &batch)
	require.Equal(t, "9", batch.Failed[0].Handle)
	require.ErrorIs(t, err, client.ErrHandleInvalid)

	wrong, err := client.New(srv.URL, testID, "another key")
	require.NoError(t, err)
	defer wrong.Close()
	_, err = wrong.ListQueues(t.Context(), client.ListOptions{})
	require.ErrorIs(t, err, client.ErrSignature)
}

func TestManagement(t *testing.T) {
	var last url.Values
	var next string
	srv := service(t, func(f url.Values) string { last = f; return next })
	c := newClient(t, srv.URL)
	q := c.Queue("orders")
	hour, heap, size := time.Hour, int64(2_000_000), 1<<20

	next = `{"code":0,"message":"","requestId":"1","queueId":"queue-abc"}`
	id, err := c.CreateQueue(t.Context(), "orders", client.Settings{MaxMsgHeapNum: &heap, PollingWait: new(time.Duration), VisibilityTimeout: &hour,
		MaxInFlight: new(9), MaxMsgSize: &size, MsgRetention: &hour, Rewind: &hour, DeadLetter: &client.DeadLetterPolicy{Queue: "dead", MaxReceiveCount: 3},
		Transactional: new(true), FirstQuery: &hour, MaxQueryCount: new(7)})
	require.NoError(t, err)
	require.Equal(t, "queue-abc", id)
	for name, value := range map[string]string{"Action": "CreateQueue", "queueName": "orders", "maxMsgHeapNum": "2000000", "pollingWaitSeconds": "0",
		"visibilityTimeout": "3600", "maxMsgSize": "1048576", "msgRetentionSeconds": "3600", "rewindSeconds": "3600",
		"transaction": "1", "firstQueryInterval": "3600", "maxQueryCount": "7", "maxInFlight": "9"} {
		require.Equal(t, value, last.Get(name), name)
	}
	require.JSONEq(t, `{"deadLetterQueue":"dead","policy":0,"maxReceiveCount":3}`, last.Get("deadLetterPolicy"))

	next = `{"code":0,"message":"","requestId":"1"}`
	require.NoError(t, q.SetAttributes(t.Context(), client.Settings{DeadLetter: &client.DeadLetterPolicy{Queue: "dead", ByAge: true, MaxTimeToLive: hour}}))
	require.JSONEq(t, `{"deadLetterQueue":"dead","policy":1,"maxTimeToLive":3600}`, last.Get("deadLetterPolicy"))
	require.False(t, last.Has("rewindSeconds"))
	require.NoError(t, q.Rewind(t.Context(), time.Unix(1700000000, 5)))
	require.Equal(t, "1700000000", last.Get("startConsumeTime"))
	require.NoError(t, q.Clear(t.Context()))
	require.NoError(t, q.UnbindDeadLetter(t.Context()))
	require.NoError(t, c.DeleteQueue(t.Context(), "orders"))
	require.Equal(t, "DeleteQueue", last.Get("Action"))

	next = `{"code":0,"message":"","requestId":"1","totalCount":21,"queueList":[{"queueId":"queue-abc","queueName":"orders"}]}`
	list, err := c.ListQueues(t.Context(), client.ListOptions{Search: "ord", Offset: 20, Limit: 50})
	require.NoError(t, err)
	require.Equal(t, client.QueueList{Total: 21, Queues: []client.QueueInfo{{ID: "queue-abc", Name: "orders"}}}, list)
	require.Equal(t, "20", last.Get("offset"))
	list, err = q.DeadLetterSources(t.Context(), client.ListOptions{})
	require.NoError(t, err)
	require.Equal(t, 21, list.Total)

	next = `{"code":0,"message":"","requestId":"1","addr":["127.0.0.1:7671"]}`
	addr, err := q.Route(t.Context())
	require.NoError(t, err)
	require.Equal(t, []string{"127.0.0.1:7671"}, addr)

	next = `{"code":0,"message":"","requestId":"1","maxMsgHeapNum":1,"pollingWaitSeconds":2,"visibilityTimeout":3,"maxMsgSize":4,"msgRetentionSeconds":5,"createTime":6,"lastModifyTime":7,"activeMsgNum":8,"inactiveMsgNum":9,"delayMsgNum":10,"rewindSeconds":11,"rewindMsgNum":12,"rewindmsgNum":12,"minMsgTime":13,"maxInFlight":18,"transaction":1,"firstQueryInterval":14,"maxQueryCount":15,"preparedMsgNum":16,"undecidedMsgNum":17,"deadLetterPolicy":"{\"deadLetterQueue\":\"dead\",\"policy\":1,\"maxTimeToLive\":300}"}`
	a, err := q.Attributes(t.Context())
	require.NoError(t, err)
	require.Equal(t, &client.Attributes{MaxMsgHeapNum: 1, PollingWait: 2 * time.Second, VisibilityTimeout: 3 * time.Second, MaxMsgSize: 4,
		MsgRetention: 5 * time.Second, Created: time.Unix(6, 0), Modified: time.Unix(7, 0), ActiveMsgNum: 8, InactiveMsgNum: 9, DelayMsgNum: 10,
		Rewind: 11 * time.Second, RewindMsgNum: 12, MinMsgTime: time.Unix(13, 0), MaxInFlight: 18,
		Transactional: true, FirstQuery: 14 * time.Second, MaxQueryCount: 15, PreparedMsgNum: 16, UndecidedMsgNum: 17,
		DeadLetter: &client.DeadLetterPolicy{Queue: "dead", ByAge: true, MaxTimeToLive: 300 * time.Second}}, a)
}

// A throttled request is refused before it does anything, so every action may be sent again; a broken connection
// leaves open whether a send was stored, so it is sent once only; reading may be repeated.
func TestRetriesOnlyWhereSafe(t *testing.T) {
	transports(t, func(t *testing.T, opts ...client.Option) {
		var calls atomic.Int32
		srv := service(t, func(url.Values) string {
			if calls.Add(1) == 1 {
				return `{"code":4420,"message":"(10250)qps throttling","requestId":"1"}`
			}
			return `{"code":0,"message":"","requestId":"1","msgId":"5"}`
		})
		_, err := newClient(t, srv.URL, opts...).Queue("q").Send(t.Context(), "x")
		require.NoError(t, err)
		require.EqualValues(t, 2, calls.Load())
	})
	transports(t, func(t *testing.T, opts ...client.Option) {
		var calls atomic.Int32
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			calls.Add(1)
			panic(http.ErrAbortHandler)
		}))
		defer srv.Close()
		c := newClient(t, srv.URL, append(opts, client.WithRetries(2))...)
		_, err := c.Queue("q").Send(t.Context(), "x")
		var broken *client.TransportError
		require.ErrorAs(t, err, &broken)
		require.True(t, broken.Sent)
		require.EqualValues(t, 1, calls.Load())
		_, err = c.Queue("q").Attributes(t.Context())
		require.ErrorAs(t, err, &broken)
		require.EqualValues(t, 4, calls.Load())
	})
}

func TestUnreachableEndpointIsPassedOver(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	dead := "http://" + l.Addr().String()
	require.NoError(t, l.Close())
	transports(t, func(t *testing.T, opts ...client.Option) {
		srv := service(t, func(url.Values) string { return `{"code":0,"message":"","requestId":"1","msgId":"5"}` })
		c := newClient(t, dead, append(opts, client.WithEndpoints(srv.URL))...)
		_, err := c.Queue("q").Send(t.Context(), "x")
		require.NoError(t, err)

		c = newClient(t, dead, append(opts, client.WithRetries(1))...)
		_, err = c.Queue("q").Send(t.Context(), "x")
		var broken *client.TransportError
		require.ErrorAs(t, err, &broken)
		require.False(t, broken.Sent)
	})
}

func TestContextEndsTheWait(t *testing.T) {
	transports(t, func(t *testing.T, opts ...client.Option) {
		asked := make(chan struct{})
		release := make(chan struct{})
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			close(asked)
			<-release
		}))
		defer srv.Close()
		defer close(release)
		ctx, cancel := context.WithCancel(t.Context())
		go func() { <-asked; cancel() }()
		_, err := newClient(t, srv.URL, opts...).Queue("q").Receive(ctx, 30*time.Second)
		require.ErrorIs(t, err, context.Canceled)
	})
	transports(t, func(t *testing.T, opts ...client.Option) {
		release := make(chan struct{})
		srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
		defer srv.Close()
		defer close(release)
		_, err := newClient(t, srv.URL, append(opts, client.WithTimeout(20*time.Millisecond))...).Queue("q").Send(t.Context(), "x")
		require.ErrorIs(t, err, context.DeadlineExceeded)
	})
}

func TestAnswersThatAreNotCMQ(t *testing.T) {
	answers := map[string]string{
		"not JSON":     "<html>hello</html>",
		"no code":      `{"message":"","requestId":"1","msgId":"5"}`,
		"cut off":      `{"code":0,"message":"","requestId":"1","msgId":"5`,
		"two values":   `{"code":0,"msgId":"5"} {}`,
		"no id":        `{"code":0,"message":"","requestId":"1"}`,
		"empty":        ``,
		"text as code": `{"code":"0","msgId":"5"}`,
	}
	for name, answer := range answers {
		t.Run(name, func(t *testing.T) {
			srv := service(t, func(url.Values) string { return answer })
			q := newClient(t, srv.URL, client.WithRetries(0)).Queue("q")
			_, err := q.Send(t.Context(), "x")
			require.Error(t, err)
			if name != "no id" {
				_, err = q.Attributes(t.Context())
				require.Error(t, err)
			}
		})
	}
	t.Run("status 502", func(t *testing.T) {
		transports(t, func(t *testing.T, opts ...client.Option) {
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(502) }))
			defer srv.Close()
			_, err := newClient(t, srv.URL, append(opts, client.WithRetries(0))...).Queue("q").Send(t.Context(), "x")
			require.ErrorContains(t, err, "502")
		})
	})
}

// Chunked answers, answers until the end of the connection and those with a length.
func TestLeanTransportReadsEveryFraming(t *testing.T) {
	long := strings.Repeat("b", 100_000)
	srv := service(t, func(url.Values) string { // beyond 2 KB net/http chunks an answer of unknown length
		return `{"code":0,"message":"","requestId":"1","msgBody":"` + long + `","msgId":"5","receiptHandle":"6"}`
	})
	q := newClient(t, srv.URL, client.WithTransport(client.NewLeanTransport())).Queue("q")
	for range 3 {
		m, err := q.Receive(t.Context(), 0)
		require.NoError(t, err)
		require.Equal(t, long, m.Body)
	}
	closing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, buf, err := w.(http.Hijacker).Hijack()
		if err == nil {
			io.WriteString(buf, "HTTP/1.0 200 OK\r\n\r\n"+`{"code":0,"msgId":"5"}`)
			buf.Flush()
			conn.Close()
		}
	}))
	defer closing.Close()
	q = newClient(t, closing.URL, client.WithTransport(client.NewLeanTransport())).Queue("q")
	for range 2 {
		id, err := q.Send(t.Context(), "x")
		require.NoError(t, err)
		require.Equal(t, "5", id)
	}
}

func TestNewRefusesBadEndpoints(t *testing.T) {
	for _, e := range []string{"", "127.0.0.1:7670", "ftp://x", "http://", "http://a/?b=c", "http://u:p@a", "http://a b"} {
		_, err := client.New(e, testID, testKey)
		require.Error(t, err, e)
	}
	_, err := client.New("http://127.0.0.1:1", "", "")
	require.Error(t, err)
	require.False(t, errors.Is(err, client.ErrSignature))
}

func BenchmarkTransport(b *testing.B) {
	srv := service(b, func(url.Values) string { return `{"code":0,"message":"","requestId":"1","msgId":"5"}` })
	for name, opts := range map[string][]client.Option{"net-http": nil, "lean": {client.WithTransport(client.NewLeanTransport())}} {
		b.Run(name, func(b *testing.B) {
			q := newClient(b, srv.URL, opts...).Queue("q")
			body := strings.Repeat("x", 1024)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := q.Send(b.Context(), body); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
