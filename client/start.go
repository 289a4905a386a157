package client

import (
	"context"
	"time"

	"github.com/opencmq/cmq/client/internal/link"
	"github.com/opencmq/cmq/client/internal/wire"
)

// StartSend, StartReceive and StartDelete are Send, ReceiveWith and Delete for programs that have many requests under
// way: they do not wait, and what comes of a request is given to done, which is called exactly once. Over TCP there is no
// goroutine for a request then and none to wake for its answer, so it costs about half the processor time.
//
// done is called by the goroutine that reads the connection or by another one of the Client, never within the call of
// Start. Until it returns nothing more is read from that connection. So it must not wait for anything: for a lock that
// is held for long, a channel without room, a method that waits, Close. Start methods do not wait; done may call them.
//
// Errors, and after which of them the Client tries again by itself, are those of the method that waits; after Close it is
// ErrClosed. When ctx ends, done gets its error at once, of a receive over TCP after at most 200 ms; an answer that came
// before counts.
//
// Nothing but the caller bounds how many requests are under way. One that cannot leave at once has a goroutine until it
// is answered: while there is no connection, while too much waits to be written (4 MiB), before it is tried again, and
// always over HTTP.
//
// An Observer's End is called by the goroutine that calls done, before it.
func (q *Queue) StartSend(ctx context.Context, body string, done func(id string, err error)) {
	if q.c.tcp == nil {
		startAside(ctx, q.c, func(ctx context.Context) (string, error) { return q.Send(ctx, body) }, done)
		return
	}
	s := q.start(ctx, OpSend, 1, wire.Send, "SendMessage")
	s.sent = done
	s.call.Request.Body = body
	s.t.sending(&s.call.Request, &sendOptions{})
	s.run()
}

// StartReceive is ReceiveWith that does not wait for its answer; see StartSend.
func (q *Queue) StartReceive(ctx context.Context, o ReceiveOptions, done func(messages []Message, err error)) {
	if q.c.tcp == nil {
		startAside(ctx, q.c, func(ctx context.Context) ([]Message, error) { return q.ReceiveWith(ctx, o) }, done)
		return
	}
	cmd, action := receiveCommand(o)
	s := q.start(ctx, OpReceive, 0, cmd, action)
	s.received, s.wait = done, patience(o.Wait)
	receiving(&s.call.Request, o)
	s.run()
}

// StartDelete is Delete that does not wait; see StartSend.
func (q *Queue) StartDelete(ctx context.Context, handle string, done func(err error)) {
	if q.c.tcp == nil {
		startAside(ctx, q.c, func(ctx context.Context) (struct{}, error) { return struct{}{}, q.Delete(ctx, handle) },
			func(_ struct{}, err error) { done(err) })
		return
	}
	s := q.start(ctx, OpSettle, 1, wire.Delete, "DeleteMessage")
	s.deleted = done
	h, err := parseHandle(s.action, handle)
	if err != nil {
		go s.end(err)
		return
	}
	s.call.Request.Handle = h
	s.run()
}

// startAside makes a call that waits, on a goroutine of its own.
func startAside[T any](ctx context.Context, c *Client, call func(ctx context.Context) (T, error), done func(T, error)) {
	began := c.aside.run(ctx, func(inner context.Context) {
		v, err := call(inner)
		done(v, c.aside.cause(ctx, err))
	})
	if !began {
		go done(*new(T), ErrClosed)
	}
}

// started is a call over TCP that nobody waits for. It is used again when done was called.
type started struct {
	t    *tcpCarrier
	call *link.Call

	ctx    context.Context // of the caller, and of op
	op     observation
	action string
	wait   time.Duration // how much longer than usual the answer may take

	// One of these is there.
	sent     func(id string, err error)
	received func(messages []Message, err error)
	deleted  func(err error)
}

func newStarted(t *tcpCarrier) *started {
	s := &started{t: t, call: link.NewCall()}
	s.call.Done = s.answered
	return s
}

// start takes a call whose request is still to be filled in.
func (q *Queue) start(ctx context.Context, kind OpKind, count int, cmd wire.Cmd, action string) *started {
	ctx, op := q.begin(ctx, kind, count)
	s := q.c.tcp.starts.Get().(*started)
	s.ctx, s.op, s.action = ctx, op, action
	s.call.Request.Cmd, s.call.Request.Name = cmd, q.name
	return s
}

// run sends the request at once if nothing has to be waited for, else from a goroutine.
func (s *started) run() {
	t, r := s.t, &s.call.Request
	conn := t.pool.Ready(t.routes.known(isPublish(r.Cmd), r.Name))
	if conn != nil && conn.Start(s.ctx, s.call, t.c.timeout+s.wait) {
		return
	}
	began := t.c.aside.run(s.ctx, func(ctx context.Context) { s.endAside(t.do(ctx, s.action, s.call, s.wait, onlyUnsent)) })
	if !began {
		go s.end(ErrClosed)
	}
}

// answered is called by the connection with the outcome of the first attempt.
func (s *started) answered(_ *link.Call, err error) {
	t := s.t
	err = t.outcome(s.action, s.call, err)
	if t.c.mayRepeat(s.ctx, 0, err, onlyUnsent) && t.c.aside.run(s.ctx, func(ctx context.Context) { s.endAside(s.again(ctx, err)) }) {
		return
	}
	s.end(err)
}

// again makes the further attempts, which wait.
func (s *started) again(ctx context.Context, err error) error {
	return s.t.c.repeatAfter(ctx, 0, err, onlyUnsent, func() error { return s.t.attempt(ctx, s.action, s.call, s.wait) })
}

func (s *started) endAside(err error) { s.end(s.t.c.aside.cause(s.ctx, err)) }

// end tells what came of the call, and lets go of s before that: done may start the next one.
func (s *started) end(err error) {
	ctx, op := s.ctx, s.op
	switch {
	case s.sent != nil:
		done := s.sent
		id, err := onlyID(s.action, s.call, err)
		s.put()
		op.endMessage(ctx, id, err)
		done(id, err)
	case s.received != nil:
		done := s.received
		messages, err := s.t.received(ctx, s.action, s.call, err)
		s.put()
		op.received(ctx, messages, err)
		done(messages, err)
	default:
		done := s.deleted
		s.put()
		op.end(ctx, err)
		done(err)
	}
}

func (s *started) put() {
	*s = started{t: s.t, call: s.call}
	if empty(s.call) {
		s.t.starts.Put(s)
	}
}
