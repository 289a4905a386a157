package client

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencmq/cmq/client/internal/link"
	"github.com/opencmq/cmq/client/internal/wire"
)

// tcpSettings are the options of the TCP protocol.
type tcpSettings struct {
	wanted      bool // WithTCP
	connections int
	clientID    string
	dial        func(ctx context.Context, addr string) (net.Conn, error)
	checkers    map[string]Checker
}

// WithTCP sends the message actions over TCP although all endpoints are of HTTP: to the addresses that the service
// names for each queue. It is implied by an endpoint tcp://HOST:PORT.
func WithTCP() Option {
	return func(c *Client) error { c.settings.wanted = true; return nil }
}

// WithConnections sets how many TCP connections there are to each address; calls take turns. The default, 1, carries
// any number of calls at once; more are of use when one core does not suffice.
func WithConnections(n int) Option {
	return func(c *Client) error {
		if n < 1 || n > 1024 {
			return fmt.Errorf("%d connections: from 1 to 1024 are possible", n)
		}
		c.settings.connections = n
		return nil
	}
}

// WithClientID sets the name under which TCP connections introduce themselves. The default is the address of this
// machine and something random, which tells clients apart in the server's lists.
func WithClientID(id string) Option {
	return func(c *Client) error { c.settings.clientID = id; return nil }
}

// WithDialer makes TCP connections in another way, for example through a proxy or with TLS in front of the server.
func WithDialer(dial func(ctx context.Context, addr string) (net.Conn, error)) Option {
	return func(c *Client) error { c.settings.dial = dial; return nil }
}

// tcpCarrier speaks the TCP protocol.
type tcpCarrier struct {
	c        *Client
	pool     *link.Pool
	calls    sync.Pool // *link.Call
	starts   sync.Pool // *started
	requests atomic.Uint64
	routes   routes
	checks   checks
	small    atomic.Bool // the service takes no more than MaxBatch at once
}

func newTCPCarrier(c *Client) *tcpCarrier {
	t := &tcpCarrier{c: c}
	t.calls.New = func() any { return link.NewCall() }
	t.starts.New = func() any { return newStarted(t) }
	id := c.settings.clientID
	suffix := "@go-" + strconv.FormatUint(rand.Uint64(), 36)
	dial := c.settings.dial
	if dial == nil {
		d := &net.Dialer{KeepAlive: -1} // heartbeats do it
		dial = func(ctx context.Context, addr string) (net.Conn, error) { return d.DialContext(ctx, "tcp", addr) }
	}
	t.checks.init(t)
	t.pool = link.NewPool(link.Options{
		Dial:        dial,
		Timeout:     c.timeout,
		Connections: max(c.settings.connections, 1),
		OnQuery:     t.checks.asked,
		OnState:     t.state,
		Credentials: func(nc net.Conn) wire.Credentials {
			if id != "" {
				return c.credentials(id)
			}
			host, _, err := net.SplitHostPort(nc.LocalAddr().String())
			if err != nil {
				host = nc.LocalAddr().String()
			}
			return c.credentials(host + suffix)
		},
	})
	t.routes.init(t)
	return t
}

// credentials signs client id and secret id. There is neither time nor nonce in it, which the protocol does not have.
func (c *Client) credentials(clientID string) wire.Credentials {
	mac := hmac.New(sha256.New, []byte(c.secretKey))
	io.WriteString(mac, clientID)
	io.WriteString(mac, c.secretID)
	return wire.Credentials{SecretID: c.secretID, Signature: base64.StdEncoding.EncodeToString(mac.Sum(nil)), ClientID: clientID, Method: "HmacSHA256"}
}

func (t *tcpCarrier) state(addr string, up bool, reason error) {
	if up {
		t.c.log.Debug("connected", "server", addr)
	} else {
		t.c.log.Warn("not connected", "server", addr, "error", reason)
	}
}

func (t *tcpCarrier) close() {
	t.checks.close()
	t.routes.close()
	t.pool.Close()
}

func (t *tcpCarrier) address() string { return t.routes.likely() }

// call takes an empty call; put gives it back.
func (t *tcpCarrier) call(cmd wire.Cmd, name string) *link.Call {
	call := t.calls.Get().(*link.Call)
	call.Request = wire.Request{Cmd: cmd, Name: name, Handles: call.Request.Handles[:0]}
	return call
}

