// Package inspecttest makes data directories for tests of those who look at them: by the stores and machines of the product,
// without a running node, so that every byte and every entry is where the test expects it.
package inspecttest

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/core/command"
	"github.com/opencmq/cmq/internal/core/meta"
	"github.com/opencmq/cmq/internal/datadir"
	"github.com/opencmq/cmq/internal/engine"
	"github.com/opencmq/cmq/internal/store"
	"github.com/opencmq/cmq/internal/store/checkpoint"
	"github.com/opencmq/cmq/internal/store/reflog"
	"github.com/opencmq/cmq/internal/store/segment"
	"github.com/opencmq/cmq/internal/vfs"
)

// Cluster and Node are whose directories World makes.
const (
	Cluster = "test"
	Node    = cmq.NodeID(1)
	// SegmentSize is small, so that a few messages fill several files.
	SegmentSize = 32 << 10
)

// Start is the cluster time of the first entry.
var Start = time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC).UnixMilli()

// World is the data directory of one node: the controller's set with two queues, work (which can be rewound) and other, and data
// set 1 with one shard of each.
type World struct {
	Dir         string
	Work, Other cmq.ShardID

	t        testing.TB
	store    *store.Store
	machine  *engine.Machine
	index    uint64
	number   uint64
	now      int64
	counters map[cmq.ShardID]uint64 // of deliveries
}

// New makes a directory; replicas are the nodes with a replica of each set.
func New(t testing.TB, replicas ...cmq.NodeID) *World {
	t.Helper()
	if len(replicas) == 0 {
		replicas = []cmq.NodeID{Node}
	}
	w := &World{t: t, Dir: t.TempDir(), now: Start, index: 1, counters: map[cmq.ShardID]uint64{}}
	w.Work, w.Other = cmq.QueueID(1).Shard(0), cmq.QueueID(2).Shard(0)
	lock, err := datadir.Claim(vfs.OS(), w.Dir, datadir.Identity{Cluster: Cluster, Node: Node})
	require.NoError(t, err)
	require.NoError(t, lock.Close())
	w.controller(replicas)
	w.store = w.create(1, replicas)
	w.machine = engine.New(engine.Config{
		Set: 1, Node: Node, FS: vfs.OS(), Dir: w.SetDir(1), Refs: reflog.Options{Cluster: datadir.ClusterID(Cluster), Set: 1, TailBytes: 1},
	})
	require.NoError(t, w.machine.Restore(1, nil, nil))
	for _, shard := range []cmq.ShardID{w.Work, w.Other} {
		q := cmq.DefaultQueueAttributes()
		a := q.ShardAttributes()
		if shard == w.Work {
			a.Rewind = time.Hour
		}
		w.Apply(command.Op{Kind: command.Open, Shard: shard, Version: 1, Attributes: a})
	}
	t.Cleanup(w.Kill)
	return w
}

// SetDir is the directory of a set's replica.
func (w *World) SetDir(id cmq.SetID) string { return datadir.SetDir(w.Dir, id) }

// Path is a file of set 1.
func (w *World) Path(name string) string { return filepath.Join(w.SetDir(1), name) }

func (w *World) options(id cmq.SetID) store.Options {
	opt := store.Options{Options: segment.Options{
		Cluster: datadir.ClusterID(Cluster), Set: uint16(id), Replica: uint64(Node), SegmentSize: SegmentSize, CacheBytes: 1 << 20,
		Rand: rand.NewChaCha8([32]byte{byte(id)}),
	}}
	if id != cmq.ControllerSet {
		opt.Message = engine.StoredMessage
	}
	return opt
}

func (w *World) create(id cmq.SetID, replicas []cmq.NodeID) *store.Store {
	conf := &raftpb.ConfState{}
	for _, r := range replicas {
		conf.Voters = append(conf.Voters, uint64(r))
	}
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(conf)
	require.NoError(w.t, err)
	s, err := store.Create(vfs.OS(), w.SetDir(id), w.options(id), store.Image{Image: checkpoint.Image{Index: 1, Term: 1, ConfState: data}})
	require.NoError(w.t, err)
	return s
}

// controller makes set 0, which knows the queues, and a topic with a subscription, whose shard is Reader.
func (w *World) controller(replicas []cmq.NodeID) {
	s := w.create(cmq.ControllerSet, replicas)
	boot := &meta.Bootstrap{
		Cluster: datadir.ClusterID(Cluster), Nodes: []cmq.Node{{ID: 1}, {ID: 2}, {ID: 3}},
		Sets: []cmq.Set{{ID: 0, Replicas: replicas}, {ID: 1, Replicas: replicas}}, Key: cmq.AccessKey{ID: "AKIDtest", Secret: "s", Owner: "1", Enabled: true},
	}
	protocol, endpoint := cmq.ProtocolQueue, "work"
	for i, c := range []meta.Command{
		boot, &meta.CreateQueue{Owner: "1", Name: "work", Shards: 1}, &meta.CreateQueue{Owner: "1", Name: "other", Shards: 1},
		&meta.CreateTopic{Owner: "1", Name: "news"},
		&meta.Subscribe{Owner: "1", Topic: "news", Name: "reader", Settings: cmq.SubscriptionSettings{Protocol: &protocol, Endpoint: &endpoint}},
	} {
		index := uint64(i + 2)
		data := meta.EncodeBatch(uint64(Node), index, w.now, [][]byte{meta.Encode(c)})
		require.NoError(w.t, s.Log().Append([]segment.Entry{{Index: index, Term: 1, Data: data}}, segment.HardState{Term: 1, Vote: 1, Commit: index}, true))
	}
	require.NoError(w.t, s.Close())
}

