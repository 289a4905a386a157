package guard

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestEndpointForms(t *testing.T) {
	good := map[string]string{
		"http://example.com":                      "http://example.com",
		"https://example.com/a?b=c#d":             "https://example.com/a?b=c",
		"http://example.com./x":                   "http://example.com/x",
		"http://example.com.:8080/x":              "http://example.com:8080/x",
		"http://xn--bcher-kva.example":            "http://xn--bcher-kva.example",
		"http://93.184.216.34/":                   "http://93.184.216.34/",
		"http://[2606:2800:220:1::1]:8080/":       "http://[2606:2800:220:1::1]:8080/",
		"http://1.example":                        "http://1.example",
		"http://0xdead.example":                   "http://0xdead.example",
		"https://user:secret@example.com/":        "https://user:secret@example.com/",
		"http://127.0.0.1/decided-when-connected": "http://127.0.0.1/decided-when-connected",
	}
	for raw, want := range good {
		u, err := Endpoint(raw)
		require.NoError(t, err, raw)
		require.Equal(t, want, u.String())
	}
	for _, raw := range []string{
		"", "example.com", "//example.com", "http:", "http://", "http://:80", "http://.", "http:example.com",
		"file:///etc/passwd", "gopher://127.0.0.1:70/_x", "ftp://example.com", "javascript:alert(1)", "unix:///run/x",
		"http://a b.example", "http://example.com/a b", "http://example.com/\n", "http://example.com\\@127.0.0.1/", "http://\x00",
		"http://2130706433/", "http://0x7f000001/", "http://0x7f.1/", "http://0X7F.0.0.1/", "http://0177.0.0.1/", "http://017700000001/",
		"http://127.1/", "http://127.0.1/", "http://127.0.0.1./", "http://127.0.0.0x1", "http://256.256.256.256/", "http://1.2.3.4.5/", "http://0x/",
		"http://127.0.0.1%2f/", "http://127%2e0.0.1/", "http://[::1%25lo]/", "http://[127.0.0.1]/", "http://[::1/", "http://::1/", "http://[v1.x]/",
		"http://①②⑦.⓪.⓪.①/", "http://localhost。/", "http://bücher.example/", "http://ⓔxample.com", "http://ex%61mple.com\u202e/",
		"http://a..b/", "http://.example/", "http://example.com:0/", "http://example.com:65536/", "http://example.com:x/",
		"http://example.com:25/", "http://example.com:6379/", "http://example.com:22/",
		"http://" + strings.Repeat("a", 254) + "/",
	} {
		_, err := Endpoint(raw)
		require.Error(t, err, raw)
		require.NotContains(t, err.Error(), "secret")
	}
	_, err := Endpoint("http://user:secret@exa mple/")
	require.NotContains(t, err.Error(), "secret")
}

func TestAddresses(t *testing.T) {
	g := New(Config{})
	for _, ip := range []string{"8.8.8.8", "93.184.216.34", "1.1.1.1", "100.63.255.255", "100.128.0.0", "172.15.0.1", "172.32.0.1", "2606:2800:220:1::1", "2a00:1450:4001:81b::200e"} {
		require.NoError(t, g.Check(netip.AddrPortFrom(netip.MustParseAddr(ip), 80)), ip)
	}
	for _, ip := range []string{
		"127.0.0.1", "127.255.255.254", "0.0.0.0", "0.1.2.3", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1",
		"100.64.0.1", "100.127.255.255", "100.100.100.200", "169.254.169.254", "169.254.0.1", "192.0.0.192", "192.0.2.1", "192.88.99.1", "198.18.0.1", "198.19.255.255",
		"198.51.100.1", "203.0.113.9", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
		"::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::ffff:0:7f00:1",
		"64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::a00:1", "100::1", "2001::1", "2001:0:7f00:1::", "2001:db8::1", "2001:20::1", "2002:7f00:1::", "2002:a9fe:a9fe::1",
		"3fff::1", "5f00::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%lo", "fec0::1", "ff02::1", "4000::1", "2a00::5efe:10.0.0.1", "2a00::200:5efe:10.0.0.1",
	} {
		require.ErrorIs(t, g.Check(netip.AddrPortFrom(netip.MustParseAddr(ip), 80)), ErrRefused, ip)
	}
}

