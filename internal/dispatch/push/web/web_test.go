package web

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/client"
	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/dispatch/push"
	"github.com/opencmq/cmq/internal/dispatch/push/guard"
)

var published = time.Unix(1_700_000_000, 123_000_000)

func delivery(endpoint string, format cmq.Format) *push.Delivery {
	return &push.Delivery{
		Request:      2394928734,
		Topic:        &cmq.Topic{Owner: "1", Name: "paid"},
		Subscription: &cmq.Subscription{Name: "shop", Protocol: cmq.ProtocolHTTP, Endpoint: endpoint, Format: format},
		Message: &cmq.Message{ID: 6942316962, Body: []byte("hello"), Enqueued: published, DequeueCount: 1,
			Publication: &cmq.Publication{Tags: []string{"a", "b"}, RoutingKey: "order.paid"}},
	}
}

func loopback(t *testing.T, timeout time.Duration) *Client {
	allow, err := guard.ParseAllowed([]string{"127.0.0.0/8", "::1"})
	require.NoError(t, err)
	c := NewClient(guard.New(guard.Config{Allow: allow}), timeout)
	t.Cleanup(c.Close)
	return c
}

// raw takes one connection, gives it to serve and closes it. It returns its URL.
func raw(t *testing.T, serve func(net.Conn)) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if c, err := l.Accept(); err == nil {
			defer c.Close()
			serve(c)
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-ended
	})
	return "http://" + l.Addr().String()
}

// request reads one request, as it comes.
func readRequest(c net.Conn) string {
	var b strings.Builder
	r, err := http.ReadRequest(bufio.NewReader(io.TeeReader(c, &b)))
	if err == nil {
		io.Copy(io.Discard, r.Body)
	}
	return b.String()
}

// deliver sends one delivery to a server that answers 200, and gives what arrived there.
func deliver(t *testing.T, d *push.Delivery) string {
	got := make(chan string, 1)
	url := raw(t, func(c net.Conn) {
		got <- readRequest(c)
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	})
	d.Subscription.Endpoint = url + "/cgi?x=1"
	require.NoError(t, NewEndpoints(loopback(t, 0)).Deliver(t.Context(), d))
	return strings.Replace(<-got, strings.TrimPrefix(url, "http://"), "test.com", 1)
}

func lines(s ...string) string { return strings.Join(s, "\r\n") }

func TestSimplifiedBytes(t *testing.T) {
	require.Equal(t, lines("POST /cgi?x=1 HTTP/1.1", "Host: test.com", "User-Agent: Qcloud Notification Service Agent", "Content-Length: 5",
		"Content-Type: text/plain", "x-cmq-message-id: 6942316962", "x-cmq-message-tag: a, b", "x-cmq-request-id: 2394928734", "", "hello"),
		deliver(t, delivery("", cmq.FormatSimplified)))
}

func TestJSONBytes(t *testing.T) {
	d := delivery("", cmq.FormatJSON)
	d.Message.Publication = nil
	d.Message.Body = []byte("<\"hé&\\\n\xff>")
	body := `{"TopicOwner":1,"topicName":"paid","subscriptionName":"shop","msgId":"6942316962","msgBody":"<\"hé&\\\n\ufffd>","publishTime":1700000000}`
	require.Equal(t, lines("POST /cgi?x=1 HTTP/1.1", "Host: test.com", "User-Agent: Qcloud Notification Service Agent", fmt.Sprint("Content-Length: ", len(body)),
		"Content-Type: text/plain", "x-cmq-message-id: 6942316962", "x-cmq-request-id: 2394928734", "", body), deliver(t, d))
}

func TestCloudEventBytes(t *testing.T) {
	d := delivery("", cmq.FormatCloudEvents)
	d.Message.Publication.Tags = []string{"é %", "b"}
	require.Equal(t, lines("POST /cgi?x=1 HTTP/1.1", "Host: test.com", "User-Agent: Qcloud Notification Service Agent", "Content-Length: 5",
		"Content-Type: text/plain; charset=utf-8", "ce-cmqroutingkey: order.paid", "ce-cmqsubscription: shop", "ce-cmqtags: %C3%A9%20%25,b", "ce-id: 6942316962",
		"ce-source: /accounts/1/topics/paid", "ce-specversion: 1.0", "ce-time: 2023-11-14T22:13:20Z", "ce-type: cmq.message.published",
		"x-cmq-message-id: 6942316962", "x-cmq-message-tag: é %, b", "x-cmq-request-id: 2394928734", "", "hello"), deliver(t, d))
	d.Message.Body = []byte{0xff}
	require.Equal(t, "application/octet-stream", request(d, published).Header.Get("Content-Type"))
}

