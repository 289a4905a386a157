package set

import (
	"errors"
	"syscall"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/opencmq/cmq/internal/store/segment"
)

// Job is work that waits for a disk. Run does it, on any goroutine; then Done must be called by the driver.
// Jobs of class Disk must run one after the other in the order given, and so must those of class Maintenance, beside them; a
// Reader may run at any time, and so may a Scrub, which takes long.
type Job struct {
	Class JobClass
	Bytes int // roughly what is written or read
	run   func() error
	done  func(now Now, err error)
	err   error
}

// JobClass tells which goroutine should run a job.
type JobClass uint8

const (
	Disk        JobClass = iota // changes the store
	Reader                      // reads from the store
	Maintenance                 // images, and what they make possible: takes long, and waits in between
	Scrub                       // reads everything, slowly; there is at most one
)

// Run does the work.
func (j *Job) Run() { j.err = j.run() }

// Done takes the result of a job that has run.
func (r *Replica) Done(now Now, j *Job) {
	defer r.catch()
	j.done(now, j.err)
}

// queueAppend keeps raft's request to make entries and hard state durable until the disk is free.
func (r *Replica) queueAppend(m *raftpb.Message) {
	if n := len(m.GetEntries()); n > 0 {
		r.last = m.GetEntries()[n-1].GetIndex()
	}
	if m.GetSnapshot() != nil {
		r.last = m.GetSnapshot().GetMetadata().GetIndex()
	}
	r.appendQueue = append(r.appendQueue, m)
}

// group is what one disk write makes durable.
type group struct {
	entries   []segment.Entry
	hard      segment.HardState
	responses []*raftpb.Message
	snapshot  *raftpb.Snapshot
	bytes     int
}

// startAppend gives out one disk job for everything that waits. A snapshot is a job of its own. It reports whether it
// did something.
//
// What has neither entries nor another term or vote does not wait for the disk: everything before it is durable by now,
// and a commit index that is forgotten is learned again. It goes along with the next group. Without this each
// follower would sync twice for each entry, the second time for the news that the first is committed.
func (r *Replica) startAppend(now Now) bool {
	if r.disk != nil || r.full != nil || len(r.appendQueue) == 0 || r.failed != nil {
		return false
	}
	if r.appendQueue[0].GetSnapshot() != nil && !r.checkpoint.halt() {
		return false // an image of the state that is about to be replaced must be out of the way first
	}
	g := r.takeGroup()
	if g.hard == (segment.HardState{}) {
		g.hard = r.unwritten
	}
	switch {
	case g.snapshot != nil:
		r.startInstall(now, g)
	case len(g.entries) > 0 || g.hard.Term != r.hard.Term && g.hard.Term != 0 || g.hard.Vote != r.hard.Vote && g.hard.Term != 0:
		r.appendGroup(now, g)
	default:
		r.unwritten = g.hard
		r.respond(now, g.responses)
		return true
	}
	if g.hard.Term != 0 {
		r.hard = g.hard
	}
	r.unwritten = segment.HardState{}
	return true
}

func (r *Replica) appendGroup(now Now, g *group) {
	log, generation := r.storage.log(), r.generation
	r.startDisk(now, &Job{
		Class: Disk, Bytes: g.bytes,
		run: func() error { return log.Append(g.entries, g.hard, true) },
		done: func(now Now, err error) {
			if err == nil {
				r.disks.synced(r, now)
			}
			if generation != r.generation {
				g.responses = nil // what was to be acknowledged belongs to a life before a repair
			}
			r.appended(now, g, err)
		},
	})
}

func (r *Replica) startDisk(now Now, j *Job) {
	r.disk, r.diskSince, r.stalled = j, now.Mono, 0
	r.jobs = append(r.jobs, j)
}

