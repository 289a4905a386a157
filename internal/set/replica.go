package set

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/store"
	"github.com/opencmq/cmq/internal/store/segment"
)

// Limits of one replica. The reasons are in engine.md section 1.
const (
	maxEntryBytes   = 512 << 10 // an entry is cut at this size; bigger only for one bigger message
	maxAppendBytes  = 1 << 20   // entries in one message to a follower
	maxInflight     = 64
	maxInflightSize = 16 << 20 // 160 MB/s over 100 ms; a follower that catches up in each of its sets holds as much for each
	maxUncommitted  = 128 << 20
	maxApplyBytes   = 8 << 20
	maxCutsAhead    = 2 // entries cut and not yet applied; more would only make the entries smaller
)

// Config says what a Replica needs.
type Config struct {
	Set     cmq.SetID
	Node    cmq.NodeID
	Machine Machine
	Store   *store.Store
	Logger  *slog.Logger

	// Life is a number that no earlier process had that ran this replica, as good as: what was asked in one life must not be taken for
	// answered in the next.
	Life uint32

	// Replicas are the nodes of the set as the controller knows them. They are used only to find somebody who knows
	// better, when no image can be read.
	Replicas []cmq.NodeID

	// ElectionTicks is after how many silent ticks a follower stands for election (it waits up to twice as long);
	// 0 means 12.
	ElectionTicks int
	// ImageBytes is after how many bytes of applied log a new image is made, if the newest is not large, and ImageEvery after
	// what time in any case; 0 means 256 MiB and 30 s.
	ImageBytes int
	ImageEvery time.Duration
	// KeepLag is how many bytes of log a follower may lag behind and still find its next entry in the leader's log; 0 means
	// 1 GiB.
	KeepLag int64
	// FetchRate, MaintainRate and ScrubRate are how many bytes a second may be fetched from other replicas, read and written by
	// the maintenance of files, and read to check them; 0 means 64 MiB, 64 MiB and 8 MiB. A negative ScrubRate: no checking.
	FetchRate, MaintainRate, ScrubRate int
	// ScrubPause is how long to wait after all files have been checked; 0 means 10 minutes.
	ScrubPause time.Duration
	// DiskStall is how long one disk write may last before a leader hands over; 0 means 1 s.
	DiskStall time.Duration
}

// Replica is this node's replica of one set. It is not safe for concurrent use: one goroutine drives it, calls
// Ready after each group of inputs, sends the envelopes and runs the jobs.
type Replica struct {
	set     cmq.SetID
	id      cmq.NodeID
	log     *slog.Logger
	rn      *raft.RawNode // nil in repair
	storage *storage
	machine Machine
	clock   clusterTime
	cfg     Config

	term    uint64
	leader  cmq.NodeID
	leading bool // Machine.Lead was called
	conf    *raftpb.ConfState
	last    uint64 // newest index raft has, stable or not
	applied uint64
	appTerm uint64 // term of the entry applied last

	cuts    int    // entries of ours proposed and not applied
	refused []byte // an entry raft would not take; offered again

	appendQueue []*raftpb.Message
	hard        segment.HardState // newest given to the disk
	unwritten   segment.HardState // newer, but only its commit index is: it goes with the next group
	full        *group            // did not fit the disk; tried again at each tick
	disk        *Job              // the one append or install that is out
	diskSince   time.Duration
	stalled     time.Duration // how long it had been out when it was last found to stall
	reads       readQueue
	checkpoint  checkpoints
	filling     filling
	campaignAt  time.Duration

	asker      asker
	answering  int     // answers being read
	keeping    int     // jobs that keep fetched messages
	pins       pins    // what is kept for replicas being filled
	pull       *pull   // image this replica is fetching
	repair     *repair // not nil: there is no rn
	leaving    *leaving
	generation int // how often rn was thrown away
	scrub      scrubber
	digests    digests
	disks      disks
	pause      func(time.Duration) error // lets a background job wait; nil: they never do

	envelopes []Envelope
	jobs      []*Job
	failed    error
}

// Output is what Ready returns.
type Output struct {
	Envelopes []Envelope
	Jobs      []*Job
	// Wake is the time by Now.Mono at which Ready should be called though nothing arrived; 0 for never.
	Wake time.Duration
	// Failed is set when the replica must stop: its disk failed or its data is damaged.
	Failed error
}