func TestEmptyBodyHasALength(t *testing.T) {
	d := delivery("", cmq.FormatSimplified)
	d.Message.Body = nil
	require.Contains(t, deliver(t, d), "\r\nContent-Length: 0\r\n")
}

func TestTagsCannotAddHeaders(t *testing.T) {
	d := delivery("", cmq.FormatSimplified)
	d.Message.Publication.Tags = []string{"a\r\nx: y", "\x00\x7f"}
	require.Contains(t, deliver(t, d), "\r\nx-cmq-message-tag: a??x: y, ??\r\n")
}

func TestAccountThatIsNoNumber(t *testing.T) {
	require.Equal(t, `"shop\"s"`, string(number(`shop"s`)))
	require.Equal(t, `12345678901234`, string(number("12345678901234")))
	require.Equal(t, `7`, string(number("007")))
}

// TestSignedDeliveryIsVerifiedByTheSDK: both sides know the form by themselves.
func TestSignedDeliveryIsVerifiedByTheSDK(t *testing.T) {
	verdict := make(chan error, 2)
	nonces := make(chan string, 2)
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		nonces <- r.Header.Get("x-cmq-push-nonce")
		verdict <- client.VerifyPush(r.Header, body, 0, "s3cret")
	}))
	defer s.Close()
	e := NewEndpoints(loopback(t, 0))
	d := delivery(s.URL, cmq.FormatJSON)
	d.Subscription.Push.Secret = "s3cret"
	require.NoError(t, e.Deliver(t.Context(), d))
	require.NoError(t, e.Deliver(t.Context(), d))
	require.NoError(t, <-verdict)
	require.NoError(t, <-verdict)
	require.NotEqual(t, <-nonces, <-nonces)
	d.Subscription.Push.Secret = "other"
	require.NoError(t, e.Deliver(t.Context(), d))
	require.ErrorIs(t, <-verdict, client.ErrPushSignature)
}

// failureOf delivers and wants a failure.
func failureOf(t *testing.T, c *Client, endpoint string) *push.Failure {
	t.Helper()
	err := NewEndpoints(c).Deliver(t.Context(), delivery(endpoint, cmq.FormatSimplified))
	var f *push.Failure
	require.ErrorAs(t, err, &f)
	return f
}

func TestOnlyTwoHundredsAreGood(t *testing.T) {
	var status atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", "http://169.254.169.254/latest/meta-data/")
		w.WriteHeader(int(status.Load()))
	}))
	defer s.Close()
	c := loopback(t, 0)
	for _, good := range []int64{200, 201, 202, 204, 299} {
		status.Store(good)
		require.NoError(t, NewEndpoints(c).Deliver(t.Context(), delivery(s.URL, cmq.FormatSimplified)), good)
	}
	for _, bad := range []int64{300, 301, 302, 303, 304, 307, 308, 400, 401, 404, 429, 500, 503, 599} {
		status.Store(bad)
		f := failureOf(t, c, s.URL)
		require.Equal(t, push.Failure{Reason: push.Answered, Status: int(bad)}, *f)
		require.Equal(t, fmt.Sprint("status ", bad), f.Public())
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	hits := make(chan string, 10)
	var s *httptest.Server
	s = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		hits <- r.URL.Path
		http.Redirect(w, r, s.URL+"/elsewhere", http.StatusTemporaryRedirect)
	}))
	defer s.Close()
	require.Equal(t, 307, failureOf(t, loopback(t, 0), s.URL+"/here").Status)
	require.Equal(t, "/here", <-hits)
	require.Empty(t, hits)
}