func TestAllowed(t *testing.T) {
	allow, err := ParseAllowed([]string{"10.1.2.3/16", "fd00::/8", "127.0.0.1", "::ffff:192.168.0.0/120", "::1"})
	require.NoError(t, err)
	g := New(Config{Allow: allow})
	for _, ip := range []string{"10.1.9.9", "::ffff:10.1.0.1", "fd12::1", "127.0.0.1", "192.168.0.7", "::1"} {
		require.NoError(t, g.Check(netip.AddrPortFrom(netip.MustParseAddr(ip), 8080)), ip)
	}
	for _, ip := range []string{"10.2.0.1", "127.0.0.2", "192.168.1.7", "fe80::1", "::2"} {
		require.ErrorIs(t, g.Check(netip.AddrPortFrom(netip.MustParseAddr(ip), 8080)), ErrRefused, ip)
	}
	for _, bad := range []string{"", "10.0.0.0/33", "localhost", "10.0.0", "fe80::1%eth0", "::ffff:10.0.0.0/90"} {
		_, err := ParseAllowed([]string{bad})
		require.ErrorContains(t, err, `"`+bad+`"`)
	}
}

// TestOnlyWhatIsAllowed: an agent's guard.
func TestOnlyWhatIsAllowed(t *testing.T) {
	allow, err := ParseAllowed([]string{"10.1.0.0/16", "8.8.8.8"})
	require.NoError(t, err)
	g := New(Config{Allow: allow, Only: true})
	for _, ip := range []string{"10.1.9.9", "8.8.8.8"} {
		require.NoError(t, g.Check(netip.AddrPortFrom(netip.MustParseAddr(ip), 80)), ip)
	}
	for _, ip := range []string{"8.8.4.4", "10.2.0.1", "2a00:1450:4001:81b::200e", "127.0.0.1"} {
		require.ErrorIs(t, g.Check(netip.AddrPortFrom(netip.MustParseAddr(ip), 80)), ErrRefused, ip)
	}
	require.ErrorContains(t, g.Check(netip.MustParseAddrPort("8.8.4.4:80")), "(public)")
}

func TestOwnAddressesAreRefusedWhateverIsAllowed(t *testing.T) {
	allow, err := ParseAllowed([]string{"0.0.0.0/0", "::/0"})
	require.NoError(t, err)
	g := New(Config{Allow: allow, Own: func() []netip.AddrPort {
		return []netip.AddrPort{netip.MustParseAddrPort("[::]:7673"), netip.MustParseAddrPort("8.8.8.8:7670"), netip.MustParseAddrPort("127.0.0.1:7671")}
	}})
	for _, at := range []string{"127.0.0.1:7673", "[::1]:7673", "0.0.0.0:7673", "[::ffff:127.0.0.1]:7673", "8.8.8.8:7670", "[::ffff:8.8.8.8]:7670", "127.0.0.1:7671"} {
		require.ErrorIs(t, g.Check(netip.MustParseAddrPort(at)), ErrRefused, at)
	}
	for _, at := range []string{"8.8.8.8:7673", "8.8.4.4:7670", "127.0.0.1:7670", "127.0.0.2:7671"} {
		require.NoError(t, g.Check(netip.MustParseAddrPort(at)), at)
	}
	all, err := net.InterfaceAddrs()
	require.NoError(t, err)
	for _, a := range all {
		if ip, ok := netip.AddrFromSlice(a.(*net.IPNet).IP); ok {
			require.ErrorIs(t, g.Check(netip.AddrPortFrom(ip, 7673)), ErrRefused, ip)
		}
	}
}

