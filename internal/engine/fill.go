package engine

import (
	"errors"
	"fmt"
	"slices"
	"syscall"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/core/command"
	"github.com/opencmq/cmq/internal/set"
	"github.com/opencmq/cmq/internal/store"
	"github.com/opencmq/cmq/internal/store/reflog"
)

// Fill reads the messages of Unread results from this replica's files, which check them; neighbours are read together, whichever
// result they belong to. Any goroutine may call it. If a result is not Whole then, Mend must be called before its reply is
// used.
//
// A reply that would be too long is cut: the handles of what is left out are in Surplus then, for the caller to release.
func (m *Machine) Fill(results ...*Result) {
	n := 0
	for _, r := range results {
		n += len(r.at)
	}
	f := newFound(n)
	for _, r := range results {
		if r.held {
			m.readHeld(r)
			continue
		}
		first := len(f.refs)
		for i := range r.at {
			m.resolve(r, i, &f)
		}
		f.cut(r, first)
	}
	m.read(&f)
	for _, r := range results {
		if r.Whole() {
			r.at = nil
		}
	}
}

// Bodies of one reply are at most about so many bytes together, or as many messages as any door's own batches have.
const (
	maxReplyBytes = 16 << 20
	surelyFits    = 16
	// maxDeadBytes is the same for what waits for another queue: one transfer takes no more, and the rest is asked for again.
	maxDeadBytes = 1 << 20
)

// found is where messages of replies are stored.
type found struct {
	refs   []store.Ref
	places []place
}

// place is where one message of them belongs.
type place struct {
	r     *Result
	i     int // in its reply
	sent  int64
	bytes uint32
}

// newFound has room for n messages.
func newFound(n int) found { return found{make([]store.Ref, 0, n), make([]place, 0, n)} }

// resolve finds out where the message in one place of a reply is stored. If that fails, it is in r.trouble.
func (m *Machine) resolve(r *Result, i int, f *found) {
	p := r.at[i]
	ref, ok, err := m.refs.Load().Resolve(reflog.Key{Shard: uint64(r.shard), Lane: p.Lane}, p.Seq)
	if err == nil && !ok {
		err = fmt.Errorf("%w: position %d of lane %d is not held", errNotHeld, p.Seq, p.Lane)
	}
	if err != nil {
		r.trouble = append(r.trouble, trouble{i: i, err: err})
		return
	}
	f.refs, f.places = append(f.refs, store.Ref{Index: ref.Index, Slot: ref.Slot}), append(f.places, place{r, i, ref.Time, ref.Bytes})
}

// cut leaves out the messages of a reply for which there is no room; the first of them is in place first.
func (f *found) cut(r *Result, first int) {
	sure, limit := surelyFits, uint64(maxReplyBytes)
	if r.dead {
		sure, limit = 1, maxDeadBytes
	}
	bytes := uint64(0)
	for k := first; k < len(f.places); k++ {
		p := f.places[k]
		if bytes += uint64(p.bytes); bytes <= limit || p.i < sure {
			continue
		}
		if r.Reply.Upto, r.Reply.Overdue = 0, min(r.Reply.Overdue, p.i); !r.dead {
			for _, msg := range r.Reply.Messages[p.i:] {
				r.Surplus = append(r.Surplus, msg.Handle)
			}
		}
		r.at, r.Reply.Messages = r.at[:p.i], r.Reply.Messages[:p.i]
		r.trouble = slices.DeleteFunc(r.trouble, func(t trouble) bool { return t.i >= p.i })
		f.refs, f.places = f.refs[:k], f.places[:k]
		return
	}
}

// read reads messages of replies. What fails is in the trouble of its result.
func (m *Machine) read(f *found) {
	if len(f.refs) == 0 {
		return
	}
	m.cfg.Messages(f.refs, func(k int, msg store.Message, err error) {
		p := &f.places[k]
		if err != nil {
			p.r.trouble = append(p.r.trouble, trouble{i: p.i, ref: f.refs[k], sent: p.sent, known: true, err: err})
			return
		}
		m.put(p.r, p.i, f.refs[k], p.sent, &msg)
	})
}

// errNotHeld is a position that the references do not know. It is no error if the message is gone.
var errNotHeld = errors.New("no reference")

// put completes a message of the reply. It was sent when it got its position: what was prepared is sent when it is
// committed. What it was published with is told only by a subscription: consumers of a queue have no use for it.
func (m *Machine) put(r *Result, i int, ref store.Ref, sent int64, msg *store.Message) {
	out := &r.Reply.Messages[i]
	properties, body := command.Unseal(msg.Origin, msg.Body)
	out.Body, out.ID, out.Source, out.Enqueued = body, properties.ID, properties.Source, at(sent)
	if out.ID == 0 {
		out.ID = m.id(ref)
	}
	if r.published {
		out.Publication = properties.Publication
	}
}

