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
	done chan callResult // capacity 1: gets one result, unless the call was given up
	sent atomic.Bool     // the writer has taken it: the peer may have seen it
}

type callResult struct {
	payload []byte
	err     error
}

// call sends the request and waits for the reply.
func (l *link) call(ctx context.Context, payload []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	id, p, err := l.begin(payload)
	if err != nil {
		return nil, err
	}
	select {
	case r := <-p.done:
		l.t.pool.Put(p)
		return r.payload, r.err
	case <-ctx.Done():
		l.giveUp(id)
		return nil, ctx.Err()
	}
}

// begin registers the call and queues the request, under one lock, so that a call is either failed with its
// connection or was never queued.
func (l *link) begin(payload []byte) (uint64, *pendingCall, error) {
	p := l.t.pool.Get().(*pendingCall)
	p.sent.Store(false)
	c := &l.calls
	c.mu.Lock()
	defer c.mu.Unlock()
	id := c.last + 1
	switch l.queue.push(item{typ: typeRequest, id: id, payload: payload, call: p}, len(payload)) {
	case pushFull:
		l.t.counters.Dropped.Add(1)
		return 0, nil, fmt.Errorf("calls to %s: %w", peerID(l.to), cmq.ErrBusy)
	case pushShut:
		l.t.counters.Dropped.Add(1)
		return 0, nil, &UnreachableError{l.to}
	}
	c.last = id
	c.pending[id] = p
	return id, p, nil
}

// remove takes the call off the table; nil if it is not there any more.
func (c *calls) remove(id uint64) *pendingCall {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.pending[id]
	delete(c.pending, id)
	return p
}

// giveUp tells the peer that nobody waits for the reply.
func (l *link) giveUp(id uint64) {
	if l.calls.remove(id) != nil {
		l.queue.pushAlways(item{typ: typeCancel, id: id})
	}
}

// failSent ends the calls whose connection was lost after they may have been seen.
func (l *link) failSent() {
	l.calls.mu.Lock()
	defer l.calls.mu.Unlock()
	err := fmt.Errorf("connection to %s: %w", peerID(l.to), cmq.ErrUnknownOutcome)
	for id, p := range l.calls.pending {
		if p.sent.Load() {
			delete(l.calls.pending, id)
			p.done <- callResult{err: err}
		}
	}
}

// shut drops what waits to be sent, and refuses more until the queue is opened again.
func (l *link) shut() {
	l.calls.mu.Lock()
	defer l.calls.mu.Unlock()
	l.t.counters.Dropped.Add(uint64(l.queue.close()))
	for id, p := range l.calls.pending {
		delete(l.calls.pending, id)
		p.done <- callResult{err: &UnreachableError{l.to}}
	}
}

// replied hands a reply frame to its caller.
func (l *link) replied(h header, payload []byte) error {
	if len(payload) < 8 {
		return errFrameSize
	}
	id, body := binary.LittleEndian.Uint64(payload), payload[8:]
	p := l.calls.remove(id)
	if p == nil {
		return nil // given up
	}
	switch h.flags {
	case replyOK:
		p.done <- callResult{payload: body}
	case replyBusy:
		p.done <- callResult{err: fmt.Errorf("calls to %s: %w", peerID(l.to), cmq.ErrBusy)}
	default:
		p.done <- callResult{err: &HandlerError{l.to, string(body)}}
	}
	return nil
}

// server runs the calls that arrive on one connection.
type server struct {
	t     *Transport
	from  cmq.NodeID
	queue *queue // replies

	mu      sync.Mutex
	running map[uint64]context.CancelFunc
	wg      sync.WaitGroup
}

// errDuplicate is for a call number in use: the peer is not one of ours.
var errDuplicate = errors.New("call number is in use")

func (s *server) request(payload []byte) error {
	if len(payload) < 8 {
		return errFrameSize
	}
	id := binary.LittleEndian.Uint64(payload)
	ctx, cancel := context.WithCancel(context.Background())
	switch err := s.enter(id, cancel); err {
	case nil:
		s.wg.Go(func() { s.run(ctx, id, payload[8:]) })
		return nil
	case cmq.ErrBusy:
		cancel()
		s.queue.pushWait(item{typ: typeReply, flags: replyBusy, id: id}, 0)
		return nil
	default:
		cancel()
		return err
	}
}

func (s *server) enter(id uint64, cancel context.CancelFunc) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.running[id] != nil:
		return errDuplicate
	case len(s.running) >= s.t.cfg.MaxCalls:
		return cmq.ErrBusy
	}
	s.running[id] = cancel
	return nil
}

func (s *server) run(ctx context.Context, id uint64, payload []byte) {
	s.t.counters.CallsServed.Add(1)
	reply, err := s.t.cfg.Handler.Call(ctx, s.from, payload)
	if !s.finish(id) {
		return // cancelled: nobody waits
	}
	it := item{typ: typeReply, flags: replyOK, id: id, payload: reply}
	switch {
	case err != nil:
		it.flags, it.payload = replyFailed, []byte(err.Error())
	case len(reply) > maxFrame-8:
		it.flags, it.payload = replyFailed, []byte(errFrameSize.Error())
	}
	s.queue.pushWait(it, len(it.payload))
}

// finish forgets the call and frees its context. It reports whether the call was still wanted.
func (s *server) finish(id uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	cancel, ok := s.running[id]
	if ok {
		delete(s.running, id)
		cancel()
	}
	return ok
}

func (s *server) cancel(payload []byte) error {
	if len(payload) != 8 {
		return errFrameSize
	}
	s.finish(binary.LittleEndian.Uint64(payload))
	return nil
}

// stop cancels all calls and waits for their handlers.
func (s *server) stop() {
	s.mu.Lock()
	for id, cancel := range s.running {
		delete(s.running, id)
		cancel()
	}
	s.mu.Unlock()
	s.wg.Wait()
}
