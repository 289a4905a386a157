package set

import (
	"slices"
	"time"

	"go.etcd.io/raft/v3/tracker"

	"github.com/opencmq/cmq/internal/cmq"
)

// Report is what an operator may want to know of a replica beyond its Status. It costs more than that.
type Report struct {
	Voters []cmq.NodeID
	Peers  []PeerReport // the other replicas, ascending

	Sync    time.Duration // median of the latest synced writes; 0: too few
	Writing time.Duration // how long the write that is out has taken so far; 0: none is out

	ClockOffset int64 // of cluster time to the wall clock, milliseconds
	Warm        bool  // there is a cluster time

	// In repair: what is lost.
	Amnesia, Open, ImageLost bool
	WrongState               bool   // nothing is lost, but the state is not that of most replicas
	Lost                     uint64 // entries
}

// PeerReport is another replica as this one knows it.
type PeerReport struct {
	Node        cmq.NodeID
	Known       bool // it was heard of; else the next four say nothing
	Heard       time.Duration
	ClockOffset int64 // of its wall clock to this one's, milliseconds
	Sync        time.Duration
	Space       Space
	// Of a leader only:
	Active bool
	Match  uint64
	State  string // empty: this replica does not lead
}

// Report describes the replica at this moment; call it on the loop.
func (r *Replica) Report(now Now) Report {
	out := Report{Sync: r.disks.pace.median, Writing: r.writing(now)}
	if at := r.clock.at(now); at != 0 {
		out.Warm, out.ClockOffset = true, at-now.Wall
	}
	for _, v := range r.conf.GetVoters() {
		out.Voters = append(out.Voters, cmq.NodeID(v))
	}
	slices.Sort(out.Voters)
	out.Peers = r.peerReports(now)
	if p := r.repair; p != nil {
		out.Amnesia, out.Open, out.ImageLost, out.WrongState = p.amnesia, p.open, p.reseed != 0 && !p.wrong, p.wrong
		for _, h := range r.storage.log().Holes() {
			out.Lost += h.Hi - h.Lo
		}
		for _, w := range p.wounds {
			out.Lost += w.Hi - w.Lo
		}
	}
	return out
}

func (r *Replica) peerReports(now Now) []PeerReport {
	progress := map[cmq.NodeID]tracker.Progress{}
	if r.rn != nil && r.leading {
		for id, p := range r.rn.Status().Progress {
			progress[cmq.NodeID(id)] = p
		}
	}
	var list []PeerReport
	for _, id := range r.others() {
		p := PeerReport{Node: id}
		if c, ok := r.clock.peers[id]; ok {
			p.Known, p.Heard = true, now.Mono-c.mono
			p.ClockOffset = c.wall + p.Heard.Milliseconds() - now.Wall
		}
		if d, ok := r.disks.peers[id]; ok {
			p.Sync, p.Space = d.sync, d.space
		}
		if at, ok := progress[id]; ok {
			p.Active, p.Match, p.State = at.RecentActive, at.Match, stateNames[at.State]
		}
		list = append(list, p)
	}
	slices.SortFunc(list, func(a, b PeerReport) int { return int(a.Node) - int(b.Node) })
	return list
}

var stateNames = map[tracker.StateType]string{
	tracker.StateProbe: "probe", tracker.StateReplicate: "replicate", tracker.StateSnapshot: "snapshot",
}
