package set

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/store/reflog"
	"github.com/opencmq/cmq/internal/store/segment"
)

// A replica that has lost a part of what it once acknowledged is in repair: there is no RawNode, so it neither votes nor
// acknowledges nor stands for election. It asks the others for what it lost, answers their questions from what it has,
// and goes on as a normal replica when it is whole. The same is done at start and when damage is found while it runs; in
// the second case the machine keeps its state. DESIGN.md says why nothing is lost by this.

const (
	// termLeap is how far the term goes up of a replica that does not know in which terms it voted: beyond any it can have
	// reached since its log, or any replica it hears, knew one. There is at most one election in half a second.
	termLeap = 1 << 20
	// votePatience is how long a replica that does not know what it voted waits for all voters to tell their terms.
	votePatience = 30 * time.Second
	// fillTries is how often all others are asked for lost entries before an image is taken instead.
	fillTries    = 3
	maxFillTries = 12
	// leavePatience is how long a damaged leader waits for another to take over.
	leavePatience = 2 * time.Second
)

// repair is what is wrong with a replica and how far mending is.
type repair struct {
	amnesia  bool // term and vote are in doubt
	open     bool // the log may lack entries behind its end
	doubted  bool // the disk knows of these two, so that a restart does not forget them
	end      uint64
	endTerm  uint64       // of the leader's entry at end; 0: not asked yet
	next     uint64       // with end: the first entry not compared yet
	segments []uint64     // numbers of segments to rebuild, those of a log that is in use
	wounds   []wound      // of segments[0]; nil: not looked for yet
	looked   bool         // wounds were looked for
	reseed   uint64       // not 0: an image at this index or behind is needed
	wrong    bool         // because the state is not that of the others
	marked   bool         // the disk knows of that, so that a restart does not forget it
	from     []cmq.NodeID // who may give it; nil: anybody
	voted    map[cmq.NodeID]uint64
	tries    int
	busy     bool
	q        *question
	wait     time.Duration // nobody could answer: when to go on
	since    time.Duration
	said     time.Duration // when it was last logged that it goes on
}

// wound is entries [Lo, Hi) of a segment, with those that were fetched.
type wound struct {
	segment.Hole
	entries []segment.Entry
}

func (w *wound) next() uint64 { return w.Lo + uint64(len(w.entries)) }

// diagnose tells what is wrong with the store of a replica that starts; nil if nothing is.
func (r *Replica) diagnose(image bool) *repair {
	log := r.storage.log()
	p := &repair{amnesia: log.Amnesia(), open: log.Short()}
	p.doubted = p.amnesia || p.open
	p.wrong = log.WrongState()
	p.marked = p.wrong
	if !image || p.wrong {
		p.reseed = max(log.FirstIndex()-1, 1) // any image that the log continues, of a state that is not known to be wrong
	}
	if !p.doubted && p.reseed == 0 && len(log.Holes()) == 0 {
		return nil
	}
	return p
}

// breakDown ends a normal replica's life for the time of a repair.
func (r *Replica) breakDown(why error, p *repair) {
	if r.failed != nil || r.repair != nil {
		return
	}
	if len(r.others()) == 0 {
		r.fail(fmt.Errorf("this is the only replica of its set, so nobody can give back what it lost; start the node again: it goes on if only messages are damaged, or says what to do: %w", why))
		return
	}
	r.log.Error("this replica is damaged; it neither votes nor acknowledges until the others have given back what it lost", "error", why)
	if r.leading {
		r.stopLeading()
	}
	r.abandonPull()
	r.checkpoint.halt()
	r.rn, r.leader, r.leaving = nil, 0, nil
	r.appendQueue, r.full, r.unwritten = nil, nil, segment.HardState{}
	r.filling, r.campaignAt = nil, 0
	r.generation++
	// What was about to be said as a voter or a leader is not said any more.
	r.envelopes = slices.DeleteFunc(r.envelopes, func(e Envelope) bool { return e.Raft != nil })
	r.repair = p
}

// lost is breakDown for a part of the log that turned out to be unreadable.
func (r *Replica) lost(err *segment.DamageError) {
	number, _ := r.storage.numberOf(err.File)
	r.breakDown(err, &repair{segments: []uint64{number}})
}

// fence is breakDown for a state that is not that of the majority.
func (r *Replica) fence(_ Now, index uint64, majority []cmq.NodeID) {
	r.digests.forget(r.id)
	r.digests.fenced++
	r.breakDown(fmt.Errorf("the state differs from that of nodes %v at index %d", majority, index), &repair{reseed: index, wrong: true, from: majority})
}

