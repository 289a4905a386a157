package transport

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/opencmq/cmq/internal/cmq"
)

// link keeps one outgoing connection to a peer: dials it, dials it again when it is lost, and writes what is
// queued. One goroutine (run) owns it; a second one reads while there is a connection.
//
//	     ┌──────────── failed: queue is shut, wait 10 ms … 1 s ◄────┐
//	     ▼                                                          │
//	connecting ── welcome ──► connected ── lost ──► connecting at once
//
// While connecting for the first time or after a loss, what is sent waits in the queue; after a failed attempt
// it is dropped, and so is everything until the next success: raft repeats itself, and route has other
// replicas to ask.
type link struct {
	t     *Transport
	to    cmq.NodeID
	addr  string
	kind  kind
	queue *queue
	calls calls

	up bool // only control: PeerUp was the last of PeerUp and PeerDown

	mu   sync.Mutex
	conn net.Conn // the connection, while there is one
}

// Waiting times before the next attempt, and how long a connection must live for its loss to be an accident
// rather than a failed attempt.
const (
	backoffMin = 10 * time.Millisecond
	backoffMax = time.Second
	lifeMin    = 100 * time.Millisecond
)

func newLink(t *Transport, to cmq.NodeID, addr string, k kind) *link {
	l := &link{t: t, to: to, addr: addr, kind: k}
	switch k {
	case control:
		l.queue = newQueue(4096, 8<<20)
	case bulk:
		l.queue = newQueue(1<<14, 64<<20)
	case call:
		l.queue = newQueue(1<<16, 64<<20)
	}
	l.calls.pending = make(map[uint64]*pendingCall)
	return l
}

// run keeps the connection until ctx ends.
func (l *link) run(ctx context.Context) {
	defer l.shut()
	defer l.failSent()
	failures := 0
	reported := false
	for ctx.Err() == nil {
		w, err := l.connect(ctx)
		if err == nil {
			reported = false
			began := time.Now()
			err = l.connected(ctx, w)
			if ctx.Err() != nil {
				return
			}
			l.lost(err)
			if time.Since(began) >= lifeMin {
				failures = 0
				continue
			}
		}
		l.shut()
		l.failed(err, &reported)
		failures++
		pause(ctx, backoff(failures))
	}
}

// backoff doubles from backoffMin to backoffMax, with jitter of a half, so that peers do not meet again and
// again.
func backoff(failures int) time.Duration {
	d := backoffMax
	if failures < 8 {
		d = min(backoffMax, backoffMin<<(failures-1))
	}
	return d/2 + rand.N(d/2)
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// connect dials and introduces itself.
func (l *link) connect(ctx context.Context) (*wire, error) {
	ctx, cancel := context.WithTimeout(ctx, l.t.cfg.Handshake)
	defer cancel()
	conn, err := l.t.cfg.Dial(ctx, "tcp", l.addr)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() }) // ends the handshake, whatever it waits for
	w, err := l.introduce(ctx, conn)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return w, nil
}

func (l *link) introduce(ctx context.Context, conn net.Conn) (*wire, error) {
	conn, err := l.t.clientTLS(ctx, conn, l.addr)
	if err != nil {
		return nil, err
	}
	w := newWire(conn, l.t.cfg.Silence, &l.t.counters)
	if l.kind == bulk {
		// A pong waits behind megabytes, at the peer's end of the line; control finds a silent peer
		// sooner and ends this connection too.
		w.conn.(*paced).readSilence = 4 * l.t.cfg.Silence
	}
	return w, w.greet(hello{helloVersion, l.kind, l.t.cfg.Cluster, l.t.cfg.Node, l.to})
}

// connected serves the connection until it fails or ctx ends.
func (l *link) connected(ctx context.Context, w *wire) error {
	l.t.counters.Connects.Add(1)
	l.hold(w.conn)
	defer l.hold(nil)
	l.queue.open()
	l.t.log.Info("peer connected", "peer", uint64(l.to), "kind", l.kind.String(), "addr", l.addr)
	if l.kind == control && !l.up {
		l.up = true
		l.t.cfg.Handler.PeerUp(l.to)
	}
	stop := make(chan struct{})
	var once sync.Once
	var first error
	end := func(err error) {
		once.Do(func() { first = err; close(stop); w.conn.Close() })
	}
	defer context.AfterFunc(ctx, func() { end(net.ErrClosed) })()
	var wg sync.WaitGroup
	wg.Go(func() { end(l.read(w)) })
	end(w.write(l.queue, l.t.cfg.Silence/4, stop))
	wg.Wait()
	return first
}

// hold remembers the connection for drop.
func (l *link) hold(conn net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conn = conn
}

// drop ends the connection that is there, if any.
func (l *link) drop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn != nil {
		l.conn.Close()
	}
}

func (l *link) read(w *wire) error {
	for {
		h, payload, err := w.read()
		switch {
		case err != nil:
			return err
		case h.typ == typePong:
		case h.typ == typeReply && l.kind == call:
			err = l.replied(h, payload)
		default:
			err = errFrameType
		}
		if err != nil {
			return err
		}
	}
}

// lost deals with the end of an established connection.
func (l *link) lost(err error) {
	l.t.counters.Lost.Add(1)
	if damaged(err) {
		l.t.counters.Damaged.Add(1)
	}
	l.t.log.Warn("peer connection lost", "peer", uint64(l.to), "kind", l.kind.String(), "err", err)
	l.failSent()
	if l.kind == control && errors.Is(err, os.ErrDeadlineExceeded) {
		l.t.condemn(l.to)
	}
}

// failed deals with an attempt that brought no connection. It is logged once until the next success.
func (l *link) failed(err error, reported *bool) {
	if l.up && errors.Is(err, syscall.ECONNREFUSED) {
		l.up = false
		l.t.log.Warn("peer process is gone", "peer", uint64(l.to), "addr", l.addr)
		l.t.cfg.Handler.PeerDown(l.to)
	}
	if !*reported {
		*reported = true
		l.t.log.Warn("peer cannot be connected; trying on", "peer", uint64(l.to), "kind", l.kind.String(), "addr", l.addr, "err", err)
	}
}

// damaged tells what arrived wrong from what did not arrive.
func damaged(err error) bool {
	for _, e := range []error{errFrameSize, errFrameSum, errFrameType, errMessage, errDuplicate, errForged} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// quiet is how a connection ends when the peer stops or goes.
func quiet(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, syscall.ECONNRESET)
}