// names is a DNS server on loopback that answers each question for an IPv4 address with the next of the list, and then
// with the last one.
func names(t *testing.T, answers ...string) *net.Resolver {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	go func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			reply, isA := answer(buf[:n], answers[0])
			if isA && len(answers) > 1 {
				answers = answers[1:]
			}
			conn.WriteTo(reply, from)
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

// answer makes a DNS answer with one A record, which is valid for no time; none to other questions.
func answer(query []byte, ip string) (reply []byte, isA bool) {
	end := 12
	for query[end] != 0 {
		end += int(query[end]) + 1
	}
	question := query[12 : end+5]
	isA = binary.BigEndian.Uint16(question[len(question)-4:]) == 1
	count := byte(0)
	if isA {
		count = 1
	}
	reply = append(reply, query[0], query[1], 0x81, 0x80, 0, 1, 0, count, 0, 0, 0, 0)
	reply = append(reply, question...)
	if isA {
		a := netip.MustParseAddr(ip).As4()
		reply = append(reply, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4)
		reply = append(reply, a[:]...)
	}
	return reply, isA
}

// get makes a request for the path with a new connection to a host that must be resolved.
func get(g *Guard, host, port string) (string, error) {
	tr := &http.Transport{DialContext: g.Dialer().DialContext, DisableKeepAlives: true}
	resp, err := (&http.Client{Transport: tr}).Get("http://" + host + ":" + port + "/")
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}

// TestNameThatIsResolvedAnew: 127.0.0.2 stands for a public address here.
func TestNameThatIsResolvedAnew(t *testing.T) {
	l, err := net.Listen("tcp4", "0.0.0.0:0")
	require.NoError(t, err)
	hits := 0
	s := &httptest.Server{Listener: l, Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		hits++
		io.WriteString(w, "reached")
	})}}
	s.Start()
	defer s.Close()
	u, err := url.Parse(s.URL)
	require.NoError(t, err)
	allow, err := ParseAllowed([]string{"127.0.0.2"})
	require.NoError(t, err)

	g := New(Config{Allow: allow, Resolver: names(t, "127.0.0.2", "127.0.0.1")})
	got, err := get(g, "rebinding.example", u.Port())
	require.NoError(t, err)
	require.Equal(t, "reached", got)
	_, err = get(g, "rebinding.example", u.Port())
	require.ErrorIs(t, err, ErrRefused)
	require.Equal(t, 1, hits)

	for _, ip := range []string{"169.254.169.254", "10.0.0.1", "0.0.0.0", "127.0.0.1"} {
		_, err := get(New(Config{Allow: allow, Resolver: names(t, ip)}), "inside.example", u.Port())
		require.ErrorIs(t, err, ErrRefused, ip)
	}
	require.Equal(t, 1, hits)
}

func TestOnlyTCP(t *testing.T) {
	g := New(Config{})
	require.ErrorIs(t, g.Control(t.Context(), "udp4", "8.8.8.8:53", nil), ErrRefused)
	require.ErrorIs(t, g.Control(t.Context(), "unix", "/run/docker.sock", nil), ErrRefused)
	require.ErrorIs(t, g.Control(t.Context(), "tcp4", "example.com:80", nil), ErrRefused)
	require.NoError(t, g.Control(t.Context(), "tcp4", "8.8.8.8:443", nil))
}

func FuzzEndpoint(f *testing.F) {
	for _, s := range []string{"http://example.com/", "https://u:p@[::1]:80/x?y#z", "http://0x7f.1", "http://a.:1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		u, err := Endpoint(raw)
		if err != nil {
			return
		}
		again, err := Endpoint(u.String())
		require.NoError(t, err)
		require.Equal(t, u.String(), again.String())
		require.NotEmpty(t, u.Hostname())
	})
}
