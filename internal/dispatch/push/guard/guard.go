package guard

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"time"
)

// ErrRefused says that the guard did not let a connection be made. What it wraps is for the operator, not for whoever
// chose the endpoint, because it tells what a name resolves to in here.
var ErrRefused = errors.New("the address of the endpoint is not allowed")

// Config says what a Guard lets through. The zero value lets nothing but public addresses through.
type Config struct {
	Allow Allowed // beside public addresses
	// Only refuses public addresses too, unless Allow has them.
	Only bool
	// Own gives the addresses this cluster listens on. They are refused whatever Allow says: some of these doors trust
	// whoever can reach them. An unspecified address stands for all addresses of this machine. Nil: none are known.
	Own func() []netip.AddrPort
	// Resolver is for tests; nil is the one of the machine.
	Resolver *net.Resolver
}

// Guard decides which addresses may be connected to. It is safe for concurrent use.
type Guard struct{ cfg Config }

// New makes a guard.
func New(cfg Config) *Guard { return &Guard{cfg} }

// connectTimeout bounds one connection, of all addresses of a name together.
const connectTimeout = 10 * time.Second

// Dialer connects only where the guard allows it.
func (g *Guard) Dialer() *net.Dialer {
	return &net.Dialer{Timeout: connectTimeout, KeepAlive: 30 * time.Second, Resolver: g.cfg.Resolver, ControlContext: g.Control}
}

// Control is the hook of a net.Dialer, called with the address that is about to be connected to.
func (g *Guard) Control(_ context.Context, network, address string, _ syscall.RawConn) error {
	if !strings.HasPrefix(network, "tcp") {
		return fmt.Errorf("%w: network %s", ErrRefused, network)
	}
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%w: %q is no address", ErrRefused, address)
	}
	return g.Check(at)
}

// Check says whether a connection to this address and port may be made; the error wraps ErrRefused.
func (g *Guard) Check(at netip.AddrPort) error {
	ip := at.Addr().Unmap().WithZone("")
	if g.own(netip.AddrPortFrom(ip, at.Port())) {
		return fmt.Errorf("%w: %v is an address of this cluster", ErrRefused, at)
	}
	if g.cfg.Allow.holds(ip) {
		return nil
	}
	what := kind(ip)
	switch {
	case what == "" && !g.cfg.Only:
		return nil
	case what == "":
		what = "public"
	}
	return fmt.Errorf("%w: %v (%s); push.allow lists what is allowed", ErrRefused, at, what)
}

// own reports whether the cluster listens there.
func (g *Guard) own(at netip.AddrPort) bool {
	if g.cfg.Own == nil {
		return false
	}
	for _, o := range g.cfg.Own() {
		if o.Port() != at.Port() {
			continue
		}
		if ip := o.Addr().Unmap(); ip == at.Addr() || ip.IsUnspecified() && local(at.Addr()) {
			return true
		}
	}
	return false
}

// local reports whether the address is one of this machine's.
func local(ip netip.Addr) bool {
	if ip.IsLoopback() || ip.IsUnspecified() {
		return true
	}
	all, err := net.InterfaceAddrs()
	if err != nil {
		return true // nobody knows; to refuse is safe
	}
	for _, a := range all {
		if n, ok := a.(*net.IPNet); ok && n.IP.Equal(ip.AsSlice()) {
			return true
		}
	}
	return false
}
