package transport_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/set"
	"github.com/opencmq/cmq/internal/set/transport"
	"github.com/opencmq/cmq/test/loopback"
)

// patience bounds waiting for what comes in milliseconds when the machine has nothing else to do.
const patience = time.Minute

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// arrival is one message that reached a node.
type arrival struct {
	from cmq.NodeID
	set  cmq.SetID
	m    set.Message
}

// recorder is a Handler that hands everything on to channels.
type recorder struct {
	arrivals chan arrival
	peers    chan string // "up 2", "down 2"
	call     atomic.Pointer[callFunc]
	receive  atomic.Pointer[func(arrival)]
}

type callFunc func(ctx context.Context, from cmq.NodeID, payload []byte) ([]byte, error)

func newRecorder() *recorder {
	r := &recorder{arrivals: make(chan arrival, 100_000), peers: make(chan string, 1000)}
	r.onCall(func(_ context.Context, _ cmq.NodeID, p []byte) ([]byte, error) { return p, nil })
	return r
}

func (r *recorder) onCall(f callFunc) { r.call.Store(&f) }

func (r *recorder) Receive(from cmq.NodeID, set cmq.SetID, m set.Message) {
	if f := r.receive.Load(); f != nil && *f != nil {
		(*f)(arrival{from, set, m})
	}
	r.arrivals <- arrival{from, set, m}
}

func (r *recorder) onReceive(f func(arrival)) { r.receive.Store(&f) }

// Call runs the function in a goroutine, whose context ends with Cancel.
func (r *recorder) Call(from cmq.NodeID, p []byte, reply func([]byte, error) bool) cmq.Pending {
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer cancel()
		reply((*r.call.Load())(ctx, from, p))
	}()
	return cancelFunc(cancel)
}

type cancelFunc func()

func (f cancelFunc) Cancel() { f() }

// ask starts a call and waits for its reply.
func ask(ctx context.Context, t *transport.Transport, to cmq.NodeID, payload []byte) (reply []byte, err error) {
	done := make(chan struct{})
	p := t.Start(to, payload, func(r []byte, e error) {
		reply, err = r, e
		close(done)
	}, nil)
	defer context.AfterFunc(ctx, p.Cancel)()
	<-done
	return reply, err
}

func (r *recorder) PeerUp(id cmq.NodeID)   { r.peers <- "up" }
func (r *recorder) PeerDown(id cmq.NodeID) { r.peers <- "down" }

func (r *recorder) await(t testing.TB, want string) {
	t.Helper()
	select {
	case got := <-r.peers:
		require.Equal(t, want, got)
	case <-time.After(patience):
		t.Fatalf("peer was not reported %s", want)
	}
}

// logs collects log lines.
type logs struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logs) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *logs) count(s string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Count(l.buf.Bytes(), []byte(s))
}

func listen(t testing.TB, addr string) net.Listener {
	l, err := net.Listen("tcp", addr)
	require.NoError(t, err)
	return l
}

const cluster = 0xC0FFEE

// pair starts nodes 1 and 2 which know each other.
func pair(t testing.TB, change func(*transport.Config)) (a, b *transport.Transport, ha, hb *recorder) {
	return pairOn(t, listen(t, loopback.Host()+":0"), listen(t, loopback.Host()+":0"), change)
}

func pairOn(t testing.TB, la, lb net.Listener, change func(*transport.Config)) (a, b *transport.Transport, ha, hb *recorder) {
	peers := map[cmq.NodeID]string{1: la.Addr().String(), 2: lb.Addr().String()}
	ha, hb = newRecorder(), newRecorder()
	start := func(id cmq.NodeID, l net.Listener, h *recorder) *transport.Transport {
		cfg := transport.Config{Node: id, Cluster: cluster, Listener: l, Peers: peers, Handler: h, Logger: slog.New(slog.DiscardHandler)}
		if change != nil {
			change(&cfg)
		}
		tr := transport.New(cfg)
		t.Cleanup(tr.Close)
		return tr
	}
	a, b = start(1, la, ha), start(2, lb, hb)
	ha.await(t, "up")
	hb.await(t, "up")
	return a, b, ha, hb
}

