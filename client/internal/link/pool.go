package link

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencmq/cmq/client/internal/wire"
)

const (
	// stagger is how long the first address of a list may take before the next is tried as well.
	stagger = 250 * time.Millisecond
	// The pause before another attempt to an address doubles from first to longest; half of it is chance.
	firstPause   = 50 * time.Millisecond
	longestPause = time.Second
)

// Options of a Pool.
type Options struct {
	Dial        func(ctx context.Context, addr string) (net.Conn, error)
	Credentials func(nc net.Conn) wire.Credentials
	Timeout     time.Duration                            // of one attempt to connect and authenticate
	Connections int                                      // to each address; calls take turns
	OnQuery     func(c *Conn, queue string, id uint64)   // runs on the reader and must not block; nil: not wanted
	OnState     func(addr string, up bool, reason error) // a connection was made, broke or could not be made; nil: not wanted
}

// Pool has the connections to all addresses of a service. It is safe for concurrent use.
type Pool struct {
	options Options
	ctx     context.Context // ends with Close
	cancel  context.CancelFunc
	turn    atomic.Uint32
	work    sync.WaitGroup // attempts, and connections that have not ended

	mu      sync.Mutex
	targets map[string]*Target
	closed  bool
}

// Target is one address.
type Target struct {
	addr  string
	slots []slot
}

// Addr is host and port.
func (t *Target) Addr() string { return t.addr }

// slot is one of the connections to an address.
type slot struct {
	pool *Pool
	addr string
	conn atomic.Pointer[Conn] // nil: none is usable

	mu       sync.Mutex
	busy     bool           // an attempt is under way
	waiting  []chan<- error // want to know how it ends
	failures int            // attempts in a row that failed, or connections that broke at once
}

// NewPool makes an empty one.
func NewPool(o Options) *Pool {
	p := &Pool{options: o, targets: make(map[string]*Target)}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p
}

// Target gives the entry of an address. Nothing is dialled yet.
func (p *Pool) Target(addr string) *Target {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.targets[addr]
	if t == nil {
		t = &Target{addr: addr, slots: make([]slot, max(p.options.Connections, 1))}
		for i := range t.slots {
			t.slots[i].pool, t.slots[i].addr = p, addr
		}
		p.targets[addr] = t
	}
	return t
}

// Get gives a connection to the first of the addresses that has one, and else makes one. Addresses before the one
// that is given are tried again in the background. Errors are *Refused, or *Error with Sent false.
func (p *Pool) Get(ctx context.Context, to []*Target, timeout time.Duration) (*Conn, error) {
	turn := p.turn.Add(1)
	if c := p.ready(to, turn); c != nil {
		return c, nil
	}
	return p.wait(ctx, to, turn, timeout)
}

// Ready is Get that does not wait: it gives nil if there is no connection.
func (p *Pool) Ready(to []*Target) *Conn { return p.ready(to, p.turn.Add(1)) }

func (p *Pool) ready(to []*Target, turn uint32) *Conn {
	for i, t := range to {
		if c := t.slot(turn).usable(); c != nil {
			for _, before := range to[:i] {
				before.slot(turn).connect(nil)
			}
			return c
		}
	}
	return nil
}

func (t *Target) slot(turn uint32) *slot { return &t.slots[turn%uint32(len(t.slots))] }

func (s *slot) usable() *Conn {
	if c := s.conn.Load(); c != nil && c.Usable() {
		return c
	}
	return nil
}

// wait makes connections, to one address after the other, and gives the first that is there.
func (p *Pool) wait(ctx context.Context, to []*Target, turn uint32, timeout time.Duration) (*Conn, error) {
	if len(to) == 0 {
		return nil, &Error{Addr: "tcp", Err: errors.New("there is no address to connect to")}
	}
	late := time.NewTimer(timeout)
	defer late.Stop()
	next := time.NewTimer(0)
	defer next.Stop()
	results := make(chan error, len(to))
	var failed error
	for begun, ended := 0, 0; ended < len(to); {
		select {
		case <-next.C:
			if begun < len(to) {
				to[begun].slot(turn).connect(results)
				begun++
				next.Reset(stagger)
			}
		case err := <-results:
			if ended++; err != nil {
				if failed == nil || errors.As(err, new(*Refused)) {
					failed = err
				}
				next.Reset(0)
			}
		case <-late.C:
			return nil, &Error{Addr: to[0].addr, Err: errors.Join(ErrTimeout, failed)}
		case <-ctx.Done():
			return nil, &Error{Addr: to[0].addr, Err: ctx.Err()}
		}
		for _, t := range to[:begun] {
			if c := t.slot(turn).usable(); c != nil {
				return c, nil
			}
		}
	}
	if failed == nil { // a connection was made and broke before it could be used
		failed = &Error{Addr: to[0].addr, Err: ErrEnded}
	}
	return nil, failed
}

