package node

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"runtime/metrics"
	"syscall"

	"github.com/opencmq/cmq/internal/access/adminapi"
	"github.com/opencmq/cmq/internal/core/meta"
	"github.com/opencmq/cmq/internal/datadir"
	"github.com/opencmq/cmq/internal/engine"
	"github.com/opencmq/cmq/internal/set"
)

// serveState serves GET /debug/state.
func (n *Node) serveState(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), liveLimit)
	defer cancel()
	w.Header().Set("Content-Type", "application/json")
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	_ = enc.Encode(n.state(ctx)) // the reader may have gone
}

// state is everything that the node tells an operator. Loops that do not answer before ctx ends are said to hang.
func (n *Node) state(ctx context.Context) adminapi.State {
	table := n.meta.Table()
	stopping, _ := n.health.state()
	out := adminapi.State{
		Now: n.clock.Now(), Started: n.started, Version: n.opt.Version, Node: n.opt.ID, Cluster: n.opt.Cluster, Stopping: stopping,
		Disk: n.diskState(),
		Metadata: adminapi.Metadata{
			Version: table.Version(), Queues: table.QueueCount(), Topics: table.TopicCount(), Subscriptions: table.SubscriptionCount(),
			Tasks: len(table.Tasks()),
		},
		Nodes: []adminapi.Node{}, Sets: []adminapi.Set{},
	}
	for _, o := range table.Nodes() {
		out.Nodes = append(out.Nodes, adminapi.Node{ID: o.ID, HTTP: o.HTTP, Peer: o.Peer, Admin: o.Admin})
	}
	for _, id := range n.setIDs {
		out.Sets = append(out.Sets, n.sets[id].state(ctx, table))
	}
	out.Process = n.processState()
	return out
}

func (n *Node) diskState() adminapi.Disk {
	d := adminapi.Disk{Dir: n.opt.DataDir, SoftInodes: datadir.SoftInodes, HardInodes: datadir.HardInodes}
	space, err := n.fs.Space(n.opt.DataDir)
	if err != nil {
		d.Error = err.Error()
		return d
	}
	marks := n.opt.Storage.marks().For(space.Total)
	d.Total, d.Free, d.Soft, d.Hard = space.Total, space.Free, marks.Soft, marks.Hard
	d.Inodes, d.FreeInodes = space.Inodes, space.FreeInodes
	return d
}

const (
	// ownDescriptors is what a node needs beside its sets and connections: listeners, logs, what the runtime and a lookup take.
	ownDescriptors = 64
	// setDescriptors is what a set needs beside the segments of its log and the archive: the side file, an image and references being
	// written, files being read for another replica and by the search for damage.
	setDescriptors = 32
	// peerDescriptors is how many connections there may be to one other node at a time.
	peerDescriptors = 8
)

func (n *Node) processState() adminapi.Process {
	p := adminapi.Process{PID: os.Getpid(), Connections: n.door.Conns()}
	samples := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}, {Name: "/sched/goroutines:goroutines"}}
	metrics.Read(samples)
	p.Memory = samples[0].Value.Uint64() - samples[1].Value.Uint64()
	p.Goroutines = int(samples[2].Value.Uint64())
	if fds, err := os.ReadDir("/proc/self/fd"); err == nil {
		p.Descriptors = len(fds)
	}
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) == nil {
		p.Limit = uint64(limit.Cur)
	}
	p.Need = uint64(ownDescriptors + p.Connections + peerDescriptors*len(n.meta.Table().Nodes()))
	for _, id := range n.setIDs {
		s := n.sets[id].store
		first, last := s.Log().Numbers()
		p.Need += setDescriptors + (last - first + 2) + uint64(s.OpenFiles())
	}
	return p
}

// state asks the loop of a replica what it knows; what it published last counts if it does not answer.
func (h *hosted) state(ctx context.Context, table *meta.Table) adminapi.Set {
	s := h.host.Status()
	logBytes, archiveBytes := h.store.Size()
	out := adminapi.Set{
		Set: h.id, Voters: h.voters, Leader: s.Leader, Leading: s.Leading, Fetching: s.Fetching,
		Term: s.Term, First: s.First, Last: s.Last, Committed: s.Committed, Applied: s.Applied, Image: s.ImageIndex,
		LogBytes: logBytes, ArchiveBytes: archiveBytes, Full: int(s.Space), Replicas: []adminapi.Replica{},
		Scrub: adminapi.Scrub{Passes: s.Scrub.Passes, Damaged: s.Scrub.Damaged}, WrongStates: s.WrongStates,
	}
	for _, d := range h.store.Damage() {
		out.Damage = append(out.Damage, adminapi.Damage{File: d.File, Offset: d.Offset, Kind: d.Kind.String(), Why: d.Why})
	}
	if h.service != nil {
		k := h.service.Machine.Stats()
		out.Mended, out.Quarantined, out.Refused = k.Mended.Load(), k.Quarantined.Load(), k.Busy.Load()
	}
	report, undecided, ok := h.report(ctx)
	if out.Hangs = !ok; ok {
		addReport(&out, &report)
		out.Undecided = named(table, undecided)
	}
	if s.Repairing {
		out.Repair = &adminapi.Repair{Vote: report.Amnesia, End: report.Open, Image: report.ImageLost, State: report.WrongState, Lost: report.Lost}
	}
	return out
}

// maxUndecided is how many queues with undecided messages are told of.
const maxUndecided = 100

// report asks the loop for a report; false if it does not answer.
func (h *hosted) report(ctx context.Context) (report set.Report, undecided []engine.Undecided, ok bool) {
	answered := make(chan struct{})
	var r set.Report
	var u []engine.Undecided
	started := h.host.Exec(func(now set.Now) {
		if r = h.replica.Report(now); h.service != nil {
			u = h.service.Machine.Undecided(maxUndecided)
		}
		close(answered)
	})
	if !started {
		return report, nil, false
	}
	select {
	case <-answered:
		return r, u, true
	case <-ctx.Done():
		return report, nil, false
	}
}

// named says which queues the shards belong to.
func named(table *meta.Table, shards []engine.Undecided) (list []adminapi.Undecided) {
	for _, s := range shards {
		u := adminapi.Undecided{Queue: s.Shard.Queue().String(), Messages: s.Messages}
		if q := table.QueueByID(s.Shard.Queue()); q != nil {
			u.Owner, u.Queue = q.Owner, q.Name
		}
		list = append(list, u)
	}
	return list
}

func addReport(out *adminapi.Set, r *set.Report) {
	out.Sync, out.Writing = r.Sync, r.Writing
	if len(r.Voters) > 0 {
		out.Voters = r.Voters
	}
	if r.Warm {
		out.ClockOffset = &r.ClockOffset
	}
	for _, p := range r.Peers {
		o := adminapi.Replica{Node: p.Node, Active: p.Active, Match: p.Match, State: p.State}
		if p.Known {
			heard, offset := p.Heard.Milliseconds(), p.ClockOffset
			o.Heard, o.ClockOffset, o.Sync, o.Full = &heard, &offset, p.Sync, int(p.Space)
		}
		out.Replicas = append(out.Replicas, o)
	}
}
