package tcpapi

import (
	"container/list"
	"net"
	"net/netip"
	"sync"
)

// census is all connections.
type census struct {
	mu     sync.Mutex
	conns  map[*conn]*list.Element // in strangers; nil: it has said who it is
	perIP  map[netip.Addr]int
	lastID uint64
	closed bool

	// strangers have not said who they are, in order of their coming. When there are too many, the one that has had most
	// time gives way: who knows a key needs only a moment.
	strangers *list.List
}

func newCensus() *census {
	return &census{conns: make(map[*conn]*list.Element), perIP: make(map[netip.Addr]int), strangers: list.New()}
}

// enter counts a connection, if there is room for it. It gives the stranger that has to go.
func (s *census) enter(d *Door, nc net.Conn) (c, evicted *conn) {
	ip := addressOf(nc)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || len(s.conns) >= d.config.MaxConns || s.perIP[ip] >= d.config.MaxConnsPerIP {
		return nil, nil
	}
	s.lastID++
	c = newConn(d, s.lastID, nc)
	if s.strangers.Len() >= d.config.MaxStrangers {
		evicted = s.strangers.Front().Value.(*conn)
	}
	s.conns[c] = s.strangers.PushBack(c)
	s.perIP[ip]++
	if evicted != nil {
		s.knownLocked(evicted) // it is counted until its end, but not chosen again
	}
	return c, evicted
}

// known takes the connection off the strangers.
func (s *census) known(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.knownLocked(c)
}

func (s *census) knownLocked(c *conn) {
	if e := s.conns[c]; e != nil {
		s.strangers.Remove(e)
		s.conns[c] = nil
	}
}

// leave forgets a connection that has ended.
func (s *census) leave(c *conn) {
	ip := addressOf(c.net)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.knownLocked(c)
	delete(s.conns, c)
	if s.perIP[ip]--; s.perIP[ip] == 0 {
		delete(s.perIP, ip)
	}
}

// close lets nobody in any more and gives all who are.
func (s *census) close() []*conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	all := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		all = append(all, c)
	}
	return all
}

// count says how many connections there are, and how many of them are strangers.
func (s *census) count() (all, strangers int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns), s.strangers.Len()
}

func addressOf(conn net.Conn) netip.Addr {
	if tcp, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
		return tcp.AddrPort().Addr()
	}
	return netip.Addr{}
}
