package node

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/controller"
	"github.com/opencmq/cmq/internal/engine"
	"github.com/opencmq/cmq/internal/set"
	"github.com/opencmq/cmq/internal/store"
)

// hosted is this node's replica of one set.
type hosted struct {
	id      cmq.SetID
	voters  []cmq.NodeID
	store   *store.Store
	replica *set.Replica // belongs to host
	host    *set.Host
	service *engine.Service     // data sets
	meta    *controller.Machine // set 0
}

// open opens the replica's store, creating it on the first start, and readies the replica. It does not run yet.
func (n *Node) open(s cmq.Set) (*hosted, error) {
	h := &hosted{id: s.ID, voters: s.Replicas}
	machine := n.machine(h)
	st, err := n.openStore(s, machine)
	if err != nil {
		return nil, err
	}
	h.store = st
	r, err := set.NewReplica(set.Config{
		Set: s.ID, Node: n.opt.ID, Machine: machine, Store: st, Logger: n.log,
	})
	if err != nil {
		st.Close()
		return nil, err
	}
	h.replica = r
	return h, nil
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
		Bodies: h.entry,
		OnDead: func(shard cmq.ShardID) { n.mover.Notify(h.id, shard) },
	})
	h.service = &engine.Service{Machine: m, Loop: h}
	return m
}

// entry reads the data of one entry of the log.
func (h *hosted) entry(index uint64) ([]byte, error) {
	e, err := h.store.Log().Entry(index)
	return e.Data, err
}

// Exec implements engine.Loop.
func (h *hosted) Exec(call func(now int64)) bool {
	return h.host.Exec(func(now set.Now) { call(h.replica.Time(now)) })
}

// ExecForNextEntry implements engine.Loop.
func (h *hosted) ExecForNextEntry(call func(now int64)) bool {
	return h.host.ExecForNextEntry(func(now set.Now) { call(h.replica.Time(now)) })
}

func (n *Node) openStore(s cmq.Set, machine set.Machine) (*store.Store, error) {
	dir := filepath.Join(n.opt.DataDir, fmt.Sprintf("set-%03d", s.ID))
	opt := store.Options{
		Cluster: clusterID(n.opt.Cluster), Set: uint16(s.ID), Replica: uint64(n.opt.ID),
		SegmentSize: n.opt.SegmentSize, CacheBytes: n.opt.CacheBytes, Background: true, Logger: n.log,
	}
	st, err := store.Open(n.fs, dir, opt)
	if !errors.Is(err, store.ErrNotExist) {
		return st, err
	}
	// Every replica of a new set begins with the same image, as if it had installed a snapshot at index 1.
	conf := &raftpb.ConfState{}
	for _, v := range s.Replicas {
		conf.Voters = append(conf.Voters, uint64(v))
	}
	confState, err := proto.MarshalOptions{Deterministic: true}.Marshal(conf)
	if err != nil {
		return nil, err
	}
	return store.Create(n.fs, dir, opt, store.Image{Index: 1, Term: 1, ConfState: confState, Data: machine.Image()})
}

// Do carries out a request on this node's replica of the set, which must lead it.
func (n *Node) Do(ctx context.Context, id cmq.SetID, req *cmq.Request) (*cmq.Reply, error) {
	h := n.sets[id]
	if h == nil {
		return nil, &cmq.NotLeaderError{Set: id}
	}
	var reply *cmq.Reply
	var err error
	if h.meta != nil {
		reply, err = h.submitMeta(ctx, req)
	} else {
		reply, err = h.service.Do(ctx, req)
	}
	var nl *cmq.NotLeaderError
	if errors.As(err, &nl) && nl.Leader == 0 {
		if leader := h.host.Status().Leader; leader != n.opt.ID {
			return nil, &cmq.NotLeaderError{Set: id, Leader: leader}
		}
	}
	return reply, err
}

func (h *hosted) submitMeta(ctx context.Context, req *cmq.Request) (*cmq.Reply, error) {
	type outcome struct {
		reply *cmq.Reply
		err   error
	}
	ch := make(chan outcome, 1)
	ok := h.host.Exec(func(set.Now) {
		h.meta.Submit(req, func(r *cmq.Reply, err error) { ch <- outcome{r, err} })
	})
	if !ok {
		return nil, cmq.ErrStopping
	}
	select {
	case o := <-ch:
		return o.reply, o.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
