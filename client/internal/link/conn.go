package link

import (
	"context"
	"errors"
	"io"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencmq/cmq/client/internal/wire"
)

const (
	// maxPending bounds the frames that wait for the socket, in bytes. A caller that finds more waits.
	maxPending = 4 << 20
	// keepOut is the most a write buffer keeps.
	keepOut = 1 << 20
	// pulse is how often deadlines are looked at while calls are under way. A call may take this much longer.
	pulse = 100 * time.Millisecond
	// farewell is how long a receive that was asked to end may take to do so.
	farewell = 200 * time.Millisecond
	// heartbeat is the longest a connection is silent, as the published SDK does it. Servers close silent ones after
	// a minute or more.
	heartbeat = 3 * time.Second
	// silence is how long a server that answers heartbeats may say nothing before it is taken for gone.
	silence = 4 * heartbeat
)

// Conn is one connection. It is safe for concurrent use.
type Conn struct {
	addr    string
	nc      net.Conn
	born    time.Time
	onQuery func(c *Conn, queue string, id uint64)

	mu      sync.Mutex
	out     []byte          // frames that the writer has not taken
	calls   map[int64]*Call // under way, by seqno
	seq     int64           // the last one used
	queued  uint64          // bytes of the stream that were appended to out, ever
	kicked  bool            // kick has a value, or the writer is about to look
	room    room            // who waits until out is taken
	retired bool            // no new calls; close when the last one is answered
	err     error           // set once: the connection is over
	timer   *time.Timer     // runs beat
	fast    bool            // the timer is set to pulse, not to heartbeat
	beaten  time.Duration   // when the last heartbeat was sent, since born
	watches watches         // ends of contexts of started calls

	kick    chan struct{} // wakes the writer
	over    chan struct{} // closed when err is set
	ended   chan struct{} // closed when, after that, no call is under way any more
	running atomic.Int32  // reader and writer

	written atomic.Uint64 // bytes of the stream that the socket took
	wrote   atomic.Int64  // when that was, nanoseconds since born
	heard   atomic.Int64  // when something was read last, nanoseconds since born
	answers atomic.Bool   // the server answers heartbeats
	ending  atomic.Bool   // err is set or retired is: what Usable looks at
}

// newConn starts a connection on nc. It is not authorized yet.
func newConn(addr string, nc net.Conn, onQuery func(c *Conn, queue string, id uint64)) *Conn {
	c := &Conn{addr: addr, nc: nc, born: time.Now(), onQuery: onQuery, calls: make(map[int64]*Call),
		kick: make(chan struct{}, 1), over: make(chan struct{}), ended: make(chan struct{})}
	c.mu.Lock()
	c.timer = time.AfterFunc(heartbeat, c.beat)
	c.mu.Unlock()
	c.running.Store(2)
	go c.write()
	go c.read()
	return c
}

// Addr is the address that was dialled.
func (c *Conn) Addr() string { return c.addr }

// Ended is closed when the connection is over and no call is under way any more.
func (c *Conn) Ended() <-chan struct{} { return c.ended }

// Usable reports whether new calls may be made.
func (c *Conn) Usable() bool {
	return !c.ending.Load()
}

// Close ends the connection. Calls under way fail.
func (c *Conn) Close() {
	c.fail(ErrClosed)
	<-c.ended
}

// Do sends the request of call and waits for its answer, at most for timeout, which is looked at every pulse. An
// error is an *Error; if there is none, the answer may still be a refusal.
func (c *Conn) Do(ctx context.Context, call *Call, timeout time.Duration) error {
	if err := c.enqueue(ctx, call, timeout); err != nil {
		return &Error{Addr: c.addr, Err: err}
	}
	if ctx.Done() == nil { // to wait for one thing costs half as much as to wait for two
		<-call.done
		return call.err
	}
	select {
	case <-call.done:
		return call.err
	case <-ctx.Done():
		return c.abandon(ctx, call)
	}
}

// abandon gives up a call whose context has ended. The answer may come at the same moment and counts then.
//
// A receive is asked to end first: messages it was given would be locked for nobody.
func (c *Conn) abandon(ctx context.Context, call *Call) error {
	if r := &call.Request; (r.Cmd == wire.Receive || r.Cmd == wire.BatchReceive) && c.post(wire.Request{Cmd: wire.StopWaiting, Waiting: r.Seq}) {
		late := time.NewTimer(farewell)
		defer late.Stop()
		select {
		case <-call.done:
			return call.err
		case <-late.C:
		}
	}
	if !c.forget(call) {
		<-call.done
		return call.err
	}
	return &Error{Addr: c.addr, Sent: true, Err: ctx.Err()}
}