// keptHandles is the most room for handles that a call keeps.
const keptHandles = 1024

func (t *tcpCarrier) put(call *link.Call) {
	if empty(call) {
		t.calls.Put(call)
	}
}

// empty lets go of what a call has held: no body is kept alive. It reports whether the rest is small enough to be kept.
func empty(call *link.Call) bool {
	call.Request = wire.Request{Handles: call.Request.Handles[:0]}
	call.Answer.Reset()
	return cap(call.Request.Handles) <= keptHandles && cap(call.Answer.Messages) <= keptHandles
}

// do makes a call, with repetitions as far as safe allows. wait is how much longer than usual the answer may take.
func (t *tcpCarrier) do(ctx context.Context, action string, call *link.Call, wait time.Duration, safe safety) error {
	return t.c.repeat(ctx, safe, func() error { return t.attempt(ctx, action, call, wait) })
}

func (t *tcpCarrier) attempt(ctx context.Context, action string, call *link.Call, wait time.Duration) error {
	to, err := t.routes.of(ctx, isPublish(call.Request.Cmd), call.Request.Name)
	if err != nil {
		return &TransportError{Endpoint: "tcp", Action: action, Err: err} // nothing was sent
	}
	conn, err := t.pool.Get(ctx, to, t.c.timeout)
	if err == nil {
		err = conn.Do(ctx, call, t.c.timeout+wait)
	}
	return t.outcome(action, call, err)
}

// outcome is the error of a call that was attempted: err of package link, or a refusal in the answer.
func (t *tcpCarrier) outcome(action string, call *link.Call, err error) error {
	if err != nil {
		t.routes.doubt(isPublish(call.Request.Cmd), call.Request.Name)
		return failure(action, err)
	}
	if r := call.Answer.Result; r != 0 {
		return refusal(action, r, call.Answer.Error)
	}
	return nil
}

func isPublish(cmd wire.Cmd) bool { return cmd == wire.Publish || cmd == wire.BatchPublish }

// failure gives an error of package link the form of this package.
func failure(action string, err error) error {
	var (
		refused *link.Refused
		broken  *link.Error
	)
	switch {
	case errors.As(err, &refused):
		return refusal(action, refused.Code, refused.Text)
	case errors.As(err, &broken):
		cause := broken.Err
		if errors.Is(cause, link.ErrClosed) {
			cause = ErrClosed
		}
		return &TransportError{Endpoint: "tcp://" + broken.Addr, Action: action, Sent: broken.Sent, Err: cause}
	}
	return err
}

// refusal makes an error of the result of a command, which is the module code.
func refusal(action string, module int32, text string) *Error {
	return &Error{Code: codeOf(module), Module: int(module), Message: text, Action: action}
}

// codeOf is the HTTP code that goes with a module code, for commands of this protocol. 0: none is known.
func codeOf(module int32) int {
	switch module {
	case 10000, 10010, 10020, 10110, 10120, 10350, 10360, 10370, 10380, 10390, 10430, 10590, 10691, 10692, 10700, 10720:
		return 4000
	case 10030, 10031, 10032, 10080, 10270:
		return 4100
	case 10230:
		return 4400
	case 10240:
		return 4410
	case 10250:
		return 4420
	case 10260:
		return 4430
	case 10100, 10600:
		return 4440
	case 10300:
		return 4470
	case 10460:
		return 4480
	case 10770, 10780, 10790:
		return 4490
	case 10050, 10090, 10130, 10140, 10810, 10840, 10850:
		return codeServerFailed
	case 10150, 10820:
		return 6010
	case 10290, 10830:
		return 6020
	case 10650, 10730:
		return 6030
	case 10750, 10760:
		return 6040
	case 10690:
		return 6070
	case 10800:
		return 6080
	case 10200:
		return 7000
	}
	return 0
}

func (t *tcpCarrier) send(ctx context.Context, queue, body string, o *sendOptions) (string, error) {
	call := t.call(wire.Send, queue)
	defer t.put(call)
	call.Request.Body = body
	t.sending(&call.Request, o)
	return t.oneID(ctx, "SendMessage", call, o.session != nil)
}

