package set

import (
	"time"

	"go.etcd.io/raft/v3"

	"github.com/opencmq/cmq/internal/cmq"
)

// Flying reports whether this replica leads and an entry it cut is not applied yet.
func (r *Replica) Flying() bool { return r.leading && r.cuts > 0 }

// writing is how long the disk write that is out has taken so far, 0 if none is out.
func (r *Replica) writing(now Now) time.Duration {
	if r.disk == nil {
		return 0
	}
	return now.Mono - r.diskSince
}

// watchDisk hands over leadership when one disk write has not finished for DiskStall, and tries that again each time it has
// not for as long again.
func (r *Replica) watchDisk(now Now) {
	lasts := r.writing(now)
	if lasts < r.stalled+r.cfg.DiskStall {
		return
	}
	r.stalled = lasts
	r.log.Warn("the disk stalls", "since", lasts, "handing_over", r.Transfer(now))
}

// Transfer asks the follower that is furthest to take over, if this replica leads. It reports whether there is
// one that can.
func (r *Replica) Transfer(now Now) bool { return r.handOver(now, 0) }

// transferring is Transfer unless a follower is asked already. Raft forgets that it was when it has not taken over within an
// election timeout. It reports whether one is asked.
func (r *Replica) transferring(now Now) bool {
	return r.canTransfer() && (r.rn.BasicStatus().LeadTransferee != raft.None || r.Transfer(now))
}

// canTransfer reports whether this replica leads and has others who might.
func (r *Replica) canTransfer() bool { return r.leader == r.id && len(r.conf.GetVoters()) > 1 }

// succeeding reports whether nobody is known to lead, as while another node stands for election.
func (r *Replica) succeeding() bool { return r.leader == 0 && len(r.conf.GetVoters()) > 1 }

// handOver is Transfer to any other node than not.
func (r *Replica) handOver(now Now, not cmq.NodeID) bool {
	if r.leader != r.id {
		return false
	}
	var best, match uint64
	for id, p := range r.rn.Status().Progress {
		if id != uint64(r.id) && id != uint64(not) && p.RecentActive && !p.IsLearner && r.disks.fit(r, now, cmq.NodeID(id)) && (best == 0 || p.Match > match || p.Match == match && id < best) {
			best, match = id, p.Match
		}
	}
	if best != 0 {
		r.rn.TransferLeader(best)
	}
	return best != 0
}

// PeerDown says that the process of another node was seen to die. If it led, the survivors do not wait for the
// election timeout: they stand at once, one after the other.
func (r *Replica) PeerDown(now Now, id cmq.NodeID) {
	if r.rn == nil {
		return
	}
	r.rn.ReportUnreachable(uint64(id))
	if r.leader != id || id == 0 {
		return
	}
	if err := r.rn.ForgetLeader(); err != nil {
		return
	}
	rank := 0
	for _, v := range r.conf.GetVoters() {
		if v < uint64(r.id) && v != uint64(id) {
			rank++
		}
	}
	// The first waits until the others have noticed too; each next one until the one before it has failed.
	r.campaignAt = now.Mono + 10*time.Millisecond + time.Duration(rank)*40*time.Millisecond
}

// Campaign makes the replica stand for election at once (single-node sets at start, tests).
func (r *Replica) Campaign() {
	if r.rn != nil {
		_ = r.rn.Campaign()
	}
}

func (r *Replica) stopLeading() {
	r.leading, r.cuts, r.refused = false, 0, nil
	r.machine.Follow()
	r.reads.fail(&cmq.NotLeaderError{Set: r.set, Leader: r.leader})
}

// maybeLead opens the machine for requests once raft leads, the entries of earlier terms are applied and
// cluster time is known. It reports whether the machine is open.
func (r *Replica) maybeLead(now Now) bool {
	if r.leading || r.leader != r.id || r.appTerm != r.term {
		return r.leading
	}
	if !r.clock.start(now, r.term, r.id, r.conf.GetVoters(), r.machine.Time()) {
		return false
	}
	r.leading = true
	r.log.Info("leading", "term", r.term, "applied", r.applied)
	r.machine.Lead(r.term)
	return true
}

// cut proposes the next entry: when the one before is applied and the disk is free, or when a full entry is waiting.
// To cut as soon as the own disk is free, with the one before still on its way to the followers, was tried: it
// makes entries half as large and syncs twice as many, and on a busy disk or processor that costs more than it saves.
func (r *Replica) cut(now Now) {
	if !r.maybeLead(now) || r.rn.BasicStatus().LeadTransferee != raft.None {
		return
	}
	for r.cuts < maxCutsAhead {
		if r.refused == nil {
			waiting := r.machine.Waiting()
			busy := r.cuts > 0 || r.disk != nil || r.full != nil || len(r.appendQueue) > 0
			if waiting == 0 || busy && waiting < maxEntryBytes {
				return
			}
			r.refused = r.machine.Cut(r.clock.at(now), maxEntryBytes)
			if r.refused == nil {
				return
			}
		}
		if err := r.rn.Propose(r.refused); err != nil {
			return // offered again after the next input
		}
		r.refused = nil
		r.cuts++
		for r.rn.HasReady() && r.failed == nil {
			r.handle(now, r.rn.Ready())
			if !r.leading {
				return
			}
		}
	}
}

// GiveTo hands over leadership to the named node if it is up and has the log but for the newest entries. It reports whether it does.
func (r *Replica) GiveTo(node cmq.NodeID) bool {
	if !r.leading {
		return false
	}
	p, ok := r.rn.Status().Progress[uint64(node)]
	// What is still on its way is waited for by raft, while no new entry is taken: it must be little.
	if !ok || !p.RecentActive || p.IsLearner || p.Match+4 < r.last {
		return false
	}
	r.rn.TransferLeader(uint64(node))
	return true
}
