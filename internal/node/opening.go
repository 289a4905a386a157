package node

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"slices"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/set"
	"github.com/opencmq/cmq/internal/store"
	"github.com/opencmq/cmq/internal/store/checkpoint"
	"github.com/opencmq/cmq/internal/vfs"
)

// opening is this node's replica of a set on its way to be hosted.
type opening struct {
	h    *hosted
	set  cmq.Set
	opt  store.Options
	disk *store.Prepared // nil: there is no directory yet
}

// bootIndex is the index of the image with which every replica of a new set begins, as if it had installed a snapshot.
const bootIndex = 1

// openSets opens all of this node's replicas; the messages of others wait until all are there. No directory is touched before
// it is known that none is refused.
func (n *Node) openSets() error {
	list, err := n.prepareSets()
	for _, o := range list {
		if err == nil {
			err = n.open(o)
		} else if o.disk != nil {
			err = errors.Join(err, o.disk.Close())
		}
	}
	slices.Sort(n.setIDs)
	if err != nil {
		return err
	}
	for _, id := range n.setIDs {
		h := n.sets[id]
		h.host = set.NewHost(h.replica, set.HostConfig{Clock: n.clock, Send: n.sender(id), Failed: n.setFailed(id)})
	}
	return nil
}

// prepareSets reads the directories of all sets and changes nothing. After an error the list has those that must be closed.
func (n *Node) prepareSets() (list []*opening, err error) {
	for _, s := range n.plan.Sets {
		if !slices.Contains(s.Replicas, n.opt.ID) {
			continue
		}
		o := &opening{h: &hosted{id: s.ID, voters: s.Replicas}, set: s}
		o.h.fs = vfs.Counted(n.fs, &o.h.written)
		o.opt = n.storeOptions(s, o.h)
		o.disk, err = store.Prepare(o.h.fs, n.setDir(s.ID), o.opt)
		if err != nil && !errors.Is(err, store.ErrNotExist) {
			return list, fmt.Errorf("set %d: %w", s.ID, err)
		}
		list = append(list, o)
	}
	return list, n.mustBeComplete(list)
}

// lostSuffix ends the name of an empty file beside the directory of a set by which the operator gives the directory up.
const lostSuffix = ".lost"

// mustBeComplete refuses to begin a set of one replica anew on a node that has run before: all directories are made by the first start,
// so one that is missing was lost, or is missing in a backup. A set with other replicas fills it again.
func (n *Node) mustBeComplete(list []*opening) error {
	ran := slices.ContainsFunc(list, func(o *opening) bool { return o.disk != nil && o.disk.LastIndex() > bootIndex })
	for _, o := range list {
		if !ran || o.disk != nil {
			continue
		}
		dir := n.setDir(o.set.ID)
		if !o.opt.Alone {
			n.log.Warn("the directory of a set is missing; it is filled by the other replicas", "set", o.set.ID, "dir", dir)
			continue
		}
		if _, err := n.fs.Stat(dir + lostSuffix); errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("set %d: %s is missing, though this node has run before, and it is the only replica of the set: restore the whole data directory from a backup; "+
				"or, to begin the set empty, make an empty file %s%s; nothing was changed", o.set.ID, dir, dir, lostSuffix)
		} else if err != nil {
			return err
		}
	}
	return nil
}

// open opens the replica's store, creating it on the first start, and readies the replica. It does not run yet.
func (n *Node) open(o *opening) error {
	h := o.h
	machine := n.machine(h)
	st, err := n.openStore(o)
	if err != nil {
		return fmt.Errorf("set %d: %w", h.id, err)
	}
	h.store = st
	h.replica, err = set.NewReplica(set.Config{
		Set: h.id, Node: n.opt.ID, Life: rand.Uint32(), Machine: machine, Store: st, Logger: n.log, Replicas: h.voters,
		FetchRate: int(n.opt.Storage.FetchRate), ScrubRate: n.scrubRate(), ScrubPause: n.opt.Storage.ScrubPause,
	})
	if err != nil {
		return errors.Join(fmt.Errorf("set %d: %w", h.id, err), st.Close())
	}
	n.sets[h.id] = h
	n.setIDs = append(n.setIDs, h.id)
	return nil
}

func (n *Node) openStore(o *opening) (*store.Store, error) {
	if o.disk != nil {
		return o.disk.Open()
	}
	conf := &raftpb.ConfState{}
	for _, v := range o.set.Replicas {
		conf.Voters = append(conf.Voters, uint64(v))
	}
	confState, err := proto.MarshalOptions{Deterministic: true}.Marshal(conf)
	if err != nil {
		return nil, err
	}
	dir := n.setDir(o.set.ID)
	st, err := store.Create(o.h.fs, dir, o.opt, store.Image{Image: checkpoint.Image{Index: bootIndex, Term: 1, ConfState: confState}})
	if err != nil {
		return nil, err
	}
	if err := n.fs.Remove(dir + lostSuffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, errors.Join(err, st.Close())
	}
	return st, nil
}
