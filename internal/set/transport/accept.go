package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/opencmq/cmq/internal/cmq"
)

// incomingKey: a peer has one connection of each kind; a new one replaces the old one, which may be
// half-open.
type incomingKey struct {
	from cmq.NodeID
	kind kind
}

// maxHandshakes bounds the connections that have not said who they are.
const maxHandshakes = 128

// errForged is for a raft message that names another sender or receiver than its connection does.
var errForged = errors.New("raft message of another sender or for another receiver")

// accept runs until the listener is closed.
func (t *Transport) accept() {
	slots := make(chan struct{}, maxHandshakes)
	failures := 0
	for {
		conn, err := t.cfg.Listener.Accept()
		if errors.Is(err, net.ErrClosed) || t.ctx.Err() != nil {
			return
		}
		if err != nil { // out of file descriptors, most likely
			failures++
			t.refuse(t.cfg.Listener.Addr(), fmt.Errorf("accept: %w", err))
			pause(t.ctx, backoff(failures))
			continue
		}
		failures = 0
		select {
		case slots <- struct{}{}:
			t.wg.Go(func() { t.incoming(conn, func() { <-slots }) })
		default:
			t.refuse(conn.RemoteAddr(), errors.New("too many connections that have not said who they are"))
			conn.Close()
		}
	}
}

// incoming serves one accepted connection to its end. greeted is called when it has said who it is, or failed
// to.
func (t *Transport) incoming(conn net.Conn, greeted func()) {
	defer conn.Close()
	defer context.AfterFunc(t.ctx, func() { conn.Close() })()
	w, h, err := t.handshake(conn)
	greeted()
	defer t.leave(incomingKey{h.from, h.kind}, conn)
	if err != nil {
		if t.ctx.Err() == nil {
			t.refuse(conn.RemoteAddr(), err)
		}
		return
	}
	err = t.serve(w, h)
	if damaged(err) {
		t.counters.Damaged.Add(1)
		t.refusals.log(t.log, conn.RemoteAddr(), "peer connection closed for what arrived on it", err)
	} else if !quiet(err) {
		t.log.Info("peer connection ended", "peer", uint64(h.from), "kind", h.kind.String(), "err", err)
	}
}

// handshake finds out who dialled, and makes conn that peer's connection of its kind.
func (t *Transport) handshake(conn net.Conn) (*wire, hello, error) {
	timer := time.AfterFunc(t.cfg.Handshake, func() { conn.Close() })
	defer timer.Stop()
	enter := func(h hello) bool { return t.enter(incomingKey{h.from, h.kind}, conn) }
	spoken := conn
	if t.cfg.ServerTLS != nil {
		spoken = tls.Server(conn, t.cfg.ServerTLS)
	}
	w := newWire(spoken, t.cfg.Silence, &t.counters)
	h, err := w.answer(t.cfg.Node, t.cfg.Cluster, t.admits, enter)
	return w, h, err
}

// enter makes conn the peer's connection of its kind.
func (t *Transport) enter(key incomingKey, conn net.Conn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.peers[key.from] == nil && key.kind != call { // removed since its hello
		return false
	}
	if old := t.accepted[key]; old != nil {
		old.Close()
	}
	t.accepted[key] = conn
	return true
}

func (t *Transport) leave(key incomingKey, conn net.Conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.accepted[key] == conn {
		delete(t.accepted, key)
	}
}

// serve reads from the connection until it ends, and writes pongs and replies.
func (t *Transport) serve(w *wire, h hello) error {
	q := newQueue(1<<16, 64<<20)
	s := &server{t: t, from: h.from, queue: q, running: make(map[uint64]cmq.Pending)}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		w.write(q, 0, stop) // its error is the reader's too: the connection is closed
		w.conn.Close()
		q.close()
	})
	err := t.readFrom(w, h, s)
	close(stop)
	w.conn.Close()
	q.close()
	s.stop()
	wg.Wait()
	return err
}

func (t *Transport) readFrom(w *wire, hello hello, s *server) error {
	for {
		h, payload, err := w.read()
		switch {
		case err != nil:
			return err
		case h.typ == typePing:
			s.queue.push(item{typ: typePong}, 0) // or not, if the peer does not read
		case h.typ == typeMessage && hello.kind != call:
			err = t.received(hello.from, h.set, payload)
		case h.typ == typeRequest && hello.kind == call:
			err = s.request(payload)
		case h.typ == typeCancel && hello.kind == call:
			err = s.cancel(payload)
		default:
			err = errFrameType
		}
		if err != nil {
			return err
		}
	}
}

func (t *Transport) received(from cmq.NodeID, set cmq.SetID, payload []byte) error {
	m, err := decodeMessage(payload)
	if err != nil {
		return fmt.Errorf("set %d: %w", set, err)
	}
	if r := m.Raft; r != nil && (r.GetFrom() != uint64(from) || r.GetTo() != uint64(t.cfg.Node)) {
		return fmt.Errorf("set %d: %w", set, errForged)
	}
	t.cfg.Handler.Receive(from, set, m)
	return nil
}

// refuse counts and logs an incoming connection that was not taken.
func (t *Transport) refuse(addr net.Addr, err error) {
	t.counters.Refused.Add(1)
	t.refusals.log(t.log, addr, "peer connection refused", err)
}
