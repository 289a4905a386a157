package set

import (
	"errors"
	"time"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/store"
	"github.com/opencmq/cmq/internal/store/reflog"
	"github.com/opencmq/cmq/internal/store/segment"
)

const (
	// maxAnswering is how many answers are being read from the disk at a time; whoever asks beyond that asks again.
	maxAnswering = 8
	// maxAskedRefs is how many messages one question may be about.
	maxAskedRefs = 16 << 10
	// entryOverhead is what an entry counts beside its data.
	entryOverhead = 64
	// maxAskedRuns is how many runs of references one answer has.
	maxAskedRuns = 16 << 10
	// pinExpiry is how long files are kept for a replica that does not ask any more.
	pinExpiry = 30 * time.Second
)

// answer takes a question. Every replica answers from what it has, also one that is in repair itself: what it gives is
// checked by its own checksums and named by index and term, so it is right or not given. Only what is made of the state is not
// given by one whose state is known to be wrong.
func (r *Replica) answer(now Now, from cmq.NodeID, ask *Ask) {
	r.filling.heard(from, now)
	r.pins.heard(from, now)
	a := r.blankAnswer(ask)
	switch {
	case ask.Kind == AskSuccessor:
		r.handOver(now, from)
		return
	case ask.Kind == AskState:
		a.Verdict = Here
		r.envelopes = append(r.envelopes, r.envelope(now, from, Message{Answer: a}))
		return
	case ask.Kind == AskEnd:
		r.answerEnd(from, a)
		return
	case r.answering >= maxAnswering:
		return
	case ask.Kind == AskRefs && r.applied < ask.Anchor: // it may lack what was sent last, and would not know
		r.envelopes = append(r.envelopes, r.envelope(now, from, Message{Answer: a}))
		return
	case r.repair != nil && (r.repair.wrong || r.repair.marked) && (ask.Kind == AskManifest || ask.Kind == AskRefs):
		r.envelopes = append(r.envelopes, r.envelope(now, from, Message{Answer: a}))
		return
	case ask.Kind == AskManifest:
		r.answerManifest(from, ask, a)
		return
	}
	read := r.reader(from, ask, a)
	r.answering++
	r.jobs = append(r.jobs, &Job{
		Class: Reader, Bytes: chunkBytes,
		run: func() error { read(); return nil },
		done: func(now Now, _ error) {
			r.answering--
			if a.Whole = r.whole(); a.Verdict == Never && !a.Whole && (a.Kind == AskMessages || a.Kind == AskRefs) {
				a.Verdict = Later // what is missing here may be on its way
			}
			r.envelopes = append(r.envelopes, r.envelope(now, from, Message{Answer: a}))
		},
	})
}

// whole tells whether the replica has everything it should have.
func (r *Replica) whole() bool { return r.rn != nil && r.pull == nil && r.failed == nil }

func (r *Replica) blankAnswer(ask *Ask) *Answer {
	log := r.storage.log()
	a := &Answer{ID: ask.ID, Kind: ask.Kind, Verdict: Later, First: log.FirstIndex(), Last: log.LastIndex()}
	a.Commit = max(min(log.HardState().Commit, a.Last), r.applied)
	a.Voted = max(r.term, log.HardState().Term)
	if r.repair != nil && r.repair.amnesia {
		a.Voted = 0
	}
	return a
}

// answerEnd tells where the log of the leader ends, once a quorum has confirmed that it leads.
func (r *Replica) answerEnd(from cmq.NodeID, a *Answer) {
	r.Read(func(now Now, err error) {
		if err == nil && r.leading {
			a.Verdict, a.Index, a.Term = Here, r.last, r.term
		}
		if now == (Now{}) {
			return // refused at once; the asking replica asks the next
		}
		r.envelopes = append(r.envelopes, r.envelope(now, from, Message{Answer: a}))
	})
}

// reader is what a job does to fill in an answer.
func (r *Replica) reader(from cmq.NodeID, ask *Ask, a *Answer) func() {
	st := r.storage.store
	switch ask.Kind {
	case AskEntries:
		return func() { readEntries(st.Log(), ask, a) }
	case AskMessages:
		return func() { readMessages(st, ask, a) }
	case AskRefs:
		refs, _ := r.machine.(References)
		return func() { readRefs(refs, ask, a) }
	case AskImage, AskFile:
		x := r.pins.of(from, ask.Index)
		return func() { readPart(x, ask, a) }
	}
	return func() {}
}

// readEntries finds the first entries of the range that can be read. With holes in its own log it gives what is between
// them: so replicas damaged at different places heal each other.
func readEntries(log *segment.Log, ask *Ask, a *Answer) {
	lo, hi := max(ask.Lo, a.First), min(ask.Hi, a.Last+1)
	if ask.AnchorTerm == 0 {
		hi = min(hi, a.Commit+1)
	} else {
		switch t, err := log.Term(ask.Anchor); {
		case errors.Is(err, segment.ErrCompacted), err == nil && t != ask.AnchorTerm, ask.Anchor <= a.Commit && errors.Is(err, segment.ErrUnavailable):
			a.Verdict = Never
			return
		case err != nil:
			return // a hole, or not written yet
		}
	}
	if lo >= hi {
		if ask.Hi <= a.First {
			a.Verdict = Never
		}
		return
	}
	bytes := 0
	for i := lo; i < hi && bytes < chunkBytes; i++ {
		e, err := log.Entry(i)
		switch {
		case err == nil:
			a.Verdict, a.Entries = Here, append(a.Entries, toRaft([]segment.Entry{e})...)
			bytes += len(e.Data) + entryOverhead
		case isDamage(err) && len(a.Entries) == 0:
		default:
			return
		}
	}
}

