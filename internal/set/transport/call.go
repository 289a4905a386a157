package transport

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/opencmq/cmq/internal/cmq"
)

// UnreachableError says that a call was not sent, because there is no connection to its node. Nothing
// happened there; errors.Is(err, cmq.ErrDropped) holds.
type UnreachableError struct{ Node cmq.NodeID }

func (e *UnreachableError) Error() string { return peerID(e.Node) + " cannot be reached" }

// Unwrap tells callers who do not know this package that the call may be repeated.
func (e *UnreachableError) Unwrap() error { return cmq.ErrDropped }

// HandlerError is the error that the called node's Handler returned, as text.
type HandlerError struct {
	Node cmq.NodeID
	Text string
}

func (e *HandlerError) Error() string { return peerID(e.Node) + ": " + e.Text }

// calls are the calls on their way over one link, by the number that the reply repeats.
type calls struct {
	mu      sync.Mutex
	last    uint64
	pending map[uint64]*pendingCall
}

type pendingCall struct {
	l    *link
	id   uint64
	done func([]byte, error)
	late func([]byte) // may be nil
	sent atomic.Bool  // the writer has taken it: the peer may have seen it
	gone bool         // cancelled, done was called; under calls.mu
}

// start registers the call and queues the request, under one lock, so that a call is either failed with its
// connection or was never queued.
func (l *link) start(payload []byte, done func([]byte, error), late func([]byte)) (*pendingCall, error) {
	c := &l.calls
	c.mu.Lock()
	defer c.mu.Unlock()
	p := &pendingCall{l: l, id: c.last + 1, done: done, late: late}
	switch l.queue.push(item{typ: typeRequest, id: p.id, payload: payload, call: p}, len(payload)) {
	case pushFull:
		l.t.counters.Dropped.Add(1)
		return nil, fmt.Errorf("calls to %s: %w", peerID(l.to), cmq.ErrBusy)
	case pushShut:
		l.t.counters.Dropped.Add(1)
		return nil, &UnreachableError{l.to}
	}
	c.last = p.id
	c.pending[p.id] = p
	return p, nil
}

// Cancel implements cmq.Pending: it tells the peer that nobody waits for the reply. The call stays on the table until the
// peer answers that, or a reply that was on its way arrives.
func (p *pendingCall) Cancel() {
	if !p.l.calls.giveUp(p) {
		return
	}
	p.l.queue.pushAlways(item{typ: typeCancel, id: p.id})
	p.done(nil, context.Canceled)
}

// giveUp reports false if the call is not waiting any more.
func (c *calls) giveUp(p *pendingCall) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p.gone || c.pending[p.id] != p {
		return false
	}
	p.gone = true
	return true
}

// remove takes the call off the table; nil if it is not there.
func (c *calls) remove(id uint64) *pendingCall {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.pending[id]
	delete(c.pending, id)
	return p
}

// failSent ends the calls whose connection was lost after they may have been seen.
func (l *link) failSent() {
	err := fmt.Errorf("connection to %s: %w", peerID(l.to), cmq.ErrUnknownOutcome)
	failAll(l.calls.takeSent(), err)
}

func (c *calls) takeSent() (taken []*pendingCall) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, p := range c.pending {
		if p.sent.Load() {
			delete(c.pending, id)
			taken = append(taken, p)
		}
	}
	return taken
}

// shut drops what waits to be sent, and refuses more until the queue is opened again.
func (l *link) shut() { failAll(l.drain(), &UnreachableError{l.to}) }

// drain shuts the queue and takes all calls off the table.
func (l *link) drain() (taken []*pendingCall) {
	l.calls.mu.Lock()
	defer l.calls.mu.Unlock()
	l.t.counters.Dropped.Add(uint64(l.queue.close()))
	for id, p := range l.calls.pending {
		delete(l.calls.pending, id)
		taken = append(taken, p)
	}
	return taken
}

// failAll ends calls, without a lock: what hears of it may make the next call.
func failAll(calls []*pendingCall, err error) {
	for _, p := range calls {
		if !p.gone {
			p.done(nil, err)
		}
	}
}

// replied hands a reply frame to its caller.
func (l *link) replied(h header, payload []byte) error {
	if len(payload) < 8 {
		return errFrameSize
	}
	id, body := binary.LittleEndian.Uint64(payload), payload[8:]
	p := l.calls.remove(id)
	switch {
	case p == nil:
		return nil // the connection on which it was asked is another one
	case p.gone:
		if h.flags == replyOK && p.late != nil {
			p.late(body)
		}
	case h.flags == replyOK:
		p.done(body, nil)
	case h.flags == replyBusy:
		p.done(nil, fmt.Errorf("calls to %s: %w", peerID(l.to), cmq.ErrBusy))
	default:
		p.done(nil, &HandlerError{l.to, string(body)})
	}
	return nil
}

// server passes on the calls that arrive on one connection.
type server struct {
	t     *Transport
	from  cmq.NodeID
	queue *queue // replies

	mu      sync.Mutex
	running map[uint64]cmq.Pending // nil: being started, which only the reader sees
}

// errDuplicate is for a call number in use: the peer is not one of ours.
var errDuplicate = errors.New("call number is in use")

func (s *server) request(payload []byte) error {
	if len(payload) < 8 {
		return errFrameSize
	}
	id := binary.LittleEndian.Uint64(payload)
	switch err := s.enter(id); err {
	case nil:
		s.t.counters.CallsServed.Add(1)
		s.started(id, s.t.cfg.Handler.Call(s.from, payload[8:], func(reply []byte, err error) bool { return s.reply(id, reply, err) }))
	case cmq.ErrBusy:
		s.queue.pushAlways(item{typ: typeReply, flags: replyBusy, id: id})
	default:
		return err
	}
	s.queue.waitForRoom() // a peer that does not read its replies is not read from either
	return nil
}

func (s *server) enter(id uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.running[id]; known {
		return errDuplicate
	}
	if len(s.running) >= s.t.cfg.MaxCalls {
		return cmq.ErrBusy
	}
	s.running[id] = nil
	return nil
}

// started keeps what ends the call, unless it has been answered already.
func (s *server) started(id uint64, p cmq.Pending) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, runs := s.running[id]; runs {
		s.running[id] = p
	}
}

// reply queues the reply. It reports false if nobody waits for it any more.
func (s *server) reply(id uint64, reply []byte, err error) bool {
	if _, wanted := s.finish(id); !wanted {
		return false
	}
	it := item{typ: typeReply, flags: replyOK, id: id, payload: reply}
	switch {
	case err != nil:
		it.flags, it.payload = replyFailed, []byte(err.Error())
	case len(reply) > maxFrame-8:
		it.flags, it.payload = replyFailed, []byte(errFrameSize.Error())
	}
	return s.queue.pushBeyond(it, len(it.payload))
}

// finish forgets the call. It reports whether the call was still wanted.
func (s *server) finish(id uint64) (p cmq.Pending, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, ok = s.running[id]
	delete(s.running, id)
	return p, ok
}

func (s *server) cancel(payload []byte) error {
	if len(payload) != 8 {
		return errFrameSize
	}
	id := binary.LittleEndian.Uint64(payload)
	if p, runs := s.finish(id); runs {
		p.Cancel()
		s.queue.pushAlways(item{typ: typeReply, flags: replyFailed, id: id})
	}
	return nil
}

// stop cancels all calls.
func (s *server) stop() {
	s.mu.Lock()
	running := s.running
	s.running = nil
	s.mu.Unlock()
	for _, p := range running {
		p.Cancel()
	}
}
