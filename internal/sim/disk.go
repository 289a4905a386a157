package sim

import (
	"fmt"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/store"
	"github.com/opencmq/cmq/internal/vfs"
)

// cluster is the number all simulated stores carry.
const cluster = 7

func directory(id cmq.SetID) string { return fmt.Sprintf("/sets/%04d", id) }

func (n *node) storeOptions(id cmq.SetID) store.Options {
	k := &n.w.knobs
	return store.Options{
		Cluster: cluster, Set: uint16(id), Replica: uint64(n.id),
		SegmentSize: k.segmentSize, CacheBytes: k.cacheBytes, ReadCacheBytes: k.cacheBytes,
		Rand: newStream(n.w.cfg.Seed, fmt.Sprint("salt ", n.id, " ", id, " ", n.incarnation)), Logger: n.w.logger,
	}
}

// create makes the stores of a new node: an image of the empty state with the members of the set, at index 1.
func (n *node) create() error {
	conf := &raftpb.ConfState{}
	for _, other := range n.w.nodes {
		conf.Voters = append(conf.Voters, uint64(other.id))
	}
	members, err := proto.MarshalOptions{Deterministic: true}.Marshal(conf)
	if err != nil {
		return err
	}
	fs := n.disk.Mount()
	for id := cmq.SetID(1); id <= cmq.SetID(n.w.knobs.sets); id++ {
		st, err := store.Create(fs, directory(id), n.storeOptions(id), store.Image{Index: 1, Term: 1, ConfState: members})
		if err != nil {
			return err
		}
		if err := st.Close(); err != nil {
			return err
		}
	}
	return nil
}

func openStore(n *node, fs vfs.FS, id cmq.SetID) (*store.Store, error) {
	return store.Open(fs, directory(id), n.storeOptions(id))
}