func TestProxiesOfTheEnvironmentAreNotUsed(t *testing.T) {
	proxied := false
	proxy := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { proxied = true }))
	defer proxy.Close()
	for _, name := range []string{"HTTP_PROXY", "http_proxy", "ALL_PROXY"} {
		t.Setenv(name, proxy.URL)
	}
	require.Equal(t, push.Unresolved, failureOf(t, loopback(t, time.Second), "http://name.invalid/").Reason)
	require.False(t, proxied)
}

func TestAddressesThatAreRefused(t *testing.T) {
	hits := 0
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { hits++ }))
	defer s.Close()
	c := NewClient(guard.New(guard.Config{}), time.Second)
	port := s.Listener.Addr().(*net.TCPAddr).Port
	for _, host := range []string{"127.0.0.1", "localhost", "localhost.", "LOCALHOST", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "0.0.0.0", "[::]", "user:pass@127.0.0.1", "example.com@127.0.0.1"} {
		f := failureOf(t, c, fmt.Sprintf("http://%s:%d/", host, port))
		require.Equal(t, push.Refused, f.Reason, "%s: %v", host, f)
		require.Equal(t, "refused", f.Public())
	}
	for _, endpoint := range []string{"http://169.254.169.254/latest/meta-data/", "http://[fd00:ec2::254]/", "http://[64:ff9b::7f00:1]/", "http://[2002:7f00:1::]/"} {
		require.Equal(t, push.Refused, failureOf(t, c, endpoint).Reason, endpoint)
	}
	for _, endpoint := range []string{"http://2130706433/", "http://0x7f.1/", "http://0177.0.0.1/", "http://127.1/", "http://127.0.0.1./", "http://①②⑦.⓪.⓪.①/", "file:///etc/passwd", "gopher://127.0.0.1/"} {
		require.Equal(t, push.Invalid, failureOf(t, c, endpoint).Reason, endpoint)
	}
	require.Zero(t, hits)
}

func TestUserInfoIsSentAndNotTold(t *testing.T) {
	auth := make(chan string, 1)
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { auth <- r.Header.Get("Authorization") }))
	host := s.Listener.Addr().String()
	require.NoError(t, NewEndpoints(loopback(t, 0)).Deliver(t.Context(), delivery("http://shop:hunter2@"+host+"/", cmq.FormatSimplified)))
	require.Equal(t, "Basic c2hvcDpodW50ZXIy", <-auth)
	s.Close()
	for _, endpoint := range []string{"http://shop:hunter2@" + host + "/", "http://shop:hunter2@exa mple/", "http://shop:hunter2@127.1/", "ftp://shop:hunter2@example.com/"} {
		f := failureOf(t, loopback(t, 0), endpoint)
		require.NotContains(t, f.Error(), "hunter2")
		require.NotContains(t, f.Error(), "shop")
	}
}

// The endpoints here do what they can to keep a worker busy. Each must cost no more than its time, and each that did not
// answer in it is a failure.
func TestEndpointsThatDoNotAnswer(t *testing.T) {
	const limit = 150 * time.Millisecond
	drip := func(head, each string) func(net.Conn) {
		return func(c net.Conn) {
			readRequest(c)
			io.WriteString(c, head)
			tick := time.NewTicker(limit / 10)
			defer tick.Stop()
			for range tick.C {
				if _, err := io.WriteString(c, each); err != nil {
					return
				}
			}
		}
	}
	flood := func(head, each string) func(net.Conn) {
		return func(c net.Conn) {
			readRequest(c)
			io.WriteString(c, head)
			for {
				if _, err := io.WriteString(c, each); err != nil {
					return
				}
			}
		}
	}
	hang := func(c net.Conn) { io.Copy(io.Discard, c) }
	long := strings.Repeat("x", 1000)
	rows := map[string]struct {
		serve func(net.Conn)
		want  push.Reason
	}{
		"accepts, then hangs":               {hang, push.TimedOut},
		"closes at once":                    {func(net.Conn) {}, push.Unreachable},
		"closes after the request":          {func(c net.Conn) { readRequest(c) }, push.Unreachable},
		"one byte of the head at a time":    {drip("HTTP/1.1 200 OK\r\n", "x"), push.TimedOut},
		"one header at a time":              {drip("HTTP/1.1 200 OK\r\n", "x: y\r\n"), push.TimedOut},
		"never-ending informational answer": {drip("", "HTTP/1.1 102 Processing\r\n\r\n"), push.TimedOut},
		"a flood of informational answers":  {flood("", "HTTP/1.1 103 Early Hints\r\nx: "+long+"\r\n\r\n"), push.Unreachable},
		"a flood of headers":                {flood("HTTP/1.1 200 OK\r\n", "x: "+long+"\r\n"), push.Unreachable},
		"a header that does not end":        {flood("HTTP/1.1 200 OK\r\nx: ", long), push.Unreachable},
		"garbage":                           {flood("", "\x00\xff\n"), push.Unreachable},
		"another protocol":                  {func(c net.Conn) { io.WriteString(c, "SSH-2.0-OpenSSH\r\n"); hang(c) }, push.Unreachable},
		"wants another protocol": {func(c net.Conn) {
			readRequest(c)
			io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n")
			hang(c)
		}, push.Answered},
	}
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			within := limit
			if row.want != push.TimedOut {
				within = time.Minute // the end comes by itself, on a busy machine later
			}
			f := failureOf(t, loopback(t, within), raw(t, row.serve))
			require.Equal(t, row.want, f.Reason, "%v", f)
		})
	}
}

