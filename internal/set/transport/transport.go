package transport

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/set"
)

// Handler is what the node does with what arrives. All methods are called concurrently.
type Handler interface {
	// Receive gets a message for this node's replica of set. It should return soon: while it does not,
	// nothing more is read from that connection. The message and what it refers to are the receiver's.
	Receive(from cmq.NodeID, set cmq.SetID, m set.Message)
	// Call begins to answer a peer's call and must return soon. reply is to be called once, from any goroutine;
	// it does not wait, and reports false if the reply is of no use to anybody any more. What Call returns is
	// cancelled when the caller gives up, or is lost, or the Transport closes. payload is the handler's; so is
	// the reply the Transport's.
	Call(from cmq.NodeID, payload []byte, reply func([]byte, error) bool) cmq.Pending
	// PeerUp tells that the peer can be reached. PeerDown tells that its process is gone: a connection was
	// lost and dialling anew is refused. PeerDown follows only PeerUp, and they alternate as long as the
	// peer's address stays. A peer that is cut off is not down. Both must return soon.
	PeerUp(id cmq.NodeID)
	PeerDown(id cmq.NodeID)
}

// Config says who and where we are. Node, Cluster, Listener and Handler are required.
type Config struct {
	Node     cmq.NodeID
	Cluster  uint64 // only nodes with the same number talk to each other
	Listener net.Listener
	Peers    map[cmq.NodeID]string // "host:port"; an entry for Node itself is ignored
	Handler  Handler

	// ServerTLS and ClientTLS are for the accepting and the dialling side; nil means plain TCP. For peers
	// to know each other, ServerTLS must require client certificates. Without a ServerName the host of
	// the peer's address is expected in its certificate.
	ServerTLS *tls.Config
	ClientTLS *tls.Config

	Logger *slog.Logger // slog.Default if nil

	// Dial replaces net.Dialer.DialContext, for tests.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Silence is how long a peer may say nothing before its connection is given up: 8 s if zero. Pings go
	// four times as often.
	Silence time.Duration
	// Handshake bounds dialling and introducing, each side for itself: 3 s if zero.
	Handshake time.Duration
	// MaxCalls is how many calls of one peer may run at once: 100,000 if zero, because each may be a
	// parked long poll. More are refused with cmq.ErrBusy.
	MaxCalls int
}

func (c Config) withDefaults() Config {
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Dial == nil {
		c.Dial = new(net.Dialer).DialContext
	}
	if c.Silence == 0 {
		c.Silence = 8 * time.Second
	}
	if c.Handshake == 0 {
		c.Handshake = 3 * time.Second
	}
	if c.MaxCalls == 0 {
		c.MaxCalls = 100_000
	}
	return c
}

// Transport is one node's end of all its connections with peers.
type Transport struct {
	cfg      Config
	log      *slog.Logger
	counters Counters
	refusals refusals

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup // accept and incoming; links are waited for by their peer

	links atomic.Pointer[map[cmq.NodeID]*peer] // what Send and Start read; a copy of peers

	mu       sync.Mutex
	closed   bool
	peers    map[cmq.NodeID]*peer
	accepted map[incomingKey]net.Conn
}

