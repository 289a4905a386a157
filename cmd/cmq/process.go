package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/opencmq/cmq/internal/config"
)

// process is one running node, as the commands see it.
type process interface {
	// Ready waits until the node serves: every set has a leader and the doors are open.
	Ready(ctx context.Context) error
	// Failed is closed when the node has ended by itself; Err then says why.
	Failed() <-chan struct{}
	Err() error
	// Stop hands over leadership, ends open requests and closes, at the latest when ctx ends.
	Stop(ctx context.Context) error
}

// starter starts a node. It takes over the listeners, also when it fails.
type starter func(ctx context.Context, o nodeOptions) (process, error)

// nodeOptions are what the commands know about a node.
type nodeOptions struct {
	config    config.Config
	listeners listeners
	cluster   []ports // addresses of all nodes, as far as they are known beforehand
	logger    *slog.Logger
}

// listeners are opened before a node starts: with port 0, and with several nodes in one process, addresses are
// not known before. An address of "off" leaves its listener nil.
type listeners struct {
	HTTP, TCP, Peer, Admin net.Listener
}

// ports is one line of ports.json.
type ports struct {
	Node  uint64 `json:"node"`
	HTTP  string `json:"http"`
	TCP   string `json:"tcp"`
	Peer  string `json:"peer"`
	Admin string `json:"admin"`
}

// listen opens the listeners of c. The error says which address, and what to do if it is taken.
func listen(c *config.Config) (l listeners, err error) {
	for _, one := range []struct {
		name string
		addr string
		to   *net.Listener
	}{{"http", c.HTTP.Addr, &l.HTTP}, {"tcp", c.TCP.Addr, &l.TCP}, {"peer", c.Peer.Addr, &l.Peer}, {"admin", c.Admin.Addr, &l.Admin}} {
		if one.addr == config.Off {
			continue
		}
		if *one.to, err = net.Listen("tcp", one.addr); err != nil {
			l.close()
			if errors.Is(err, syscall.EADDRINUSE) {
				return l, usagef("%s is in use by another program; give another address with --%s-addr, for example --%s-addr 127.0.0.1:0 for a free port", one.addr, one.name, one.name)
			}
			return l, usagef("--%s-addr: %v", one.name, err)
		}
	}
	return l, nil
}

func (l *listeners) close() {
	for _, one := range []net.Listener{l.HTTP, l.TCP, l.Peer, l.Admin} {
		if one != nil {
			one.Close()
		}
	}
}

// ports gives the addresses that were really opened, as others should use them.
func (l *listeners) ports(c *config.Config) ports {
	addr := func(listener net.Listener, conf config.Listener) string {
		if listener == nil {
			return ""
		}
		return conf.Advertised(listener.Addr().String())
	}
	return ports{c.Node.ID, addr(l.HTTP, c.HTTP), addr(l.TCP, c.TCP), addr(l.Peer, c.Peer), addr(l.Admin, c.Admin)}
}

// running starts nodes, waits for a signal or a failure, and stops them.
type running struct {
	app      *app
	nodes    []process
	deadline time.Duration // for stopping
}

// failure is the end of a node by itself: its disk failed or its data is damaged.
type failure struct{ err error }

func (f *failure) Error() string { return "a node has ended by itself: " + f.err.Error() }

func (f *failure) Unwrap() error { return f.err }

// run starts one node for each of options, calls ready once all are, and returns when all have stopped. After the failure of
// one it returns at once, for the process to end: nothing that could be done in order is worth the time in which it answers, and
// to write or close anything on a disk that has just failed may hang.
func (r *running) run(ctx context.Context, options []nodeOptions, ready func() error) error {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	for i, o := range options {
		p, err := r.app.start(ctx, o)
		if err != nil {
			for _, unused := range options[i+1:] {
				unused.listeners.close()
			}
			r.stop(signals)
			return fmt.Errorf("node %d: %w", o.config.Node.ID, err)
		}
		r.nodes = append(r.nodes, p)
	}
	err := r.wait(ctx, signals, ready)
	if failed := new(failure); errors.As(err, &failed) {
		return err
	}
	return errors.Join(err, r.stop(signals))
}

// wait returns nil at the first signal, and an error if a node fails before.
func (r *running) wait(ctx context.Context, signals <-chan os.Signal, ready func() error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	errSignal := errors.New("signal")
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel(nil)
	for _, p := range r.nodes {
		wg.Go(func() {
			select {
			case <-p.Failed():
				cancel(&failure{p.Err()})
			case <-ctx.Done():
			}
		})
	}
	wg.Go(func() {
		select {
		case <-signals:
			cancel(errSignal)
		case <-ctx.Done():
		}
	})
	for _, p := range r.nodes {
		if err := p.Ready(ctx); err != nil && ctx.Err() == nil {
			return err
		}
	}
	if ctx.Err() == nil {
		if err := ready(); err != nil {
			return err
		}
		<-ctx.Done()
	}
	if cause := context.Cause(ctx); cause != errSignal {
		return cause
	}
	fmt.Fprintln(r.app.stderr, "cmq: stopping; once more stops at once")
	return nil
}

// stop stops all nodes at the same time. Another signal ends the process.
func (r *running) stop(signals <-chan os.Signal) error {
	ctx, cancel := context.WithTimeout(context.Background(), r.deadline)
	defer cancel()
	stopped := make(chan struct{})
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case <-signals:
			r.app.exit(exitInterrupted)
		case <-stopped:
		}
	}()
	errs := make([]error, len(r.nodes))
	var wg sync.WaitGroup
	for i, p := range r.nodes {
		wg.Go(func() { errs[i] = p.Stop(ctx) })
	}
	wg.Wait()
	close(stopped)
	<-watched
	return errors.Join(errs...)
}

// newLogger makes the logger of a server.
func newLogger(w io.Writer, c config.Log) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.Level)); err != nil {
		return nil, usagef("log level: %v", err)
	}
	opts := &slog.HandlerOptions{Level: level}
	if c.Format == "json" || c.Format == "auto" && !isTerminal(w) {
		return slog.New(slog.NewJSONHandler(w, opts)), nil
	}
	return slog.New(slog.NewTextHandler(w, opts)), nil
}