// post sends a frame that has no answer, unless the connection is over.
func (c *Conn) post(r wire.Request) bool {
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return false
	}
	c.seq++
	r.Seq = c.seq
	wake := c.appendLocked(&r)
	c.mu.Unlock()
	if wake {
		c.kick <- struct{}{}
	}
	return true
}

// enqueue appends the frame and wakes the writer. It waits for room.
func (c *Conn) enqueue(ctx context.Context, call *Call, timeout time.Duration) error {
	call.started = false
	c.mu.Lock()
	if c.err == nil && !c.retired && c.pendingLocked() >= maxPending {
		if err := c.awaitRoomLocked(ctx, sizeOf(&call.Request), timeout); err != nil {
			c.mu.Unlock()
			return err
		}
	}
	if c.err != nil || c.retired {
		err := c.err
		if err == nil {
			err = ErrNotAuthorized
		}
		c.letInLocked() // those that wait hear of it as well
		c.mu.Unlock()
		return err
	}
	c.seq++
	wake := c.beginLocked(call, c.seq, timeout)
	c.mu.Unlock()
	if wake {
		c.kick <- struct{}{}
	}
	return nil
}

// beginLocked puts a call under way and reports whether the writer must be woken.
func (c *Conn) beginLocked(call *Call, seq int64, timeout time.Duration) (wake bool) {
	call.Request.Seq, call.err = seq, nil
	call.begun = time.Since(c.born)
	call.deadline = call.begun + timeout
	c.calls[seq] = call
	if !c.fast {
		c.fast = true
		c.timer.Reset(pulse)
	}
	wake = c.appendLocked(&call.Request)
	call.end = c.queued
	return wake
}

// appendLocked appends a frame and reports whether the writer must be woken, which is then up to the caller.
func (c *Conn) appendLocked(r *wire.Request) (wake bool) {
	before := len(c.out)
	c.out = wire.Append(c.out, r)
	c.queued += uint64(len(c.out) - before)
	wake = !c.kicked
	c.kicked = true
	return wake
}

// forget takes a call back and reports whether it was still under way; if not, done has a value or gets one.
func (c *Conn) forget(call *Call) bool {
	c.mu.Lock()
	mine := c.calls[call.Request.Seq] == call
	if mine {
		delete(c.calls, call.Request.Seq)
	}
	done := c.doneLocked()
	c.mu.Unlock()
	if done {
		c.fail(ErrNotAuthorized)
	}
	return mine
}

// takeLocked takes the call with this number, if it is under way, to finish it.
func (c *Conn) takeLocked(seq int64) *Call {
	call := c.calls[seq]
	if call != nil {
		delete(c.calls, seq)
		c.watches.leave(call)
	}
	return call
}

// doneLocked reports whether a retired connection has nothing left to do.
func (c *Conn) doneLocked() bool { return c.retired && len(c.calls) == 0 }

// write is the writer: it takes all frames that are there and hands them to the socket in one piece.
func (c *Conn) write() {
	defer c.leave()
	var spare []byte
	for {
		select {
		case <-c.kick:
		case <-c.over:
			return
		}
		// Callers that are about to run append their frames first; one system call then serves them all.
		runtime.Gosched()
		frames := c.take(spare)
		n, err := c.nc.Write(frames)
		c.written.Add(uint64(n))
		if err != nil {
			c.fail(err)
			return
		}
		c.wrote.Store(int64(time.Since(c.born)))
		if spare = frames; cap(spare) > keepOut {
			spare = nil
		}
	}
}

// take gives the pending frames and leaves an empty buffer.
func (c *Conn) take(spare []byte) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	frames := c.out
	c.out, c.kicked = spare[:0], false
	c.letInLocked()
	return frames
}

// beat looks at deadlines and at how long it has been quiet. It runs every pulse while calls are under way, else
// every heartbeat.
func (c *Conn) beat() {
	late, over, due := c.look()
	for _, call := range late {
		// Its frame may still be pending, and is sent then: nobody knows what becomes of it.
		call.err = &Error{Addr: c.addr, Sent: true, Err: ErrTimeout}
		call.finish()
	}
	if over != nil {
		c.fail(over)
	} else if due {
		c.kick <- struct{}{}
	}
}