// misses is breakDown for a log without an entry that this replica acknowledged: an older copy of the directory was put back,
// or the end of the log was lost. Nobody knows what it voted since.
func (r *Replica) misses(leader cmq.NodeID, index uint64) {
	r.breakDown(fmt.Errorf("the log, which ends at index %d, does not have the entry with index %d that this replica acknowledged to node %d", r.last, index, leader),
		&repair{open: true, amnesia: true})
}

// repairOn takes the next step of a repair, unless one is under way.
func (r *Replica) repairOn(now Now) {
	p := r.repair
	if p == nil || p.busy || p.q != nil || now.Mono < p.wait || r.disk != nil || r.failed != nil || !r.checkpoint.halt() {
		return
	}
	if p.since == 0 {
		p.since, p.said = now.Mono, now.Mono
	}
	log := r.storage.log()
	switch {
	case p.wrong && !p.marked:
		r.repairJob(Disk, func() error { return log.NoteState(true) }, func(Now) { p.marked = true })
	case r.pull != nil:
		if r.pull.done {
			r.reseeded(now)
		}
	case p.reseed != 0:
		r.reseed(now)
	case p.marked: // the state that was taken over is durable
		r.repairJob(Disk, func() error { return log.NoteState(false) }, func(Now) { p.marked = false })
	case len(p.segments) > 0:
		r.mend(now)
	case len(log.Holes()) > 0:
		r.fill(now, log.Holes())
	case !p.doubted && (p.open || p.amnesia):
		r.repairJob(Disk, log.Doubt, func(Now) { p.doubted = true })
	case p.open:
		r.extend(now)
	case p.amnesia:
		r.remember(now)
	case p.doubted:
		r.repairJob(Disk, log.Certain, func(Now) { p.doubted = false })
	default:
		r.recovered(now)
	}
}

// repairAsk asks a question of the repair; done gets nil if nobody answered it.
func (r *Replica) repairAsk(q *question, done func(now Now, from cmq.NodeID, a *Answer, sure bool)) {
	p := r.repair
	q.done = func(now Now, from cmq.NodeID, a *Answer, sure bool) {
		p.q = nil
		if a == nil {
			p.wait = now.Mono + askPause
		}
		if r.repair == p {
			done(now, from, a, sure)
		}
	}
	p.q = r.ask(q)
}

// repairJob does a part of the repair on the disk.
func (r *Replica) repairJob(class JobClass, run func() error, done func(now Now)) {
	p := r.repair
	p.busy = true
	r.jobs = append(r.jobs, &Job{Class: class, Bytes: chunkBytes, run: run, done: func(now Now, err error) {
		p.busy = false
		switch {
		case err == nil:
			done(now)
		case errors.Is(err, errChanged):
			p.looked = false
		case noRoom(err):
			p.wait = now.Mono + askPause
			r.log.Error("no space left to repair the log; trying again", "error", err)
		default:
			r.fail(err)
		}
	}})
}

// fill gives the log back what its holes swallowed, piece by piece. It begins with the last one: of all holes in the set, the one
// that ends last can surely be filled. Where that does not help it tries the others, and the log's end for an anchor: it is
// good for all holes, if the others have it.
func (r *Replica) fill(_ Now, holes []segment.Hole) {
	p, log := r.repair, r.storage.log()
	n := len(holes)
	h := holes[n-1-p.tries/2%n]
	if p.tries%2 == 1 {
		if t, err := log.Term(log.LastIndex()); err == nil && log.LastIndex() >= h.Hi {
			h.AnchorIndex, h.AnchorTerm = log.LastIndex(), t
		}
	}
	r.askEntries(h.Lo, h, min(2*n, maxFillTries)+fillTries, func(entries []segment.Entry) bool {
		r.repairJob(Disk, func() error { return log.Fill(entries) }, func(Now) {})
		return true
	}, r.replace)
}

// replace has an image taken instead of lost entries that cannot be had: the others have let go of them, or agreed on different
// ones.
func (r *Replica) replace(h segment.Hole) {
	p := r.repair
	p.reseed = max(h.Hi-1, h.AnchorIndex, h.Lo)
	for _, h := range r.storage.log().Holes() {
		p.reseed = max(p.reseed, h.Hi-1)
	}
}

// askEntries asks for entries of a hole from index lo on. give tells whether it could use them. After some tries in vain it
// gives up.
func (r *Replica) askEntries(lo uint64, h segment.Hole, tries int, give func([]segment.Entry) bool, giveUp func(segment.Hole)) {
	p := r.repair
	ask := Ask{Kind: AskEntries, Lo: lo, Hi: h.Hi, Anchor: h.AnchorIndex, AnchorTerm: h.AnchorTerm}
	r.repairAsk(&question{Ask: ask, rounds: 1}, func(_ Now, _ cmq.NodeID, a *Answer, _ bool) {
		if a != nil && within(a.Entries, lo, h.Hi) && give(fromRaft(a.Entries)) {
			p.tries = 0
			return
		}
		if p.tries++; p.tries < tries {
			return
		}
		p.tries = 0
		giveUp(h)
	})
}

