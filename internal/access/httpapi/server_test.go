package httpapi

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencmq/cmq/internal/access"
	"github.com/opencmq/cmq/internal/cmq"
)

// serveRig runs the rig's door on a loopback address until the test ends.
func serveRig(t *testing.T, change ...func(*Config)) (*rig, string) {
	r := newRig(t, change...)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := r.door.NewServer()
	done := make(chan struct{})
	go func() {
		server.Serve(listener)
		close(done)
	}()
	t.Cleanup(func() {
		server.Close()
		<-done
	})
	return r, listener.Addr().String()
}

// client is a connection on which bytes are written as they are.
type client struct {
	t    testing.TB
	conn net.Conn
	in   *bufio.Reader
	host string
}

func dial(t testing.TB, address string) *client {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	t.Cleanup(func() { conn.Close() })
	return &client{t: t, conn: conn, in: bufio.NewReader(conn), host: address}
}

func (c *client) write(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c.conn, text); err != nil {
		c.t.Fatal(err)
	}
}

// post writes a signed request without waiting for the answer.
func (c *client) post(action string, items ...string) {
	c.t.Helper()
	body := sign("POST", c.host, "/", fields(append([]string{"Action=" + action}, items...)...)).Encode()
	c.write(fmt.Sprintf("POST / HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n\r\n%s", c.host, len(body), body))
}

