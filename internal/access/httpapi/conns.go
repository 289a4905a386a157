package httpapi

import (
	"container/list"
	"context"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
)

// conns is all connections of servers made by NewServer.
type conns struct {
	mu    sync.Mutex
	all   map[net.Conn]*list.Element // in strangers; nil: it has signed a request
	perIP map[netip.Addr]int         // all clients without an address (not TCP) share the zero value

	// strangers have not signed a request yet, in order of their coming. When there is no room, the one that has had most
	// time gives way: who knows a key needs only a moment.
	strangers list.List // net.Conn
}

// peer is the other end of a connection. Requests find it in their context.
type peer struct {
	conn  net.Conn
	known atomic.Bool // it has signed a request
}

type peerKey struct{}

func withPeer(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(ctx, peerKey{}, &peer{conn: conn})
}

// connState closes what is beyond the bounds as soon as a connection is accepted, before a byte is read.
func (d *Door) connState(conn net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		if surplus := d.conns.enter(conn, d.config.MaxConns, d.config.MaxConnsPerIP); surplus != nil {
			surplus.Close()
		}
	case http.StateClosed, http.StateHijacked:
		d.conns.leave(conn)
	}
}

// enter counts a connection and gives the one that has to go for it, which is itself if no stranger can. Where it is the
// clients of its address that are too many, only one of them gives way.
func (s *conns) enter(conn net.Conn, most, mostPerIP int) (surplus net.Conn) {
	address := addressOf(conn)
	s.mu.Lock()
	defer s.mu.Unlock()
	if crowd := s.perIP[address] >= mostPerIP; crowd || len(s.all) >= most {
		first := s.strangers.Front()
		if first == nil || crowd && addressOf(first.Value.(net.Conn)) != address {
			return conn
		}
		surplus = first.Value.(net.Conn)
		s.remove(surplus)
	}
	s.all[conn] = s.strangers.PushBack(conn)
	s.perIP[address]++
	return surplus
}

// known takes the connection of a signed request off the strangers.
func (s *conns) known(ctx context.Context) {
	p, ok := ctx.Value(peerKey{}).(*peer)
	if !ok || p.known.Swap(true) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget(p.conn)
}

// forget takes the connection off the strangers if it is one.
func (s *conns) forget(conn net.Conn) {
	if place := s.all[conn]; place != nil {
		s.strangers.Remove(place)
		s.all[conn] = nil
	}
}

// leave forgets a connection that has ended.
func (s *conns) leave(conn net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.remove(conn)
}

// remove counts a connection no more, if it is counted.
func (s *conns) remove(conn net.Conn) {
	if _, counted := s.all[conn]; !counted {
		return
	}
	s.forget(conn)
	delete(s.all, conn)
	address := addressOf(conn)
	if s.perIP[address]--; s.perIP[address] == 0 {
		delete(s.perIP, address)
	}
}

func addressOf(conn net.Conn) netip.Addr {
	if tcp, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
		return tcp.AddrPort().Addr()
	}
	return netip.Addr{}
}

// Conns says how many connections of servers made by NewServer are open and may stay so.
func (d *Door) Conns() int {
	d.conns.mu.Lock()
	defer d.conns.mu.Unlock()
	return len(d.conns.all)
}
