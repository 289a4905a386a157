package set

import (
	"slices"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"
	"google.golang.org/protobuf/proto"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/mutant"
	"github.com/opencmq/cmq/internal/store"
	"github.com/opencmq/cmq/internal/store/checkpoint"
	"github.com/opencmq/cmq/internal/store/reflog"
)

// A replica whose next entry nobody's log holds any more is filled from an image: it fetches manifest, image, the
// reference files it lacks, and then every message that the image needs and no file of its own can give. Only when all of
// it is durable here does raft see the snapshot, so only then is the replica counted as caught up. Until then the old
// state stays in use.

const (
	// pullExpiry is how long the sender of an image may be silent before another image is waited for.
	pullExpiry = 15 * time.Second
	// pullRest is how long a repair waits before it takes an image again after a failure of the disk.
	pullRest = 2 * time.Second
	// fillPatience is after how long raft is told that a snapshot failed that nobody asks for: the message that begins the fetch was lost,
	// or the replica was started again. It is longer than a replica needs between two questions; one whose disk is slower goes on with
	// what it has when raft begins again.
	fillPatience = 5 * time.Second
	// windowBytes is about for how many bytes of messages it is found out at a time what is missing.
	windowBytes = 32 << 20
	// maxTries is how often, in one pull, a replica that may have missing messages is looked for. Most of them are dead by
	// now, which is why the owner of the image does not have them; and whoever searches for damage later asks again.
	maxTries = 1
)

// pull is an image on its way to this replica.
type pull struct {
	from cmq.NodeID      // who has the image
	msg  *raftpb.Message // raft's message, stepped when everything is here; nil in repair
	min  uint64          // in repair: lowest index that helps

	index, term uint64
	conf        *raftpb.ConfState
	size        uint64
	sum         uint32        // of the image's bytes
	files       []reflog.File // of the image, as its owner calls them
	kept        []reflog.File // the same, as they are called here; nil: not kept yet
	todo        []reflog.File // those not here yet; the first is being fetched
	offset      uint64        // in image or file
	staging     *store.Staging
	image       []byte
	spans       []span // what may have missing messages, ascending; nil: not known yet
	known       bool   // spans are
	committed   uint64 // up to where messages in the own log were taken for those of the image
	live        store.Live
	want        []store.Run // missing, of the window before spans[0]
	flushed     bool
	tries       int // in vain, to reach all who may have what is missing
	lost        int // messages nobody had

	q          *question
	busy       bool          // a job is out
	heard      time.Duration // when the sender answered last
	done       bool          // everything is here
	installing bool          // and the disk job that makes it the state is out
}

// span is entries [lo, hi) with messages of about so many bytes.
type span struct{ lo, hi, bytes uint64 }

// filling is when each replica that raft thinks is being filled was last heard of. Raft itself would wait for ever if the
// message that begins the fetch is lost, or if the fetching replica is started again in the middle.
type filling map[uint64]time.Duration

// heard notes that the replica asks for parts.
func (f filling) heard(from cmq.NodeID, now Now) {
	if _, ok := f[uint64(from)]; ok {
		f[uint64(from)] = now.Mono
	}
}

// watch makes raft begin again with the replicas that do not ask any more.
func (f *filling) watch(r *Replica, now Now) {
	if r.leader != r.id {
		*f = nil
		return
	}
	var given []uint64
	r.rn.WithProgress(func(id uint64, _ raft.ProgressType, pr tracker.Progress) {
		since, known := (*f)[id]
		switch {
		case pr.State != tracker.StateSnapshot:
			delete(*f, id)
		case !known:
			if *f == nil {
				*f = make(filling)
			}
			(*f)[id] = now.Mono
		case now.Mono-since >= fillPatience:
			given = append(given, id)
		}
	})
	for _, id := range given {
		delete(*f, id)
		r.rn.ReportSnapshot(id, raft.SnapshotFailure)
	}
}