// answer reads one answer.
func (c *client) answer() (status int, header http.Header, body string) {
	c.t.Helper()
	response, err := http.ReadResponse(c.in, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	text, err := io.ReadAll(response.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	if response.Close {
		response.Header.Set("Connection", "close") // net/http takes it out
	}
	return response.StatusCode, response.Header, requestID.ReplaceAllString(string(text), `"requestId":"1"`)
}

func (c *client) closed() {
	c.t.Helper()
	if rest, err := io.ReadAll(c.in); len(rest) > 0 || isTimeout(err) {
		c.t.Errorf("connection is not closed: %q, %v", rest, err)
	}
}

func isTimeout(err error) bool {
	timeout, ok := err.(net.Error)
	return ok && timeout.Timeout()
}

const noQueues = `{"code":0,"message":"","requestId":"1","totalCount":0,"queueList":[]}`

// TestWire: headers of an answer, and requests one after the other and pipelined on one connection.
func TestWire(t *testing.T) {
	r, address := serveRig(t)
	c := dial(t, address)
	for range 2 {
		c.post("ListQueue")
	}
	for range 2 {
		status, header, body := c.answer()
		if status != 200 || header.Get("Content-Type") != "application/json; charset=utf-8" || header.Get("Content-Length") == "" || len(header) != 2 {
			t.Errorf("status %d, header %v", status, header)
		}
		r.want(body, noQueues)
	}
}

// TestPaths: every path is accepted as it is, without a redirect, and verified under the ones clients sign.
func TestPaths(t *testing.T) {
	r, address := serveRig(t)
	for _, path := range []string{"/", "//", "/v2/index.php", "//v2/index.php", "/v2/index.php/v2/index.php", "/a/../b", "/%41%2f", "/x//y/", "http://" + "elsewhere/v2/index.php"} {
		for _, signed := range []string{path, "/v2/index.php", "/"} {
			if strings.HasPrefix(signed, "http") {
				continue
			}
			for _, method := range []string{"GET", "POST"} {
				host := address
				if strings.HasPrefix(path, "http") {
					host = "elsewhere"
				}
				form := sign(method, host, signed, fields("Action=ListQueue")).Encode()
				c := dial(t, address)
				if method == "GET" {
					c.write("GET " + path + "?" + form + " HTTP/1.1\r\nHost: " + address + "\r\n\r\n")
				} else {
					c.write(fmt.Sprintf("POST %s HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n\r\n%s", path, address, len(form), form))
				}
				status, _, body := c.answer()
				if status != 200 {
					t.Errorf("%s %s: status %d", method, path, status)
				}
				r.want(body, noQueues)
			}
		}
	}
}

// TestExpect: libcurl asks for permission before it sends a large body.
func TestExpect(t *testing.T) {
	r, address := serveRig(t)
	c := dial(t, address)
	body := sign("POST", address, "/", fields("Action=ListQueue")).Encode()
	c.write(fmt.Sprintf("POST / HTTP/1.1\r\nHost: %s\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n", address, len(body)))
	if line, err := c.in.ReadString('\n'); err != nil || line != "HTTP/1.1 100 Continue\r\n" {
		t.Fatalf("%q, %v", line, err)
	}
	c.in.ReadString('\n')
	c.write(body)
	_, _, answer := c.answer()
	r.want(answer, noQueues)
}

func TestOldHTTPAndChunks(t *testing.T) {
	r, address := serveRig(t)
	body := sign("POST", address, "/", fields("Action=ListQueue")).Encode()
	c := dial(t, address)
	c.write(fmt.Sprintf("POST / HTTP/1.0\r\nHost: %s\r\nContent-Length: %d\r\n\r\n%s", address, len(body), body))
	_, _, answer := c.answer()
	r.want(answer, noQueues)
	c.closed()

	c = dial(t, address)
	c.write(fmt.Sprintf("POST / HTTP/1.1\r\nHost: %s\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n", address, 7, body[:7], len(body)-7, body[7:]))
	_, _, answer = c.answer()
	r.want(answer, noQueues)
}

// TestTooLargeIsAnswered: a client that sends everything before it reads still gets the answer, then the
// connection is closed.
func TestTooLargeIsAnswered(t *testing.T) {
	r, address := serveRig(t)
	const size = 16 << 20
	chunk := strings.Repeat("x", 1<<20)
	for _, known := range []bool{true, false} {
		c := dial(t, address)
		if known {
			c.write(fmt.Sprintf("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n", size))
			for range size >> 20 {
				c.write(chunk)
			}
		} else {
			c.write("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
			for range size >> 20 {
				c.write("100000\r\n" + chunk + "\r\n")
			}
			c.write("0\r\n\r\n")
		}
		status, header, body := c.answer()
		if status != 200 || header.Get("Connection") != "close" {
			t.Errorf("status %d, header %v", status, header)
		}
		r.want(body, refusal("4000", "(10420)cannot parse body, or request size is more than 1MB"))
		c.closed()
	}
}

// TestBrokenHTTP: what is no HTTP request gets a 4xx or a closed connection, never a hang and never a 5xx.
func TestBrokenHTTP(t *testing.T) {
	_, address := serveRig(t)
	for name, text := range map[string]string{
		"garbage":                 "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
		"no host":                 "GET / HTTP/1.1\r\n\r\n",
		"two lengths":             "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
		"negative length":         "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\n",
		"length not a number":     "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1x\r\n\r\n",
		"unknown coding":          "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip\r\n\r\n",
		"header without colon":    "GET / HTTP/1.1\r\nHost: h\r\nbroken\r\n\r\n",
		"blank before colon":      "GET / HTTP/1.1\r\nHost : h\r\n\r\n",
		"NUL in a header":         "GET / HTTP/1.1\r\nHost: h\r\nX: a\x00b\r\n\r\n",
		"two hosts":               "GET / HTTP/1.1\r\nHost: h\r\nHost: i\r\n\r\n",
		"bad percent in the path": "GET /%zz HTTP/1.1\r\nHost: h\r\n\r\n",
		"blank in the path":       "GET /a b HTTP/1.1\r\nHost: h\r\n\r\n",
		"unknown version":         "GET / HTTP/9.9\r\nHost: h\r\n\r\n",
		"long header":             "GET / HTTP/1.1\r\nHost: h\r\nX: " + strings.Repeat("x", 80<<10) + "\r\n\r\n",
		"long query":              "GET /?" + strings.Repeat("x", 80<<10) + " HTTP/1.1\r\nHost: h\r\n\r\n",
		"bad chunk":               "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			c := dial(t, address)
			io.WriteString(c.conn, text)
			c.conn.(*net.TCPConn).CloseWrite()
			answer, err := io.ReadAll(c.in)
			if isTimeout(err) {
				t.Fatal("hangs")
			}
			if len(answer) > 0 && !strings.HasPrefix(string(answer), "HTTP/1.1 4") && !strings.HasPrefix(string(answer), "HTTP/1.0 4") && !strings.Contains(string(answer), `{"code":4000,"message":"(10420)`) && !strings.HasPrefix(string(answer), "HTTP/1.1 505") && !strings.HasPrefix(string(answer), "HTTP/1.1 501") {
				t.Errorf("%s", answer)
			}
		})
	}
	c := dial(t, address)
	c.post("ListQueue")
	if _, _, body := c.answer(); body != noQueues {
		t.Errorf("afterwards: %s", body)
	}
}

// TestConnectionLimits: connections over a bound are closed at once, and a place that is free again is used.
func TestConnectionLimits(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"all":    func(c *Config) { c.MaxConns = 2 },
		"one ip": func(c *Config) { c.MaxConnsPerIP = 2 },
	} {
		t.Run(name, func(t *testing.T) {
			r, address := serveRig(t, change)
			first, second := dial(t, address), dial(t, address)
			for _, c := range []*client{first, second} {
				c.post("ListQueue")
				c.answer()
			}
			dial(t, address).closed()
			if n := r.door.Conns(); n > 3 {
				t.Errorf("%d connections", n)
			}
			second.post("ListQueue")
			second.answer()
			first.write("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
			first.answer()
			first.closed()
			for r.door.Conns() > 1 { // net/http counts a connection down after it has closed it
				runtime.Gosched()
			}
			third := dial(t, address)
			third.post("ListQueue")
			if _, _, body := third.answer(); body != noQueues {
				t.Error(body)
			}
		})
	}
}

// TestStrangersGiveWay: connections on which nobody has signed anything, however busy, do not keep out those who can. The
// one that came first goes first; one that has signed stays.
func TestStrangersGiveWay(t *testing.T) {
	r, address := serveRig(t, func(c *Config) { c.MaxConns = 3 })
	list := func(c *client) {
		t.Helper()
		c.post("ListQueue")
		if _, _, body := c.answer(); body != noQueues {
			t.Error(body)
		}
	}
	known, silent, refused := dial(t, address), dial(t, address), dial(t, address)
	list(known)
	for range 3 {
		refused.write("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
		refused.answer()
	}
	for _, gone := range []*client{silent, refused} {
		c := dial(t, address)
		list(c)
		gone.closed()
	}
	list(known)
	dial(t, address).closed()
	if n := r.door.Conns(); n > 4 {
		t.Errorf("%d connections", n)
	}
}

// TestBodyEnds: a body that ends early, like one that takes too long, is answered and the connection closed.
func TestBodyEnds(t *testing.T) {
	r, address := serveRig(t)
	c := dial(t, address)
	c.write("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\nAction=")
	c.conn.(*net.TCPConn).CloseWrite()
	_, header, body := c.answer()
	r.want(body, refusal("4000", "(10420)cannot parse body, or request size is more than 1MB"))
	if header.Get("Connection") != "close" {
		t.Errorf("header %v", header)
	}
	c.closed()
}

// TestPollDelivers: a waiting poll gets the message as soon as it is sent, and one that waits in vain ends with
// its own time, not the queue's.
func TestPollDelivers(t *testing.T) {
	r, address := serveRig(t)
	r.fake.Waiting = make(chan string, 1)
	r.ok("CreateQueue", "queueName=q", "pollingWaitSeconds=20")
	c := dial(t, address)
	c.post("ReceiveMessage", "queueName=q")
	<-r.fake.Waiting
	r.ok("SendMessage", "queueName=q", "msgBody=hello")
	_, _, body := c.answer()
	if !strings.Contains(body, `"msgBody":"hello"`) {
		t.Error(body)
	}
	r.ok("DeleteMessage", "queueName=q", "receiptHandle="+field(t, body, "receiptHandle"))
	for wait, seconds := range map[string]time.Duration{"3": 3 * time.Second, "30000": 30 * time.Second, "": 20 * time.Second} {
		if wait != "" {
			wait = "pollingWaitSeconds=" + wait
		}
		c.post("BatchReceiveMessage", "queueName=q", "numOfMsg=16", wait)
		<-r.fake.Waiting
		r.clock.AwaitTimers(1)
		if next, _ := r.clock.Next(); next != seconds {
			t.Errorf("%s waits %v", wait, next)
		}
		r.clock.Advance(seconds)
		_, _, body := c.answer()
		r.want(body, refusal("7000", "(10200)no message"))
	}
	c.post("ReceiveMessage", "queueName=q", "pollingWaitSeconds=0")
	_, _, body = c.answer()
	r.want(body, refusal("7000", "(10200)no message"))
}

// TestGoneWhileWaiting: when the client goes away, its poll ends and a message sent afterwards is for others.
func TestGoneWhileWaiting(t *testing.T) {
	r, address := serveRig(t)
	r.fake.Waiting, r.fake.Cancelled = make(chan string, 1), make(chan string, 1)
	r.ok("CreateQueue", "queueName=q")
	c := dial(t, address)
	c.post("ReceiveMessage", "queueName=q", "pollingWaitSeconds=30")
	<-r.fake.Waiting
	if n := r.door.config.Polls.Open(); n != 1 {
		t.Errorf("%d polls", n)
	}
	c.conn.Close()
	<-r.fake.Cancelled
	r.ok("SendMessage", "queueName=q", "msgBody=x")
	if answer := r.ok("ReceiveMessage", "queueName=q"); !strings.Contains(answer, `"dequeueCount":1`) {
		t.Error(answer)
	}
}

// TestGoneWhenServed: the client goes away between the receive and the answer: the receive is undone.
func TestGoneWhenServed(t *testing.T) {
	for _, batch := range []bool{false, true} {
		r, address := serveRig(t)
		r.fake.Released = make(chan []cmq.Handle, 1)
		received, gone := make(chan struct{}), make(chan struct{})
		r.ok("CreateQueue", "queueName=q")
		r.ok("BatchSendMessage", "queueName=q", "msgBody.1=x", "msgBody.2=y")
		r.fake.Received = func() {
			close(received)
			<-gone
		}
		contexts := make(chan struct{})
		r.door.config.Backend = watched{r.fake, contexts}
		c := dial(t, address)
		want := 1
		if batch {
			want = 2
			c.post("BatchReceiveMessage", "queueName=q", "numOfMsg=16")
		} else {
			c.post("ReceiveMessage", "queueName=q")
		}
		<-received
		c.conn.Close()
		<-contexts
		close(gone)
		if handles := <-r.fake.Released; len(handles) != want {
			t.Errorf("released %v", handles)
		}
		r.fake.Received = nil
		r.door.config.Backend = r.fake
		if answer := r.ok("ReceiveMessage", "queueName=q"); !strings.Contains(answer, `"msgBody":"x"`) || !strings.Contains(answer, `"dequeueCount":1`) {
			t.Error(answer)
		}
	}
}

// TestWriteFails: the answer cannot be written: the receive is undone.
func TestWriteFails(t *testing.T) {
	r := newRig(t)
	r.fake.Released = make(chan []cmq.Handle, 1)
	r.ok("CreateQueue", "queueName=q")
	r.ok("SendMessage", "queueName=q", "msgBody=x")
	body := sign("POST", testHost, "/", fields("Action=ReceiveMessage", "queueName=q")).Encode()
	request, _ := http.NewRequest("POST", "http://"+testHost+"/", strings.NewReader(body))
	r.door.ServeHTTP(brokenWriter{make(http.Header)}, request)
	if handles := <-r.fake.Released; len(handles) != 1 {
		t.Errorf("released %v", handles)
	}
	if answer := r.ok("ReceiveMessage", "queueName=q"); !strings.Contains(answer, `"dequeueCount":1`) {
		t.Error(answer)
	}
}

// brokenWriter is the answer's end of a broken connection.
type brokenWriter struct{ header http.Header }

func (w brokenWriter) Header() http.Header       { return w.header }
func (w brokenWriter) WriteHeader(int)           {}
func (w brokenWriter) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

// TestPollLimit: polls over the bound are told to come again; receives that do not wait are not polls.
func TestPollLimit(t *testing.T) {
	r, address := serveRig(t, func(c *Config) { c.Polls = access.NewPolls(1) })
	r.fake.Waiting, r.fake.Cancelled = make(chan string, 1), make(chan string, 1)
	r.ok("CreateQueue", "queueName=q")
	c := dial(t, address)
	c.post("ReceiveMessage", "queueName=q", "pollingWaitSeconds=30")
	<-r.fake.Waiting
	r.want(r.do("ReceiveMessage", "queueName=q", "pollingWaitSeconds=1"), refusal("4420", "(10250)qps throttling"))
	r.want(r.do("ReceiveMessage", "queueName=q"), refusal("4420", "(10250)qps throttling"))
	r.want(r.do("ReceiveMessage", "queueName=q", "pollingWaitSeconds=0"), refusal("7000", "(10200)no message"))
	c.conn.Close()
	<-r.fake.Cancelled
}

// deadlines is a ResponseWriter that writes down the deadlines for reading, as times from now.
type deadlines struct {
	discard
	seconds []string
}

func (d *deadlines) SetReadDeadline(at time.Time) error {
	if at.IsZero() {
		d.seconds = append(d.seconds, "none")
	} else {
		d.seconds = append(d.seconds, time.Until(at).Round(time.Second).String())
	}
	return nil
}

// TestBodyDeadlines: the deadline of a body, which the server has set, moves with what arrives, and is now when the body was
// bad, so that net/http does not wait for the rest of it.
func TestBodyDeadlines(t *testing.T) {
	r := newRig(t)
	for _, c := range []struct {
		name string
		body io.Reader
		want string
	}{
		{"small", strings.NewReader("x=1"), "[]"},
		{"three times the unit", strings.NewReader(strings.Repeat("&", 3*smallBody+1)), "[11s 12s 13s]"},
		{"broken", io.MultiReader(strings.NewReader("x=1"), brokenReader{}), "[0s]"},
	} {
		request, _ := http.NewRequest("POST", "http://"+testHost+"/", io.NopCloser(slowly{c.body}))
		request.ContentLength = -1
		w := &deadlines{discard: discard{make(http.Header)}}
		r.door.ServeHTTP(w, request)
		if got := fmt.Sprint(w.seconds); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
		if closing := w.header.Get("Connection") == "close"; closing != (c.name == "broken") {
			t.Errorf("%s: header %v", c.name, w.header)
		}
	}
}

// TestDeadlinesOfAConnection: a request has a deadline for its header, then for its body, and none while it waits: a poll may
// take longer than any request to arrive.
func TestDeadlinesOfAConnection(t *testing.T) {
	r := newRig(t)
	r.fake.Waiting = make(chan string, 1)
	r.ok("CreateQueue", "queueName=q")
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	noted := &noting{Listener: listener}
	server := r.door.NewServer()
	done := make(chan struct{})
	go func() {
		server.Serve(noted)
		close(done)
	}()
	t.Cleanup(func() {
		server.Close()
		<-done
	})
	c := dial(t, listener.Addr().String())
	c.post("ReceiveMessage", "queueName=q", "pollingWaitSeconds=30")
	<-r.fake.Waiting
	if got := noted.deadlines(); got != "[5s 15s none]" {
		t.Error(got)
	}
	r.ok("SendMessage", "queueName=q", "msgBody=x")
	if _, _, body := c.answer(); !strings.Contains(body, `"msgBody":"x"`) {
		t.Error(body)
	}
}

// noting is a listener that writes down the deadlines for reading of its connections, as times from now.
type noting struct {
	net.Listener
	mu      sync.Mutex
	seconds []string
}

func (n *noting) Accept() (net.Conn, error) {
	conn, err := n.Listener.Accept()
	return notedConn{conn, n}, err
}

func (n *noting) deadlines() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return fmt.Sprint(n.seconds)
}

type notedConn struct {
	net.Conn
	at *noting
}

func (c notedConn) SetReadDeadline(at time.Time) error {
	c.at.mu.Lock()
	defer c.at.mu.Unlock()
	if at.IsZero() {
		c.at.seconds = append(c.at.seconds, "none")
	} else {
		c.at.seconds = append(c.at.seconds, time.Until(at).Round(time.Second).String())
	}
	return c.Conn.SetReadDeadline(at)
}

// writeDeadline is a ResponseWriter that writes down the last deadline for writing, as a time from now.
type writeDeadline struct {
	discard
	last string
}

func (d *writeDeadline) SetWriteDeadline(at time.Time) error {
	d.last = time.Until(at).Round(time.Second).String()
	return nil
}

// TestAnswerDeadlines: who receives 16 messages of 1 MiB may take minutes to read them; a short answer has its ten seconds.
func TestAnswerDeadlines(t *testing.T) {
	r := newRig(t)
	r.ok("CreateQueue", "queueName=q", "maxMsgSize=1048576")
	for range 16 {
		r.ok("SendMessage", "queueName=q", "msgBody="+strings.Repeat("x", 1<<20))
	}
	for _, c := range []struct{ action, items, want string }{
		{"ListQueue", "limit=1", "10s"},
		{"ReceiveMessage", "queueName=q", "26s"},
		{"BatchReceiveMessage", "queueName=q numOfMsg=15", "4m10s"},
	} {
		body := sign("POST", testHost, "/", fields(append([]string{"Action=" + c.action}, strings.Fields(c.items)...)...)).Encode()
		request, _ := http.NewRequest("POST", "http://"+testHost+"/", strings.NewReader(body))
		w := &writeDeadline{discard: discard{make(http.Header)}}
		if r.door.ServeHTTP(w, request); w.last != c.want {
			t.Errorf("%s: %s, want %s", c.action, w.last, c.want)
		}
	}
}

// slowly gives at most 1 KiB at a time, as a network would.
type slowly struct{ io.Reader }

func (o slowly) Read(b []byte) (int, error) { return o.Reader.Read(b[:min(len(b), 1024)]) }

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }
