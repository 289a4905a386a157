package transport_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"hash/crc32"
	"io"
	"log/slog"
	"math/big"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/set/transport"
	"github.com/opencmq/cmq/test/loopback"
)

// rawFrame writes a frame as frame.go draws it, independently of the code there.
func rawFrame(typ byte, set uint16, payload []byte) []byte {
	b := make([]byte, 12, 12+len(payload))
	binary.LittleEndian.PutUint32(b, uint32(len(payload)))
	b[4] = typ
	binary.LittleEndian.PutUint16(b[6:], set)
	table := crc32.MakeTable(crc32.Castagnoli)
	sum := crc32.Update(crc32.Checksum(b[:8], table), table, payload)
	binary.LittleEndian.PutUint32(b[8:], sum)
	return append(b, payload...)
}

func rawHello(version uint16, kind byte, cluster, from, to uint64) []byte {
	b := []byte("cmqpeer\x00")
	b = binary.LittleEndian.AppendUint16(b, version)
	b = append(b, kind, 0)
	for _, v := range []uint64{cluster, from, to} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	return rawFrame(1, 0, b)
}

const (
	typeWelcome = 2
	typeRefused = 3
	typePing    = 4
	typeMessage = 6
	typeRequest = 7
)

// lonely starts node 1, whose only peer, node 2, is this test.
func lonely(t *testing.T, change func(*transport.Config)) (*transport.Transport, *recorder, *logs) {
	h, l := newRecorder(), &logs{}
	cfg := transport.Config{Node: 1, Cluster: cluster, Listener: listen(t, "127.0.0.1:0"), Handler: h,
		Peers: map[cmq.NodeID]string{1: "unused:1", 2: "127.0.0.1:1"}, Logger: slog.New(slog.NewTextHandler(l, nil))}
	if change != nil {
		change(&cfg)
	}
	tr := transport.New(cfg)
	t.Cleanup(tr.Close)
	return tr, h, l
}

// talk sends bytes on a new connection and returns all that comes back until the other side closes.
func talk(t *testing.T, tr *transport.Transport, say []byte) []byte {
	conn, err := net.Dial("tcp", tr.Addr().String())
	require.NoError(t, err)
	defer conn.Close()
	_, err = conn.Write(say)
	require.NoError(t, err)
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(patience)))
	got, err := io.ReadAll(conn)
	if ne, ok := err.(net.Error); ok {
		require.False(t, ne.Timeout(), "the connection was left open")
	}
	return got
}

func TestStrangersAreRefused(t *testing.T) {
	ok := rawHello(1, 2, cluster, 2, 1)
	damaged := slices.Clone(ok)
	damaged[20]++
	rows := map[string]struct {
		say    []byte
		answer string // in the frame of the refusal; "": no answer at all
	}{
		"wrong cluster":      {rawHello(1, 0, cluster+1, 2, 1), "cluster"},
		"wrong node":         {rawHello(1, 0, cluster, 2, 3), "looks for node 3"},
		"unknown peer":       {rawHello(1, 0, cluster, 9, 1), "node 9 is not a peer"},
		"ourselves":          {rawHello(1, 0, cluster, 1, 1), "node 1 is not a peer"},
		"newer protocol":     {rawHello(2, 0, cluster, 2, 1), "version 2"},
		"unknown kind":       {rawHello(1, 3, cluster, 2, 1), "unknown kind"},
		"damaged hello":      {damaged, ""},
		"http":               {[]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), ""},
		"huge length":        {[]byte{0xff, 0xff, 0xff, 0x7f, 1, 0, 0, 0, 0, 0, 0, 0}, ""},
		"other first frame":  {rawFrame(typeMessage, 1, []byte("x")), ""},
		"raft before hello":  {rawFrame(typeMessage, 1, make([]byte, 100)), ""},
		"hello of no length": {rawFrame(1, 0, nil), ""},
	}
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			tr, h, l := lonely(t, nil)
			for range 3 {
				got := talk(t, tr, row.say)
				if row.answer == "" {
					require.Empty(t, got)
					continue
				}
				require.Equal(t, byte(typeRefused), got[4])
				require.Contains(t, string(got[12:]), row.answer)
			}
			require.Eventually(t, func() bool { return tr.Counters().Refused.Load() == 3 }, patience, time.Millisecond)
			require.Equal(t, 1, l.count("peer connection refused"), "one line a minute for one source")
			require.Empty(t, h.arrivals)
		})
	}
}