func (m *Machine) id(ref store.Ref) cmq.MsgID { return cmq.NewMsgID(m.cfg.Set, ref.Index, ref.Slot) }

// mend is a result of which some messages could not be read here.
//
// A message that is gone was deleted, or expired, between the entry that handed it out and the reading: maintenance
// takes away what no state needs. The state tells that apart from damage, for only a message that is still this
// delivery's, or still in its place in the dead list, must be there. That comes from the other replicas. If no
// replica has it, or none the reference that leads to it, nobody will ever read it, and it is deleted in the way all replicas will see:
// through the log.
type mend struct {
	m    *Machine
	r    *Result
	done func(error)
	err  error      // why a message that is there could not be had
	why  error      // why references could not be repaired
	lost []lostRefs // references that no replica can give
}

// lostRefs is positions [lo, hi) of a lane whose references no replica can give.
type lostRefs struct {
	key    reflog.Key
	lo, hi uint64
}

func lostOf(d *reflog.DamageError) lostRefs { return lostRefs{d.Key, d.Lo, d.Hi} }

// Mend completes a result that Fill could not. Messages that are gone or lost are left out of the reply, and so are
// those that cannot be had now unless nothing else is left: then done gets an error. What is left out stays locked, as
// if its consumer had died. done is called on the loop, possibly before Mend returns.
func (m *Machine) Mend(r *Result, done func(error)) {
	w := &mend{m: m, r: r, done: done}
	m.mends = append(m.mends, w)
	w.step()
}

// step sorts the trouble: references are repaired first, then messages are asked for.
func (w *mend) step() {
	w.r.trouble = slices.DeleteFunc(w.r.trouble, func(t trouble) bool { return !w.m.wanted(w.r, t.i) && w.drop(&t) })
	for i := range w.r.trouble {
		t := &w.r.trouble[i]
		var damage *reflog.DamageError
		if !t.known && errors.As(t.err, &damage) && !w.isLost(t) && w.r.tries < maxRepairs {
			w.r.tries++
			w.m.repairRefs(damage, func(err error) {
				if errors.Is(err, set.ErrLost) { // what there was of them is repaired
					w.lost, err = append(w.lost, lostOf(damage)), nil
				}
				w.readAgain(err)
			})
			return
		}
	}
	w.fetch()
}

// isLost tells whether no replica can give the reference of a message.
func (w *mend) isLost(t *trouble) bool {
	var damage *reflog.DamageError
	return !t.known && errors.As(t.err, &damage) && slices.Contains(w.lost, lostOf(damage))
}

// maxRepairs is how many damaged pieces of references are repaired for one result: its messages may come from as many
// chunks as it has messages.
const maxRepairs = 16

// drop leaves a message out.
func (w *mend) drop(t *trouble) bool {
	w.r.at[t.i].Seq = gone
	return true
}

// gone marks a message to be left out; no position is that high.
const gone = 1<<64 - 1

// wanted reports whether the message at this place of the result is still there to be read.
func (m *Machine) wanted(r *Result, i int) bool {
	if !r.dead {
		return m.b.Holds(r.shard, r.Reply.Messages[i].Handle.Inward(r.shard.Queue()))
	}
	number, at := m.b.DeadHead(r.shard, len(r.at))
	return number == r.Reply.Number && i < len(at) && at[i].LaneSeq == r.at[i]
}

// readAgain reads once more what could not be read, with references that were repaired.
func (w *mend) readAgain(err error) {
	if err != nil {
		w.why = err
		w.fetch()
		return
	}
	places := make([]int, len(w.r.trouble))
	for i := range places {
		places[i] = w.r.trouble[i].i
	}
	w.m.cfg.Go(func() {
		w.r.trouble = nil
		f := newFound(len(places))
		for _, i := range places {
			w.m.resolve(w.r, i, &f)
		}
		w.m.read(&f)
	}, w.step)
}

// fetch asks the other replicas for what is known to be stored and cannot be read.
func (w *mend) fetch() {
	var refs []store.Ref
	for i := range w.r.trouble {
		t := &w.r.trouble[i]
		if t.known {
			w.m.cfg.Logger.Warn("a message cannot be read here; asking other replicas",
				"set", w.m.cfg.Set, "shard", w.r.shard, "msg_id", w.m.id(t.ref), "err", t.err)
			refs = append(refs, t.ref)
		} else if !w.isLost(t) {
			w.err = errors.Join(t.err, w.why)
		}
	}
	if len(refs) == 0 {
		w.fetched(nil, nil)
		return
	}
	w.m.cfg.Fetch(refs, w.fetched)
}