// peer is the three links to one node.
type peer struct {
	addr   string
	link   [kinds]*link
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// New starts to listen and to dial. The listener belongs to the Transport from now on.
func New(cfg Config) *Transport {
	cfg = cfg.withDefaults()
	t := &Transport{
		cfg:      cfg,
		log:      cfg.Logger,
		refusals: refusals{last: make(map[string]time.Time)},
		peers:    make(map[cmq.NodeID]*peer),
		accepted: make(map[incomingKey]net.Conn),
	}
	t.links.Store(&map[cmq.NodeID]*peer{})
	t.ctx, t.cancel = context.WithCancel(context.Background())
	t.SetPeers(cfg.Peers)
	t.wg.Go(t.accept)
	return t
}

// Send queues a message for the replica of set on node to. It never blocks. The message is lost without a
// word when the queue is full or the node cannot be reached; Counters tells how often. The message, and all
// it refers to, must not be changed any more.
func (t *Transport) Send(to cmq.NodeID, set cmq.SetID, m set.Message) {
	p := (*t.links.Load())[to]
	if p == nil {
		t.counters.Dropped.Add(1)
		return
	}
	k, size := classify(&m)
	if p.link[k].queue.push(item{typ: typeMessage, set: set, msg: m}, size) != pushOK {
		t.counters.Dropped.Add(1)
	}
}

// classify chooses the connection and estimates the size of the message.
func classify(m *set.Message) (kind, int) {
	k, size := control, 0
	if r := m.Raft; r != nil {
		size += entriesSize(r.Entries) + len(r.Context) + len(r.GetSnapshot().GetData())
		if t := r.GetType(); t == raftpb.MsgApp || t == raftpb.MsgSnap {
			k = bulk
		}
	}
	if m.Answer != nil {
		size += answerSize(m.Answer)
		k = bulk
	}
	return k, size
}

func entriesSize(list []*raftpb.Entry) int {
	size := 0
	for _, e := range list {
		size += entryHead + len(e.Data)
	}
	return size
}

// Start asks node to; done gets its reply, which is then its own. payload must not be changed any more. A call that is
// cancelled is cancelled at the handler too; if a reply was on its way already, late gets that, unless late is nil.
// Errors are otherwise:
//
//   - cmq.ErrDropped (as *UnreachableError) and cmq.ErrBusy: surely not executed;
//   - cmq.ErrUnknownOutcome: the connection was lost while the reply was awaited;
//   - *HandlerError: the handler failed.
//
// done and late are called by the connection's reader: while they do not return, nothing more is read.
func (t *Transport) Start(to cmq.NodeID, payload []byte, done func([]byte, error), late func([]byte)) cmq.Pending {
	t.counters.Calls.Add(1)
	p := (*t.links.Load())[to]
	if p == nil {
		done(nil, &UnreachableError{to})
		return cmq.Answered{}
	}
	if len(payload) > maxFrame-8 {
		done(nil, fmt.Errorf("call of %s: %w", peerID(to), errFrameSize))
		return cmq.Answered{}
	}
	pending, err := p.link[call].start(payload, done, late)
	if err != nil {
		done(nil, err)
		return cmq.Answered{}
	}
	return pending
}

// Counters may be read at any time.
func (t *Transport) Counters() *Counters { return &t.counters }

// Addr is where peers are accepted.
func (t *Transport) Addr() net.Addr { return t.cfg.Listener.Addr() }

// SetPeers changes whom this node talks to: connections with nodes that are missing are ended, new ones are
// dialled, and those whose address changed are dialled anew. Nothing happens after Close.
func (t *Transport) SetPeers(addrs map[cmq.NodeID]string) {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return
	}
	gone := t.removeLocked(addrs)
	for id, addr := range addrs {
		if id != t.cfg.Node && t.peers[id] == nil {
			t.peers[id] = t.newPeer(id, addr)
		}
	}
	t.publishLocked()
	t.mu.Unlock()
	for _, p := range gone {
		p.wg.Wait()
	}
}

// removeLocked stops the peers that are not at their address in addrs. The caller waits for them.
func (t *Transport) removeLocked(addrs map[cmq.NodeID]string) []*peer {
	var gone []*peer
	for id, p := range t.peers {
		addr, stays := addrs[id]
		if stays && addr == p.addr {
			continue
		}
		p.cancel()
		gone = append(gone, p)
		delete(t.peers, id)
		for k := kind(0); k < kinds && !stays; k++ {
			if conn := t.accepted[incomingKey{id, k}]; conn != nil {
				conn.Close()
			}
		}
	}
	return gone
}

func (t *Transport) newPeer(id cmq.NodeID, addr string) *peer {
	p := &peer{addr: addr}
	ctx, cancel := context.WithCancel(t.ctx)
	p.cancel = cancel
	for k := range p.link {
		l := newLink(t, id, addr, kind(k))
		p.link[k] = l
		p.wg.Go(func() { l.run(ctx) })
	}
	return p
}

// publishLocked shows the peers to Send and Start.
func (t *Transport) publishLocked() {
	links := make(map[cmq.NodeID]*peer, len(t.peers))
	for id, p := range t.peers {
		links[id] = p
	}
	t.links.Store(&links)
}

// admits says who may connect: peers, and for calls every node of the cluster, because one that joins is not known
// before it has called.
func (t *Transport) admits(h hello) bool { return h.kind == call || (*t.links.Load())[h.from] != nil }

// condemn ends the other connections of a peer whose control connection fell silent.
func (t *Transport) condemn(id cmq.NodeID) {
	p := (*t.links.Load())[id]
	if p == nil {
		return
	}
	p.link[bulk].drop()
	p.link[call].drop()
}

func (t *Transport) clientTLS(ctx context.Context, conn net.Conn, addr string) (net.Conn, error) {
	if t.cfg.ClientTLS == nil {
		return conn, nil
	}
	cfg := t.cfg.ClientTLS
	if cfg.ServerName == "" {
		cfg = cfg.Clone()
		cfg.ServerName, _, _ = net.SplitHostPort(addr)
	}
	c := tls.Client(conn, cfg)
	return c, c.HandshakeContext(ctx)
}

// Close ends all connections and calls, and returns when every goroutine of the Transport has ended.
func (t *Transport) Close() {
	t.mu.Lock()
	t.closed = true
	peers := t.peers
	t.peers = nil
	t.publishLocked()
	t.mu.Unlock()
	t.cancel()
	t.cfg.Listener.Close()
	for _, p := range peers {
		p.wg.Wait()
	}
	t.wg.Wait()
}
