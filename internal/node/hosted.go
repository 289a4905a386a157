package node

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/controller"
	"github.com/opencmq/cmq/internal/datadir"
	"github.com/opencmq/cmq/internal/engine"
	"github.com/opencmq/cmq/internal/set"
	"github.com/opencmq/cmq/internal/store"
	"github.com/opencmq/cmq/internal/store/reflog"
	"github.com/opencmq/cmq/internal/store/segment"
	"github.com/opencmq/cmq/internal/vfs"
)

// hosted is this node's replica of one set.
type hosted struct {
	id      cmq.SetID
	voters  []cmq.NodeID
	fs      vfs.FS        // counts in written
	written atomic.Uint64 // bytes, since the start
	store   *store.Store
	replica *set.Replica // belongs to host
	host    *set.Host
	service *engine.Service     // data sets
	meta    *controller.Machine // set 0
	work    sync.WaitGroup      // goroutines that read for the machine
}

// machine makes the state machine for the set. Its functions are called only once the host runs.
func (n *Node) machine(h *hosted) set.Machine {
	read := func(done func(error)) {
		h.replica.Read(func(_ set.Now, err error) { done(err) })
	}
	if h.id == cmq.ControllerSet {
		h.meta = controller.NewMachine(controller.MachineConfig{
			Node: n.opt.ID, Board: n.board, Bootstrap: n.plan, Read: read, Logger: n.log,
			Leader: func() cmq.NodeID { return h.replica.Leader() },
		})
		return h.meta
	}
	m := engine.New(engine.Config{
		Set: h.id, Node: n.opt.ID, Logger: n.log, Read: read,
		FS: h.fs, Dir: n.setDir(h.id),
		Refs:     reflog.Options{Cluster: datadir.ClusterID(n.opt.Cluster), Set: uint16(h.id), Go: h.work.Go},
		Messages: func(refs []store.Ref, got func(int, store.Message, error)) { h.store.Messages(refs, got) },
		Fetch: func(refs []store.Ref, done func([]store.Message, error)) {
			h.host.Exec(func(now set.Now) { h.replica.FetchMessages(now, refs, done) })
		},
		RepairRefs: func(key reflog.Key, lo, hi uint64, done func(error)) {
			h.host.Exec(func(set.Now) { h.replica.FetchRefs(key, lo, hi, done) })
		},
		Go:     h.aside,
		Exec:   h.execAndWait,
		OnDead: func(shard, topic cmq.ShardID) { n.mover.Notify(h.id, shard, topic) },
		Wall:   func() int64 { return n.clock.Now().UnixMilli() },
	})
	h.service = &engine.Service{Machine: m, Loop: h, Go: h.work.Go}
	return m
}

// aside runs work on another goroutine and what follows on the loop.
func (h *hosted) aside(work, then func()) {
	h.work.Go(func() {
		work()
		h.host.Exec(func(set.Now) { then() })
	})
}

// execAndWait runs call on the loop.
func (h *hosted) execAndWait(call func()) bool {
	done := make(chan struct{})
	if !h.host.Exec(func(set.Now) {
		defer close(done)
		call()
	}) {
		return false
	}
	<-done
	return true
}

func (n *Node) setDir(id cmq.SetID) string {
	return datadir.SetDir(n.opt.DataDir, id)
}

// Exec implements engine.Loop.
func (h *hosted) Exec(call set.Timed) bool { return h.host.ExecTimed(call) }

// ExecForNextEntry implements engine.Loop.
func (h *hosted) ExecForNextEntry(call set.Timed) bool { return h.host.ExecForNextEntry(call) }

// scrubRate is the rate for set.Config, where 0 is the default and a negative one none.
func (n *Node) scrubRate() int {
	if n.opt.Storage.ScrubRate == 0 {
		return -1
	}
	return int(n.opt.Storage.ScrubRate)
}

// controllerSegment is the size of the log files of set 0, which has little to write.
const controllerSegment = 4 << 20

func (n *Node) storeOptions(s cmq.Set, h *hosted) store.Options {
	o := &n.opt.Storage
	opt := store.Options{
		Options: segment.Options{
			Cluster: datadir.ClusterID(n.opt.Cluster), Set: uint16(s.ID), Replica: uint64(n.opt.ID),
			SegmentSize: o.SegmentSize, CacheBytes: o.CacheBytes, Background: true, Logger: n.log,
		},
		Serial: func(f func() error) error { return h.host.Serial(f) },
		Alone:  len(s.Replicas) == 1,
	}
	if s.ID == cmq.ControllerSet {
		opt.SegmentSize, opt.CacheBytes = min(o.SegmentSize, controllerSegment), min(o.CacheBytes, controllerSegment)
		return opt
	}
	opt.Message, opt.Usable = engine.StoredMessage, engine.UsableEntry
	return opt
}

// Start carries out a request on this node's replica of the set, which must lead it.
func (n *Node) Start(id cmq.SetID, req *cmq.Request, done func(*cmq.Reply, error)) cmq.Pending {
	h := n.sets[id]
	if h == nil {
		done(nil, &cmq.NotLeaderError{Set: id})
		return cmq.Answered{}
	}
	answer := func(reply *cmq.Reply, err error) { done(reply, n.hinted(h, err)) }
	switch {
	case req.Kind == cmq.KindTrial:
		return n.startTrial(h, req, answer)
	case h.meta != nil && req.Kind == cmq.KindAttend:
		answer(n.attend(h, req))
		return cmq.Answered{}
	case h.meta != nil:
		return h.startMeta(req, answer)
	}
	return h.service.Start(req, answer)
}

// hinted adds to the refusal of a replica that does not lead who does, if that is known.
func (n *Node) hinted(h *hosted, err error) error {
	if err == nil {
		return nil // nearly always, and the look below costs memory
	}
	var nl *cmq.NotLeaderError
	if errors.As(err, &nl) && nl.Leader == 0 {
		if leader := h.host.Leader(); leader != n.opt.ID {
			return &cmq.NotLeaderError{Set: h.id, Leader: leader}
		}
	}
	return err
}

// metaCall is a request to the controller.
type metaCall struct {
	answered atomic.Bool
	done     func(*cmq.Reply, error)
}

func (h *hosted) startMeta(req *cmq.Request, done func(*cmq.Reply, error)) cmq.Pending {
	c := &metaCall{done: done}
	if !h.host.Exec(func(set.Now) { h.meta.Submit(req, c.answer) }) {
		c.answer(nil, cmq.ErrStopping)
	}
	return c
}

func (c *metaCall) answer(reply *cmq.Reply, err error) {
	if c.answered.CompareAndSwap(false, true) {
		c.done(reply, err)
	}
}

// Cancel implements cmq.Pending.
func (c *metaCall) Cancel() { c.answer(nil, context.Canceled) }