func (t *tcpCarrier) batchSend(ctx context.Context, queue string, bodies []string, o *sendOptions) ([]string, error) {
	call := t.call(wire.BatchSend, queue)
	defer t.put(call)
	call.Request.Bodies = bodies
	t.sending(&call.Request, o)
	return t.allIDs(ctx, "BatchSendMessage", call, o.session != nil)
}

func (t *tcpCarrier) sending(r *wire.Request, o *sendOptions) {
	r.RequestID = t.requests.Add(1)
	r.Delay = wholeSeconds(o.delay)
	r.Prepared, r.FirstQuery = o.prepared, wholeSeconds(o.firstQuery)
	if r.FirstQuery >= 1000 {
		r.FirstQuery *= 1000 // servers read larger numbers as milliseconds
	}
	if o.session != nil {
		r.Session = *o.session
	}
}

// openSession begins a producer session, or takes over the one with this id, and gives its epoch.
func (t *tcpCarrier) openSession(ctx context.Context, queue string, id uint64) (uint64, error) {
	call := t.call(wire.OpenSession, queue)
	defer t.put(call)
	call.Request.Session.ID = id
	err := t.do(ctx, "OpenSession", call, 0, always)
	if err == nil && call.Answer.Epoch == 0 {
		err = errors.New("OpenSession: answer has no epoch")
	}
	return call.Answer.Epoch, err
}

func (t *tcpCarrier) publish(ctx context.Context, topic, body string, o *PublishOptions) (string, error) {
	call := t.call(wire.Publish, topic)
	defer t.put(call)
	call.Request.Body = body
	t.publishing(&call.Request, o)
	return t.oneID(ctx, "PublishMessage", call, false)
}

func (t *tcpCarrier) batchPublish(ctx context.Context, topic string, bodies []string, o *PublishOptions) ([]string, error) {
	call := t.call(wire.BatchPublish, topic)
	defer t.put(call)
	call.Request.Bodies = bodies
	t.publishing(&call.Request, o)
	return t.allIDs(ctx, "BatchPublishMessage", call, false)
}

func (t *tcpCarrier) publishing(r *wire.Request, o *PublishOptions) {
	r.RequestID = t.requests.Add(1)
	r.Tags, r.RoutingKey = o.Tags, o.RoutingKey
}

// safetyOf says whether a send may be repeated after anything: in a session it is stored once.
func safetyOf(once bool) safety {
	if once {
		return always
	}
	return onlyUnsent
}

func (t *tcpCarrier) oneID(ctx context.Context, action string, call *link.Call, once bool) (string, error) {
	return onlyID(action, call, t.do(ctx, action, call, 0, safetyOf(once)))
}

// onlyID takes the id out of the answer to the send of one message.
func onlyID(action string, call *link.Call, err error) (string, error) {
	switch {
	case err != nil:
		return "", err
	case len(call.Answer.IDs) != 1:
		return "", errors.New(action + ": answer has no message id")
	}
	return strconv.FormatUint(call.Answer.IDs[0], 10), nil
}

func (t *tcpCarrier) allIDs(ctx context.Context, action string, call *link.Call, once bool) ([]string, error) {
	if err := t.do(ctx, action, call, 0, safetyOf(once)); err != nil {
		return nil, err
	}
	if got, want := len(call.Answer.IDs), len(call.Request.Bodies); got != want {
		return nil, fmt.Errorf("%s: %d ids for %d messages", action, got, want)
	}
	ids := make([]string, len(call.Answer.IDs))
	for i, id := range call.Answer.IDs {
		ids[i] = strconv.FormatUint(id, 10)
	}
	return ids, nil
}

func (t *tcpCarrier) receive(ctx context.Context, queue string, o ReceiveOptions) ([]Message, error) {
	cmd, action := receiveCommand(o)
	call := t.call(cmd, queue)
	defer t.put(call)
	receiving(&call.Request, o)
	return t.received(ctx, action, call, t.do(ctx, action, call, patience(o.Wait), onlyUnsent))
}

// receiveCommand is the command for one message or for several.
func receiveCommand(o ReceiveOptions) (cmd wire.Cmd, action string) {
	if o.Max > 0 {
		return wire.BatchReceive, "BatchReceiveMessage"
	}
	return wire.Receive, "ReceiveMessage"
}

