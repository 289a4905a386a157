package guard

import (
	"fmt"
	"net/netip"
	"strings"
)

// Allowed are the ranges of addresses that deliveries may go to although they are refused by default.
type Allowed []netip.Prefix

// ParseAllowed reads ranges such as "10.0.0.0/8" and "fd00::/8"; an address alone stands for itself.
func ParseAllowed(list []string) (Allowed, error) {
	var out Allowed
	for _, s := range list {
		s = strings.TrimSpace(s)
		p, err := netip.ParsePrefix(s)
		if err != nil {
			a, alone := netip.ParseAddr(s)
			if alone != nil || a.Zone() != "" {
				return nil, fmt.Errorf("%q, which is neither a range of addresses, such as 10.0.0.0/8 or fd00::/8, nor an address", s)
			}
			p = netip.PrefixFrom(a, a.BitLen())
		}
		if p.Addr().Is4In6() {
			if p.Bits() < 96 {
				return nil, fmt.Errorf("%q, which mixes IPv4 and IPv6; write the IPv4 range as such", s)
			}
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
		out = append(out, p.Masked())
	}
	return out, nil
}

func (a Allowed) holds(ip netip.Addr) bool {
	for _, p := range a {
		if p.Contains(ip) {
			return true
		}
	}
	return false
}

// special are the ranges that are not the public Internet, after the registries of IANA. For IPv6 only 2000::/3 is given
// out at all; what is outside of it needs no line of its own but for its name.
var special = ranges(`
	0.0.0.0/8          this host
	10.0.0.0/8         private
	100.64.0.0/10      shared by a carrier's customers
	127.0.0.0/8        loopback
	169.254.0.0/16     link-local, also cloud metadata
	172.16.0.0/12      private
	192.0.0.0/24       protocol assignments
	192.0.2.0/24       documentation
	192.88.99.0/24     6to4 relays
	192.168.0.0/16     private
	198.18.0.0/15      benchmarks
	198.51.100.0/24    documentation
	203.0.113.0/24     documentation
	224.0.0.0/4        multicast
	240.0.0.0/4        reserved, and broadcast
	::/128             unspecified
	::1/128            loopback
	::/96              IPv4-compatible
	64:ff9b::/96       NAT64
	64:ff9b:1::/48     NAT64
	100::/64           discard
	2001::/32          Teredo
	2001::/23          protocol assignments
	2001:db8::/32      documentation
	2002::/16          6to4
	3fff::/20          documentation
	5f00::/16          segment routing
	fc00::/7           unique local
	fe80::/10          link-local
	fec0::/10          site-local
	ff00::/8           multicast`)

type namedRange struct {
	netip.Prefix
	name string
}

func ranges(table string) (out []namedRange) {
	for line := range strings.Lines(table) {
		if prefix, name, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			out = append(out, namedRange{netip.MustParsePrefix(prefix), strings.TrimSpace(name)})
		}
	}
	return out
}

var (
	globalIPv6 = netip.MustParsePrefix("2000::/3")
	isatap     = [4]byte{0, 0, 0x5e, 0xfe} // bytes 8 to 11; the first may also be 2
)

// kind says what a range the address belongs to is for; "" if it is an ordinary public address.
func kind(ip netip.Addr) string {
	for _, r := range special {
		if r.Contains(ip) {
			return r.name
		}
	}
	if ip.Is6() {
		b := ip.As16()
		switch {
		case !globalIPv6.Contains(ip):
			return "not given out"
		case [4]byte{b[8] &^ 2, b[9], b[10], b[11]} == isatap:
			return "ISATAP"
		}
	}
	return ""
}
