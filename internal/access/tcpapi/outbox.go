package tcpapi

import (
	"net"
	"runtime"
	"sync"
	"time"

	"github.com/opencmq/cmq/internal/cmq"
)

// batch is frames that are written together: small fields and bodies in its own buffer, large bodies in place.
type batch struct {
	buf    []byte
	cut    int // buf[:cut] is in pieces already
	pieces net.Buffers
	size   int         // of pieces
	handed []delivered // by end
}

// delivered are messages in a batch, to be released if it cannot be written up to end.
type delivered struct {
	end     int
	owner   string
	queue   string
	handles []cmq.Handle
}

// aliasSize is where an own element in writev becomes cheaper than copying.
const aliasSize = 8 << 10

// bytes appends a body.
func (b *batch) bytes(body []byte) {
	if len(body) < aliasSize {
		b.buf = append(b.buf, body...)
		return
	}
	b.flush()
	b.pieces = append(b.pieces, body)
	b.size += len(body)
}

// flush makes a piece of what is in buf and not in one. What follows must not move it.
func (b *batch) flush() {
	if b.cut < len(b.buf) {
		piece := b.buf[b.cut:len(b.buf):len(b.buf)]
		b.pieces = append(b.pieces, piece)
		b.size += len(piece)
		b.cut = len(b.buf)
	}
}

// length is how many bytes are laid out.
func (b *batch) length() int { return b.size + len(b.buf) - b.cut }

// keepBuf is how much of a buffer is kept for the next batch: the answers of one entry's worth of messages fit.
const keepBuf = 1 << 20

func (b *batch) reset() {
	if cap(b.buf) > keepBuf {
		b.buf = nil
	}
	clear(b.pieces[:cap(b.pieces)])
	clear(b.handed)
	*b = batch{buf: b.buf[:0], pieces: b.pieces[:0], handed: b.handed[:0]}
}

// outbox is what waits to be written to one connection. Anybody may add; one goroutine writes.
type outbox struct {
	batches *sync.Pool // shared by all connections: one that has nothing to write has no buffer
	wake    chan struct{}

	mu     sync.Mutex
	next   *batch // nil: nothing waits
	shut   bool   // nothing is taken any more
	ending bool   // the writer ends when nothing waits
}

// open locks the outbox and gives the batch to add to; nil if nothing is taken any more. close follows in any case.
func (o *outbox) open() *batch {
	o.mu.Lock()
	if o.shut {
		return nil
	}
	if o.next == nil {
		o.next, _ = o.batches.Get().(*batch)
		if o.next == nil {
			o.next = new(batch)
		}
	}
	return o.next
}

// close unlocks the outbox and wakes the writer. It gives the bytes that wait.
func (o *outbox) close() (waiting int) {
	if o.next != nil {
		waiting = o.next.length()
	}
	o.mu.Unlock()
	o.signal()
	return waiting
}

func (o *outbox) signal() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// take gives what waits, and whether more may come.
func (o *outbox) take() (b *batch, more bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	b, o.next = o.next, nil
	return b, !o.shut && !(o.ending && b == nil)
}

// waiting is how many bytes wait.
func (o *outbox) waiting() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.next == nil {
		return 0
	}
	return o.next.length()
}

// end lets the writer finish what waits and stop.
func (o *outbox) end() {
	o.mu.Lock()
	o.ending = true
	o.mu.Unlock()
	o.signal()
}

// refuse takes nothing more and gives what will not be written.
func (o *outbox) refuse() *batch {
	o.mu.Lock()
	b := o.next
	o.next, o.shut = nil, true
	o.mu.Unlock()
	o.signal()
	return b
}

// A client must read this much of its answers in this time.
const (
	writePart    = 256 << 10
	writeTimeout = 10 * time.Second
)

// run writes what comes until the outbox ends or the connection breaks. lost gets what could not be written.
func (o *outbox) run(conn net.Conn, lost func([]delivered), written func()) error {
	w := pacedWriter{conn: conn}
	for {
		<-o.wake
		runtime.Gosched() // lets others add theirs: fewer and larger writes
		b, more := o.take()
		if b == nil {
			if !more {
				return nil
			}
			continue
		}
		n, err := w.write(b)
		if err != nil {
			lost(b.after(n))
			return err
		}
		b.reset()
		o.batches.Put(b)
		written()
		if !more {
			return nil
		}
		if o.isEnding() {
			o.signal()
		}
	}
}

func (o *outbox) isEnding() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.ending
}

// after is what was delivered in frames that are not written whole when n bytes are.
func (b *batch) after(n int) []delivered {
	for i := range b.handed {
		if b.handed[i].end > n {
			return b.handed[i:]
		}
	}
	return nil
}

// pacedWriter gives a connection a deadline for every part it writes. Setting one costs about as much as a small write,
// so an old one is kept while it is good for another three quarters.
type pacedWriter struct {
	conn net.Conn
	set  time.Time
}

// write gives how many bytes are written.
func (w *pacedWriter) write(b *batch) (written int, err error) {
	b.flush()
	for pieces := b.pieces; len(pieces) > 0; {
		n, size := 0, 0
		for n < len(pieces) && (n == 0 || size+len(pieces[n]) <= writePart) {
			size += len(pieces[n])
			n++
		}
		part, err := w.writePart(pieces[:n])
		if written += part; err != nil {
			return written, err
		}
		pieces = pieces[n:]
	}
	return written, nil
}

func (w *pacedWriter) writePart(pieces net.Buffers) (int, error) {
	if now := time.Now(); now.Sub(w.set) > writeTimeout/4 {
		if err := w.conn.SetWriteDeadline(now.Add(writeTimeout)); err != nil {
			return 0, err
		}
		w.set = now
	}
	if len(pieces) == 1 {
		return w.conn.Write(pieces[0])
	}
	n, err := pieces.WriteTo(w.conn) // writev on a socket
	return int(n), err
}
