package httpapi

import (
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// Bounds of a connection. Bodies and answers have deadlines of their own (body.go, reply.go).
const (
	headerTimeout = 5 * time.Second
	idleTimeout   = 6 * time.Minute // a widespread client keeps connections for 5: let it be the one to close
	maxHeader     = 64 << 10        // bytes; a query is part of it
)

// NewServer makes a server for the door. The caller gives it listeners, and stops it.
func (d *Door) NewServer() *http.Server {
	longest := time.Duration(d.config.Limits.PollingWaitSeconds.Max) * time.Second
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Server{
		Handler:                      d,
		Protocols:                    protocols,
		DisableGeneralOptionsHandler: true, // the door answers every method itself
		ReadHeaderTimeout:            headerTimeout,
		WriteTimeout:                 longest + 3*bodyTimeout, // counted from the header on; only a backstop
		IdleTimeout:                  idleTimeout,
		MaxHeaderBytes:               maxHeader,
		ConnState:                    d.connState,
		ErrorLog:                     slog.NewLogLogger(d.config.Logger.Handler(), slog.LevelDebug),
	}
}

// ip is a client's address; all clients without one (not TCP) share the zero value.
type ip = netip.Addr

// connCount counts open connections.
type connCount struct {
	mu    sync.Mutex
	all   int
	perIP map[ip]int
}

// connState closes connections beyond the bounds as soon as they are accepted, before a byte is read.
func (d *Door) connState(conn net.Conn, state http.ConnState) {
	address := addressOf(conn)
	n := &d.conns
	n.mu.Lock()
	defer n.mu.Unlock()
	switch state {
	case http.StateNew:
		n.all++
		n.perIP[address]++
		if n.all > d.config.MaxConns || n.perIP[address] > d.config.MaxConnsPerIP {
			conn.Close() // counted until net/http sees it closed
		}
	case http.StateClosed, http.StateHijacked:
		n.all--
		if n.perIP[address]--; n.perIP[address] == 0 {
			delete(n.perIP, address)
		}
	}
}

func addressOf(conn net.Conn) ip {
	if tcp, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
		return tcp.AddrPort().Addr()
	}
	return ip{}
}

// Conns says how many connections of servers made by NewServer are open.
func (d *Door) Conns() int {
	d.conns.mu.Lock()
	defer d.conns.mu.Unlock()
	return d.conns.all
}
