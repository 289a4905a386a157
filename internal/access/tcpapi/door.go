package tcpapi

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/opencmq/cmq/internal/access"
	"github.com/opencmq/cmq/internal/auth"
	"github.com/opencmq/cmq/internal/cmq"
)

// Config of a Door. Backend, Keys and Producers are required; zero values of the rest mean the defaults named here.
type Config struct {
	Backend access.Starter
	Keys    auth.Keys
	// Producers asks connections what becomes of their prepared messages.
	Producers *access.Producers

	Limits cmq.Limits    // cmq.DefaultLimits
	Logger *slog.Logger  // slog.Default
	Polls  *access.Polls // shared with other doors; 100,000 open polls

	CallTimeout   time.Duration // how long the Backend may try, polls apart: 8 s
	AuthTimeout   time.Duration // how long a connection may take to say who it is: 10 s
	IdleTimeout   time.Duration // how long a client may say nothing, and take for one frame: 60 s
	MaxConns      int           // open connections: 20,000
	MaxConnsPerIP int           // of one address: as MaxConns
	MaxStrangers  int           // of those, connections that have not said who they are: 1,000
	MaxMemory     int64         // bytes of all bodies under way to the Backend; more are refused with 10250: 256 MiB
}

// Door is the TCP door. Its methods may be called concurrently.
type Door struct {
	config   Config
	verifier *auth.Verifier
	maxFrame int
	chunks   chunks
	batches  sync.Pool // *batch

	census  *census
	memory  atomic.Int64
	running sync.WaitGroup // connections

	badFrames   atomic.Uint64
	refused     atomic.Uint64
	lastFailure atomic.Int64 // Unix seconds: one line a second in the log
}

// New makes a Door.
func New(config Config) *Door {
	if config.Limits == (cmq.Limits{}) {
		config.Limits = cmq.DefaultLimits()
	}
	if config.Logger == nil {
		config.Logger = slog.Default()
	}
	if config.Polls == nil {
		config.Polls = access.NewPolls(100_000)
	}
	orDefault(&config.CallTimeout, 8*time.Second)
	orDefault(&config.AuthTimeout, 10*time.Second)
	orDefault(&config.IdleTimeout, 60*time.Second)
	orDefault(&config.MaxConns, 20_000)
	orDefault(&config.MaxConnsPerIP, config.MaxConns)
	orDefault(&config.MaxStrangers, 1000)
	orDefault(&config.MaxMemory, 256<<20)
	return &Door{
		config: config, verifier: auth.NewVerifier(auth.Config{Keys: config.Keys}), census: newCensus(),
		maxFrame: 16*int(config.Limits.MaxMsgSize.Max) + 64<<10,
	}
}

func orDefault[T comparable](value *T, missing T) {
	var zero T
	if *value == zero {
		*value = missing
	}
}

// ErrClosed is what Serve returns after Shutdown.
var ErrClosed = errors.New("the TCP door is closed")

// Serve accepts connections until the listener fails or is closed. Shutdown does not close it.
func (d *Door) Serve(l net.Listener) error {
	for pause := time.Duration(0); ; {
		nc, err := l.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return ErrClosed
		case err != nil: // out of file descriptors, most likely
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			d.config.Logger.Warn("a connection cannot be accepted; trying on", "addr", l.Addr(), "error", err)
			time.Sleep(pause)
			continue
		}
		pause = 0
		d.accept(nc)
	}
}

// accept begins to serve a connection, or closes it.
func (d *Door) accept(nc net.Conn) {
	c, evicted := d.census.enter(d, nc)
	if evicted != nil {
		d.refused.Add(1)
		evicted.net.Close()
	}
	if c == nil {
		d.refused.Add(1)
		nc.Close()
		return
	}
	nc.SetReadDeadline(time.Now().Add(d.config.AuthTimeout))
	d.running.Go(c.serve)
}

// ended takes leave of a connection.
func (d *Door) ended(c *conn, err error) {
	if c.producer != 0 {
		d.config.Producers.Leave(c.producer)
	}
	d.census.leave(c)
	if isBad(err) {
		d.badFrames.Add(1)
	}
	if !quiet(err) {
		d.config.Logger.Debug("a connection of the TCP door is closed", "remote", c.net.RemoteAddr(), "error", err)
	}
}

// isBad tells whether it was the frames of the connection that ended it.
func isBad(err error) bool {
	switch err {
	case errMarker, errShort, errLong, errWire, errGroup:
		return true
	}
	return false
}

// quiet is how a connection ends when the client or the server goes.
func quiet(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, syscall.ECONNRESET) ||
		errors.Is(err, os.ErrDeadlineExceeded) || err == errDrained
}

// Shutdown ends all connections: nothing more is read, polls end, and what is under way is answered. When ctx ends, what
// is left is cut off. The listeners must have been closed.
func (d *Door) Shutdown(ctx context.Context) error {
	conns := d.census.close()
	for _, c := range conns {
		c.drain()
	}
	done := make(chan struct{})
	go func() {
		d.running.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	for _, c := range conns {
		c.abandon()
	}
	<-done
	return ctx.Err()
}

// Stats counts what the door has seen.
type Stats struct {
	Conns     int    // open connections
	Strangers int    // of these, connections that have not said who they are
	Refused   uint64 // connections closed because there were too many
	BadFrames uint64 // connections closed because of what they sent
}

// Stats may be called at any time.
func (d *Door) Stats() Stats {
	conns, strangers := d.census.count()
	return Stats{conns, strangers, d.refused.Load(), d.badFrames.Load()}
}

// logFailure writes at most one line a second: when the server is in trouble, every request may fail.
func (d *Door) logFailure(action access.Action, err error) {
	now := time.Now().Unix()
	if last := d.lastFailure.Load(); last != now && d.lastFailure.CompareAndSwap(last, now) {
		d.config.Logger.Warn("a request failed", "action", action.String(), "error", err)
	}
}
