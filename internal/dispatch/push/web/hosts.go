package web

import (
	"cmp"
	"context"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
)

// DefaultPerHost is how many exchanges one host has at once if nothing else is said: far more than a web server needs to be
// busy, and far less than all subscriptions of a topic could open together.
const DefaultPerHost = 256

// hosts bounds the exchanges with each host, of all subscriptions together. Who comes to a host that has enough waits in
// line for it, and for nobody else: there is nothing that hosts share.
type hosts struct {
	mu      sync.Mutex
	most    int // 0: any number
	waiting int
	busy    map[string]*host // those that have exchanges
}

// host is one that is busy. Invariant: nobody waits while running < most.
type host struct {
	running int
	line    []chan struct{} // one for each that waits, closed when it is its turn
}

// enter waits until there is room for one exchange more with the host, or ctx ends. After nil, leave must be called.
func (h *hosts) enter(ctx context.Context, name string) error {
	turn := h.join(name)
	if turn == nil {
		return nil
	}
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
		h.giveUp(name, turn)
		return ctx.Err()
	}
}

// join takes part if there is room, and else a place in the line.
func (h *hosts) join(name string) (turn chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	x := h.busy[name]
	if x == nil {
		x = &host{}
		h.busy[name] = x
	}
	if h.most == 0 || x.running < h.most {
		x.running++
		return nil
	}
	turn = make(chan struct{})
	x.line = append(x.line, turn)
	h.waiting++
	return turn
}

// giveUp leaves the line, or the host if it was its turn just now.
func (h *hosts) giveUp(name string, turn chan struct{}) {
	h.mu.Lock()
	x := h.busy[name]
	i := -1
	if x != nil {
		i = slices.Index(x.line, turn)
	}
	if i >= 0 {
		x.line = slices.Delete(x.line, i, i+1)
		h.waiting--
	}
	h.mu.Unlock()
	if i < 0 {
		h.leave(name)
	}
}

// leave ends an exchange; the first in the line is next.
func (h *hosts) leave(name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	x := h.busy[name]
	if len(x.line) > 0 {
		close(x.line[0])
		x.line = x.line[1:]
		h.waiting--
		return
	}
	if x.running--; x.running == 0 {
		delete(h.busy, name)
	}
}

// hostOf names the host and the port of an endpoint, in one form however the URL writes them.
func hostOf(u *url.URL) string {
	port := cmp.Or(u.Port(), map[string]string{"http": "80", "https": "443"}[u.Scheme])
	return net.JoinHostPort(strings.ToLower(u.Hostname()), port)
}

// LimitHosts sets how many exchanges there are with one host and port at once, as the URLs name them; 0: any number. It is
// called before the first exchange.
func (c *Client) LimitHosts(most int) {
	c.hosts.mu.Lock()
	defer c.hosts.mu.Unlock()
	c.hosts.most = most
}

// Waiting is how many exchanges wait for their host.
func (c *Client) Waiting() int {
	c.hosts.mu.Lock()
	defer c.hosts.mu.Unlock()
	return c.hosts.waiting
}

// keepPerHost is how many connections to one host are kept for later: all that may be used at once, because one that is
// closed after each use costs more than one that is idle for a moment.
func (h *hosts) keepPerHost() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.most == 0 {
		return DefaultPerHost
	}
	return h.most
}