// look takes back the calls whose time is over and sets the timer for the next look. over: the connection has to end.
// due: a heartbeat was appended and the writer must be woken.
func (c *Conn) look() (late []*Call, over error, due bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return nil, nil, false
	}
	now := time.Since(c.born)
	if c.deafLocked(now) {
		return nil, ErrSilent, false // which fails all calls, with exact knowledge of what was sent
	}
	for seq, call := range c.calls {
		if call.deadline <= now {
			late = append(late, c.takeLocked(seq))
		}
	}
	if c.doneLocked() {
		return late, ErrNotAuthorized, false
	}
	const about = heartbeat - pulse
	quiet := now - time.Duration(min(c.heard.Load(), c.wrote.Load()))
	if quiet >= about && now-c.beaten >= about {
		c.beaten = now
		c.seq++
		due = c.appendLocked(&wire.Request{Seq: c.seq, Cmd: wire.Heartbeat})
	}
	next := heartbeat
	if c.fast = len(c.calls) > 0; c.fast {
		next = pulse
	}
	c.timer.Reset(next)
	return late, nil, due
}

// deafLocked reports whether the server is gone. One that answers heartbeats is when it has said nothing for the time
// of several; of another one it is known only when a call got no answer and nothing else was heard since it was made.
func (c *Conn) deafLocked(now time.Duration) bool {
	heard := time.Duration(c.heard.Load())
	if c.answers.Load() {
		return now-heard > silence
	}
	for _, call := range c.calls {
		if call.deadline <= now && heard <= call.begun {
			return true
		}
	}
	return false
}

// listener is the socket with a note of when it was heard last.
type listener struct{ c *Conn }

func (l listener) Read(p []byte) (int, error) {
	n, err := l.c.nc.Read(p)
	l.c.heard.Store(int64(time.Since(l.c.born)))
	return n, err
}

// read is the reader: it hands each answer to the call with its seqno.
func (c *Conn) read() {
	defer c.leave()
	frames := wire.NewReader(listener{c})
	for {
		body, err := frames.Next()
		if err == nil {
			err = c.answer(body)
		}
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = ErrEnded
			}
			c.fail(err)
			return
		}
	}
}

// answer gives one frame to whom it concerns. An error means that the stream cannot be trusted any more.
func (c *Conn) answer(body []byte) error {
	seq, cmd, err := wire.Head(body)
	switch {
	case err != nil:
		return err
	case cmd == wire.Query:
		return c.query(body)
	case cmd == wire.Heartbeat:
		c.answers.Store(true)
		return nil
	}
	c.mu.Lock()
	call := c.takeLocked(seq)
	done := c.doneLocked()
	c.mu.Unlock()
	if call == nil {
		return nil // too late: its caller has gone
	}
	if err = call.Answer.Decode(body); err != nil {
		call.err = &Error{Addr: c.addr, Sent: true, Err: err}
	} else if call.Answer.Result == wire.NotAuthorized {
		call.err = &Error{Addr: c.addr, Err: ErrNotAuthorized}
		done = c.retire()
	}
	call.finish()
	if done && err == nil {
		return ErrNotAuthorized
	}
	return err
}

// query hands a question about a prepared message on.
func (c *Conn) query(body []byte) error {
	var a wire.Answer
	if err := a.Decode(body); err != nil {
		return err
	}
	if c.onQuery != nil {
		c.onQuery(c, a.Asked.Name, a.Asked.ID)
	}
	return nil
}

// retire lets the calls under way be answered and takes no new ones. It reports whether there are none.
func (c *Conn) retire() (done bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.retired = true
	c.ending.Store(true)
	return c.doneLocked()
}

// fail ends the connection. The first reason counts.
func (c *Conn) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = err
		c.ending.Store(true)
		c.timer.Stop()
		close(c.over)
		c.nc.Close()
	}
}

// leave notes the end of reader or writer. When both have ended it is certain what the socket took, and what is under
// way fails.
func (c *Conn) leave() {
	if c.running.Add(-1) > 0 {
		return
	}
	c.mu.Lock()
	left, err := c.calls, c.err
	for _, call := range left {
		c.watches.leave(call)
	}
	c.calls = nil
	c.mu.Unlock()
	for _, call := range left {
		call.err = &Error{Addr: c.addr, Sent: call.end <= c.written.Load(), Err: err}
		call.finish()
	}
	close(c.ended)
}