func receiving(r *wire.Request, o ReceiveOptions) {
	r.Max, r.Wait, r.Lock = o.Max, -1, wholeSeconds(o.Visibility)
	if o.Wait >= 0 {
		r.Wait = wholeSeconds(o.Wait)
	}
}

// received takes the messages out of the answer to a receive.
func (t *tcpCarrier) received(ctx context.Context, action string, call *link.Call, err error) ([]Message, error) {
	switch {
	case err != nil && ctx.Err() != nil && errors.Is(err, ErrNoMessage): // it was taken back
		return nil, &TransportError{Endpoint: "tcp://" + t.address(), Action: action, Err: ctx.Err()}
	case err != nil:
		return nil, err
	case len(call.Answer.Messages) == 0:
		return nil, errors.New(action + ": answer has no message")
	}
	return deliveries(call.Answer.Messages), nil
}

// deliveries gives messages the form of this package.
func deliveries(from []wire.Message) []Message {
	messages := make([]Message, len(from))
	var text [40]byte // id and handle share one string
	for i := range from {
		m := &from[i]
		b := strconv.AppendUint(text[:0], m.ID, 10)
		n := len(b)
		ids := string(strconv.AppendUint(b, m.Handle, 10))
		messages[i] = Message{
			ID: ids[:n], Handle: ids[n:], Body: m.Body,
			Enqueued: time.Unix(m.Enqueued, 0), FirstDequeue: time.Unix(m.FirstDequeue, 0), NextVisible: time.Unix(m.NextVisible, 0),
			DequeueCount: int(m.DequeueCount),
		}
		if m.OriginQueue != "" {
			messages[i].Origin = &Origin{QueueID: m.OriginQueue, Enqueued: time.Unix(m.OriginTime, 0), DequeueCount: int(m.OriginDequeue)}
		}
	}
	return messages
}

func (t *tcpCarrier) delete(ctx context.Context, queue, handle string) error {
	call := t.call(wire.Delete, queue)
	defer t.put(call)
	h, err := parseHandle("DeleteMessage", handle)
	if err != nil {
		return err
	}
	call.Request.Handle = h
	return t.do(ctx, "DeleteMessage", call, 0, onlyUnsent)
}

func (t *tcpCarrier) most() int {
	if t.small.Load() {
		return MaxBatch
	}
	return MaxWide
}

func (t *tcpCarrier) fewer() { t.small.Store(true) }

func (t *tcpCarrier) batchDelete(ctx context.Context, queue string, handles []string) error {
	return t.withHandles(ctx, "BatchDeleteMessage", t.call(wire.BatchDelete, queue), handles)
}

func (t *tcpCarrier) changeVisibility(ctx context.Context, queue string, handles []string, d time.Duration) error {
	call := t.call(wire.ChangeVisibility, queue)
	call.Request.Lock = wholeSeconds(d)
	err := t.withHandles(ctx, "ChangeMessageVisibility", call, handles)
	var batch *BatchError
	if len(handles) == 1 && errors.As(err, &batch) && len(batch.Failed) == 1 {
		return batch.Failed[0].Err
	}
	return err
}

// withHandles makes a call on several deliveries and gives it back.
func (t *tcpCarrier) withHandles(ctx context.Context, action string, call *link.Call, handles []string) error {
	defer t.put(call)
	for _, text := range handles {
		h, err := parseHandle(action, text)
		if err != nil {
			return err
		}
		call.Request.Handles = append(call.Request.Handles, h)
	}
	err := t.do(ctx, action, call, 0, onlyUnsent)
	var refused *Error
	if !errors.As(err, &refused) || len(call.Answer.Failed) == 0 {
		return err
	}
	batch := &BatchError{Refusal: refused}
	for _, f := range call.Answer.Failed {
		batch.Failed = append(batch.Failed, HandleError{Handle: strconv.FormatUint(f.Handle, 10), Err: refusal(action, f.Code, f.Text)})
	}
	return batch
}

// parseHandle reads a handle, which in this protocol is a number.
func parseHandle(action, text string) (uint64, error) {
	h, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, &Error{Code: 4000, Module: 10470, Message: fmt.Sprintf("receipt handle %q is not a number", text), Action: action}
	}
	return h, nil
}