func readMessages(st *store.Store, ask *Ask, a *Answer) {
	if len(ask.Refs) > maxAskedRefs {
		return
	}
	a.Verdict = Here
	bytes := 0
	for _, ref := range ask.Refs {
		if bytes >= chunkBytes {
			break
		}
		a.Seen++
		m, err := st.Message(ref)
		switch {
		case err == nil:
			a.Messages = append(a.Messages, m)
			bytes += len(m.Body) + 64
		case errors.Is(err, store.ErrGone), isDamage(err):
		default:
			a.Verdict = Later // the disk cannot tell now
			return
		}
	}
	if len(a.Messages) == 0 && int(a.Seen) == len(ask.Refs) {
		a.Verdict = Never
	}
}

func readRefs(refs References, ask *Ask, a *Answer) {
	if refs == nil {
		return
	}
	key := reflog.Key{Shard: ask.Shard, Lane: ask.Lane}
	runs, err := refs.Runs(key, ask.Lo, ask.Hi, maxAskedRuns)
	switch {
	case err == nil:
		a.Verdict, a.Runs = Here, runs
	case isDamage(err):
		a.Verdict, a.Runs, a.Data = Never, runs, refs.WreckRefs(key, ask.Lo, ask.Hi, chunkBytes)
	}
}

// answerManifest describes the newest image and keeps it, and everything that belongs to it, for the replica that asks.
func (r *Replica) answerManifest(from cmq.NodeID, ask *Ask, a *Answer) {
	st, index := r.storage.store, r.storage.image.Index
	if index == 0 || index < ask.Lo {
		// The state itself may be new enough; then there will be an image of it.
		if r.rn != nil && r.applied >= ask.Lo {
			r.checkpoint.want(1)
		}
		index = 0
	}
	var x *pin
	r.answering++
	r.jobs = append(r.jobs, &Job{
		Class: Reader, Bytes: chunkBytes,
		run: func() error {
			if index != 0 {
				x = newPin(st, index, a)
			}
			return nil
		},
		done: func(now Now, _ error) {
			r.answering--
			if x != nil {
				r.pins.keep(from, x, now)
			}
			r.envelopes = append(r.envelopes, r.envelope(now, from, Message{Answer: a}))
		},
	})
}

// newPin keeps an image and fills in the answer about it; nil if it is gone or cannot be read.
func newPin(st *store.Store, index uint64, a *Answer) *pin {
	pinned, release, ok := st.Pin(index)
	if !ok {
		return nil
	}
	image, err := pinned.Load()
	if err != nil {
		release()
		return nil
	}
	x := &pin{index: index, pinned: pinned, data: image.Data(), release: release}
	a.Verdict, a.Index, a.Term, a.Conf, a.Size, a.Sum, a.Files = Here, image.Index, image.Term, image.ConfState, uint64(len(x.data)), store.ImageSum(x.data), image.Refs
	return x
}

// readPart reads a part of a pinned image or of one of its files.
func readPart(x *pin, ask *Ask, a *Answer) {
	if x == nil {
		a.Verdict = Never
		return
	}
	if ask.Kind == AskImage {
		lo := min(ask.Offset, uint64(len(x.data)))
		a.Verdict, a.Data, a.Size = Here, x.data[lo:min(lo+chunkBytes, uint64(len(x.data)))], uint64(len(x.data))
		return
	}
	data := make([]byte, chunkBytes)
	n, err := x.pinned.ReadRef(ask.Name, int64(ask.Offset), data)
	if err == nil || n > 0 {
		a.Verdict, a.Data = Here, data[:n]
	}
}

// pins keep an image, its files and the messages it needs for the replicas that fetch it, each the one it asked for last.
type pins map[cmq.NodeID]*pin

type pin struct {
	index   uint64
	at      time.Duration // when the replica asked last
	pinned  store.Pinned
	data    []byte // the image
	release func()
}

func (p *pins) keep(who cmq.NodeID, x *pin, now Now) {
	if *p == nil {
		*p = make(pins)
	}
	if old := (*p)[who]; old != nil {
		old.release()
	}
	x.at = now.Mono
	(*p)[who] = x
}

// heard notes that the replica still asks.
func (p pins) heard(who cmq.NodeID, now Now) {
	if x := p[who]; x != nil {
		x.at = now.Mono
	}
}

// of is what is kept for a replica; nil if that is not the image it asks for.
func (p pins) of(who cmq.NodeID, index uint64) *pin {
	if x := p[who]; x != nil && x.index == index {
		return x
	}
	return nil
}

// expire lets go what nobody asked for lately.
func (p pins) expire(now Now) {
	for who, x := range p {
		if now.Mono-x.at > pinExpiry {
			delete(p, who)
			x.release()
		}
	}
}

// lowest is the first entry the fetching replicas will want from the log.
func (p pins) lowest() uint64 {
	low := uint64(1<<64 - 1)
	for _, x := range p {
		low = min(low, x.index+1)
	}
	return low
}
