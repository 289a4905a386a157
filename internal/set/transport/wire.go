package transport

import (
	"bufio"
	"fmt"
	"net"
	"runtime"
	"time"

	"github.com/opencmq/cmq/internal/cmq"
)

// wire is one connection after its handshake. One goroutine runs write, another one read.
type wire struct {
	conn     net.Conn
	r        *bufio.Reader
	limit    int // of a payload that arrives
	counters *Counters
}

const (
	readBuffer = 64 << 10  // larger frames are read past it
	flushBytes = 256 << 10 // written in one go, between two looks at the write deadline
)

func newWire(conn net.Conn, silence time.Duration, counters *Counters) *wire {
	p := &paced{Conn: conn, silence: silence, counters: counters}
	return &wire{conn: p, r: bufio.NewReaderSize(p, readBuffer), limit: maxHello, counters: counters}
}

// read gives the next frame. The payload belongs to the caller.
func (w *wire) read() (header, []byte, error) {
	h, payload, err := readFrame(w.r, w.limit)
	if err == nil {
		w.counters.FramesReceived.Add(1)
	}
	return h, payload, err
}

// write writes what comes into q until the connection fails or stop is closed. With ping > 0 it also sends a
// ping that often.
func (w *wire) write(q *queue, ping time.Duration, stop <-chan struct{}) error {
	var tick <-chan time.Time
	if ping > 0 {
		ticker := time.NewTicker(ping)
		defer ticker.Stop()
		tick = ticker.C
	}
	var e encoder
	var items []item
	for {
		select {
		case <-q.wake:
			// Let those who can run queue theirs too: with 64 callers that is a third of the writes.
			runtime.Gosched()
		case <-tick:
			e.plain(typePing, 0, nil)
		case <-stop:
			return net.ErrClosed
		}
		items = q.take(items)
		if err := w.writeItems(&e, items); err != nil {
			return err
		}
	}
}

func (w *wire) writeItems(e *encoder, items []item) error {
	for i := range items {
		if err := e.item(&items[i]); err != nil {
			return err
		}
		if e.waiting() >= flushBytes {
			if err := w.flush(e); err != nil {
				return err
			}
		}
	}
	w.counters.FramesSent.Add(uint64(len(items)))
	return w.flush(e)
}

// flush writes all pieces with as few system calls as the write deadline allows: a slow connection must show
// progress within flushBytes.
func (w *wire) flush(e *encoder) error {
	e.flush()
	defer e.reset()
	for pieces := e.pieces; len(pieces) > 0; {
		n, size := 0, 0
		for n < len(pieces) && (n == 0 || size+len(pieces[n]) <= 2*flushBytes) {
			size += len(pieces[n])
			n++
		}
		if err := w.writePieces(pieces[:n]); err != nil {
			return err
		}
		pieces = pieces[n:]
	}
	return nil
}

func (w *wire) writePieces(pieces [][]byte) error {
	p := w.conn.(*paced)
	if err := p.beforeWrite(); err != nil {
		return err
	}
	if len(pieces) == 1 {
		_, err := p.Conn.Write(pieces[0])
		w.counters.BytesSent.Add(uint64(len(pieces[0])))
		return err
	}
	buffers := net.Buffers(pieces)
	n, err := buffers.WriteTo(p.Conn) // writev on TCP
	w.counters.BytesSent.Add(uint64(n))
	return err
}

// send writes one frame without payload reference at once; for handshakes.
func (w *wire) send(typ uint8, payload []byte) error {
	var e encoder
	e.plain(typ, 0, payload)
	return w.flush(&e)
}

// plain lays out a frame that is just a payload.
func (e *encoder) plain(typ, flags uint8, payload []byte) {
	e.begin(len(payload), copied(payload), typ, flags, 0)
	e.raw(payload)
	e.end()
}

// item lays out the frame of a queued item.
func (e *encoder) item(it *item) error {
	switch it.typ {
	case typeMessage:
		return e.messageFrame(it)
	case typeRequest:
		it.call.sent.Store(true)
	case typePong:
		e.plain(typePong, 0, nil)
		return nil
	}
	e.begin(8+len(it.payload), 8+copied(it.payload), it.typ, it.flags, 0)
	e.u64(it.id)
	e.raw(it.payload)
	e.end()
	return nil
}

func (e *encoder) messageFrame(it *item) error {
	out, err := newOutgoing(&it.msg)
	if err != nil {
		return fmt.Errorf("set %d: snapshot cannot be encoded: %w", it.set, err)
	}
	length, copies := out.sizes()
	if length > maxFrame {
		return fmt.Errorf("set %d: %w: %d bytes", it.set, errFrameSize, length)
	}
	e.begin(length, copies, typeMessage, 0, it.set)
	e.message(out)
	e.end()
	return nil
}

// paced is a connection on which every read and write must make progress within silence. Setting a deadline
// costs about as much as a small write, so an old one is kept while it is still good for three quarters.
type paced struct {
	net.Conn
	silence     time.Duration
	counters    *Counters
	readSet     time.Time // when the read deadline was last set; used by the reader only
	writeSet    time.Time // the same for writes
	readSilence time.Duration
}

func (p *paced) Read(b []byte) (int, error) {
	if now := time.Now(); now.Sub(p.readSet) > p.silence/4 {
		if err := p.Conn.SetReadDeadline(now.Add(max(p.silence, p.readSilence))); err != nil {
			return 0, err
		}
		p.readSet = now
	}
	n, err := p.Conn.Read(b)
	p.counters.BytesReceived.Add(uint64(n))
	return n, err
}

func (p *paced) beforeWrite() error {
	now := time.Now()
	if now.Sub(p.writeSet) <= p.silence/4 {
		return nil
	}
	p.writeSet = now
	return p.Conn.SetWriteDeadline(now.Add(p.silence))
}

// kind is what a connection is for.
type kind uint8

const (
	control kind = iota
	bulk
	call
	kinds
)

func (k kind) String() string {
	switch k {
	case control:
		return "control"
	case bulk:
		return "bulk"
	case call:
		return "call"
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// payloadLimit is the largest payload a connection of this kind may carry.
func (k kind) payloadLimit() int {
	if k == control {
		return maxControl
	}
	return maxFrame
}

// peerID names both ends in messages of errors.
func peerID(id cmq.NodeID) string { return fmt.Sprintf("node %d", id) }
