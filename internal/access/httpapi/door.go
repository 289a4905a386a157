package httpapi

import (
	"container/list"
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencmq/cmq/internal/access"
	"github.com/opencmq/cmq/internal/auth"
	"github.com/opencmq/cmq/internal/cmq"
)

// Backend is what the door asks. It waits for answers itself where there are many of them (await.go).
type Backend interface {
	access.Backend

	StartSend(owner, name string, bodies [][]byte, delay time.Duration, done func([]cmq.MsgID, error)) cmq.Pending
	StartSendOnce(owner, name string, bodies [][]byte, delay time.Duration, session cmq.Session, done func([]cmq.MsgID, error)) cmq.Pending
	StartReceive(owner, name string, max int, wait *time.Duration, lock time.Duration, done func([]cmq.Message, error)) cmq.Pending
	StartDelete(owner, name string, handles []cmq.Handle, done func([]*cmq.Error, error)) cmq.Pending
	StartRelock(owner, name string, handles []cmq.Handle, lock time.Duration, done func([]*cmq.Error, error)) cmq.Pending
	StartPublish(owner, topic string, bodies [][]byte, publication cmq.Publication, done func([]cmq.MsgID, error)) cmq.Pending
}

// Config of a Door. Backend and Keys are required; zero values of the rest mean the defaults named here.
type Config struct {
	Backend Backend
	Keys    auth.Keys
	Limits  cmq.Limits       // cmq.DefaultLimits
	Clock   func() time.Time // time.Now; only for the window of time stamps
	Logger  *slog.Logger     // slog.Default

	Protocols []cmq.Protocol // that subscriptions may have: queue, http and function

	// Endpoint refuses a URL that this server never delivers to, as far as the URL itself shows it; nil: any. What an agent
	// delivers to is not asked about: it is in another network.
	Endpoint func(url string) error

	Hosts      []string      // further hosts clients may sign, see auth.Config.Aliases
	Window     time.Duration // of time stamps, see auth.Config.Window; 0 is no default but means not checked
	AppIDOwner string        // see auth.Config.AppIDOwner

	Polls      *access.Polls      // shared with other doors; 100,000 open polls
	RequestIDs *access.RequestIDs // shared with other doors; own ones
	Producers  *access.Producers  // knows where producers of prepared messages come from; nil: nobody does

	CallTimeout   time.Duration // how long the Backend may try, polls apart: 8 s, because clients give up after 10
	MaxBodyMemory int64         // bytes of all requests beyond 64 KiB at a time: 256 MiB
	MaxConns      int           // open connections: 20,000; beyond it those that have signed nothing give way to new ones
	MaxConnsPerIP int           // of one address: as MaxConns
}

// Door is the HTTP door. It may be used by many goroutines.
type Door struct {
	config      Config
	verifier    *auth.Verifier
	calls       sync.Pool // *call
	bodyMemory  atomic.Int64
	lastFailure atomic.Int64 // Unix seconds: one line a second in the log
	contentType []string
	conns       conns
}

// New makes a Door.
func New(config Config) *Door {
	if config.Limits == (cmq.Limits{}) {
		config.Limits = cmq.DefaultLimits()
	}
	if config.Logger == nil {
		config.Logger = slog.Default()
	}
	if config.Polls == nil {
		config.Polls = access.NewPolls(100_000)
	}
	if config.RequestIDs == nil {
		config.RequestIDs = access.NewRequestIDs()
	}
	if config.Protocols == nil {
		config.Protocols = []cmq.Protocol{cmq.ProtocolQueue, cmq.ProtocolHTTP, cmq.ProtocolFunction}
	}
	orDefault(&config.CallTimeout, 8*time.Second)
	orDefault(&config.MaxBodyMemory, 256<<20)
	orDefault(&config.MaxConns, 20_000)
	orDefault(&config.MaxConnsPerIP, config.MaxConns)
	d := &Door{config: config, contentType: []string{"application/json; charset=utf-8"}}
	d.verifier = auth.NewVerifier(auth.Config{Keys: config.Keys, Window: config.Window, Clock: config.Clock, Aliases: config.Hosts, AppIDOwner: config.AppIDOwner})
	d.calls.New = func() any { return newCall(d) }
	d.conns.all, d.conns.perIP = make(map[net.Conn]*list.Element), make(map[netip.Addr]int)
	return d
}