// Status is what others may know about a replica.
type Status struct {
	Set              cmq.SetID
	Leader           cmq.NodeID // 0: not known
	Leading          bool       // this replica leads and serves
	Term             uint64
	Committed        uint64
	Applied          uint64
	First, Last      uint64
	Time             int64 // cluster time, 0 unknown
	Fetching         bool  // a snapshot is being fetched
	Repairing        bool  // something is lost and being asked for: no vote, no acknowledgement
	Space            Space // of the set, as far as this replica knows
	Scrub            ScrubStats
	WrongStates      uint64 // how often this replica's state was not that of most, since the start
	ImageIndex       uint64
	UnappliedEntries uint64
}

// NewReplica restores the machine from the store's newest image and starts raft on its log. If anything is lost that was
// once acknowledged, the replica starts in repair, without raft. The error of a damaged set of one replica says so.
func NewReplica(cfg Config) (*Replica, error) {
	image, err := cfg.Store.LatestImage()
	lost := errors.Is(err, store.ErrNoImage)
	if err != nil && !lost {
		return nil, err
	}
	st, err := openStorage(cfg.Store, image)
	if err != nil {
		return nil, err
	}
	cfg = withDefaults(cfg)
	r := &Replica{
		set: cfg.Set, id: cfg.Node, cfg: cfg, log: cfg.Logger.With("set", cfg.Set), storage: st, machine: cfg.Machine,
		asker: asker{lastID: uint64(cfg.Life) << 32},
	}
	if !lost {
		r.conf, r.applied, r.appTerm = st.conf, image.Index, image.Term
		if err := cfg.Machine.Restore(image.Index, image.Data(), image.Refs); err != nil {
			return nil, fmt.Errorf("set %d: image at index %d: %w", cfg.Set, image.Index, err)
		}
	}
	r.checkpoint.last, r.checkpoint.size = image.Index, len(image.Data())
	r.last = max(st.log().LastIndex(), r.applied)
	r.hard = st.log().HardState()
	if r.repair = r.diagnose(!lost); r.repair != nil {
		return r, r.mayRepair()
	}
	if err := r.startRaft(); err != nil {
		return nil, err
	}
	r.scrub.found(r, Now{}, cfg.Store.Damage())
	return r, nil
}

// mayRepair tells of a set of one replica that nobody can give back what it lost.
func (r *Replica) mayRepair() error {
	if len(r.others()) > 0 {
		r.log.Error("this replica is damaged; it neither votes nor acknowledges until the others have given back what it lost",
			"holes", r.storage.log().Holes(), "term_in_doubt", r.repair.amnesia, "state_wrong", r.repair.wrong, "image_lost", r.repair.reseed != 0 && !r.repair.wrong)
		return nil
	}
	if len(r.storage.log().Holes()) == 0 && r.repair.reseed == 0 {
		return nil // nobody else votes, so it does not matter what this one voted
	}
	if r.repair.wrong {
		return fmt.Errorf("set %d: the state of this replica is not what most replicas had, and now it is the only one, so nobody can give it another: restore the whole data directory from a backup", r.set)
	}
	return fmt.Errorf("set %d: a part of what was stored cannot be read (%v), and this is the only replica, so nobody can give it back: restore the whole data directory from a backup",
		r.set, r.storage.log().Holes())
}

// startRaft begins to take part, with what the log and the machine have.
func (r *Replica) startRaft() (err error) {
	r.hard = r.storage.log().HardState()
	r.last = max(r.storage.log().LastIndex(), r.applied)
	r.storage.applied, r.storage.startConf = r.applied, r.conf
	if r.rn, err = raft.NewRawNode(r.raftConfig(r.applied)); err != nil {
		return err
	}
	r.term = r.rn.BasicStatus().GetTerm()
	return nil
}

func withDefaults(cfg Config) Config {
	if cfg.ElectionTicks == 0 {
		cfg.ElectionTicks = 12
	}
	if cfg.ImageBytes == 0 {
		cfg.ImageBytes = 256 << 20
	}
	if cfg.ImageEvery == 0 {
		cfg.ImageEvery = 30 * time.Second
	}
	if cfg.KeepLag == 0 {
		cfg.KeepLag = 1 << 30
	}
	if cfg.FetchRate == 0 {
		cfg.FetchRate = 64 << 20
	}
	if cfg.MaintainRate == 0 {
		cfg.MaintainRate = 64 << 20
	}
	if cfg.ScrubRate == 0 {
		cfg.ScrubRate = 8 << 20
	}
	if cfg.ScrubPause == 0 {
		cfg.ScrubPause = 10 * time.Minute
	}
	if cfg.DiskStall == 0 {
		cfg.DiskStall = time.Second
	}
	return cfg
}