// Index is that of the last entry of set 1.
func (w *World) Index() uint64 { return w.index }

// Apply appends an entry with these operations and applies it.
func (w *World) Apply(ops ...command.Op) {
	w.t.Helper()
	w.number++
	b := command.NewBuilder()
	b.Reset(uint64(Node), w.number)
	for _, op := range ops {
		b.Add(op)
	}
	w.index++
	w.now += 1000
	data := append([]byte(nil), b.Finish(w.now)...)
	w.append(data)
	w.machine.Apply(w.index, 1, data)
}

func (w *World) append(data []byte) {
	w.t.Helper()
	err := w.store.Log().Append([]segment.Entry{{Index: w.index, Term: 1, Data: data}}, segment.HardState{Term: 1, Vote: 1, Commit: w.index}, true)
	require.NoError(w.t, err)
}

// Send appends an entry with n messages of size bytes.
func (w *World) Send(shard cmq.ShardID, n, size int) { w.SendLater(shard, n, size, 0) }

// SendLater is Send with a delay.
func (w *World) SendLater(shard cmq.ShardID, n, size int, delay time.Duration) {
	w.t.Helper()
	op := command.Op{Kind: command.Send, Shard: shard, Delay: delay.Milliseconds()}
	for i := range n {
		text := fmt.Sprintf("message %d of entry %d ", i, w.index+1)
		op.Bodies = append(op.Bodies, []byte((text + strings.Repeat(".", size))[:size]))
	}
	w.Apply(op)
}

// Delete appends two entries that receive n messages and delete them.
func (w *World) Delete(shard cmq.ShardID, n int) {
	w.t.Helper()
	w.Apply(command.Op{Kind: command.Receive, Shard: shard, Max: n, Lock: 30_000})
	op := command.Op{Kind: command.Delete, Shard: shard}
	for range n {
		w.counters[shard]++
		op.Handles = append(op.Handles, cmq.NewHandle(0, w.counters[shard]))
	}
	w.Apply(op)
}

// Image makes an image of the state and does what a node does behind one: segments leave the log, files in which little
// lives are written anew.
func (w *World) Image() {
	w.t.Helper()
	w.machine.StartImage()
	for !w.machine.StepImage(1 << 20) {
	}
	job := w.machine.TakeImage()
	free := func(int) error { return nil }
	parts, files, live, err := job.Run(free)
	require.NoError(w.t, err)
	conf, err := w.store.LatestImage()
	require.NoError(w.t, err)
	err = w.store.SaveImage(store.Image{
		Image: checkpoint.Image{Index: w.index, Term: 1, ConfState: conf.ConfState, Time: w.now, Parts: parts}, Refs: files,
	})
	require.NoError(w.t, err)
	_, err = w.store.Maintain(live, w.index, free)
	require.NoError(w.t, err)
	job.Done(nil)
}

// Fence leaves what a replica does whose state is not that of the others.
func (w *World) Fence() {
	w.t.Helper()
	require.NoError(w.t, w.store.Log().NoteState(true))
}

// Close closes the stores as a node that is stopped does.
func (w *World) Close() {
	w.t.Helper()
	require.NoError(w.t, w.store.Close())
	w.store = nil
}

// Kill leaves the directory as a node that was killed does. Call it only to go on with the files.
func (w *World) Kill() {
	if w.store == nil {
		return
	}
	dir := w.SetDir(1)
	copied := dir + ".copy"
	require.NoError(w.t, os.CopyFS(copied, os.DirFS(dir)))
	require.NoError(w.t, w.store.Close())
	require.NoError(w.t, os.RemoveAll(dir))
	require.NoError(w.t, os.Rename(copied, dir))
	w.store = nil
}

// Flip changes one byte of a file.
func Flip(t testing.TB, path string, offset int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	var b [1]byte
	_, err = f.ReadAt(b[:], offset)
	require.NoError(t, err)
	b[0] ^= 0x10
	_, err = f.WriteAt(b[:], offset)
	require.NoError(t, err)
	require.NoError(t, f.Close())
}

// Everything is what a directory holds: names, sizes, times of change and bytes. Two that are equal are of a directory that
// nobody has touched.
func Everything(t testing.TB, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		text := fmt.Sprintf("%v %d %v ", info.Mode(), info.Size(), info.ModTime())
		if !d.IsDir() {
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			text += fmt.Sprintf("%x", sha256.Sum256(data))
		}
		all[path] = text
		return nil
	})
	require.NoError(t, err)
	if len(all) < 2 {
		require.NoError(t, errors.New("there is nothing in "+dir))
	}
	return all
}