func orDefault[T comparable](value *T, missing T) {
	var zero T
	if *value == zero {
		*value = missing
	}
}

// call is one request being answered. Calls are reused; nothing of one may be kept.
type call struct {
	door *Door
	w    http.ResponseWriter
	r    *http.Request

	id          uint64 // requestId
	clientID    uint64 // clientRequestId, to be echoed if hasClientID
	hasClientID bool

	body    []byte // body or query; params point into it
	query   []byte // the query of a POST
	counted int64  // bytes of body counted in Door.bodyMemory
	params  []auth.Param
	owner   string
	action  access.Action

	numbered []numbered
	values   [][]byte
	named    string // what name gave last; most requests are about the same queue
	out      []byte // the answer
	sent     bool

	came  chan struct{} // the answer of a started request is there; empty between requests
	timer *time.Timer   // stopped between requests
}

func newCall(d *Door) *call {
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	return &call{door: d, came: make(chan struct{}, 1), timer: timer}
}

// ServeHTTP answers one request.
func (d *Door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := d.calls.Get().(*call)
	c.w, c.r, c.id = w, r, d.config.RequestIDs.Next()
	defer d.finish(c)
	if err := c.serve(); err != nil && err != errSent {
		c.refuse(err)
	}
	if !c.sent {
		c.send(false)
	}
}

// finish ends a call, and gives an answer when a handler panicked: then the call is not used again, because
// nobody knows who still holds parts of it.
func (d *Door) finish(c *call) {
	d.bodyMemory.Add(-c.counted)
	if broken := recover(); broken != nil {
		d.config.Logger.Error("BUG: a request made the HTTP door panic", "action", c.action.String(), "panic", broken, "stack", string(debug.Stack()))
		if !c.sent {
			c.envelope(cmq.ErrInternal)
			c.send(false)
		}
		return
	}
	c.release()
	d.calls.Put(c)
}

// Buffers above these sizes are not kept for the next call.
const (
	maxPooledBody = smallBody
	maxPooledOut  = 256 << 10
)

func (c *call) release() {
	if cap(c.body) > maxPooledBody {
		c.body = nil
	}
	if cap(c.out) > maxPooledOut {
		c.out = nil
	}
	clear(c.values)
	clear(c.numbered)
	clear(c.params)
	*c = call{door: c.door, body: c.body[:0], query: c.query[:0], params: c.params[:0], out: c.out[:0],
		numbered: c.numbered[:0], values: c.values[:0], named: c.named, came: c.came, timer: c.timer}
}

// serve does the checks in their order (see the package comment) and runs the action.
func (c *call) serve() error {
	if err := c.readBody(); err != nil {
		return err
	}
	if c.r.Method != http.MethodGet && c.r.Method != http.MethodPost {
		return cmq.ErrMethod(c.r.Method)
	}
	if err := c.parse(); err != nil {
		return err
	}
	name, given := auth.Find(c.params, "Action")
	if !given || len(name) == 0 {
		return cmq.ErrNoAction
	}
	owner, refusal := c.door.verifier.Verify(&auth.Request{Method: c.r.Method, Host: c.r.Host, Path: signedPath(c.r), Params: c.params})
	if refusal != nil {
		return refusal
	}
	c.owner = owner
	c.door.conns.known(c.r.Context())
	action, known := access.ParseAction(name)
	if !known {
		return cmq.ErrAction(string(name))
	}
	c.action = action
	return c.run()
}

// parse fills c.params, sorted and without duplicates.
func (c *call) parse() error {
	max := c.door.config.Limits.Parameters
	var err error
	if c.r.Method == http.MethodPost {
		if c.params, err = parseForm(c.params, c.body, "body", max); err != nil {
			return err
		}
	}
	if query := c.r.URL.RawQuery; query != "" {
		c.query = append(c.query[:0], query...)
		if c.params, err = parseForm(c.params, c.query, "uri", max); err != nil {
			return err
		}
	}
	auth.Sort(c.params)
	if text, given := auth.Find(c.params, "clientRequestId"); given {
		c.clientID, err = strconv.ParseUint(string(text), 10, 64)
		c.hasClientID = err == nil
	}
	return refuseDuplicates(c.params)
}