func (r *Replica) raftConfig(applied uint64) *raft.Config {
	return &raft.Config{
		ID: uint64(r.id), ElectionTick: r.cfg.ElectionTicks, HeartbeatTick: 1,
		Storage: r.storage, Applied: applied, AsyncStorageWrites: true,
		MaxSizePerMsg: maxAppendBytes, MaxCommittedSizePerReady: maxApplyBytes,
		MaxUncommittedEntriesSize: maxUncommitted,
		MaxInflightMsgs:           maxInflight, MaxInflightBytes: maxInflightSize,
		CheckQuorum: true, PreVote: true, ReadOnlyOption: raft.ReadOnlySafe,
		DisableProposalForwarding: true, StepDownOnRemoval: true,
		Logger: raftLogger{r.log},
	}
}

// Status describes the replica at this moment.
func (r *Replica) Status(now Now) Status {
	commit := r.committed()
	return Status{
		Set: r.set, Leader: r.leader, Leading: r.leading, Term: r.term,
		Committed: commit, Applied: r.applied,
		First: r.storage.log().FirstIndex(), Last: r.last, Time: r.clock.at(now),
		Fetching: r.pull != nil, Repairing: r.repair != nil, Space: r.disks.worst(r, now), Scrub: r.scrub.stats, WrongStates: r.digests.fenced,
		ImageIndex: r.storage.image.Index, UnappliedEntries: commit - r.applied,
	}
}

// committed is the highest index known to be committed.
func (r *Replica) committed() uint64 {
	if r.rn != nil {
		return r.rn.BasicStatus().GetCommit()
	}
	return max(r.applied, min(r.storage.log().HardState().Commit, r.storage.log().LastIndex()))
}

// Machine is the state machine the replica drives.
func (r *Replica) Machine() Machine { return r.machine }

// Leading reports whether this replica leads and serves requests.
func (r *Replica) Leading() bool { return r.leading }

// Leader is the node believed to lead, 0 if none is known.
func (r *Replica) Leader() cmq.NodeID { return r.leader }

// Time is the estimate of cluster time in milliseconds, 0 while there is none.
func (r *Replica) Time(now Now) int64 { return r.clock.at(now) }

// Tick advances raft's clock; call it at a fixed interval (50 ms).
func (r *Replica) Tick(now Now) {
	defer r.catch()
	r.pins.expire(now)
	r.digests.tick(r, now)
	r.scrub.tick(r, now)
	if r.pull != nil {
		r.pull.retry(r, now)
	}
	r.left(now)
	if r.rn == nil {
		return
	}
	r.rn.Tick()
	if r.full != nil && r.disk == nil {
		r.appendGroup(now, r.full)
		if r.rn.BasicStatus().LeadTransferee == raft.None {
			r.Transfer(now) // a leader that cannot write keeps those who can from leading
		}
	}
	if r.leading {
		r.clock.steer(now)
		r.reads.retry(r)
		r.watchDisk(now)
	}
	r.disks.tick(r, now)
	r.filling.watch(r, now)
}

// Step takes a message from another replica.
func (r *Replica) Step(now Now, from cmq.NodeID, m Message) {
	defer r.catch()
	r.clock.peer(from, &m, now)
	r.hearTime(now, from, &m)
	r.disks.heard(from, &m, now)
	switch {
	case m.Ask != nil:
		r.answer(now, from, m.Ask)
	case m.Answer != nil:
		r.asker.answered(r, now, from, m.Answer)
	case m.Digest != nil:
		r.digests.heard(r, now, from, *m.Digest)
	case m.Raft != nil && r.rn != nil:
		r.stepRaft(now, from, &m)
	}
}

// catch makes a repair of the panic with which raft answers a log it cannot read. The RawNode, whose state nobody knows then, is
// thrown away.
func (r *Replica) catch() {
	switch p := recover().(type) {
	case nil:
	case error:
		var damage *segment.DamageError
		if !errors.As(p, &damage) {
			panic(p)
		}
		r.lost(damage)
	default:
		panic(p)
	}
}

// hearTime takes over the leader's time, also in repair: the entries that come meanwhile were made by it.
func (r *Replica) hearTime(now Now, from cmq.NodeID, m *Message) {
	if m.Raft == nil || !m.Warm || m.Time == 0 || m.Raft.GetTerm() < r.term || cmq.NodeID(m.Raft.GetFrom()) != from {
		return
	}
	switch m.Raft.GetType() {
	case raftpb.MsgApp, raftpb.MsgHeartbeat, raftpb.MsgSnap:
		r.clock.heard(m.Time, m.Raft.GetTerm(), now)
	}
}

