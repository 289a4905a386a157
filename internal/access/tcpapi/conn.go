package tcpapi

import (
	"errors"
	"fmt"
	"net"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/opencmq/cmq/internal/access"
	"github.com/opencmq/cmq/internal/auth"
	"github.com/opencmq/cmq/internal/cmq"
)

// conn is one connection.
type conn struct {
	door   *Door
	id     uint64 // number of the connection, unique in this process
	net    net.Conn
	reader *frameReader
	out    outbox
	asked  int64 // number of the last question; under out.mu

	// Only the reader uses these.
	session   *auth.Session // nil: nobody has said who it is
	attempts  int           // to say so that failed
	envelope  envelope
	views     views
	queueName string    // the valid name that was used last
	producer  uint64    // number for its prepared messages; 0: it has sent none
	paced     time.Time // when the read deadline was set last

	mu     sync.Mutex
	room   sync.Cond // something ended or was written, or the connection did
	calls  chain
	polls  chain
	bytes  int // of bodies in calls
	closed bool
	alarm  time.Time
	timer  *time.Timer

	draining atomic.Bool  // nothing more is read; set under mu
	owed     atomic.Int32 // requests that have ended and are not answered yet
}

func newConn(d *Door, id uint64, nc net.Conn) *conn {
	c := &conn{door: d, id: id, net: nc}
	c.room.L = &c.mu
	c.calls.init()
	c.polls.init()
	c.out = outbox{batches: &d.batches, wake: make(chan struct{}, 1)}
	c.reader = newFrameReader(nc, &d.chunks, maxFrameBefore, c.pace)
	return c
}

// maxFrameBefore is the largest frame of a connection that has not said who it is: ids and a signature.
const maxFrameBefore = 4 << 10

// Bounds of one connection. Where one is reached, nothing is read until there is room again.
const (
	maxCalls   = 8192     // requests that are no polls which wait
	maxBytes   = 32 << 20 // of bodies in requests
	maxWaiting = 4 << 20  // of answers to be written
)

// A connection has at most so many polls, a client's hundred queues with its thirty-one each; more are refused. And it
// is closed when so many bytes of answers wait, which polls may bring while nothing is read.
const (
	maxPolls  = 4096
	maxUnread = 64 << 20
)

var (
	errTooLong  = errors.New("the backend did not answer in time")
	errDrained  = errors.New("the server is stopping")
	errNotRead  = errors.New("the client does not read its answers")
	errAttempts = errors.New("too many failed attempts to log in")
)

// serve runs the connection to its end.
func (c *conn) serve() {
	written := make(chan error, 1)
	go func() { written <- c.write() }()
	err := c.read()
	if err == errDrained || err == errAttempts {
		c.out.end() // what was answered is written
	} else {
		c.net.Close()
		c.close()
		c.lost(handedOf(c.out.refuse()))
	}
	<-written
	c.net.Close()
	c.close()
	c.lost(handedOf(c.out.refuse()))
	c.door.ended(c, err)
}

func handedOf(b *batch) []delivered {
	if b == nil {
		return nil
	}
	return b.handed
}

// write writes until the end. A connection that cannot be written is closed.
func (c *conn) write() error {
	err := c.out.run(c.net, c.lost, c.wake)
	if err != nil {
		c.abandon() // the reader may be waiting for room that nobody makes any more
	}
	return err
}

// wake lets the reader look whether there is room.
func (c *conn) wake() {
	c.mu.Lock()
	c.room.Signal()
	c.mu.Unlock()
}

// read handles frames until the connection ends, or the server does.
func (c *conn) read() (err error) {
	defer func() {
		if broken := recover(); broken != nil {
			c.door.config.Logger.Error("BUG: a frame made the TCP door panic", "panic", broken, "stack", string(debug.Stack()))
			err = fmt.Errorf("BUG: %v", broken)
		}
		c.reader.drop()
	}()
	for {
		if err := c.waitForRoom(); err != nil {
			return err
		}
		frame, own, err := c.reader.next()
		if err == nil {
			err = c.handle(frame, own)
		}
		if err != nil {
			if c.draining.Load() {
				return c.drained()
			}
			return err
		}
	}
}

// waitForRoom waits while too much is under way.
func (c *conn) waitForRoom() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for !c.closed && !c.draining.Load() && (c.calls.n >= maxCalls || c.bytes >= maxBytes || c.out.waiting() >= maxWaiting) {
		c.room.Wait()
	}
	if c.closed {
		return net.ErrClosed
	}
	return nil
}

// pace sets the deadline for the next frame, or keeps one that is young. Until it has said who it is, a connection has
// one deadline for all.
func (c *conn) pace() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.draining.Load() {
		return errDrained
	}
	now, idle := time.Now(), c.door.config.IdleTimeout
	if c.session == nil || now.Sub(c.paced) < idle/4 {
		return nil
	}
	c.paced = now
	return c.net.SetReadDeadline(now.Add(idle))
}

// drain lets the connection end: nothing more is read, polls that wait are over, and what is under way is answered.
func (c *conn) drain() {
	c.mu.Lock()
	c.draining.Store(true)
	c.net.SetReadDeadline(time.Unix(1, 0))
	polls := c.polls.all()
	for _, r := range polls {
		c.endLocked(r)
	}
	c.room.Signal()
	c.mu.Unlock()
	for _, r := range polls {
		r.expired()
	}
}