// connect sees to it that a connection is made. notify, if not nil, gets the outcome; it must have room.
func (s *slot) connect(notify chan<- error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.usable() != nil {
		if notify != nil {
			notify <- nil
		}
		return
	}
	if notify != nil {
		s.waiting = append(s.waiting, notify)
	}
	if s.busy {
		return
	}
	s.busy = true
	if !s.pool.begin() {
		s.endLocked(&Error{Addr: s.addr, Err: ErrClosed})
		return
	}
	go func() {
		defer s.pool.work.Done()
		s.attempt()
	}()
}

// begin counts a goroutine of the pool, unless the pool is closed.
func (p *Pool) begin() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		p.work.Add(1)
	}
	return !p.closed
}

// endLocked tells everybody how an attempt ended.
func (s *slot) endLocked(err error) {
	s.busy = false
	for _, w := range s.waiting {
		w <- err
	}
	s.waiting = nil
}

// attempt waits as long as earlier failures ask for, and connects.
func (s *slot) attempt() {
	s.mu.Lock()
	failures := s.failures
	s.mu.Unlock()
	err := s.pool.pause(failures)
	var c *Conn
	if err == nil {
		c, err = s.pool.connect(s.addr)
	}
	s.mu.Lock()
	if err == nil {
		s.conn.Store(c)
		s.pool.work.Go(func() { s.watch(c) })
	} else {
		s.failures++
	}
	s.endLocked(err)
	s.mu.Unlock()
	s.pool.state(s.addr, err == nil, err)
}

// watch notes how a connection ends. One that did not last counts as a failure, so that a server that accepts and
// closes is not asked in a tight loop.
func (s *slot) watch(c *Conn) {
	select {
	case <-c.Ended():
	case <-s.pool.ctx.Done():
		c.Close()
	}
	s.mu.Lock()
	s.conn.CompareAndSwap(c, nil)
	if time.Since(c.born) > longestPause {
		s.failures = 0
	} else {
		s.failures++
	}
	s.mu.Unlock()
	s.pool.state(s.addr, false, c.err)
}

func (p *Pool) state(addr string, up bool, reason error) {
	if p.options.OnState != nil && p.ctx.Err() == nil {
		p.options.OnState(addr, up, reason)
	}
}

// pause waits before an attempt.
func (p *Pool) pause(failures int) error {
	if failures == 0 {
		return nil
	}
	d := min(firstPause<<min(failures-1, 10), longestPause) / 2
	t := time.NewTimer(d + rand.N(d))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-p.ctx.Done():
		return &Error{Err: ErrClosed}
	}
}

// connect dials and authenticates.
func (p *Pool) connect(addr string) (*Conn, error) {
	ctx, cancel := context.WithTimeout(p.ctx, p.options.Timeout)
	defer cancel()
	nc, err := p.options.Dial(ctx, addr)
	if err != nil {
		return nil, &Error{Addr: addr, Err: err}
	}
	c := newConn(addr, nc, p.options.OnQuery)
	if err := p.authorize(ctx, c, nc); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func (p *Pool) authorize(ctx context.Context, c *Conn, nc net.Conn) error {
	call := NewCall()
	call.Request = wire.Request{Cmd: wire.Auth, Credentials: p.options.Credentials(nc)}
	if err := c.Do(ctx, call, p.options.Timeout); err != nil {
		return &Error{Addr: c.addr, Err: fmt.Errorf("authentication: %w", err)} // nothing was asked yet
	}
	if r := call.Answer.Result; r != 0 && r != wire.AlreadyAuthorized {
		return &Refused{Addr: c.addr, Code: r, Text: call.Answer.Error}
	}
	return nil
}

// Close ends all connections and waits for them. Calls under way fail.
func (p *Pool) Close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.cancel()
	p.work.Wait()
}