// TestDiallerLearnsWhyItIsRefused: the operator of the node that is wrong must find the reason in its log.
func TestDiallerLearnsWhyItIsRefused(t *testing.T) {
	tr, _, _ := lonely(t, nil)
	h, l := newRecorder(), &logs{}
	other := transport.New(transport.Config{Node: 2, Cluster: cluster + 1, Listener: listen(t, "127.0.0.1:0"), Handler: h,
		Peers: map[cmq.NodeID]string{1: tr.Addr().String()}, Logger: slog.New(slog.NewTextHandler(l, nil))})
	defer other.Close()
	const reason = "this node belongs to cluster 0000000000c0ffee"
	require.Eventually(t, func() bool { return l.count(reason) == 3 && tr.Counters().Refused.Load() > 9 }, patience, time.Millisecond)
	require.Equal(t, 3, l.count(reason), "once for each kind of connection")
	_, err := ask(t.Context(), other, 1, nil)
	require.ErrorIs(t, err, cmq.ErrDropped)
	require.EqualError(t, err, "node 1 cannot be reached")
	require.Empty(t, h.peers)
}

func TestSilentStrangerIsClosed(t *testing.T) {
	tr, _, _ := lonely(t, func(c *transport.Config) { c.Handshake = 50 * time.Millisecond })
	require.Empty(t, talk(t, tr, []byte("cmq")))
}

func TestManyStrangersAreBounded(t *testing.T) {
	tr, _, l := lonely(t, func(c *transport.Config) { c.Handshake = patience }) // none of them gives its place up
	for range 300 {
		conn, err := net.Dial("tcp", tr.Addr().String())
		require.NoError(t, err)
		defer conn.Close()
	}
	require.Eventually(t, func() bool { return tr.Counters().Refused.Load() >= 300-128 }, patience, time.Millisecond)
	require.Eventually(t, func() bool { return l.count("too many connections") == 1 }, patience, time.Millisecond)
}

// speak opens a connection of the kind as node 2 and says things after the hello.
func speak(t *testing.T, tr *transport.Transport, kind byte, say []byte) []byte {
	return talk(t, tr, append(rawHello(1, kind, cluster, 2, 1), say...))
}

func TestWhatIsWrongAfterHelloEndsTheConnection(t *testing.T) {
	id := make([]byte, 8)
	broken := rawFrame(typeMessage, 1, []byte{1, 0, 1, 2, 3})
	broken[len(broken)-1]++
	rows := map[string]struct {
		kind byte
		say  []byte
	}{
		"checksum":                 {1, broken},
		"message does not parse":   {0, rawFrame(typeMessage, 1, []byte{1, 255})},
		"message of another node":  {0, rawFrame(typeMessage, 1, rawHeartbeat(1, 3, 6))},
		"message for another":      {0, rawFrame(typeMessage, 1, rawHeartbeat(3, 2, 6))},
		"term beyond reach":        {0, rawFrame(typeMessage, 1, rawHeartbeat(1, 2, 1<<63))},
		"call on control":          {0, rawFrame(typeRequest, 0, id)},
		"message on call":          {2, rawFrame(typeMessage, 1, make([]byte, 18))},
		"call without a number":    {2, rawFrame(typeRequest, 0, id[:7])},
		"frame type of no meaning": {2, rawFrame(200, 0, nil)},
		"control frame too large":  {0, []byte{1, 0, 16, 0, typeMessage, 0, 0, 0, 0, 0, 0, 0}},
		"bulk frame too large":     {1, []byte{1, 0, 0, 5, typeMessage, 0, 0, 0, 0, 0, 0, 0}},
	}
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			tr, h, l := lonely(t, nil)
			got := speak(t, tr, row.kind, row.say)
			require.Equal(t, byte(typeWelcome), got[4])
			require.Len(t, got, 12)
			require.Eventually(t, func() bool { return tr.Counters().Damaged.Load() == 1 }, patience, time.Millisecond)
			require.Eventually(t, func() bool { return l.count("closed for what arrived on it") == 1 }, patience, time.Millisecond)
			require.Empty(t, h.arrivals)
		})
	}
}