func (r *Replica) stepRaft(now Now, from cmq.NodeID, m *Message) {
	rm := m.Raft
	if cmq.NodeID(rm.GetTo()) != r.id || cmq.NodeID(rm.GetFrom()) != from {
		return
	}
	switch rm.GetType() {
	case raftpb.MsgStorageAppend, raftpb.MsgStorageAppendResp, raftpb.MsgStorageApply, raftpb.MsgStorageApplyResp,
		raftpb.MsgHup, raftpb.MsgBeat, raftpb.MsgProp, raftpb.MsgUnreachable, raftpb.MsgSnapStatus, raftpb.MsgCheckQuorum:
		return // raft's own, never from a peer
	}
	if rm.GetType() == raftpb.MsgHeartbeat && rm.GetTerm() >= r.term && r.lacks(rm.GetCommit(), rm.GetLogTerm()) {
		r.missesAcknowledged(now, from, rm.GetCommit())
		return
	}
	if r.mayHaveForgotten(rm) {
		return
	}
	if rm.GetType() == raftpb.MsgSnap && r.wantsFetch(rm) {
		r.fetch(now, from, rm)
		return
	}
	r.stepLocal(rm)
}

// lacks tells whether the log certainly does not have an entry: it ends before, or has another in its place. Term 0 is not known.
func (r *Replica) lacks(index, term uint64) bool {
	if index > r.last {
		return true
	}
	have, err := r.storage.Term(index)
	return err == nil && term != 0 && have != term
}

// missesAcknowledged handles that the leader knows of entries this replica acknowledged and does not have. If it has none
// at all, its directory was lost or replaced by an empty one: it asks to be filled again. Otherwise the directory is
// an older copy, or the end of the log was lost: it is repaired.
func (r *Replica) missesAcknowledged(now Now, leader cmq.NodeID, index uint64) {
	if r.blank() {
		r.envelopes = append(r.envelopes, r.envelope(now, leader, Message{Ask: &Ask{Kind: AskSuccessor}}))
		return
	}
	r.misses(leader, index)
}

// blank reports whether the log never had an entry.
func (r *Replica) blank() bool { return r.last == 1 }

// mayHaveForgotten tells of a request for a vote that a replica without any entry does not answer, because the candidate
// has some: if this directory was wiped, the old one may have acknowledged entries the candidate lacks, or have
// voted for another. A replica that only comes late gets its entries from the leader and may vote then.
func (r *Replica) mayHaveForgotten(m *raftpb.Message) bool {
	vote := m.GetType() == raftpb.MsgVote || m.GetType() == raftpb.MsgPreVote
	return vote && r.blank() && m.GetIndex() > r.last
}

// stepLocal hands a message to raft. Errors only say that the message came too late.
func (r *Replica) stepLocal(m *raftpb.Message) {
	if err := r.rn.Step(m); err != nil && !errors.Is(err, raft.ErrProposalDropped) && !errors.Is(err, raft.ErrStepPeerNotFound) {
		r.log.Debug("raft refused a message", "type", m.GetType(), "error", err)
	}
}

func (r *Replica) fail(err error) {
	if r.failed == nil {
		r.failed = err
		r.log.Error("the replica stops", "error", err)
	}
}

// Ready works off everything that the inputs since the last call have brought about.
func (r *Replica) Ready(now Now) Output {
	for repairing := true; repairing; {
		repairing = r.rn == nil
		r.turn(now)
		repairing = repairing && r.rn != nil && r.failed == nil
	}
	out := Output{Envelopes: r.envelopes, Jobs: r.jobs, Wake: r.wake(now), Failed: r.failed}
	r.envelopes, r.jobs = nil, nil
	return out
}

func (r *Replica) turn(now Now) {
	defer r.catch()
	if r.rn != nil {
		r.timers(now)
	}
	for r.failed == nil && r.rn != nil {
		r.cut(now)
		r.reads.issue(r)
		for r.failed == nil && r.rn.HasReady() {
			r.handle(now, r.rn.Ready())
		}
		if !r.startAppend(now) && !r.rn.HasReady() {
			break
		}
	}
	r.scrub.check(r, now)
	r.checkpoint.step(r, now)
	r.repairOn(now)
	r.pullOn(now)
	r.asker.run(r, now)
}

