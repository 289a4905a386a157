package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	requestClient = "SDK_GO_CMQ_1.0"
	formType      = "application/x-www-form-urlencoded"

	// MaxBatch is how many messages or handles one batch request may have.
	MaxBatch = 16
	// MaxWide is how many messages one receive may bring and how many handles one request may have over TCP from cmq.
	MaxWide = 256

	// DefaultTimeout bounds one attempt, on top of the time a receive may wait.
	DefaultTimeout = 10 * time.Second

	// DefaultRetries is how often a request that may safely be repeated is repeated.
	DefaultRetries = 3

	// QueueWait as the wait of a receive means the queue's own PollingWait.
	QueueWait time.Duration = -1

	// maxWait is the longest long poll of the service.
	maxWait = 30 * time.Second
)

// Client speaks to one CMQ service. It is safe for concurrent use.
type Client struct {
	addresses []Address // http:// and https://
	doors     []string  // host:port of tcp://
	secretID  string
	secretKey string
	carrier   carrier
	tcp       *tcpCarrier // nil: messages go over HTTP
	settings  tcpSettings
	log       *slog.Logger
	observer  Observer
	current   atomic.Uint32 // index of the address that worked last
	signer    *signer
	transport Transport
	timeout   time.Duration
	retries   int
	clock     func() time.Time
	buffers   sync.Pool // *[2][]byte: form, answer
	aside     aside
}

// Option changes how New makes a Client.
type Option func(*Client) error

// WithToken adds the token of temporary credentials to every request.
func WithToken(token string) Option {
	return func(c *Client) error { c.signer.token = token; return nil }
}

// WithEndpoints adds addresses of the same service, of both protocols. They are tried in turn when one cannot be
// reached. For what goes over which protocol see the comment of the package.
func WithEndpoints(more ...string) Option {
	return func(c *Client) error {
		for _, e := range more {
			if door, ok := strings.CutPrefix(e, "tcp://"); ok {
				if _, _, err := net.SplitHostPort(door); err != nil {
					return fmt.Errorf("endpoint %q is not of the form tcp://HOST:PORT: %w", e, err)
				}
				c.doors = append(c.doors, door)
				continue
			}
			a, err := parseEndpoint(e)
			if err != nil {
				return err
			}
			c.addresses = append(c.addresses, a)
		}
		return nil
	}
}

// WithLogger says where to log: connections that broke, handlers that failed. The default is nowhere. Bodies, handles
// and keys are never logged.
func WithLogger(l *slog.Logger) Option {
	return func(c *Client) error { c.log = l; return nil }
}

// WithObserver tells o about every operation, for traces and metrics.
func WithObserver(o Observer) Option {
	return func(c *Client) error { c.observer = o; return nil }
}

// WithTransport replaces net/http, for example by NewLeanTransport.
func WithTransport(t Transport) Option {
	return func(c *Client) error { c.transport = t; return nil }
}

// WithHTTPClient uses hc instead of a client of our own. Its Timeout should be 0, as long polls take up to 30 s.
func WithHTTPClient(hc *http.Client) Option {
	return func(c *Client) error { c.transport = httpTransport{hc}; return nil }
}

// WithTimeout bounds one attempt; a receive may take this long on top of its wait. The default is DefaultTimeout.
func WithTimeout(d time.Duration) Option {
	return func(c *Client) error { c.timeout = d; return nil }
}

// WithRetries sets how often a request that may safely be repeated is repeated; 0 switches repeating off.
func WithRetries(n int) Option {
	return func(c *Client) error { c.retries = n; return nil }
}

// WithClock replaces the clock that dates the signatures.
func WithClock(now func() time.Time) Option {
	return func(c *Client) error { c.clock = now; return nil }
}