// within tells whether entries are some of [lo, hi), one behind the other.
func within(entries []*raftpb.Entry, lo, hi uint64) bool {
	if len(entries) == 0 || entries[0].GetIndex() < lo || entries[len(entries)-1].GetIndex() >= hi {
		return false
	}
	for i, e := range entries {
		if e.GetIndex() != entries[0].GetIndex()+uint64(i) {
			return false
		}
	}
	return true
}

// askEnd asks the leader where its log ends. Everything this replica may have acknowledged, and that still counts, is in it.
func (r *Replica) askEnd() {
	p := r.repair
	r.repairAsk(&question{Ask: Ask{Kind: AskEnd}, rounds: 1}, func(_ Now, _ cmq.NodeID, a *Answer, _ bool) {
		if a != nil {
			p.end, p.endTerm = a.Index, a.Term
			p.next = max(r.storage.log().HardState().Commit, r.applied) + 1
		}
	})
}

// extend gives the log what may be missing at its end.
func (r *Replica) extend(_ Now) {
	p := r.repair
	switch {
	case p.endTerm == 0:
		r.askEnd()
	case p.next > p.end:
		p.open = false
	default:
		h := segment.Hole{Lo: p.next, Hi: p.end + 1, AnchorIndex: p.end, AnchorTerm: p.endTerm}
		r.askEntries(p.next, h, fillTries, r.appendMissing, func(h segment.Hole) {
			// The others have let go of these entries, or the leader that was asked is gone: then the next one is asked.
			p.endTerm, p.reseed = 0, h.Lo
		})
	}
}

// appendMissing appends what the log does not have. Where it has something else, that was never committed: a leader that a
// quorum has confirmed does not have it. Entries that begin further on are of no use: whoever gave them has let go of the others.
func (r *Replica) appendMissing(entries []segment.Entry) bool {
	p, log := r.repair, r.storage.log()
	if entries[0].Index != p.next {
		return false
	}
	next := entries[len(entries)-1].Index + 1
	for len(entries) > 0 && entries[0].Index <= log.LastIndex() {
		if t, err := log.Term(entries[0].Index); err != nil || t != entries[0].Term {
			break
		}
		entries = entries[1:]
	}
	if len(entries) == 0 {
		p.next = next
		return true
	}
	// Only what has been written is passed over: while the disk is full, the same entries are asked for again.
	r.repairJob(Disk, func() error { return log.Append(entries, segment.HardState{}, true) }, func(Now) { p.next = next })
	return true
}

// mend rebuilds the first of the damaged segments: it is read to find out what is lost, that is fetched, and the segment is
// written anew.
func (r *Replica) mend(now Now) {
	p, log := r.repair, r.storage.log()
	number := p.segments[0]
	if !p.looked {
		var holes []segment.Hole
		r.repairJob(Disk, func() (err error) {
			if !slices.ContainsFunc(log.Sealed(), func(i segment.Info) bool { return i.Number == number }) { // the active one
				if err := log.Roll(); err != nil {
					return err
				}
				sealed := log.Sealed()
				number = sealed[len(sealed)-1].Number
			}
			holes, err = log.Verify(number, func(int) error { return nil })
			return err
		}, func(Now) {
			p.segments[0], p.looked, p.wounds = number, true, nil
			for _, h := range holes {
				p.wounds = append(p.wounds, wound{Hole: h})
			}
		})
		return
	}
	for i := range p.wounds {
		w := &p.wounds[i]
		if w.next() < w.Hi {
			r.askEntries(w.next(), w.Hole, fillTries, func(entries []segment.Entry) bool {
				if entries[0].Index != w.next() {
					return false
				}
				w.entries = append(w.entries, entries...)
				return true
			}, r.retire)
			return
		}
	}
	r.rebuild(number, p.wounds)
}

// retire gives up a segment of the log whose lost entries cannot be had. If the own image has their effect, nobody will ask this
// replica for them: the segment leaves the log with the next images and is healed as a file of the archive.
func (r *Replica) retire(h segment.Hole) {
	p := r.repair
	if h.Hi > r.storage.image.Index+1 {
		r.replace(h)
		return
	}
	for _, info := range r.storage.log().Sealed() {
		if info.Number == p.segments[0] {
			r.scrub.retired = max(r.scrub.retired, info.Last)
		}
	}
	p.segments, p.wounds, p.looked = p.segments[1:], nil, false
}

// errChanged says that more of a segment is unreadable than was found a moment ago.
var errChanged = errors.New("the damage has changed")