// TestBodiesThatDoNotEnd: the message was taken, and what else the endpoint has to say is not waited for.
func TestBodiesThatDoNotEnd(t *testing.T) {
	for name, serve := range map[string]func(io.Writer) bool{
		"endless body":     func(w io.Writer) bool { _, err := w.Write(make([]byte, 1<<16)); return err == nil },
		"silence":          func(io.Writer) bool { return false },
		"one byte at once": func(w io.Writer) bool { _, err := w.Write([]byte{'x'}); return err == nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := raw(t, func(c net.Conn) {
				readRequest(c)
				io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n")
				for serve(c) {
				}
				io.Copy(io.Discard, c)
			})
			require.NoError(t, NewEndpoints(loopback(t, 0)).Deliver(t.Context(), delivery(url, cmq.FormatSimplified)))
		})
	}
}

// TestCompressedAnswersStayCompressed: a small body that would be a large one is never made large.
func TestCompressedAnswersStayCompressed(t *testing.T) {
	asked := make(chan string, 1)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.Header.Get("Accept-Encoding")
		w.Header().Set("Content-Encoding", "gzip")
		io.WriteString(w, "not gzip at all")
	}))
	defer s.Close()
	require.NoError(t, NewEndpoints(loopback(t, 0)).Deliver(t.Context(), delivery(s.URL, cmq.FormatSimplified)))
	require.Empty(t, <-asked)
}

func TestCanceled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	url := raw(t, func(c net.Conn) {
		readRequest(c)
		cancel()
		io.Copy(io.Discard, c)
	})
	err := NewEndpoints(loopback(t, 0)).Deliver(ctx, delivery(url, cmq.FormatSimplified))
	require.ErrorIs(t, err, context.Canceled)
}

func pemOf(der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// certificate makes one that signs itself, for the address and the time.
func certificate(t *testing.T, ip string, from, to time.Time) tls.Certificate {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: from, NotAfter: to,
		IPAddresses: []net.IP{net.ParseIP(ip)}, BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	require.NoError(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func TestCertificates(t *testing.T) {
	now := time.Now()
	rows := map[string]struct {
		cert  tls.Certificate
		known bool // to the subscription
		good  bool
	}{
		"the subscription's own": {certificate(t, "127.0.0.1", now.Add(-time.Hour), now.Add(time.Hour)), true, true},
		"self-signed":            {certificate(t, "127.0.0.1", now.Add(-time.Hour), now.Add(time.Hour)), false, false},
		"expired":                {certificate(t, "127.0.0.1", now.Add(-2*time.Hour), now.Add(-time.Hour)), true, false},
		"of another address":     {certificate(t, "127.0.0.2", now.Add(-time.Hour), now.Add(time.Hour)), true, false},
	}
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
			s.TLS = &tls.Config{Certificates: []tls.Certificate{row.cert}}
			s.Config.ErrorLog = quiet()
			s.StartTLS()
			defer s.Close()
			d := delivery(s.URL, cmq.FormatSimplified)
			if row.known {
				d.Subscription.Push.CA = pemOf(row.cert.Certificate[0])
			}
			err := NewEndpoints(loopback(t, 0)).Deliver(t.Context(), d)
			if row.good {
				require.NoError(t, err)
				return
			}
			var f *push.Failure
			require.ErrorAs(t, err, &f)
			require.Equal(t, push.Certificate, f.Reason, "%v", f)
		})
	}
	d := delivery("https://127.0.0.1:9999/", cmq.FormatSimplified)
	d.Subscription.Push.CA = "no certificate"
	var f *push.Failure
	require.ErrorAs(t, NewEndpoints(loopback(t, 0)).Deliver(t.Context(), d), &f)
	require.Equal(t, push.Certificate, f.Reason)
}