// New makes a client for an endpoint such as "http://127.0.0.1:7670" or "tcp://127.0.0.1:7671". An endpoint of HTTP
// without a path gets "/v2/index.php", the path of the classic service. Nothing is sent yet.
func New(endpoint, secretID, secretKey string, opts ...Option) (*Client, error) {
	if secretID == "" || secretKey == "" {
		return nil, errors.New("secret id and secret key are needed to sign requests")
	}
	c := &Client{
		secretID:  secretID,
		secretKey: secretKey,
		signer:    newSigner(secretID, secretKey, ""),
		timeout:   DefaultTimeout,
		retries:   DefaultRetries,
		clock:     time.Now,
		log:       slog.New(slog.DiscardHandler),
	}
	c.buffers.New = func() any { return new([2][]byte) }
	c.aside.init()
	for _, o := range append([]Option{WithEndpoints(endpoint)}, opts...) {
		if err := o(c); err != nil {
			return nil, err
		}
	}
	if c.transport == nil {
		t := http.DefaultTransport.(*http.Transport).Clone()
		t.MaxIdleConnsPerHost = 256 // the default of 2 would make a new connection for most concurrent requests
		t.MaxIdleConns = 1024
		t.IdleConnTimeout = leanIdle
		c.transport = httpTransport{&http.Client{Transport: t}}
	}
	c.carrier = httpCarrier{c}
	if len(c.doors) > 0 || c.settings.wanted {
		c.tcp = newTCPCarrier(c)
		c.carrier = c.tcp
	}
	return c, nil
}

// Close ends the connections. Over TCP it waits for them, and calls under way fail with ErrClosed; over HTTP it lets
// go of idle ones. Calls that were started (StartSend …) fail with ErrClosed over both, and their done has returned
// when Close does.
func (c *Client) Close() error {
	c.aside.end()
	if c.tcp != nil {
		c.tcp.close()
	}
	c.aside.wait()
	return c.transport.Close()
}

// parseEndpoint checks an endpoint and takes it apart.
func parseEndpoint(endpoint string) (Address, error) {
	u, err := url.Parse(endpoint)
	if err != nil {
		return Address{}, fmt.Errorf("endpoint %q: %w", endpoint, err)
	}
	if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.RawQuery != "" || u.User != nil {
		return Address{}, fmt.Errorf("endpoint %q is not of the form http://HOST:PORT, https://HOST:PORT or tcp://HOST:PORT", endpoint)
	}
	path := u.EscapedPath()
	if path == "" || path == "/" {
		path = "/v2/index.php"
	}
	host := strings.ToLower(u.Host)
	return Address{URL: u.Scheme + "://" + host + path, Host: host, Path: path, TLS: u.Scheme == "https"}, nil
}

// safety says which failures of an action may be answered by sending it again.
type safety int

const (
	onlyUnsent safety = iota // only when the request certainly was not carried out
	always                   // repeating changes nothing
)

// Call carries out any action, also one this package has no method for, and decodes the JSON answer into out
// (nil: it is not looked at). A refusal is an *Error.
func (c *Client) Call(ctx context.Context, action string, params []Param, out any) error {
	return c.call(ctx, action, params, onlyUnsent, out)
}

func (c *Client) call(ctx context.Context, action string, params []Param, safe safety, out any) error {
	return c.callFor(ctx, action, params, 0, safe, out)
}

// callFor is call of an action whose answer may take wait longer than others.
func (c *Client) callFor(ctx context.Context, action string, params []Param, wait time.Duration, safe safety, out any) error {
	return c.exchange(ctx, action, params, wait, safe, func(data []byte) (int, string, string, error) {
		var head struct {
			Code      *int
			Message   string
			RequestID string
		}
		if err := json.Unmarshal(data, &head); err != nil {
			return 0, "", "", err
		}
		if head.Code == nil {
			return 0, "", "", errors.New(`answer has no "code"`)
		}
		if *head.Code != 0 || out == nil {
			return *head.Code, head.Message, head.RequestID, nil
		}
		return 0, "", "", json.Unmarshal(data, out)
	})
}

// message carries out one of the message actions.
func (c *Client) message(ctx context.Context, action string, params []Param, wait time.Duration) (*reply, error) {
	return c.messageIf(ctx, action, params, wait, onlyUnsent)
}