// wantsFetch tells whether a snapshot message needs its data: not if raft would only skip ahead in the log.
func (r *Replica) wantsFetch(m *raftpb.Message) bool {
	meta := m.GetSnapshot().GetMetadata()
	if m.GetTerm() < r.term || meta.GetIndex() <= r.rn.BasicStatus().GetCommit() {
		return false
	}
	t, err := r.storage.Term(meta.GetIndex())
	return err != nil || t != meta.GetTerm()
}

// fetch takes raft's word that this replica must be filled. One that is being filled already goes on, also for another leader:
// what it fetches is committed, whoever leads.
func (r *Replica) fetch(now Now, from cmq.NodeID, m *raftpb.Message) {
	meta := m.GetSnapshot().GetMetadata()
	if p := r.pull; p != nil {
		if p.done {
			return
		}
		if p.from == from || p.conf != nil && p.complete() {
			p.msg = p.rename(m)
			return
		}
		r.abandonPull()
	}
	r.log.Info("fetching a snapshot", "from", from, "index", meta.GetIndex(), "log_ends", r.last)
	r.pull = &pull{from: from, msg: m, min: max(meta.GetIndex(), 1), heard: now.Mono}
	r.pullOn(now)
}

// rename makes raft's message one about the image that is being fetched.
func (p *pull) rename(m *raftpb.Message) *raftpb.Message {
	if p.conf == nil {
		return m
	}
	m = proto.Clone(m).(*raftpb.Message)
	m.Snapshot = &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{ConfState: p.conf, Index: &p.index, Term: &p.term}}
	return m
}

// complete tells whether image and files are here, and only messages may be missing.
func (p *pull) complete() bool {
	return p.conf != nil && uint64(len(p.image)) == p.size && len(p.todo) == 0 && p.staging != nil
}

// pullOn takes the next step, unless one is under way.
func (r *Replica) pullOn(now Now) {
	p := r.pull
	switch {
	case p == nil || p.busy || p.q != nil || p.done || r.failed != nil:
	case p.conf == nil:
		r.pullAsk(&question{Ask: Ask{Kind: AskManifest, Lo: p.min}, only: p.from, rounds: 1}, r.pullManifest)
	case p.staging == nil:
		r.pullStage()
	case uint64(len(p.image)) < p.size:
		r.pullAsk(&question{Ask: Ask{Kind: AskImage, Index: p.index, Offset: p.offset}, only: p.from, rounds: 2}, r.pullPart)
	case len(p.todo) > 0:
		f := &p.todo[0]
		r.pullAsk(&question{Ask: Ask{Kind: AskFile, Index: p.index, Name: f.Name, Offset: p.offset}, only: p.from, rounds: 2}, r.pullPart)
	case p.kept == nil:
		r.pullKeepFiles()
	case mutant.On(mutant.SnapshotCountedEarly):
		r.pulled(now)
	case !p.known:
		r.pullSpans()
	case len(p.want) > 0:
		r.pullMessages(now)
	case len(p.spans) > 0:
		r.pullWindow()
	case !p.flushed:
		r.pullJob(Disk, r.storage.store.Flush, func(Now) { p.flushed = true })
	default:
		r.pulled(now)
	}
}

// pullAsk asks a question of the pull.
func (r *Replica) pullAsk(q *question, done func(now Now, p *pull, a *Answer)) {
	p := r.pull
	q.done = func(now Now, from cmq.NodeID, a *Answer, sure bool) {
		p.q = nil
		if r.pull != p {
			return
		}
		if a != nil {
			p.heard = now.Mono
			done(now, p, a)
		} else if sure || p.msg == nil && p.conf == nil {
			r.log.Info("the image is not kept any more; waiting for another", "from", p.from)
			r.abandonPull()
			return
		}
		r.pullOn(now)
	}
	p.q = r.ask(q)
}

