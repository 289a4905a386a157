package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/client"
	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/test/loopback"
)

// cluster is some nodes in one process.
type cluster struct {
	t     *testing.T
	nodes []*Node
	opts  []Options
	addrs []string
}

var testKey = cmq.AccessKey{ID: "AKIDtest", Secret: "secret", Owner: "1", Enabled: true}

func listen(t *testing.T, addr string) net.Listener {
	l, err := net.Listen("tcp", addr)
	require.NoError(t, err)
	return l
}

func startCluster(t *testing.T, n int, change ...func(*Options)) *cluster {
	c := &cluster{t: t, nodes: make([]*Node, n), opts: make([]Options, n)}
	dir := t.TempDir()
	var peers []net.Listener
	var nodes []cmq.Node
	for i := range n {
		l := listen(t, loopback.Host()+":0") // it may be stopped and started again there
		peers = append(peers, l)
		nodes = append(nodes, cmq.Node{ID: cmq.NodeID(i + 1), Peer: l.Addr().String(), TCP: fmt.Sprintf("127.0.0.1:%d", 40000+i)})
		c.addrs = append(c.addrs, l.Addr().String())
	}
	for i := range n {
		c.opts[i] = Options{
			ID: cmq.NodeID(i + 1), DataDir: filepath.Join(dir, fmt.Sprint(i+1)), Cluster: "test", Nodes: nodes, Key: testKey,
			Storage: Storage{SegmentSize: 1 << 20}, Logger: slog.New(slog.DiscardHandler),
		}
		for _, f := range change {
			f(&c.opts[i])
		}
		c.start(i, peers[i])
	}
	t.Cleanup(func() {
		for i := range c.nodes {
			c.stop(i)
		}
	})
	return c
}

func (c *cluster) start(i int, peer net.Listener) {
	opt := c.opts[i]
	opt.Peer = peer
	opt.HTTP, opt.Admin = listen(c.t, "127.0.0.1:0"), listen(c.t, "127.0.0.1:0")
	n, err := Start(opt)
	require.NoError(c.t, err)
	c.nodes[i] = n
	c.opts[i].Admin, c.opts[i].HTTP = opt.Admin, opt.HTTP
}

func (c *cluster) stop(i int) {
	if n := c.nodes[i]; n != nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		require.NoError(c.t, n.Stop(ctx))
		c.nodes[i] = nil
	}
}

func (c *cluster) ready(ctx context.Context) {
	for _, n := range c.nodes {
		if n != nil {
			require.NoError(c.t, n.Ready(ctx))
		}
	}
}

// patience bounds a test: what takes seconds when the machine has nothing else to do.
const patience = 3 * time.Minute