func TestConnectionsAreUsedAgain(t *testing.T) {
	from := make(chan string, 5)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/"+t.Name() { // others on this machine may know the port from before
			from <- r.RemoteAddr
		}
		io.WriteString(w, "thanks")
	}))
	defer s.Close()
	e := NewEndpoints(loopback(t, 0))
	for range cap(from) {
		require.NoError(t, e.Deliver(t.Context(), delivery(s.URL+"/"+t.Name(), cmq.FormatSimplified)))
	}
	first := <-from
	for range cap(from) - 1 {
		require.Equal(t, first, <-from)
	}
}

func TestPoolsAreBounded(t *testing.T) {
	c := loopback(t, 0)
	cert := pemOf(certificate(t, "127.0.0.1", time.Now(), time.Now().Add(time.Hour)).Certificate[0])
	first, err := c.pool("")
	require.NoError(t, err)
	for i := range 2 * maxRoots {
		_, err := c.pool(cert + strings.Repeat("\n", i))
		require.NoError(t, err)
		again, err := c.pool("")
		require.NoError(t, err)
		require.Same(t, first, again, "it was used a moment ago")
	}
	require.Len(t, c.kept, maxRoots)
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 27, 3, 0, 0, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"":                              0,
		"120":                           2 * time.Minute,
		"0":                             0,
		"-5":                            0,
		"soon":                          0,
		"1.5":                           0,
		"99999999999999999999":          0,
		"4294967295":                    4294967295 * time.Second,
		"Fri, 27 Nov 2026 03:00:30 GMT": 30 * time.Second,
		"Fri, 27 Nov 2026 02:00:00 GMT": 0,
	} {
		require.Equal(t, want, retryAfter(http.Header{"Retry-After": {value}}, now), value)
	}
}

func TestRetryAfterIsPassedOn(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "7")
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	defer s.Close()
	require.Equal(t, 7*time.Second, failureOf(t, loopback(t, 0), s.URL).After)
}

func quiet() *log.Logger { return log.New(io.Discard, "", 0) }

func TestFunctionsGetTheBodyAndWhatIsKnownOfIt(t *testing.T) {
	got := make(chan *http.Request, 1)
	bodies := make(chan string, 1)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got <- r
		bodies <- string(body)
		w.WriteHeader(http.StatusAccepted)
	}))
	defer s.Close()
	d := delivery(s.URL+"/async-function/bill", cmq.FormatJSON)
	d.Subscription.Push.Secret = "s3cret"
	require.NoError(t, NewFunctions(loopback(t, 0)).Deliver(t.Context(), d))
	r := <-got
	require.Equal(t, "hello", <-bodies)
	require.Equal(t, "/async-function/bill", r.URL.Path)
	require.Equal(t, "1.0", r.Header.Get("ce-specversion"))
	require.Equal(t, "6942316962", r.Header.Get("x-cmq-message-id"))
	require.NoError(t, client.VerifyPush(r.Header, []byte("hello"), 0, "s3cret"))
}

func TestCheckLooksAtAddressesNotAtNames(t *testing.T) {
	c := loopback(t, 0)
	for _, good := range []string{"http://name.example/", "http://127.0.0.1:8080/", "https://[::1]/", "http://8.8.8.8"} {
		require.NoError(t, c.Check(good))
	}
	for _, bad := range []string{"http://10.0.0.1/", "http://169.254.169.254/", "https://[fd00::1]/", "http://127.1/", "file:///x"} {
		require.Error(t, c.Check(bad), bad)
	}
}