// pullJob runs a part of the work on the disk.
func (r *Replica) pullJob(class JobClass, run func() error, done func(now Now)) {
	p := r.pull
	p.busy = true
	r.jobs = append(r.jobs, &Job{Class: class, Bytes: chunkBytes, run: run, done: func(now Now, err error) {
		p.busy = false
		if r.pull != p {
			r.dropStaging(p)
			return
		}
		if err != nil && r.repair != nil {
			r.repair.wait = now.Mono + pullRest
		}
		switch {
		case noRoom(err):
			r.log.Error("no space left to be filled; trying again later", "error", err)
			r.abandonPull()
		case isDamage(err):
			r.log.Error("what was fetched is damaged; it is fetched again", "error", err)
			r.abandonPull()
		case err != nil:
			r.fail(err)
		default:
			done(now)
			r.pullOn(now)
		}
	}})
}

func (r *Replica) pullManifest(_ Now, p *pull, a *Answer) {
	conf := new(raftpb.ConfState)
	if err := proto.Unmarshal(a.Conf, conf); err != nil || a.Index < p.min || len(conf.GetVoters()) == 0 {
		return
	}
	p.index, p.term, p.conf, p.size, p.sum, p.files = a.Index, a.Term, conf, a.Size, a.Sum, a.Files
	if p.msg != nil {
		p.msg = p.rename(p.msg)
	}
}

// pullStage begins the staging and finds out what of it is here already.
func (r *Replica) pullStage() {
	p, st := r.pull, r.storage.store
	var staging *store.Staging
	var image []byte
	var todo []reflog.File
	r.pullJob(Disk, func() (err error) {
		if staging, err = st.Stage(p.index, p.term, p.sum); err != nil {
			return err
		}
		if p.size == 0 { // the image of an empty set is nothing, and must be there
			if err := staging.AddImage(0, nil); err != nil {
				return err
			}
		}
		if n, err := staging.ImageHas(); err != nil {
			return err
		} else if n > 0 && uint64(n) <= p.size {
			if image, err = staging.Image(); err != nil {
				return err
			}
		}
		for _, f := range p.files {
			n, err := staging.RefHas(f)
			if err != nil {
				return err
			}
			if n < f.Size {
				todo = append(todo, f)
			}
		}
		return nil
	}, func(Now) {
		p.staging, p.image, p.offset, p.todo = staging, image, uint64(len(image)), todo
	})
}

// pullKeepFiles checks what was fetched and gives the reference files their names.
func (r *Replica) pullKeepFiles() {
	p := r.pull
	var kept []reflog.File
	r.pullJob(Disk, func() (err error) {
		kept, err = p.staging.Keep(p.image, p.files)
		return err
	}, func(Now) { p.kept = append([]reflog.File{}, kept...) })
}

// pullPart writes a part of the image or of a file.
func (r *Replica) pullPart(_ Now, p *pull, a *Answer) {
	offset := p.offset
	end := offset + uint64(len(a.Data))
	if a.Kind == AskImage {
		if len(a.Data) == 0 || end > p.size {
			return
		}
		r.pullJob(Disk, func() error { return p.staging.AddImage(int64(offset), a.Data) }, func(Now) {
			p.image = append(p.image, a.Data...)
			if p.offset = end; end == p.size {
				p.offset = 0
			}
		})
		return
	}
	f := p.todo[0]
	if len(a.Data) == 0 && f.Size > 0 || end > uint64(f.Size) {
		return
	}
	r.pullJob(Disk, func() error { return p.staging.AddRef(f, int64(offset), a.Data) }, func(Now) {
		if p.offset = end; end == uint64(f.Size) {
			p.todo, p.offset = p.todo[1:], 0
		}
	})
}

// pullSpans finds out where the messages are that the image needs.
func (r *Replica) pullSpans() {
	p, m := r.pull, r.machine
	var spans []span
	var live store.Live
	r.pullJob(Reader, func() (err error) {
		live, err = m.Live(p.image, p.kept)
		if err != nil || live == nil {
			return err
		}
		return live.Weigh(func(lo, hi, bytes uint64) { spans = append(spans, span{lo, hi, bytes}) })
	}, func(Now) {
		p.spans, p.live, p.known = disjoint(spans), live, true
	})
}