func raftMessage(typ raftpb.MessageType, index uint64, data ...[]byte) set.Message {
	m := set.Message{Raft: &raftpb.Message{Type: typ.Enum(), From: proto.Uint64(1), To: proto.Uint64(2), Index: proto.Uint64(index)}}
	for _, d := range data {
		m.Raft.Entries = append(m.Raft.Entries, &raftpb.Entry{Data: d})
	}
	return m
}

func next(t testing.TB, h *recorder) arrival {
	t.Helper()
	select {
	case a := <-h.arrivals:
		return a
	case <-time.After(patience):
		t.Fatal("message did not arrive")
		return arrival{}
	}
}

func TestMessagesArriveInOrderOfTheirKind(t *testing.T) {
	a, _, _, hb := pair(t, nil)
	big := bytes.Repeat([]byte("b"), 100_000)
	const n = 500
	for i := range uint64(n) {
		a.Send(2, 5, raftMessage(raftpb.MsgApp, i+1, big[:i], big))
		a.Send(2, 6, raftMessage(raftpb.MsgHeartbeat, i+1))
	}
	last := map[cmq.SetID]uint64{}
	for range 2 * n {
		got := next(t, hb)
		require.EqualValues(t, 1, got.from)
		require.Equal(t, last[got.set]+1, got.m.Raft.GetIndex(), "set %d", got.set)
		last[got.set]++
		if got.set == 5 {
			require.Len(t, got.m.Raft.Entries[0].Data, int(last[5]-1))
			require.True(t, bytes.Equal(big, got.m.Raft.Entries[1].Data))
		}
	}
	require.Zero(t, a.Counters().Dropped.Load())
}

// TestHeartbeatPassesBulk: the receiver is busy with a bulk message for as long as it takes.
func TestHeartbeatPassesBulk(t *testing.T) {
	a, _, _, hb := pair(t, nil)
	entered, release := make(chan struct{}), make(chan struct{})
	hb.onReceive(func(m arrival) {
		if m.m.Raft.GetType() == raftpb.MsgApp {
			entered <- struct{}{}
			<-release
		}
	})
	big := make([]byte, 1<<20)
	for i := range uint64(8) {
		a.Send(2, 1, raftMessage(raftpb.MsgApp, i, big))
	}
	<-entered
	a.Send(2, 1, raftMessage(raftpb.MsgHeartbeat, 99))
	require.EqualValues(t, 99, next(t, hb).m.Raft.GetIndex())
	_, err := ask(t.Context(), a, 2, []byte("passes too"))
	require.NoError(t, err)
	hb.onReceive(nil)
	close(release)
	for range 8 {
		next(t, hb)
	}
}

func TestSendToNobodyIsCounted(t *testing.T) {
	a, _, _, _ := pair(t, nil)
	a.Send(9, 1, raftMessage(raftpb.MsgHeartbeat, 1))
	require.EqualValues(t, 1, a.Counters().Dropped.Load())
	_, err := ask(context.Background(), a, 9, nil)
	require.ErrorIs(t, err, cmq.ErrDropped)
}

func TestCalls(t *testing.T) {
	a, b, ha, hb := pair(t, nil)
	hb.onCall(func(_ context.Context, from cmq.NodeID, p []byte) ([]byte, error) {
		if len(p) == 0 {
			return nil, errors.New("nothing asked")
		}
		return append([]byte{byte(from)}, p...), nil
	})
	ha.onCall(*hb.call.Load())
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			want := bytes.Repeat([]byte{byte(i)}, 1+i*137)
			got, err := ask(t.Context(), a, 2, want)
			assert.NoError(t, err)
			assert.Equal(t, append([]byte{1}, want...), got)
			got, err = ask(t.Context(), b, 1, want)
			assert.NoError(t, err)
			assert.Equal(t, append([]byte{2}, want...), got)
		})
	}
	wg.Wait()
	_, err := ask(t.Context(), a, 2, nil)
	var failed *transport.HandlerError
	require.ErrorAs(t, err, &failed)
	require.Equal(t, "nothing asked", failed.Text)
	require.EqualError(t, err, "node 2: nothing asked")
}