func timeout(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func zero() *time.Duration { return new(time.Duration) }

// exchange sends through each node and takes everything back through each.
func (c *cluster) exchange(ctx context.Context, queue string, each int) {
	sent, unclear := map[cmq.MsgID]string{}, map[string]bool{}
	for i, n := range c.nodes {
		if n == nil {
			continue
		}
		for j := range each {
			body := fmt.Sprintf("%d/%d", i, j)
			ids, err := n.router.Send(ctx, "1", queue, [][]byte{[]byte(body)}, 0)
			if errors.Is(err, cmq.ErrUnknownOutcome) { // it went to a node that was just stopped
				unclear[body] = true
				ids, err = n.router.Send(ctx, "1", queue, [][]byte{[]byte(body)}, 0)
			}
			require.NoError(c.t, err)
			sent[ids[0]] = body
		}
	}
	wait := time.Second
	for len(sent) > 0 {
		for _, n := range c.nodes {
			if n == nil || len(sent) == 0 {
				continue
			}
			msgs, err := n.router.Receive(ctx, "1", queue, 16, &wait, 0)
			require.NoError(c.t, err)
			var handles []cmq.Handle
			for _, m := range msgs {
				if _, known := sent[m.ID]; known || !unclear[string(m.Body)] {
					require.Equal(c.t, sent[m.ID], string(m.Body))
				}
				delete(sent, m.ID)
				handles = append(handles, m.Handle)
			}
			if len(handles) == 0 {
				continue
			}
			errs, err := n.router.Delete(ctx, "1", queue, handles)
			require.NoError(c.t, err)
			for _, e := range errs {
				require.Nil(c.t, e)
			}
		}
	}
}

func TestOneNode(t *testing.T) {
	c := startCluster(t, 1)
	ctx := timeout(t)
	c.ready(ctx)
	r := c.nodes[0].router
	_, err := r.CreateQueue(ctx, "1", "orders", cmq.QueueSettings{})
	require.NoError(t, err)
	c.exchange(ctx, "Orders", 20)
	q, st, err := r.QueueAttributes(ctx, "1", "orders")
	require.NoError(t, err)
	require.Equal(t, "orders", q.Name)
	require.Zero(t, st.Active+st.Inactive+st.Delayed)
	require.NoError(t, r.DeleteQueue(ctx, "1", "orders"))
	_, err = r.Send(ctx, "1", "orders", [][]byte{[]byte("x")}, 0)
	require.ErrorIs(t, err, cmq.ErrQueueNotExist)
}

func TestRestartKeepsEverything(t *testing.T) {
	c := startCluster(t, 1)
	ctx := timeout(t)
	c.ready(ctx)
	r := c.nodes[0].router
	_, err := r.CreateQueue(ctx, "1", "orders", cmq.QueueSettings{})
	require.NoError(t, err)
	ids, err := r.Send(ctx, "1", "orders", [][]byte{[]byte("a"), []byte("b")}, 0)
	require.NoError(t, err)
	got, err := r.Receive(ctx, "1", "orders", 1, zero(), 0)
	require.NoError(t, err)
	require.Len(t, got, 1)
	c.stop(0)
	c.start(0, listen(t, c.addrs[0]))
	c.ready(ctx)
	r = c.nodes[0].router
	more, err := r.Receive(ctx, "1", "orders", 16, zero(), 0)
	require.NoError(t, err)
	require.Len(t, more, 1, "the other one is still locked")
	require.Equal(t, ids[1], more[0].ID)
	errs, err := r.Delete(ctx, "1", "orders", []cmq.Handle{got[0].Handle})
	require.NoError(t, err)
	require.Nil(t, errs[0], "a receipt handle survives a restart")
}

func TestThreeNodes(t *testing.T) {
	c := startCluster(t, 3)
	ctx := timeout(t)
	c.ready(ctx)
	for i := range 3 {
		_, err := c.nodes[i].router.CreateQueue(ctx, "1", fmt.Sprint("q", i), cmq.QueueSettings{})
		require.NoError(t, err)
	}
	for i := range 3 {
		c.exchange(ctx, fmt.Sprint("q", i), 5)
	}
	c.stop(1)
	for i := range 3 {
		c.exchange(ctx, fmt.Sprint("q", i), 5)
	}
	c.start(1, listen(t, c.addrs[1]))
	c.ready(ctx)
	for i := range 3 {
		c.exchange(ctx, fmt.Sprint("q", i), 5)
	}
}

func TestDeadLettersMoveBetweenSets(t *testing.T) {
	c := startCluster(t, 3)
	ctx := timeout(t)
	c.ready(ctx)
	r := c.nodes[0].router
	one := int64(1)
	_, err := r.CreateQueue(ctx, "1", "dead", cmq.QueueSettings{})
	require.NoError(t, err)
	_, err = r.CreateQueue(ctx, "1", "work", cmq.QueueSettings{
		VisibilityTimeout: &one,
		DeadLetter:        &cmq.DeadLetterSettings{Queue: "dead", Policy: cmq.PolicyReceives, MaxReceiveCount: 1},
	})
	require.NoError(t, err)
	ids, err := r.Send(ctx, "1", "work", [][]byte{[]byte("poison")}, 0)
	require.NoError(t, err)
	got, err := r.Receive(ctx, "1", "work", 1, zero(), 0)
	require.NoError(t, err)
	require.Len(t, got, 1)
	wait := 20 * time.Second
	moved, err := c.nodes[2].router.Receive(ctx, "1", "dead", 1, &wait, 0)
	require.NoError(t, err)
	require.Len(t, moved, 1)
	require.Equal(t, ids[0], moved[0].ID)
	require.Equal(t, "poison", string(moved[0].Body))
	require.Equal(t, 1, moved[0].DequeueCount)
	work, _, err := r.QueueAttributes(ctx, "1", "work")
	require.NoError(t, err)
	source := &cmq.Source{Queue: work.ID, Enqueued: got[0].Enqueued, DequeueCount: 1}
	require.Equal(t, source, moved[0].Source)
	require.Nil(t, got[0].Source)

	// It knows where it died for as long as it is there.
	_, err = r.Relock(ctx, "1", "dead", []cmq.Handle{moved[0].Handle}, 0)
	require.NoError(t, err)
	for i := range c.nodes {
		c.stop(i)
	}
	for i := range c.nodes {
		c.start(i, listen(t, c.addrs[i]))
	}
	c.ready(ctx)
	moved, err = c.nodes[1].router.Receive(ctx, "1", "dead", 1, &wait, 0)
	require.NoError(t, err)
	require.Len(t, moved, 1)
	require.Equal(t, "poison", string(moved[0].Body))
	require.Equal(t, source, moved[0].Source)
}

func TestNodeJoinsARunningCluster(t *testing.T) {
	c := startCluster(t, 3)
	ctx := timeout(t)
	c.ready(ctx)
	_, err := c.nodes[0].router.CreateQueue(ctx, "1", "q", cmq.QueueSettings{})
	require.NoError(t, err)
	peer := listen(t, loopback.Host()+":0")
	opt := c.opts[0]
	opt.ID, opt.Join, opt.DataDir, opt.Admin, opt.Key = 4, true, t.TempDir(), nil, cmq.AccessKey{}
	opt.Nodes = append([]cmq.Node{{ID: 4, Peer: peer.Addr().String(), TCP: "127.0.0.1:40004"}}, c.opts[0].Nodes[1])
	c.opts, c.addrs, c.nodes = append(c.opts, opt), append(c.addrs, peer.Addr().String()), append(c.nodes, nil)
	c.start(3, peer)
	c.ready(ctx)
	c.exchange(ctx, "q", 5)
	key, ok := keys{c.nodes[3]}.Key(testKey.ID)
	require.True(t, ok, "a joined node knows the cluster's access keys")
	require.Equal(t, testKey.Secret, key.Secret)
	require.NoError(t, c.nodes[1].meta.Sync(ctx))
	require.Equal(t, opt.Nodes[0], *c.nodes[1].meta.Table().Node(4))
	// Also while the controller's leader is another node than those it was told of.
	c.stop(0)
	c.exchange(ctx, "q", 5)
}

// A node that has not got the table yet does not know any key. It tells clients to come again, which repeat the request at
// another node, and not that their key is wrong, after which they give up.
func TestStartingNodeDoesNotRefuseKeys(t *testing.T) {
	c := startCluster(t, 3)
	for i := range c.nodes {
		c.stop(i)
	}
	c.opts[0].DataDir = filepath.Join(t.TempDir(), "new")
	c.start(0, listen(t, c.addrs[0]))
	cl, err := client.New("http://"+c.opts[0].HTTP.Addr().String(), testKey.ID, testKey.Secret, client.WithRetries(0))
	require.NoError(t, err)
	defer cl.Close()
	_, err = cl.Queue("orders").Send(t.Context(), "x")
	require.ErrorIs(t, err, client.ErrThrottled)
}

func TestLimitsOfQueues(t *testing.T) {
	limits := cmq.DefaultLimits()
	limits.QueuesPerOwner = 1
	c := startCluster(t, 1, func(o *Options) { o.Limits = limits })
	ctx := timeout(t)
	c.ready(ctx)
	r := c.nodes[0].router
	three := int64(3)
	_, err := r.CreateQueue(ctx, "1", "small", cmq.QueueSettings{MaxMsgHeapNum: &three})
	require.NoError(t, err)
	_, err = r.CreateQueue(ctx, "1", "another", cmq.QueueSettings{})
	require.ErrorIs(t, err, cmq.ErrQueueLimit)
	_, err = r.Send(ctx, "1", "small", [][]byte{[]byte("a"), []byte("b")}, 0)
	require.NoError(t, err)
	_, err = r.Send(ctx, "1", "small", [][]byte{[]byte("c"), []byte("d")}, 0)
	require.ErrorIs(t, err, cmq.ErrHeapFull, "all or nothing")
	_, err = r.Send(ctx, "1", "small", [][]byte{[]byte("c")}, time.Minute)
	require.NoError(t, err)
	_, err = r.Send(ctx, "1", "small", [][]byte{[]byte("d")}, 0)
	require.ErrorIs(t, err, cmq.ErrHeapFull, "delayed messages count")
	got, err := r.Receive(ctx, "1", "small", 1, zero(), 0)
	require.NoError(t, err)
	_, err = r.Delete(ctx, "1", "small", []cmq.Handle{got[0].Handle})
	require.NoError(t, err)
	_, err = r.Send(ctx, "1", "small", [][]byte{[]byte("d")}, 0)
	require.NoError(t, err)
}

func TestAdmin(t *testing.T) {
	c := startCluster(t, 1)
	c.ready(timeout(t))
	base := "http://" + c.opts[0].Admin.Addr().String()
	for path, want := range map[string]string{
		"/livez": "ok", "/readyz?verbose": "[+] set-0-leader ok", "/metrics": "cmq_set_applied_index{set=\"1\"}", "/debug/pprof/cmdline": "",
	} {
		resp, err := http.Get(base + path)
		require.NoError(t, err)
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		resp.Body.Close()
		require.Equal(t, http.StatusOK, resp.StatusCode, path)
		require.Contains(t, string(body), want)
	}
}

func TestForeignAndBusyDirectoriesAreRefused(t *testing.T) {
	c := startCluster(t, 1)
	c.ready(timeout(t))
	opt := c.opts[0]
	_, err := Start(opt)
	require.ErrorContains(t, err, "in use by another cmq process")
	c.stop(0)
	for change, want := range map[string]string{"cluster": `of cluster "test"`, "node": "belongs to node 1"} {
		foreign := opt
		foreign.Admin = nil
		if change == "cluster" {
			foreign.Cluster = "other"
		} else {
			foreign.ID = 2
			foreign.Nodes = []cmq.Node{{ID: 2}}
		}
		_, err := Start(foreign)
		require.ErrorContains(t, err, want)
		require.True(t, strings.Contains(err.Error(), "own data directory"))
	}
}

func TestStopEndsParkedPollsAtOnce(t *testing.T) {
	c := startCluster(t, 1)
	ctx := timeout(t)
	c.ready(ctx)
	n := c.nodes[0]
	_, err := n.router.CreateQueue(ctx, "1", "q", cmq.QueueSettings{})
	require.NoError(t, err)
	sdk, err := client.New("http://"+c.opts[0].HTTP.Addr().String(), testKey.ID, testKey.Secret)
	require.NoError(t, err)
	polled := make(chan error, 1)
	go func() {
		_, err := sdk.Queue("q").Receive(ctx, 25*time.Second)
		polled <- err
	}()
	require.Eventually(t, func() bool { return n.polls.Open() == 1 }, patience, time.Millisecond)
	began := time.Now()
	c.stop(0)
	require.Less(t, time.Since(began), 10*time.Second)
	require.ErrorIs(t, <-polled, client.ErrNoMessage)
}