// fetched takes what the other replicas gave.
func (w *mend) fetched(got []store.Message, err error) {
	lost := errors.Is(err, set.ErrLost)
	for i := range w.r.trouble {
		t := &w.r.trouble[i]
		k := slices.IndexFunc(got, func(msg store.Message) bool { return msg.Ref == t.ref })
		switch {
		case w.isLost(t):
			if !w.m.quarantine(w.r, t) {
				w.err = errors.Join(t.err, set.ErrLost)
			}
			w.drop(t)
		case !t.known:
			w.drop(t)
		case k >= 0:
			w.m.stats.Mended.Add(1)
			w.m.put(w.r, t.i, t.ref, t.sent, &got[k])
		case lost && !passes(t.err) && w.m.quarantine(w.r, t):
			w.drop(t)
		default:
			w.err = fmt.Errorf("set %d: message %v: %w", w.m.cfg.Set, w.m.id(t.ref), errors.Join(t.err, err))
			w.drop(t)
		}
	}
	w.end(nil)
}

// passes tells of an error that says nothing about what is stored: the system has no descriptor, or no memory, to open a file just now.
func passes(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ENOMEM)
}

// quarantine deletes through the log a message that no replica can give. It reports false if that is not for this replica
// to do any more. Of the dead list only the first can be taken out; the others get there.
func (m *Machine) quarantine(r *Result, t *trouble) bool {
	req := &cmq.Request{Kind: cmq.KindDelete, Shard: r.shard}
	switch {
	case !m.leading:
		return false
	case !m.wanted(r, t.i) || r.dead && t.i > 0:
		return true
	case r.dead:
		req.Kind, req.Number = cmq.KindForget, r.Reply.Number+1
	default:
		req.Handles = []cmq.Handle{r.Reply.Messages[t.i].Handle}
	}
	what := *t
	m.enqueue(&Call{req: req, size: sizeOf(req), done: takerFunc(func(res *Result, err error) {
		if err != nil || len(res.Reply.Errors) > 0 && res.Reply.Errors[0] != nil {
			return // not this time; whoever receives it next finds the same
		}
		m.stats.Quarantined.Add(1)
		m.sayQuarantined(r.shard, &what)
	})})
	return true
}

// sayQuarantined logs which message was deleted. Where references are lost that may be very many, so their positions are logged together, and
// once.
func (m *Machine) sayQuarantined(shard cmq.ShardID, t *trouble) {
	log := m.cfg.Logger.With("set", m.cfg.Set, "queue", shard.Queue(), "shard", shard)
	if t.known {
		log.Error("a message is damaged on every replica and was deleted", "msg_id", m.id(t.ref), "index", t.ref.Index, "slot", t.ref.Slot, "err", t.err)
		return
	}
	var damage *reflog.DamageError
	if !errors.As(t.err, &damage) || slices.Contains(m.said, lostOf(damage)) {
		return
	}
	if len(m.said) == maxSaid {
		m.said = m.said[1:]
	}
	m.said = append(m.said, lostOf(damage))
	log.Error("references are damaged on every replica: nothing leads to the messages at these positions any more, and they are deleted when they would be received",
		"lane", damage.Key.Lane, "from", damage.Lo, "to", damage.Hi, "err", t.err)
}

// maxSaid is how many lost stretches of references are remembered as logged.
const maxSaid = 64

// end hands over the result, or tells why there is none; then the result is left alone, as it may still be read into.
func (w *mend) end(err error) {
	i := slices.Index(w.m.mends, w)
	if i < 0 {
		return
	}
	w.m.mends = slices.Delete(w.m.mends, i, i+1)
	if err == nil {
		err = w.finish()
	}
	w.done(err)
}

// finish leaves out what has to be. The error says why nothing is left, if that is not because all are gone.
func (w *mend) finish() error {
	r := w.r
	messages := r.Reply.Messages[:0]
	for i := range r.at {
		if r.at[i].Seq != gone {
			messages = append(messages, r.Reply.Messages[i])
		} else if r.dead {
			r.Reply.Upto = 0
			break // numbers are given to them one after the other
		}
	}
	r.Reply.Messages, r.at, r.trouble = messages, nil, nil
	r.Reply.Overdue = min(r.Reply.Overdue, len(messages))
	if len(messages) == 0 {
		return w.err
	}
	return nil
}