// messageIf is message, which is repeated if that is safe.
func (c *Client) messageIf(ctx context.Context, action string, params []Param, wait time.Duration, safe safety) (*reply, error) {
	r := &reply{}
	err := c.exchange(ctx, action, params, wait, safe, func(data []byte) (int, string, string, error) {
		*r = reply{code: -1}
		err := r.decode(action, data)
		if err == nil && r.code == -1 {
			err = errors.New(`answer has no "code"`)
		}
		return r.code, r.message, r.requestID, err
	})
	return r, err
}

// decoder gives code, message and request id of an answer.
type decoder func(data []byte) (code int, message, requestID string, err error)

// exchange signs, sends and repeats as far as safe allows.
func (c *Client) exchange(ctx context.Context, action string, params []Param, wait time.Duration, safe safety, decode decoder) error {
	if len(c.addresses) == 0 {
		return &NeedsEndpointError{Action: action, Scheme: "http"}
	}
	return c.repeat(ctx, safe, func() error { return c.attempt(ctx, action, params, wait, decode) })
}

// repeat makes attempts as long as safe and the number of retries allow.
func (c *Client) repeat(ctx context.Context, safe safety, one func() error) error {
	return c.repeatAfter(ctx, 0, one(), safe, one)
}

// repeatAfter is repeat after an attempt that gave err.
func (c *Client) repeatAfter(ctx context.Context, attempt int, err error, safe safety, one func() error) error {
	for ; c.mayRepeat(ctx, attempt, err, safe) && pause(ctx, attempt); attempt++ {
		err = one()
	}
	return err
}

// mayRepeat reports whether there is another attempt after this one, counted from 0.
func (c *Client) mayRepeat(ctx context.Context, attempt int, err error, safe safety) bool {
	return err != nil && attempt < c.retries && ctx.Err() == nil && repeatable(err, safe)
}

func (c *Client) attempt(ctx context.Context, action string, params []Param, wait time.Duration, decode decoder) error {
	n := c.current.Load()
	to := c.addresses[int(n)%len(c.addresses)]
	ctx, cancel := context.WithTimeout(ctx, c.timeout+wait)
	defer cancel()
	buf := c.buffers.Get().(*[2][]byte)
	defer c.recycle(buf)
	buf[0] = c.signer.form(buf[0][:0], to.Host, to.Path, action, params, c.clock().Unix(), rand.Uint32())
	answer, err := c.transport.RoundTrip(ctx, to, buf[0], buf[1][:0])
	buf[1] = answer
	if err == nil {
		code, message, requestID, err := decode(answer)
		if err != nil {
			return &TransportError{Endpoint: to.URL, Action: action, Sent: true, Err: err}
		}
		if code != 0 {
			return newError(action, code, message, requestID)
		}
		return nil
	}
	c.current.CompareAndSwap(n, n+1) // the next one is tried by everybody
	return &TransportError{Endpoint: to.URL, Action: action, Sent: wasSent(err), Err: err}
}

// recycle keeps buffers of ordinary size: one large answer must not hold its memory for ever.
func (c *Client) recycle(buf *[2][]byte) {
	for i := range buf {
		if cap(buf[i]) > 256<<10 {
			buf[i] = nil
		}
	}
	c.buffers.Put(buf)
}

func repeatable(err error, safe safety) bool {
	var t *TransportError
	if errors.As(err, &t) {
		return !t.Sent || safe == always
	}
	return errors.Is(err, ErrThrottled) || errors.Is(err, ErrFrequency) || errors.Is(err, ErrDiskFull)
}

// pause waits before the next attempt: 50 ms doubled each time, half of it by chance.
func pause(ctx context.Context, attempt int) bool {
	d := 25 * time.Millisecond << min(attempt, 6)
	t := time.NewTimer(d + rand.N(d))
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func isDialError(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

// SignedForm gives URL and form body of a signed POST, for other programs such as curl. The signature is good
// as long as the service accepts its time stamp.
// It is empty without an endpoint of HTTP.
func (c *Client) SignedForm(action string, params ...Param) (url, form string) {
	if len(c.addresses) == 0 {
		return "", ""
	}
	to := c.addresses[0]
	return to.URL, string(c.signer.form(nil, to.Host, to.Path, action, params, c.clock().Unix(), rand.Uint32()))
}