func (r *Replica) handle(now Now, rd raft.Ready) {
	r.follow(now, rd)
	for i := range rd.ReadStates {
		r.reads.confirmed(&rd.ReadStates[i])
	}
	for _, m := range rd.Messages {
		switch m.GetTo() {
		case raft.LocalAppendThread:
			r.queueAppend(m)
		case raft.LocalApplyThread:
			r.apply(now, m)
		default:
			r.send(now, m)
		}
	}
	r.reads.answer(r, now)
}

// send gives an outgoing raft message the clock readings that go with it. A heartbeat says how far its receiver may apply, and beside
// the index, which is all that raft wants to know, it gets the term of that entry: see missesAcknowledged.
func (r *Replica) send(now Now, m *raftpb.Message) {
	if m.GetType() == raftpb.MsgHeartbeat {
		if term, err := r.storage.Term(m.GetCommit()); err == nil {
			m.LogTerm = &term
		}
	}
	if m.GetType() == raftpb.MsgApp && len(m.GetEntries()) > 0 {
		r.envelopes = slices.DeleteFunc(r.envelopes, func(e Envelope) bool { return saysAll(m, e.Raft) })
	}
	r.envelopes = append(r.envelopes, r.envelope(now, cmq.NodeID(m.GetTo()), Message{Raft: m}))
}

// saysAll reports whether append message m says everything that an earlier one without entries does. Raft tells the followers
// of each commit at once, and under load the next entry is cut in the same turn and tells it as well: without this each
// follower would take in, and answer, two messages for each entry.
func saysAll(m, earlier *raftpb.Message) bool {
	return earlier.GetType() == raftpb.MsgApp && earlier.GetTo() == m.GetTo() && earlier.GetTerm() == m.GetTerm() && len(earlier.GetEntries()) == 0 &&
		earlier.GetIndex() == m.GetIndex() && earlier.GetLogTerm() == m.GetLogTerm() && earlier.GetCommit() <= m.GetCommit()
}

func (r *Replica) envelope(now Now, to cmq.NodeID, m Message) Envelope {
	m.Wall = now.Wall
	m.Space, m.Sync = r.disks.own, uint32(min(r.disks.pace.median.Microseconds(), 1<<32-1))
	// A leader that does not serve yet tells its time too: it may be the one who brings a follower the entries of
	// the leader before, and the follower must not go on counting from an earlier leader's time.
	if r.clock.warm {
		m.Time, m.Warm = r.clock.at(now), true
	}
	return Envelope{To: to, Message: m}
}

// follow notes changes of term and leader.
func (r *Replica) follow(now Now, rd raft.Ready) {
	if rd.HardState != nil && !raft.IsEmptyHardState(rd.HardState) && rd.HardState.GetTerm() != r.term {
		r.term = rd.HardState.GetTerm()
		if r.leading {
			r.stopLeading()
		}
	}
	if rd.SoftState == nil {
		return
	}
	leader := cmq.NodeID(rd.SoftState.Lead)
	if rd.SoftState.RaftState == raft.StateLeader {
		leader = r.id
	}
	if leader != r.leader {
		r.log.Debug("leader changed", "leader", leader, "term", r.term)
	}
	r.leader = leader
	if leader != r.id && r.leading {
		r.stopLeading()
	}
}

// Close ends every call that waits on this replica. No other method may be called afterwards.
func (r *Replica) Close() {
	r.stopLeading()
	r.machine.Close()
}

func (r *Replica) timers(now Now) {
	if r.campaignAt != 0 && now.Mono >= r.campaignAt {
		r.campaignAt = 0
		if r.leader == 0 {
			_ = r.rn.Campaign()
		}
	}
	if at := r.machineWake(now); at != 0 && now.Mono >= at {
		r.machine.Due(r.clock.at(now))
	}
}

// machineWake is when the machine wants to be called, by the monotonic clock; 0 for never.
func (r *Replica) machineWake(now Now) time.Duration {
	if !r.leading {
		return 0
	}
	due := r.machine.Wake()
	if due == 0 {
		return 0
	}
	// One millisecond more, because cluster time is cut down to milliseconds.
	return now.Mono + max(millis(due)-r.clock.exact(now), 0) + boolDuration(millis(due) > r.clock.exact(now), time.Millisecond)
}

func boolDuration(b bool, d time.Duration) time.Duration {
	if b {
		return d
	}
	return 0
}

func (r *Replica) wake(now Now) time.Duration {
	wake := r.machineWake(now)
	for _, at := range []time.Duration{r.campaignAt, r.asker.wake(now), r.checkpoint.wake(now)} {
		if at != 0 && (wake == 0 || at < wake) {
			wake = at
		}
	}
	return wake
}
