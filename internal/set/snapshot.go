package set

import (
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"
	"google.golang.org/protobuf/proto"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/store"
)

// A replica whose next entry the leader's log no longer holds is filled again: raft tells it the index of the
// leader's image, it fetches the live part of the log and the image from the leader, part by part, writes them beside its
// own store, and only then lets raft see the snapshot. Until the very end the old store stays in use.

const (
	chunkBytes = 1 << 20
	// fetchRetry is after how long a question without an answer is asked again, serveExpiry after how long
	// a fetch nobody goes on with is given up.
	fetchRetry  = time.Second
	serveExpiry = 15 * time.Second
	// fillPatience is after how long raft is told that a snapshot failed that nobody asks for. It is longer than a
	// fetching replica ever needs between two questions, unless its disk is in a very bad way.
	fillPatience = 4 * time.Second
)

// install is a snapshot on its way to this replica.
type install struct {
	from    cmq.NodeID
	msg     *raftpb.Message // raft's message, stepped when everything is here
	staging *store.Staging
	want    Fetch
	first   uint64 // where the sender's log begins, and the term before that
	before  uint64
	image   []byte
	busy    bool // a chunk is being written
	asked   time.Duration
	done    bool
}

// serving is a snapshot another replica is fetching from this one.
type serving struct {
	image store.Image
	used  time.Duration
	peers map[cmq.NodeID]bool
}

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

func (r *Replica) fetch(now Now, from cmq.NodeID, m *raftpb.Message) {
	meta := m.GetSnapshot().GetMetadata()
	if in := r.install; in != nil {
		if in.done || in.from == from && in.want.Index == meta.GetIndex() && in.want.Term == meta.GetTerm() {
			if !in.done {
				in.msg = m
			}
			return
		}
		r.abandonInstall()
	}
	r.log.Info("fetching a snapshot", "from", from, "index", meta.GetIndex(), "log_ends", r.last)
	r.install = &install{from: from, msg: m, want: Fetch{Index: meta.GetIndex(), Term: meta.GetTerm()}}
	r.ask(now)
}

func (r *Replica) ask(now Now) {
	in := r.install
	in.asked = now.Mono
	want := in.want
	r.envelopes = append(r.envelopes, r.envelope(now, in.from, Message{Fetch: &want}))
}

func (in *install) retry(r *Replica, now Now) {
	switch {
	case in.busy || in.done:
	case now.Mono-in.asked > serveExpiry || r.leader != 0 && r.leader != in.from:
		r.log.Info("the snapshot's sender is gone; waiting for the next leader's", "from", in.from)
		r.abandonInstall()
	case now.Mono-in.asked > fetchRetry && r.leader == in.from:
		// The time of the first question is kept, so that an unreachable sender is given up.
		asked := in.asked
		r.ask(now)
		in.asked = asked + fetchRetry/2
	}
}

func (r *Replica) abandonInstall() {
	if in := r.install; in != nil && in.staging != nil {
		staging := in.staging
		r.jobs = append(r.jobs, &Job{Class: Disk, run: staging.Abort, done: func(_ Now, err error) {
			if err != nil {
				r.fail(err)
			}
		}})
	}
	r.install = nil
}

// receiveChunk writes a part to the staging store and asks for the next.
func (r *Replica) receiveChunk(now Now, from cmq.NodeID, c *Chunk) {
	in := r.install
	if in == nil || in.done || in.busy || from != in.from || c.Fetch != in.want {
		return
	}
	if c.Gone {
		r.abandonInstall()
		return
	}
	in.asked = now.Mono
	if c.Next == 0 { // the first question only asks where the log begins
		in.first, in.before = c.First, c.Before
		in.want.Next = min(c.First, c.Index+1)
		r.ask(now)
		return
	}
	in.busy = true
	r.jobs = append(r.jobs, &Job{
		Class: Disk, Bytes: chunkBytes,
		run:  func() error { return r.writeChunk(in, c) },
		done: func(now Now, err error) { r.chunkWritten(now, in, c, err) },
	})
}

// writeChunk runs on the disk goroutine; in.busy keeps the driver away from in.staging and in.image meanwhile.
func (r *Replica) writeChunk(in *install, c *Chunk) error {
	if in.staging == nil {
		st, err := r.storage.store.Stage(in.first, in.before)
		if err != nil {
			return err
		}
		in.staging = st
	}
	if len(c.Entries) > 0 {
		return in.staging.Append(fromRaft(c.Entries))
	}
	in.image = append(in.image, c.Image...)
	return nil
}

func (r *Replica) chunkWritten(now Now, in *install, c *Chunk, err error) {
	in.busy = false
	if err != nil {
		r.fail(err)
		return
	}
	if r.install != in {
		return
	}
	if n := len(c.Entries); n > 0 {
		in.want.Next = c.Entries[n-1].GetIndex() + 1
	} else {
		in.want.Next = c.Index + 1
		in.want.Offset = uint64(len(in.image))
		if in.want.Offset >= c.Size {
			in.done = true
			r.stepLocal(in.msg)
			r.settleInstall(now)
			return
		}
	}
	r.ask(now)
}

