package web

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/opencmq/cmq/internal/dispatch/push"
	"github.com/opencmq/cmq/internal/dispatch/push/guard"
)

// Bounds of one exchange with an endpoint.
const (
	// Timeout is the published time an endpoint has for its answer, counted from before the connection is made.
	Timeout = 15 * time.Second
	// maxAnswer bounds the head of an answer, and what is read of its body.
	maxAnswer = 64 << 10
	// drainTime is how long the body of an answer is read. It is read only so that the connection can be used again.
	drainTime = time.Second
	// idleTime is how long a connection is kept for the next message: less than the 5 s after which common servers
	// close one, because a message that goes out just then is lost to its first try.
	idleTime = 4 * time.Second
	// maxIdle bounds the connections kept for later.
	maxIdle = 4096
	// maxRoots is for how many lists of certificates connections are kept.
	maxRoots = 256
)

// Client posts to endpoints. It follows no redirect, uses no proxy, asks for no compression and keeps no cookie.
type Client struct {
	guard   *guard.Guard
	timeout time.Duration
	hosts   hosts

	mu   sync.Mutex
	tick uint64
	kept map[string]*pool // by the certificates that are trusted, as PEM
}

// pool are the connections to endpoints with the same trust.
type pool struct {
	http.Transport
	used uint64 // tick of the last use
}

// NewClient makes a client whose connections go through the guard, with DefaultPerHost exchanges to one host. timeout bounds
// one exchange, without the time it waits for its host; 0 is Timeout.
func NewClient(g *guard.Guard, timeout time.Duration) *Client {
	if timeout == 0 {
		timeout = Timeout
	}
	return &Client{guard: g, timeout: timeout, hosts: hosts{most: DefaultPerHost, busy: make(map[string]*host)}, kept: make(map[string]*pool)}
}

// Close closes the connections that are kept.
func (c *Client) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.kept {
		p.CloseIdleConnections()
	}
}

// Check says what is wrong with the URL of an endpoint, as far as the URL and an address in it show that.
func (c *Client) Check(endpoint string) error {
	u, err := guard.Endpoint(endpoint)
	if err != nil {
		return err
	}
	ip, err := netip.ParseAddr(u.Hostname())
	if err != nil {
		return nil // a name; what it resolves to is looked at when it is connected to
	}
	at, err := netip.ParseAddrPort(hostOf(u))
	if err != nil {
		return err
	}
	return c.guard.Check(netip.AddrPortFrom(ip, at.Port()))
}

// pool gives the connections for these certificates; empty: those of the machine.
func (c *Client) pool(ca string) (*pool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tick++
	p := c.kept[ca]
	if p == nil {
		conf := &tls.Config{MinVersion: tls.VersionTLS12}
		if ca != "" {
			conf.RootCAs = x509.NewCertPool()
			if !conf.RootCAs.AppendCertsFromPEM([]byte(ca)) {
				return nil, &push.Failure{Reason: push.Certificate, Err: errors.New("the subscription's certificates cannot be read")}
			}
		}
		c.forgetOldest()
		p = &pool{Transport: http.Transport{
			DialContext: c.guard.Dialer().DialContext, TLSClientConfig: conf, DisableCompression: true,
			MaxResponseHeaderBytes: maxAnswer, IdleConnTimeout: idleTime, MaxIdleConns: maxIdle, MaxIdleConnsPerHost: c.hosts.keepPerHost(),
		}}
		c.kept[ca] = p
	}
	p.used = c.tick
	return p, nil
}

// forgetOldest makes room for another pool.
func (c *Client) forgetOldest() {
	if len(c.kept) < maxRoots {
		return
	}
	oldest := ""
	for ca, p := range c.kept {
		if o := c.kept[oldest]; o == nil || p.used < o.used {
			oldest = ca
		}
	}
	c.kept[oldest].CloseIdleConnections()
	delete(c.kept, oldest)
}

// Request is what is posted.
type Request struct {
	Method   string // POST if empty
	Endpoint string // URL
	CA       string // PEM; empty: the machine's
	Header   http.Header
	Body     []byte
	Record   *push.Record // nil: nobody wants to know
}

// Do makes the request and returns nil if the answer's status is 2xx, else a *push.Failure.
func (c *Client) Do(ctx context.Context, r *Request) error {
	u, err := guard.Endpoint(r.Endpoint)
	if err != nil {
		return &push.Failure{Reason: push.Invalid, Err: err}
	}
	host := hostOf(u)
	if err := c.hosts.enter(ctx, host); err != nil {
		return &push.Failure{Reason: push.TimedOut, Err: fmt.Errorf("%s: as many deliveries as it may have at once are under way: %w", u.Host, err)}
	}
	defer c.hosts.leave(host)
	resp, cancel, err := c.exchange(ctx, u, r)
	if err != nil {
		return err
	}
	defer cancel()
	if resp.StatusCode != http.StatusSwitchingProtocols { // then the body is the connection, which nothing would end
		stop := time.AfterFunc(drainTime, cancel)
		defer stop.Stop()
		io.CopyN(io.Discard, resp.Body, maxAnswer)
	}
	resp.Body.Close()
	if r.Record != nil {
		r.Record.Status = resp.StatusCode
	}
	if resp.StatusCode >= 200 && resp.StatusCode < 300 {
		return nil
	}
	return &push.Failure{Reason: push.Answered, Status: resp.StatusCode, After: retryAfter(resp.Header, time.Now())}
}

// exchange is the request and the head of its answer. cancel ends what is left of it.
func (c *Client) exchange(ctx context.Context, u *url.URL, r *Request) (*http.Response, context.CancelFunc, error) {
	p, err := c.pool(r.CA)
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	method := r.Method
	if method == "" {
		method = http.MethodPost
	}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), bytes.NewReader(r.Body))
	if err != nil {
		cancel()
		return nil, nil, &push.Failure{Reason: push.Invalid, Err: errors.New("the endpoint is not a URL")}
	}
	req.Header = r.Header
	if u.User != nil && req.Header.Get("Authorization") == "" {
		password, _ := u.User.Password()
		req.SetBasicAuth(u.User.Username(), password)
	}
	if r.Record != nil {
		r.Record.Sent = shown(req, r.Body)
	}
	resp, err := p.RoundTrip(req)
	if err != nil {
		cancel()
		return nil, nil, failure(u, err)
	}
	return resp, cancel, nil
}

// failure says what went wrong, naming the endpoint by its host only.
func failure(u *url.URL, err error) *push.Failure {
	f := &push.Failure{Reason: push.Unreachable, Err: fmt.Errorf("%s: %w", u.Host, err)}
	var verify *tls.CertificateVerificationError
	var unresolved *net.DNSError
	switch {
	case errors.Is(err, guard.ErrRefused):
		f.Reason = push.Refused
	case errors.As(err, &unresolved):
		f.Reason = push.Unresolved
	case errors.Is(err, context.DeadlineExceeded):
		f.Reason = push.TimedOut
	case errors.As(err, &verify):
		f.Reason = push.Certificate
	}
	return f
}

// retryAfter reads the header Retry-After, seconds or a date; 0 if there is none that makes sense.
func retryAfter(h http.Header, now time.Time) time.Duration {
	v := h.Get("Retry-After")
	if seconds, err := strconv.ParseUint(v, 10, 32); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(v); err == nil {
		return max(at.Sub(now), 0)
	}
	return 0
}