func TestLargeReply(t *testing.T) {
	a, _, _, hb := pair(t, nil)
	big := bytes.Repeat([]byte("large "), 5<<20)
	hb.onCall(func(context.Context, cmq.NodeID, []byte) ([]byte, error) { return big, nil })
	got, err := ask(t.Context(), a, 2, []byte("?"))
	require.NoError(t, err)
	require.True(t, bytes.Equal(big, got))
}

func TestManyParkedCallsAreCancelled(t *testing.T) {
	a, _, _, hb := pair(t, nil)
	const n = 3000
	var parked, ended sync.WaitGroup
	parked.Add(n)
	ended.Add(n)
	hb.onCall(func(ctx context.Context, _ cmq.NodeID, p []byte) ([]byte, error) {
		if string(p) == "quick" {
			return p, nil
		}
		parked.Done()
		<-ctx.Done()
		ended.Done()
		return nil, ctx.Err()
	})
	ctx, cancel := context.WithCancel(t.Context())
	var callers sync.WaitGroup
	for range n {
		callers.Go(func() {
			_, err := ask(ctx, a, 2, []byte("park"))
			assert.ErrorIs(t, err, context.Canceled)
		})
	}
	parked.Wait()
	got, err := ask(t.Context(), a, 2, []byte("quick"))
	require.NoError(t, err, "parked calls are in nobody's way")
	require.Equal(t, "quick", string(got))
	cancel()
	callers.Wait()
	ended.Wait()
	require.Equal(t, "quick", string(got))
}

// TestReplyThatCrossesItsCancel: the caller that gave up gets it all the same, so that it can undo what nobody needs.
func TestReplyThatCrossesItsCancel(t *testing.T) {
	held := make(chan func([]byte, error) bool, 1)
	a, _, _, _ := pair(t, func(c *transport.Config) {
		if c.Node == 2 {
			c.Handler = &holder{Handler: c.Handler, held: held}
		}
	})
	for range 200 {
		answers, late := make(chan error, 2), make(chan []byte, 2)
		p := a.Start(2, []byte("?"), func(_ []byte, err error) { answers <- err }, func(reply []byte) { late <- reply })
		reply := <-held
		wanted := make(chan bool)
		go func() { wanted <- reply([]byte("!"), nil) }()
		p.Cancel()
		p.Cancel()
		err := <-answers
		switch arrives := <-wanted; {
		case err == nil:
			require.True(t, arrives)
		case arrives:
			require.ErrorIs(t, err, context.Canceled)
			require.Equal(t, "!", string(<-late))
		default:
			require.ErrorIs(t, err, context.Canceled)
		}
		_, err = ask(t.Context(), a, 2, []byte("echo")) // whatever was on its way has arrived
		require.NoError(t, err)
		require.Empty(t, answers, "answered once")
		require.Empty(t, late)
	}
}

// holder is a Handler that gives the replies of calls to the test.
type holder struct {
	transport.Handler
	held chan func([]byte, error) bool
}

func (h *holder) Call(from cmq.NodeID, p []byte, reply func([]byte, error) bool) cmq.Pending {
	if string(p) == "echo" {
		reply(p, nil)
	} else {
		h.held <- reply
	}
	return cmq.Answered{}
}

func TestTooManyCallsAreRefused(t *testing.T) {
	a, _, _, hb := pair(t, func(c *transport.Config) { c.MaxCalls = 1 })
	began, release := make(chan struct{}), make(chan struct{})
	hb.onCall(func(context.Context, cmq.NodeID, []byte) ([]byte, error) {
		close(began)
		<-release
		return nil, nil
	})
	done := make(chan error)
	go func() { _, err := ask(context.Background(), a, 2, nil); done <- err }()
	<-began
	_, err := ask(t.Context(), a, 2, nil)
	require.ErrorIs(t, err, cmq.ErrBusy)
	close(release)
	require.NoError(t, <-done)
}

