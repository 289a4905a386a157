package tcptest

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing/synctest"
	"time"
)

// Network is servers by address, without sockets: connections are pipes, so that tests may run in a synctest bubble.
type Network struct {
	Auth bool // handlers get authentications too

	mu       sync.Mutex
	handlers map[string]func(s *Session, r *Request)
	open     map[string][]net.Conn
	dials    map[string]int
	serving  sync.WaitGroup
}

// NewNetwork makes a network without servers.
func NewNetwork() *Network {
	return &Network{handlers: make(map[string]func(*Session, *Request)), open: make(map[string][]net.Conn), dials: make(map[string]int)}
}

// Start makes a server at an address. handle runs on one goroutine for each connection.
func (n *Network) Start(addr string, handle func(s *Session, r *Request)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.handlers[addr] = handle
}

// Stop closes all connections to an address and refuses new ones.
func (n *Network) Stop(addr string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.handlers, addr)
	for _, c := range n.open[addr] {
		c.Close()
	}
	delete(n.open, addr)
}

// Dials counts the attempts to connect to an address, those that were refused included.
func (n *Network) Dials(addr string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.dials[addr]
}

// Dial connects.
func (n *Network) Dial(_ context.Context, addr string) (net.Conn, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.dials[addr]++
	handle := n.handlers[addr]
	if handle == nil {
		return nil, errors.New("connection refused")
	}
	ours, theirs := net.Pipe()
	n.open[addr] = append(n.open[addr], theirs)
	s := &Session{Conn: theirs, N: n.dials[addr]}
	n.serving.Go(func() {
		_ = Serve(s, n.Auth, handle) // connections end in every way here
	})
	return ours, nil
}

// Close stops all servers and waits for their goroutines.
func (n *Network) Close() {
	n.mu.Lock()
	var all []string
	for addr := range n.handlers {
		all = append(all, addr)
	}
	n.mu.Unlock()
	for _, addr := range all {
		n.Stop(addr)
	}
	n.serving.Wait()
}

// Pass lets virtual time go by in a synctest bubble, and everything happen that is due by then.
func Pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}
