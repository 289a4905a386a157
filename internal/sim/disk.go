package sim

import (
	"fmt"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/engine"
	"github.com/opencmq/cmq/internal/store"
	"github.com/opencmq/cmq/internal/store/checkpoint"
	"github.com/opencmq/cmq/internal/store/segment"
	"github.com/opencmq/cmq/internal/vfs"
)

// cluster is the number all simulated stores carry.
const cluster = 7

func directory(id cmq.SetID) string { return fmt.Sprintf("/sets/%04d", id) }

func (n *node) storeOptions(id cmq.SetID) store.Options {
	k := &n.w.knobs
	return store.Options{
		Options: segment.Options{
			Cluster: cluster, Set: uint16(id), Replica: uint64(n.id),
			SegmentSize: k.segmentSize, CacheBytes: k.cacheBytes, ReadCacheBytes: k.cacheBytes,
			Rand: newStream(n.w.cfg.Seed, fmt.Sprint("salt ", n.id, " ", id, " ", n.incarnation)), Logger: n.logger(),
		},
		Message: engine.StoredMessage,
	}
}

// create makes the stores of a new node: an image of the empty state with the members of the set, at index 1.
func (n *node) create() error {
	fs := n.disk.Mount()
	for id := cmq.SetID(1); id <= cmq.SetID(n.w.knobs.sets); id++ {
		if err := n.createSet(fs, id); err != nil {
			return err
		}
	}
	return nil
}

func (n *node) createSet(fs vfs.FS, id cmq.SetID) error {
	conf := &raftpb.ConfState{}
	for _, other := range n.w.nodeIDs() {
		conf.Voters = append(conf.Voters, uint64(other))
	}
	members, err := proto.MarshalOptions{Deterministic: true}.Marshal(conf)
	if err != nil {
		return err
	}
	st, err := store.Create(fs, directory(id), n.storeOptions(id), store.Image{
		Image: checkpoint.Image{Index: 1, Term: 1, ConfState: members},
	})
	if err != nil {
		return err
	}
	return st.Close()
}

// nodeIDs are the members of every set.
func (w *world) nodeIDs() []cmq.NodeID {
	var ids []cmq.NodeID
	for _, n := range w.nodes {
		ids = append(ids, n.id)
	}
	return ids
}

func openStore(n *node, fs vfs.FS, id cmq.SetID) (*store.Store, error) {
	return store.Open(fs, directory(id), n.storeOptions(id))
}