// settleInstall drops a snapshot that raft did not accept: its term is over, or the log caught up meanwhile.
func (r *Replica) settleInstall(now Now) {
	if !r.rn.HasReady() {
		r.abandonInstall()
		return
	}
	index := r.install.want.Index
	rd := r.rn.Ready()
	accepted := rd.Snapshot != nil && rd.Snapshot.GetMetadata().GetIndex() == index
	r.handle(now, rd)
	if !accepted {
		r.abandonInstall()
	}
}

// startInstall switches to the fetched store, as one disk job.
func (r *Replica) startInstall(now Now, g *group) {
	in := r.install
	if in == nil || !in.done || in.want.Index != g.snapshot.GetMetadata().GetIndex() {
		panic("BUG: raft accepted a snapshot whose data is not here")
	}
	meta := g.snapshot.GetMetadata()
	image := store.Image{Index: meta.GetIndex(), Term: meta.GetTerm(), ConfState: mustMarshal(meta.GetConfState()), Data: in.image}
	r.startDisk(now, &Job{
		Class: Disk, Bytes: len(in.image),
		run: func() error {
			if err := in.staging.Finish(image, g.hard); err != nil {
				return err
			}
			return r.storage.store.Install(in.staging)
		},
		done: func(now Now, err error) { r.installed(now, g, image, meta.GetConfState(), err) },
	})
}

func (r *Replica) installed(now Now, g *group, image store.Image, conf *raftpb.ConfState, err error) {
	r.disk, r.install = nil, nil
	if err == nil {
		err = r.machine.Restore(image.Index, image.Data)
	}
	if err != nil {
		r.fail(err)
		return
	}
	image.Data = nil
	r.storage.image, r.storage.conf, r.conf = image, conf, conf
	r.applied, r.appTerm = image.Index, image.Term
	r.images.last, r.images.bytes = image.Index, 0
	r.log.Info("snapshot installed", "index", image.Index)
	r.respond(now, g.responses)
}

// serve answers a question of a replica that fetches a snapshot.
func (r *Replica) serve(now Now, from cmq.NodeID, f Fetch) {
	if f.Index == 0 {
		r.handOver(from)
		return
	}
	if f.Index != r.storage.image.Index && (r.serving == nil || f.Index != r.serving.image.Index) {
		r.refuse(now, from, f)
		return
	}
	if r.serving == nil {
		r.serving = &serving{peers: make(map[cmq.NodeID]bool)}
	}
	s := r.serving
	s.used = now.Mono
	s.peers[from] = true
	r.filling.heard(from, now)
	st := r.storage.store
	var chunk *Chunk
	var image store.Image
	r.jobs = append(r.jobs, &Job{
		Class: Reader, Bytes: chunkBytes,
		run: func() (err error) {
			chunk, image, err = readChunk(st, f, s.image)
			return err
		},
		done: func(now Now, err error) {
			if err != nil {
				r.log.Warn("a part of the snapshot cannot be read", "to", from, "error", err)
				r.refuse(now, from, f)
				return
			}
			s.image = image
			r.envelopes = append(r.envelopes, r.envelope(now, from, Message{Chunk: chunk}))
		},
	})
}

// refuse tells a fetching replica that the snapshot it asks for is gone, and raft that it must begin again.
func (r *Replica) refuse(now Now, from cmq.NodeID, f Fetch) {
	r.envelopes = append(r.envelopes, r.envelope(now, from, Message{Chunk: &Chunk{Fetch: f, Gone: true}}))
	r.rn.ReportSnapshot(uint64(from), raft.SnapshotFailure)
}

// expire gives up serving when nobody has asked for a while.
func (s *serving) expire(r *Replica, now Now) {
	if now.Mono-s.used < serveExpiry {
		return
	}
	for _, v := range r.conf.GetVoters() {
		if s.peers[cmq.NodeID(v)] {
			r.rn.ReportSnapshot(v, raft.SnapshotFailure)
		}
	}
	r.serving = nil
}

// readChunk reads the part asked for. cached is the image kept from the question before.
func readChunk(st *store.Store, f Fetch, cached store.Image) (*Chunk, store.Image, error) {
	log := st.Log()
	c := &Chunk{Fetch: f}
	if f.Next == 0 {
		c.First = log.FirstIndex()
		before, err := log.Term(c.First - 1)
		c.Before = before
		return c, cached, err
	}
	if f.Next <= f.Index {
		entries, err := log.Entries(f.Next, f.Index+1, chunkBytes)
		c.Entries = toRaft(entries)
		return c, cached, err
	}
	if cached.Index != f.Index {
		image, err := st.LatestImage()
		if err != nil {
			return nil, cached, err
		}
		cached = image
	}
	if cached.Index != f.Index {
		c.Gone = true
		return c, cached, nil
	}
	c.Size = uint64(len(cached.Data))
	lo := min(f.Offset, c.Size)
	c.Image = cached.Data[lo:min(lo+chunkBytes, c.Size)]
	return c, cached, nil
}

func mustMarshal(m proto.Message) []byte {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return b
}

func confChange(e *raftpb.Entry) (raftpb.ConfChangeI, error) {
	if e.GetType() == raftpb.EntryConfChange {
		cc := new(raftpb.ConfChange)
		return cc, proto.Unmarshal(e.GetData(), cc)
	}
	cc := new(raftpb.ConfChangeV2)
	return cc, proto.Unmarshal(e.GetData(), cc)
}