// drained waits for the answers of what is under way. Whoever is out of patience closes the connection.
func (c *conn) drained() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for !c.closed && c.calls.n+c.polls.n+int(c.owed.Load()) > 0 {
		c.room.Wait()
	}
	if c.closed {
		return net.ErrClosed
	}
	return errDrained
}

// abandon closes the connection from outside of its reader, which does the rest.
func (c *conn) abandon() {
	c.net.Close()
	c.mu.Lock()
	c.closed = true
	c.room.Signal()
	c.mu.Unlock()
}

// close ends what is under way: nobody will read an answer.
func (c *conn) close() {
	c.mu.Lock()
	c.closed = true
	requests := append(c.calls.all(), c.polls.all()...)
	for _, r := range requests {
		c.endLocked(r)
	}
	if c.timer != nil {
		c.timer.Stop()
	}
	c.mu.Unlock()
	for _, r := range requests {
		if r.pending != nil {
			r.pending.Cancel()
		}
		if r.poll != nil {
			c.release(r.owner, r.name, r.poll.take())
		}
	}
}

// handle carries out one frame. An error ends the connection.
func (c *conn) handle(frame []byte, own bool) error {
	e := &c.envelope
	if err := e.parse(frame); err != nil {
		return err
	}
	switch {
	case e.cmd == cmdAuth:
		return c.auth()
	case c.session == nil || !c.door.verifier.Holds(c.session):
		c.session = nil
		c.plain(head{e.seqno, e.cmd, resultNotAuthorized, textNotAuthorized})
		return nil
	}
	switch e.cmd {
	case cmdSend, cmdBatchSend:
		if !own {
			e.own() // the Backend keeps bodies
		}
		c.send()
		c.views.send = sendView{} // the connection does not keep bodies
	case cmdReceive, cmdBatchReceive:
		c.receive()
	case cmdDelete, cmdBatchDelete:
		c.delete()
	case cmdPublish, cmdBatchPublish:
		if !own {
			e.own()
		}
		c.publish()
	case cmdHeartbeat:
		c.plain(head{seqno: e.seqno, cmd: e.cmd})
	case cmdConfirm:
		c.confirm()
	case cmdChangeVisibility:
		c.changeVisibility()
	case cmdStopWaiting:
		c.stopWaiting()
	case cmdOpenSession:
		c.openSession()
	default:
		c.plain(refusal(e.seqno, e.cmd, cmq.ErrAction(strconv.Itoa(int(e.cmd)))))
	}
	return nil
}

// newRequest makes the request of the frame that is being handled.
func (c *conn) newRequest(action access.Action) *request {
	e := &c.envelope
	return &request{c: c, owner: c.session.Owner(), seqno: e.seqno, cmd: e.cmd, oneWay: e.oneWay != 0, action: action, deadline: c.reader.now.Add(c.door.config.CallTimeout)}
}

// body reads the body of the frame that is being handled.
func (c *conn) body(num protowire.Number, name string, v view) *cmq.Error {
	found, err := c.envelope.read(num, v)
	switch {
	case err != nil:
		return cmq.ErrParameters
	case !found:
		return cmq.ErrParameterMissing(name)
	}
	return nil
}

// queue checks the name of a queue. A client uses few, so the last one is remembered.
func (c *conn) queue(name []byte, given bool) (string, *cmq.Error) {
	switch {
	case !given:
		return "", cmq.ErrParameterMissing("queue_name")
	case c.queueName != "" && string(name) == c.queueName:
	case !cmq.ValidName(name):
		return "", cmq.ErrQueueName
	default:
		c.queueName = string(name)
	}
	return c.queueName, nil
}

// plain answers without a body.
func (c *conn) plain(h head) {
	if b := c.out.open(); b != nil {
		b.plain(h)
	}
	c.added()
}

// added closes the outbox.
func (c *conn) added() {
	if c.out.close() > maxUnread {
		c.door.config.Logger.Debug("a connection is closed", "remote", c.net.RemoteAddr(), "error", errNotRead)
		c.net.Close()
	}
}

// lost releases what was to be written to a client that has gone.
func (c *conn) lost(list []delivered) {
	for i := range list {
		c.releaseHandles(list[i].owner, list[i].queue, list[i].handles)
	}
}

// release gives messages back that nobody got.
func (c *conn) release(owner, queue string, messages []cmq.Message) {
	if len(messages) > 0 {
		c.releaseHandles(owner, queue, handlesOf(messages))
	}
}

func handlesOf(messages []cmq.Message) []cmq.Handle {
	handles := make([]cmq.Handle, len(messages))
	for i := range messages {
		handles[i] = messages[i].Handle
	}
	return handles
}

func (c *conn) releaseHandles(owner, queue string, handles []cmq.Handle) {
	c.door.config.Backend.StartRelease(owner, queue, handles, func(err error) {
		var refused *cmq.Error
		if err != nil && !errors.As(err, &refused) {
			c.door.logFailure(access.ReceiveMessage, err)
		}
	})
}