// signedPath is the path as it stands on the request line: net/http would decode it.
func signedPath(r *http.Request) string {
	if !strings.HasPrefix(r.RequestURI, "/") { // a whole URL, as sent to proxies
		return r.URL.EscapedPath()
	}
	path, _, _ := strings.Cut(r.RequestURI, "?")
	return path
}

// run calls the action's handler, which leaves the answer in c.out or fails.
func (c *call) run() error {
	switch c.action {
	case access.ReceiveMessage:
		return c.receiveMessage()
	case access.BatchReceiveMessage:
		return c.batchReceiveMessage()
	case access.ReceiveSubscriptionMessage:
		return c.receiveSubscriptionMessage()
	case access.TestSubscription: // takes as long as the endpoint does
		return c.testSubscription(c.r.Context())
	case access.SendMessage:
		return c.sendMessage()
	case access.BatchSendMessage:
		return c.batchSendMessage()
	case access.DeleteMessage:
		return c.deleteMessage()
	case access.BatchDeleteMessage:
		return c.batchDeleteMessage()
	case access.ChangeMessageVisibility:
		return c.changeMessageVisibility()
	case access.BatchChangeMessageVisibility:
		return c.batchChangeMessageVisibility()
	case access.PublishMessage:
		return c.publishMessage()
	case access.BatchPublishMessage:
		return c.batchPublishMessage()
	}
	return c.manage()
}

// manage runs the actions that are not about single messages.
func (c *call) manage() error {
	ctx, cancel := context.WithTimeout(c.r.Context(), c.door.config.CallTimeout)
	defer cancel()
	switch c.action {
	case access.ListPreparedMessages:
		return c.listPreparedMessages(ctx)
	case access.ConfirmTransaction:
		return c.confirmTransaction(ctx)
	case access.OpenSession:
		return c.openSession(ctx)
	case access.CreateQueue:
		return c.createQueue(ctx)
	case access.ListQueue:
		return c.listQueue(ctx)
	case access.GetQueueAttributes:
		return c.getQueueAttributes(ctx)
	case access.SetQueueAttributes:
		return c.setQueueAttributes(ctx)
	case access.DeleteQueue:
		return c.onQueue(ctx, c.backend().DeleteQueue)
	case access.ClearQueue:
		return c.onQueue(ctx, c.backend().ClearQueue)
	case access.UnbindDeadLetterQueue:
		return c.onQueue(ctx, c.backend().UnbindDeadLetter)
	case access.RewindQueue:
		return c.rewindQueue(ctx)
	case access.ListDeadLetterSourceQueues:
		return c.listDeadLetterSourceQueues(ctx)
	case access.QueryQueueRoute:
		return c.queryQueueRoute(ctx)
	}
	return c.runOnTopic(ctx)
}

func (c *call) backend() Backend { return c.door.config.Backend }

// onQueue does the actions that take the name of a queue and answer nothing.
func (c *call) onQueue(ctx context.Context, do func(ctx context.Context, owner, name string) error) error {
	name, err := c.queue("queueName")
	if err != nil {
		return err
	}
	if err := do(ctx, c.owner, name); err != nil {
		return err
	}
	c.envelope(nil)
	return nil
}

// refuse answers with the error of the catalogue that stands for err, and logs what is the server's fault.
func (c *call) refuse(err error) {
	refusal, internal := access.Refusal(c.action, err)
	if internal && c.r.Context().Err() == nil {
		c.door.logFailure(c, err)
	}
	c.envelope(refusal)
}

// logFailure writes at most one line a second: when the server is in trouble, every request may fail.
func (d *Door) logFailure(c *call, err error) {
	now := time.Now().Unix()
	if last := d.lastFailure.Load(); last != now && d.lastFailure.CompareAndSwap(last, now) {
		d.config.Logger.Warn("a request failed", "action", c.action.String(), "request_id", c.id, "error", err)
	}
}