func (r *Replica) rebuild(number uint64, wounds []wound) {
	p, log := r.repair, r.storage.log()
	get := func(lo, hi uint64) ([]segment.Entry, error) {
		for _, w := range wounds {
			if lo >= w.Lo && hi <= w.Hi {
				return w.entries[lo-w.Lo : hi-w.Lo], nil
			}
		}
		return nil, errChanged
	}
	r.repairJob(Disk, func() error { return log.Rebuild(number, get) }, func(Now) {
		p.segments, p.wounds, p.looked = p.segments[1:], nil, false
	})
}

// reseed takes over the state of another replica. What this replica acknowledged up to the image's index is in the image; what
// it acknowledged behind it stays in its log, which therefore must not begin further on.
func (r *Replica) reseed(now Now) {
	p := r.repair
	p.reseed = max(p.reseed, r.storage.log().FirstIndex()-1)
	q := &question{Ask: Ask{Kind: AskManifest, Lo: p.reseed}, rounds: 1}
	if len(p.from) > 0 {
		p.tries++
		q.only = p.from[p.tries%len(p.from)]
	}
	r.repairAsk(q, func(now Now, from cmq.NodeID, a *Answer, _ bool) {
		if a == nil {
			r.giveUpReseed(now)
			return
		}
		p.tries = 0
		r.pull = &pull{from: from, min: p.reseed, heard: now.Mono}
		r.pullManifest(now, r.pull, a)
		if r.pull.conf == nil {
			r.pull = nil
			return
		}
		r.pullOn(now)
	})
}

// giveUpReseed looks again whether the entries themselves can be had, if it was for them: whoever has them may be back.
func (r *Replica) giveUpReseed(now Now) {
	p := r.repair
	log := r.storage.log()
	if !p.wrong && len(p.from) == 0 && r.storage.image.Index != 0 && (p.open || len(log.Holes()) > 0 || len(p.segments) > 0) {
		p.reseed = 0
	}
	if now.Mono-p.said > time.Minute {
		p.said = now.Mono
		r.log.Error("still in repair: no other replica has what is missing here, or none answers; if the others' data is lost too, an operator must decide which replica's data counts",
			"since", now.Mono-p.since)
	}
}

// reseeded switches to the fetched state.
func (r *Replica) reseeded(now Now) {
	p := r.repair
	index, term := r.pull.index, r.pull.term
	g := &group{hard: r.storage.log().HardState(), snapshot: &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{Index: &index, Term: &term}}}
	g.hard.Commit = max(g.hard.Commit, index)
	r.startInstall(now, g)
	r.checkpoint.want(2)
	p.reseed, p.wrong, p.from, p.segments, p.wounds, p.looked, p.endTerm = 0, false, nil, nil, nil, false, 0
}

// remember finds a term that is surely behind every vote this replica has given: behind every term that it or another voter
// knows of. Who does not answer for a while is not waited for, as long as a majority does.
func (r *Replica) remember(now Now) {
	p := r.repair
	var silent []cmq.NodeID
	voters := r.conf.GetVoters()
	for _, id := range r.others() {
		if _, ok := p.voted[id]; !ok && slices.Contains(voters, uint64(id)) {
			silent = append(silent, id)
		}
	}
	majority := 2*(len(voters)-len(silent)) > len(voters)
	if len(silent) == 0 || majority && now.Mono-p.since > votePatience {
		hs := r.storage.log().HardState()
		for _, t := range p.voted {
			hs.Term = max(hs.Term, t)
		}
		hs.Term, hs.Vote = hs.Term+termLeap, 0
		log := r.storage.log()
		r.repairJob(Disk, func() error { return log.Append(nil, hs, true) }, func(Now) { p.amnesia = false })
		return
	}
	p.tries++
	q := &question{Ask: Ask{Kind: AskState}, only: silent[p.tries%len(silent)], rounds: 1}
	r.repairAsk(q, func(_ Now, from cmq.NodeID, a *Answer, _ bool) {
		if a == nil {
			return
		}
		if p.voted == nil {
			p.voted = make(map[cmq.NodeID]uint64)
		}
		p.voted[from] = a.Voted
	})
}

// recovered makes a normal replica again of one that is whole.
func (r *Replica) recovered(now Now) {
	r.log.Info("repaired; this replica takes part again", "after", now.Mono-r.repair.since)
	r.repair = nil
	if term, err := r.storage.Term(r.storage.log().LastIndex()); err == nil {
		r.clock.forget(term)
	}
	if err := r.startRaft(); err != nil {
		r.fail(err)
	}
}

// numberOf finds the segment of the log that a file is; 0 is the active one.
func (s *storage) numberOf(file string) (number uint64, sealed bool) {
	for _, info := range s.log().Sealed() {
		if info.Name() == filepath.Base(file) {
			return info.Number, true
		}
	}
	return 0, false
}

func isDamage(err error) bool {
	return errors.As(err, new(*segment.DamageError)) || errors.As(err, new(*reflog.DamageError))
}