// disjoint joins spans that overlap.
func disjoint(spans []span) []span {
	slices.SortFunc(spans, func(a, b span) int {
		switch {
		case a.lo < b.lo:
			return -1
		case a.lo > b.lo:
			return 1
		}
		return 0
	})
	var out []span
	for _, s := range spans {
		if n := len(out); n > 0 && s.lo < out[n-1].hi {
			out[n-1].hi = max(out[n-1].hi, s.hi)
			out[n-1].bytes += s.bytes
			continue
		}
		out = append(out, s)
	}
	return out
}

// pullWindow finds out what is missing among the next windowBytes.
func (r *Replica) pullWindow() {
	p, st := r.pull, r.storage.store
	n, bytes := 1, p.spans[0].bytes
	for n < len(p.spans) && bytes+p.spans[n].bytes <= windowBytes {
		bytes += p.spans[n].bytes
		n++
	}
	var want []store.Run
	p.committed = max(p.committed, r.committed())
	committed, seen := p.committed, store.RefSet{}
	r.pullJob(Reader, func() error {
		for _, s := range p.spans[:n] {
			err := p.live.Each(s.lo, s.hi, func(run store.Run) error {
				want = missingRuns(st, run, committed, seen, want)
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	}, func(Now) { p.spans, p.want = p.spans[n:], want })
}

// missingRuns appends the parts of a run that no file has and nobody has seen missing before.
func missingRuns(st *store.Store, run store.Run, committed uint64, seen store.RefSet, out []store.Run) []store.Run {
	each := run.Bytes / uint32(max(run.N, 1))
	begin := -1
	for i := range int(run.N) + 1 {
		ref := store.Ref{Index: run.Index, Slot: run.Slot + uint16(i)}
		missing := i < int(run.N) && !st.Has(ref, committed) && seen.Add(ref)
		if missing && begin < 0 {
			begin = i
		}
		if !missing && begin >= 0 {
			n := uint16(i - begin)
			out = append(out, store.Run{Index: run.Index, Slot: run.Slot + uint16(begin), N: n, Bytes: each * uint32(n)})
			begin = -1
		}
	}
	return out
}

// pullMessages fetches about one answer's worth of missing messages. Those that no replica has are lost, or dead by now:
// who gets to them finds out.
func (r *Replica) pullMessages(now Now) {
	p := r.pull
	var refs []store.Ref
	bytes, n := 0, 0
	for ; n < len(p.want) && bytes < chunkBytes && len(refs)+int(p.want[n].N) <= maxAskedRefs; n++ {
		run := p.want[n]
		for i := range run.N {
			refs = append(refs, store.Ref{Index: run.Index, Slot: run.Slot + i})
		}
		bytes += int(run.Bytes)
	}
	p.want = p.want[n:]
	p.busy = true
	r.gather(now, &gathering{want: refs, done: func(now Now, got []store.Message, missing []store.Ref, sure bool) {
		if r.pull != p {
			p.busy = false
			r.dropStaging(p)
			return
		}
		p.missed(missing, sure)
		if len(got) > 0 {
			p.heard = now.Mono
		}
		r.pullKeep(now, p, got)
	}}, p.from)
}

// missed decides what becomes of messages that were not found. Whoever may have them and cannot be reached is waited for,
// but not for ever: the owner of the image does not have them, so that to go on takes nothing from anybody.
func (p *pull) missed(refs []store.Ref, sure bool) {
	if len(refs) == 0 {
		return
	}
	if p.tries++; sure || p.tries > maxTries {
		p.lost += len(refs)
		return
	}
	for _, ref := range refs {
		p.want = append(p.want, store.Run{Index: ref.Index, Slot: ref.Slot, N: 1})
	}
}

// pullKeep stores what was fetched.
func (r *Replica) pullKeep(now Now, p *pull, got []store.Message) {
	if len(got) == 0 {
		p.busy = false
		r.pullOn(now)
		return
	}
	st := r.storage.store
	window := len(p.want) == 0
	r.pullJob(Disk, func() error {
		if err := st.Add(got); err != nil || !window {
			return err
		}
		return st.Flush()
	}, func(Now) {})
}

// pulled is when everything is here.
func (r *Replica) pulled(now Now) {
	p := r.pull
	p.done = true
	if p.lost > 0 {
		r.log.Error("messages of the snapshot are on no replica", "count", p.lost)
	}
	if p.msg == nil {
		return // repair goes on from here
	}
	r.stepLocal(p.msg)
	r.settlePull(now)
}

// settlePull drops a snapshot that raft did not accept: its term is over, or the log caught up meanwhile.
func (r *Replica) settlePull(now Now) {
	p := r.pull
	if !r.rn.HasReady() {
		r.abandonPull()
		return
	}
	rd := r.rn.Ready()
	accepted := rd.Snapshot != nil && rd.Snapshot.GetMetadata().GetIndex() == p.index
	r.handle(now, rd)
	if !accepted {
		r.abandonPull()
	}
}

// retry gives up a sender that is silent. The messages that were fetched stay.
func (p *pull) retry(r *Replica, now Now) {
	if p.done || p.busy || now.Mono-p.heard <= pullExpiry || p.complete() {
		return
	}
	r.log.Info("the snapshot's sender is gone; waiting for another", "from", p.from)
	r.abandonPull()
}

func (r *Replica) abandonPull() {
	p := r.pull
	if p == nil || p.installing {
		return
	}
	r.pull = nil
	r.asker.cancel(p.q)
	if !p.busy {
		r.dropStaging(p)
	}
}

func (r *Replica) dropStaging(p *pull) {
	if p.staging == nil {
		return
	}
	staging := p.staging
	p.staging = nil
	r.jobs = append(r.jobs, &Job{Class: Disk, run: staging.Close, done: func(_ Now, err error) {
		if err != nil {
			r.fail(err)
		}
	}})
}

// startInstall makes image, files and messages that were fetched the state of this replica, as one disk job.
func (r *Replica) startInstall(now Now, g *group) {
	p := r.pull
	if p == nil || !p.done || p.index != g.snapshot.GetMetadata().GetIndex() {
		panic("BUG: raft accepted a snapshot whose data is not here")
	}
	image := store.Image{Image: checkpoint.Image{Index: p.index, Term: p.term, ConfState: mustMarshal(p.conf)}, Refs: p.kept}
	st, generation := r.storage.store, r.generation
	p.installing = true
	r.startDisk(now, &Job{
		Class: Disk, Bytes: int(p.size),
		run: func() error {
			whole := image
			whole.Parts = [][]byte{p.image}
			if err := p.staging.Finish(whole, g.hard); err != nil {
				return err
			}
			return st.Install(p.staging, p.committed)
		},
		done: func(now Now, err error) {
			if generation != r.generation {
				g.responses = nil
			}
			r.installed(now, g, image, err)
		},
	})
}

func (r *Replica) installed(now Now, g *group, image store.Image, err error) {
	p := r.pull
	r.disk, r.pull = nil, nil
	if err == nil {
		err = r.machine.Restore(image.Index, p.image, image.Refs)
	}
	if err != nil {
		r.fail(err)
		return
	}
	r.storage.image, r.storage.conf, r.conf = image, p.conf, p.conf
	r.applied, r.appTerm = image.Index, image.Term
	r.digests.forget(r.id)
	r.checkpoint.replaced(now, image.Index, len(p.image))
	r.log.Info("snapshot installed", "index", image.Index)
	r.respond(now, g.responses)
}

func mustMarshal(m proto.Message) []byte {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return b
}
