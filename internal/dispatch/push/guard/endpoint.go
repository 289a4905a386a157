package guard

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// textPorts are ports whose services speak line by line and would take parts of a request for their own commands. The
// list is that of browsers, as far as these services matter.
var textPorts = []uint16{
	1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101, 102, 103, 104, 109, 110,
	111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427, 465, 512, 513, 514, 515, 526, 530, 531, 532,
	540, 548, 554, 556, 563, 587, 601, 636, 989, 990, 993, 995, 1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061,
	6000, 6379, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080, 11211,
}

// Endpoint reads the URL of a subscription. It refuses what is no http or https URL of a host, and forms of hosts that
// programs read differently: numbers that are no dotted quad, letters beyond ASCII (international names are written
// xn--…), escapes. Errors do not repeat the URL, which may hold a password.
func Endpoint(raw string) (*url.URL, error) {
	if strings.ContainsFunc(raw, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '\\' }) {
		return nil, fmt.Errorf("the endpoint has blanks, control characters or backslashes")
	}
	u, err := url.Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("the endpoint is not a URL")
	}
	if u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("the endpoint's scheme is not http or https")
	}
	if u.Opaque != "" {
		return nil, fmt.Errorf("the endpoint has no // before its host")
	}
	if err := checkHost(u); err != nil {
		return nil, err
	}
	u.Fragment, u.RawFragment = "", ""
	return u, checkPort(u.Port())
}

// checkHost looks at the form of the host and cuts off the dot of a complete name.
func checkHost(u *url.URL) error {
	host := u.Hostname()
	if strings.HasPrefix(u.Host, "[") {
		if ip, err := netip.ParseAddr(host); err != nil || !ip.Is6() || ip.Zone() != "" {
			return fmt.Errorf("the endpoint's host is not an IPv6 address without zone")
		}
		return nil
	}
	bare := strings.TrimSuffix(host, ".")
	if bare == "" {
		return fmt.Errorf("the endpoint has no host")
	}
	if strings.ContainsFunc(bare, func(r rune) bool { return !hostRune(r) }) || strings.Contains(bare, "..") || bare[0] == '.' || len(bare) > 253 {
		return fmt.Errorf("the endpoint's host has other characters than letters, digits, dots, hyphens and underscores")
	}
	if endsInNumber(bare) {
		if ip, err := netip.ParseAddr(bare); err != nil || !ip.Is4() || bare != host {
			return fmt.Errorf("the endpoint's host is a number, but not an IPv4 address of four decimal parts")
		}
	}
	if port := u.Port(); port != "" {
		u.Host = net.JoinHostPort(bare, port)
	} else {
		u.Host = bare
	}
	return nil
}

func hostRune(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '-' || r == '_'
}

// endsInNumber says whether resolvers may take the host for an address: "2130706433", "127.1", "0x7f.1", "1.2.3.4".
func endsInNumber(host string) bool {
	last := host[strings.LastIndexByte(host, '.')+1:]
	if len(last) > 1 && (last[:2] == "0x" || last[:2] == "0X") {
		return !strings.ContainsFunc(last[2:], func(r rune) bool { return !strings.ContainsRune("0123456789abcdefABCDEF", r) })
	}
	return last != "" && !strings.ContainsFunc(last, func(r rune) bool { return r < '0' || r > '9' })
}

func checkPort(port string) error {
	if port == "" {
		return nil
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return fmt.Errorf("the endpoint's port is not a number from 1 to 65535")
	}
	if slices.Contains(textPorts, uint16(n)) {
		return fmt.Errorf("the endpoint's port, %d, is that of another protocol than http", n)
	}
	return nil
}
