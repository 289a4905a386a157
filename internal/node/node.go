package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencmq/cmq/internal/access"
	"github.com/opencmq/cmq/internal/access/httpapi"
	"github.com/opencmq/cmq/internal/access/tcpapi"
	"github.com/opencmq/cmq/internal/clock"
	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/controller"
	"github.com/opencmq/cmq/internal/core/meta"
	"github.com/opencmq/cmq/internal/datadir"
	"github.com/opencmq/cmq/internal/dispatch"
	"github.com/opencmq/cmq/internal/dispatch/push"
	"github.com/opencmq/cmq/internal/dispatch/push/web"
	"github.com/opencmq/cmq/internal/route"
	"github.com/opencmq/cmq/internal/set/transport"
	"github.com/opencmq/cmq/internal/vfs"
)

// Node is one running node.
type Node struct {
	opt     Options
	log     *slog.Logger
	fs      vfs.FS
	clock   clock.Clock
	started time.Time
	lock    io.Closer
	plan    *meta.Bootstrap

	board      *controller.Board
	meta       *controller.Meta
	mover      *dispatch.Mover
	pusher     *push.Dispatcher
	attendance *dispatch.Attendance // of agents; counts while this node leads set 0
	endpoints  *web.Client
	gateway    *web.Client   // for text messages; nil: there is none
	leads      chan struct{} // has room for one: this node leads other sets than before
	reconciler *controller.Reconciler
	router     *route.Router
	sets       map[cmq.SetID]*hosted
	setIDs     []cmq.SetID // of sets, ascending
	transport  atomic.Pointer[transport.Transport]
	door       *httpapi.Door
	tcpDoor    *tcpapi.Door
	producers  *access.Producers
	polls      *access.Polls

	free       atomic.Uint64 // bytes, on the disk of the data directory
	spaceLevel atomic.Int32  // a set.Space

	servers []*http.Server
	health  health
	ctx     context.Context
	cancel  context.CancelFunc
	wg      sync.WaitGroup
	trials  chan struct{} // has room for those that are made at once
}

// Start starts a node. It returns when the node's own parts run; Ready waits for the cluster.
func Start(opt Options) (*Node, error) {
	n := &Node{
		opt: withDefaults(opt), fs: vfs.OS(), clock: clock.Real(),
		board: controller.NewBoard(), sets: make(map[cmq.SetID]*hosted), leads: make(chan struct{}, 1), trials: make(chan struct{}, mostTrials),
	}
	n.started = n.clock.Now()
	n.log = n.opt.Logger.With("node", opt.ID)
	n.ctx, n.cancel = context.WithCancel(context.Background())
	n.plan = n.makePlan()
	if err := n.start(); err != nil {
		n.Stop(canceled())
		return nil, err
	}
	return n, nil
}

func withDefaults(opt Options) Options {
	if opt.Logger == nil {
		opt.Logger = slog.Default()
	}
	if opt.Limits == (cmq.Limits{}) {
		opt.Limits = cmq.DefaultLimits()
	}
	if opt.Storage.SegmentSize == 0 {
		opt.Storage.SegmentSize = 64 << 20
	}
	if opt.Storage.CacheBytes == 0 {
		opt.Storage.CacheBytes = 32 << 20
	}
	if opt.Storage.FetchRate == 0 {
		opt.Storage.FetchRate = 64 << 20
	}
	if opt.Key.Owner == "" {
		opt.Key.Owner = firstOwner
	}
	if opt.Failed == nil {
		opt.Failed = func(err error) { panic(err) }
	}
	return opt
}