func TestPeerProcessDiesAndComesBack(t *testing.T) {
	a, b, ha, hb := pair(t, nil)
	began := make(chan struct{})
	hb.onCall(func(ctx context.Context, _ cmq.NodeID, _ []byte) ([]byte, error) {
		close(began)
		<-ctx.Done()
		return nil, ctx.Err()
	})
	lost := make(chan error)
	go func() { _, err := ask(context.Background(), a, 2, nil); lost <- err }()
	<-began
	addr := b.Addr().String()
	b.Close()
	require.ErrorIs(t, <-lost, cmq.ErrUnknownOutcome, "the request had been written")
	ha.await(t, "down")
	require.Eventually(t, func() bool {
		_, err := ask(t.Context(), a, 2, nil)
		return errors.Is(err, cmq.ErrDropped) && !errors.Is(err, cmq.ErrUnknownOutcome)
	}, patience, time.Millisecond, "calls to a dead node fail at once")

	h := newRecorder()
	b2 := transport.New(transport.Config{Node: 2, Cluster: cluster, Listener: listen(t, addr), Handler: h,
		Peers: map[cmq.NodeID]string{1: a.Addr().String()}, Logger: slog.New(slog.DiscardHandler)})
	defer b2.Close()
	ha.await(t, "up")
	h.await(t, "up")
	require.Eventually(t, func() bool {
		got, err := ask(t.Context(), a, 2, []byte("again"))
		return err == nil && string(got) == "again"
	}, patience, time.Millisecond)
}

// gate dials connections that can be reset, or made to swallow everything both ways.
type gate struct {
	mu     sync.Mutex
	conns  []*gatedConn
	closed atomic.Bool
}

type gatedConn struct {
	net.Conn
	g *gate
}

func (g *gate) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if g.closed.Load() {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	conn, err := new(net.Dialer).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	c := &gatedConn{conn, g}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.conns = append(g.conns, c)
	return c, nil
}

func (c *gatedConn) Write(b []byte) (int, error) {
	if c.g.closed.Load() {
		return len(b), nil
	}
	return c.Conn.Write(b)
}

// reset ends all connections as a machine on the way would, with RST.
func (g *gate) reset() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, c := range g.conns {
		c.Conn.(*net.TCPConn).SetLinger(0)
		c.Conn.Close()
	}
	g.conns = nil
}

func TestResetConnectionsAreDialledAgainAtOnce(t *testing.T) {
	var g gate
	a, _, ha, _ := pair(t, func(c *transport.Config) {
		if c.Node == 1 {
			c.Dial = g.dial
		}
	})
	for range 5 {
		g.reset()
		require.Eventually(t, func() bool {
			_, err := ask(t.Context(), a, 2, nil)
			return err == nil
		}, patience, time.Millisecond)
	}
	require.Empty(t, ha.peers, "a peer that answers is neither down nor newly up")
	require.Positive(t, a.Counters().Lost.Load())
}

// TestSilentPeerIsGivenUp: packets are swallowed, as by a switch that died.
func TestSilentPeerIsGivenUp(t *testing.T) {
	var g gate
	a, _, ha, hb := pair(t, func(c *transport.Config) {
		c.Silence = 400 * time.Millisecond
		c.Handshake = 400 * time.Millisecond
		if c.Node == 1 {
			c.Dial = g.dial
		}
	})
	began := make(chan struct{})
	ended := make(chan struct{})
	hb.onCall(func(ctx context.Context, _ cmq.NodeID, _ []byte) ([]byte, error) {
		close(began)
		<-ctx.Done()
		close(ended)
		return nil, ctx.Err()
	})
	lost := make(chan error)
	go func() { _, err := ask(context.Background(), a, 2, nil); lost <- err }()
	<-began
	g.closed.Store(true)
	require.ErrorIs(t, <-lost, cmq.ErrUnknownOutcome)
	<-ended
	require.Empty(t, ha.peers, "cut off is not down")
	g.closed.Store(false)
	require.Eventually(t, func() bool {
		a.Send(2, 1, raftMessage(raftpb.MsgHeartbeat, 1))
		return len(hb.arrivals) > 0
	}, patience, time.Millisecond)
}