// rawHeartbeat is a message payload as message.go draws it, independently of the code there.
func rawHeartbeat(to, from, term uint64) []byte {
	b := append([]byte{2, 1}, make([]byte, 21)...) // version, parts, time, wall, space, sync
	b = append(b, byte(raftpb.MsgHeartbeat), 0)
	for _, v := range []uint64{to, from, term, 0, 0, 0, 0, 0} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	return append(b, make([]byte, 8)...) // no entries, no context
}

func TestRawMessageArrives(t *testing.T) {
	tr, h, _ := lonely(t, nil)
	conn, err := net.Dial("tcp", tr.Addr().String())
	require.NoError(t, err)
	defer conn.Close()
	_, err = conn.Write(append(rawHello(1, 0, cluster, 2, 1), rawFrame(typeMessage, 5, rawHeartbeat(1, 2, 6))...))
	require.NoError(t, err)
	got := next(t, h)
	require.EqualValues(t, 2, got.from)
	require.EqualValues(t, 5, got.set)
	require.EqualValues(t, 6, got.m.Raft.GetTerm())
}

func TestNewConnectionReplacesTheOld(t *testing.T) {
	tr, _, _ := lonely(t, nil)
	dial := func() net.Conn {
		conn, err := net.Dial("tcp", tr.Addr().String())
		require.NoError(t, err)
		_, err = conn.Write(rawHello(1, 0, cluster, 2, 1))
		require.NoError(t, err)
		var welcome [12]byte
		_, err = io.ReadFull(conn, welcome[:])
		require.NoError(t, err)
		require.Equal(t, byte(typeWelcome), welcome[4])
		require.NoError(t, conn.SetReadDeadline(time.Now().Add(time.Minute)))
		return conn
	}
	old := dial()
	for range 200 { // whoever was welcomed later is the newer one, however the two are scheduled
		young := dial()
		_, err := old.Read(make([]byte, 1))
		require.ErrorIs(t, err, io.EOF)
		old.Close()
		old = young
	}
	defer old.Close()
	_, err := old.Write(rawFrame(typePing, 0, nil))
	require.NoError(t, err)
	var pong [12]byte
	_, err = io.ReadFull(old, pong[:])
	require.NoError(t, err)
}

// authority signs certificates for tests.
type authority struct {
	pool *x509.CertPool
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return &authority{pool, cert, key}
}

func (a *authority) node(t *testing.T) tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(2), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.ParseIP(loopback.Host())}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	require.NoError(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func (a *authority) configure(t *testing.T, c *transport.Config) {
	cert := a.node(t)
	c.ServerTLS = &tls.Config{Certificates: []tls.Certificate{cert}, ClientCAs: a.pool, ClientAuth: tls.RequireAndVerifyClientCert}
	c.ClientTLS = &tls.Config{Certificates: []tls.Certificate{cert}, RootCAs: a.pool}
}

func TestMutualTLS(t *testing.T) {
	ca := newAuthority(t)
	a, b, _, hb := pair(t, func(c *transport.Config) { ca.configure(t, c) })
	data := bytes.Repeat([]byte("d"), 300_000)
	a.Send(2, 3, raftMessage(raftpb.MsgApp, 1, data))
	require.True(t, bytes.Equal(data, next(t, hb).m.Raft.Entries[0].Data))
	got, err := ask(t.Context(), a, 2, data)
	require.NoError(t, err)
	require.True(t, bytes.Equal(data, got))
	got, err = ask(t.Context(), b, 1, []byte("small"))
	require.NoError(t, err)
	require.Equal(t, "small", string(got))
}

func TestTLSStrangers(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	tr, _, l := lonely(t, func(c *transport.Config) { ca.configure(t, c) })
	require.NotContains(t, string(talk(t, tr, rawHello(1, 0, cluster, 2, 1))), "cmq", "plain TCP")
	for name, cfg := range map[string]*tls.Config{
		"no certificate":      {RootCAs: ca.pool, ServerName: "127.0.0.1"},
		"another authority's": {RootCAs: ca.pool, ServerName: "127.0.0.1", Certificates: []tls.Certificate{other.node(t)}},
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := net.Dial("tcp", tr.Addr().String())
			require.NoError(t, err)
			defer conn.Close()
			c := tls.Client(conn, cfg)
			c.Write(rawHello(1, 0, cluster, 2, 1))
			_, err = c.Read(make([]byte, 1))
			require.Error(t, err)
		})
	}
	require.Eventually(t, func() bool { return tr.Counters().Refused.Load() == 3 }, patience, time.Millisecond)
	require.Equal(t, 1, l.count("peer connection refused"))
}