// makePlan is how the cluster begins. A node that joins one has no part in it: it begins without replicas, and looks
// for the controller among the nodes it was told of.
func (n *Node) makePlan() *meta.Bootstrap {
	if !n.opt.Join {
		return controller.Plan(datadir.ClusterID(n.opt.Cluster), n.opt.Nodes, n.opt.Key, &n.opt.Limits)
	}
	plan := &meta.Bootstrap{Nodes: n.opt.Nodes}
	controllers := cmq.Set{ID: cmq.ControllerSet}
	for i := range n.opt.Nodes {
		if id := n.opt.Nodes[i].ID; id != n.opt.ID {
			controllers.Replicas = append(controllers.Replicas, id)
		}
	}
	plan.Sets = []cmq.Set{controllers}
	return plan
}

// firstOwner is the account of the first access key if none is named.
const firstOwner = "1"

// canceled is a context for stopping without patience.
func canceled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// start builds the parts, bottom up.
func (n *Node) start() (err error) {
	if n.lock, err = datadir.Claim(n.fs, n.opt.DataDir, datadir.Identity{Cluster: n.opt.Cluster, Node: n.opt.ID}); err != nil {
		return err
	}
	n.mover = dispatch.NewMover(n.do, n.target, n.board.Changed, n.log)
	n.attendance = dispatch.NewAttendance(n.clock)
	n.meta = controller.NewMeta(controller.MetaConfig{Board: n.board, Do: n.do, Replica: n.replicaOf(cmq.ControllerSet)})
	n.router = n.newRouter()
	if err := n.startPush(); err != nil {
		return err
	}
	if err := n.openSets(); err != nil {
		return err
	}
	n.startTransport()
	n.reconciler = controller.NewReconciler(controller.ReconcilerConfig{Board: n.board, Do: n.do, Clock: n.clock, Logger: n.log})
	n.wg.Go(func() { n.reconciler.Run(n.ctx) })
	n.wg.Go(n.balance)
	n.wg.Go(n.watchSpace)
	n.wg.Go(n.returnMemory)
	boundGarbage(n.ctx, mostGarbage)
	n.wg.Go(n.register)
	n.wg.Go(n.followPeers)
	if !n.replicaOf(cmq.ControllerSet) {
		n.wg.Go(n.followTable)
	}
	for _, id := range n.setIDs {
		n.wg.Go(func() { n.watchLeaders(n.sets[id]) })
	}
	n.wg.Go(n.watchOutlets)
	n.startDoors()
	return nil
}

func (n *Node) replicaOf(id cmq.SetID) bool {
	return slices.ContainsFunc(n.plan.Sets, func(s cmq.Set) bool {
		return s.ID == id && slices.Contains(s.Replicas, n.opt.ID)
	})
}

// do carries out a request at the leader of a set, wherever that is.
func (n *Node) do(ctx context.Context, id cmq.SetID, req *cmq.Request) (*cmq.Reply, error) {
	return n.router.Do(ctx, id, req)
}

// Stop stops the node, top down: doors first, then deliveries, then leadership is handed over, then everything else. When
// ctx ends, what is left stops at once.
func (n *Node) Stop(ctx context.Context) error {
	n.health.drain()
	err := n.stopDoors(ctx)
	n.stopPush(ctx)
	n.cancel()
	n.wg.Wait()
	if n.mover != nil {
		n.mover.Close()
	}
	n.stopSets(ctx)
	if t := n.transport.Load(); t != nil {
		t.Close()
	}
	for _, id := range n.setIDs {
		err = errors.Join(err, n.sets[id].store.Close())
	}
	if n.lock != nil {
		err = errors.Join(err, n.lock.Close())
	}
	return err
}

// stopSets hands over all leaderships at the same time.
func (n *Node) stopSets(ctx context.Context) {
	var wg sync.WaitGroup
	for _, id := range n.setIDs {
		if h := n.sets[id]; h.host != nil {
			wg.Go(func() {
				h.host.Stop(ctx)
				h.work.Wait()
			})
		}
	}
	wg.Wait()
}

func (n *Node) setFailed(id cmq.SetID) func(error) {
	return func(err error) {
		n.health.fail(err)
		n.opt.Failed(fmt.Errorf("set %d: %w", id, err))
	}
}