func (r *Replica) takeGroup() *group {
	g := &group{}
	taken := 0
	for _, m := range r.appendQueue {
		if m.GetSnapshot() != nil {
			if taken > 0 {
				break
			}
			g.snapshot = m.GetSnapshot()
		}
		g.add(m)
		taken++
		if g.snapshot != nil {
			break
		}
	}
	r.appendQueue = append(r.appendQueue[:0], r.appendQueue[taken:]...)
	return g
}

func (g *group) add(m *raftpb.Message) {
	if m.Term != nil && m.Vote != nil && m.Commit != nil {
		g.hard = segment.HardState{Term: m.GetTerm(), Vote: m.GetVote(), Commit: m.GetCommit()}
	}
	if es := m.GetEntries(); len(es) > 0 {
		// Entries of a later message replace those they overlap.
		first := es[0].GetIndex()
		for len(g.entries) > 0 && g.entries[len(g.entries)-1].Index >= first {
			g.entries = g.entries[:len(g.entries)-1]
		}
		g.entries = append(g.entries, fromRaft(es)...)
		for _, e := range es {
			g.bytes += len(e.GetData())
		}
	}
	g.responses = append(g.responses, m.GetResponses()...)
}

// appended sends the answers that were waiting for the disk.
func (r *Replica) appended(now Now, g *group, err error) {
	r.disk = nil
	switch {
	case noRoom(err):
		if r.rn == nil {
			return
		}
		// Nothing was written and nobody was told anything: the same group is tried again until there is room.
		if r.full == nil {
			r.log.Error("no space left for the log; trying again until there is", "error", err)
		}
		r.full = g
	case err != nil:
		r.fail(err)
	default:
		r.full = nil
		r.respond(now, g.responses)
	}
}

func (r *Replica) respond(now Now, responses []*raftpb.Message) {
	for _, m := range responses {
		if m.GetTo() == uint64(r.id) {
			r.stepLocal(m)
		} else {
			r.send(now, m)
		}
	}
}

// apply gives committed entries to the machine.
func (r *Replica) apply(now Now, m *raftpb.Message) {
	for _, e := range m.GetEntries() {
		r.applyEntry(e)
	}
	r.respond(now, m.GetResponses())
}

func (r *Replica) applyEntry(e *raftpb.Entry) {
	r.applied, r.appTerm = e.GetIndex(), e.GetTerm()
	r.checkpoint.bytes += len(e.GetData()) + 64
	switch e.GetType() {
	case raftpb.EntryNormal:
		if r.leading && len(e.GetData()) > 0 && r.cuts > 0 {
			r.cuts--
		}
		data := e.GetData()
		if len(data) == 0 {
			data = nil // an empty entry that was read from the log is empty, not nil
		}
		r.machine.Apply(e.GetIndex(), e.GetTerm(), data)
	case raftpb.EntryConfChange, raftpb.EntryConfChangeV2:
		r.applyConfChange(e)
	}
	r.digests.applied(r, e.GetIndex())
}

func (r *Replica) applyConfChange(e *raftpb.Entry) {
	cc, err := confChange(e)
	if err != nil {
		panic("BUG: a membership change in the log cannot be read: " + err.Error())
	}
	r.conf = r.rn.ApplyConfChange(cc)
	r.machine.Apply(e.GetIndex(), e.GetTerm(), nil)
}

func confChange(e *raftpb.Entry) (raftpb.ConfChangeI, error) {
	if e.GetType() == raftpb.EntryConfChange {
		cc := new(raftpb.ConfChange)
		return cc, proto.Unmarshal(e.GetData(), cc)
	}
	cc := new(raftpb.ConfChangeV2)
	return cc, proto.Unmarshal(e.GetData(), cc)
}

// noRoom tells whether an error is one that passes: nothing happened, because the disk or a table of the system was
// full.
func noRoom(err error) bool {
	if errors.Is(err, segment.ErrFailed) {
		return false
	}
	for _, e := range []error{segment.ErrNoSpace, syscall.ENOSPC, syscall.EDQUOT, syscall.EMFILE, syscall.ENFILE, syscall.EROFS} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

var _ raft.Storage = (*storage)(nil)