func TestIdleConnectionsStay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := pipes{"a": newPipeListener("a"), "b": newPipeListener("b")}
		a, b, _, _ := pairOn(t, n["a"], n["b"], func(c *transport.Config) { c.Dial, c.Silence = n.dial, time.Second })
		began := a.Counters().FramesReceived.Load()
		<-time.After(10 * time.Second)
		require.Zero(t, a.Counters().Lost.Load()+b.Counters().Lost.Load())
		require.GreaterOrEqual(t, a.Counters().FramesReceived.Load()-began, uint64(39*6), "three pongs and three pings in a quarter of the silence")
	})
}

// pipes are listeners in memory by their addresses.
type pipes map[string]*pipeListener

func (n pipes) dial(ctx context.Context, _, addr string) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case n[addr].dialled <- far:
		return near, nil
	case <-n[addr].closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// pipeListener accepts the far ends of pipes.
type pipeListener struct {
	addr    pipeAddr
	dialled chan net.Conn
	closed  chan struct{}
	close   func()
}

func newPipeListener(addr string) *pipeListener {
	l := &pipeListener{addr: pipeAddr(addr), dialled: make(chan net.Conn), closed: make(chan struct{})}
	l.close = sync.OnceFunc(func() { close(l.closed) })
	return l
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.dialled:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error { l.close(); return nil }

func (l *pipeListener) Addr() net.Addr { return l.addr }

type pipeAddr string

func (pipeAddr) Network() string  { return "pipe" }
func (a pipeAddr) String() string { return string(a) }

func TestSetPeers(t *testing.T) {
	a, b, ha, hb := pair(t, nil)
	a.SetPeers(nil)
	_, err := ask(t.Context(), a, 2, nil)
	require.ErrorIs(t, err, cmq.ErrDropped)
	refused := a.Counters().Refused.Load()
	require.Eventually(t, func() bool { return a.Counters().Refused.Load() > refused }, patience, time.Millisecond,
		"what the removed peer dialled for messages is ended too, and not accepted again")
	require.Eventually(t, func() bool {
		_, err := ask(t.Context(), b, 1, nil)
		return err == nil
	}, patience, time.Millisecond, "but every node of the cluster may call: it may want to join")
	a.SetPeers(map[cmq.NodeID]string{2: b.Addr().String()})
	ha.await(t, "up")
	require.Eventually(t, func() bool {
		_, errA := ask(t.Context(), a, 2, nil)
		_, errB := ask(t.Context(), b, 1, nil)
		return errA == nil && errB == nil
	}, patience, time.Millisecond)
	require.Empty(t, hb.peers, "refused by name is not down")
	a.Close()
	a.SetPeers(map[cmq.NodeID]string{2: b.Addr().String()})
}

func TestFullQueueDropsAndNeverBlocks(t *testing.T) {
	var g gate
	a, _, _, _ := pair(t, func(c *transport.Config) {
		if c.Node == 1 {
			c.Dial = g.dial
		}
	})
	g.closed.Store(true)
	g.reset() // the redial hangs: what is sent waits in the queue
	big := make([]byte, 16<<20)
	require.Eventually(t, func() bool {
		a.Send(2, 1, raftMessage(raftpb.MsgApp, 1, big))
		return a.Counters().Dropped.Load() > 0
	}, patience, time.Millisecond)
}

func BenchmarkCall(b *testing.B) {
	a, _, _, _ := pair(b, nil)
	payload := make([]byte, 1024)
	b.SetParallelism(32) // times GOMAXPROCS, which is 2 here: 64 callers
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := ask(context.Background(), a, 2, payload); err != nil {
				b.Error(err)
			}
		}
	})
}

func BenchmarkCallAlone(b *testing.B) {
	a, _, _, _ := pair(b, nil)
	payload := make([]byte, 1024)
	b.ResetTimer()
	for range b.N {
		if _, err := ask(context.Background(), a, 2, payload); err != nil {
			b.Error(err)
		}
	}
}

func BenchmarkAppend(b *testing.B) {
	a, _, _, hb := pair(b, nil)
	data := make([]byte, 512<<10)
	b.SetBytes(int64(len(data)))
	b.ResetTimer()
	for i := range b.N {
		a.Send(2, 1, raftMessage(raftpb.MsgApp, uint64(i), data))
		if i >= 16 {
			<-hb.arrivals
		}
	}
}
