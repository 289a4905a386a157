package set

import (
	"errors"
	"slices"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/store"
)

// ErrLost says of messages that no replica of the set has them.
var ErrLost = errors.New("no replica has the message any more")

// ErrUnsure says of messages that not every replica could be asked.
var ErrUnsure = errors.New("not every replica that may have the message answers")

// gathering collects messages from whoever has them: from one peer what it has, from the next what is still
// missing.
type gathering struct {
	quick bool
	want  []store.Ref // not asked of the present peer yet
	left  []store.Ref // not at the present peer
	peers []cmq.NodeID
	got   []store.Message
	sure  bool // every peer asked so far is whole and said what it has
	done  func(now Now, got []store.Message, missing []store.Ref, sure bool)
}

// gather asks for messages; first is asked first. sure tells of the missing ones that no other replica has them.
func (r *Replica) gather(now Now, g *gathering, first cmq.NodeID) {
	q := question{Ask: Ask{ID: r.asker.lastID}, first: first}
	g.peers = q.order(r.others())
	g.sure = true
	r.gatherOn(now, g)
}

// gatherOn asks the next question.
func (r *Replica) gatherOn(now Now, g *gathering) {
	if len(g.want) == 0 && len(g.peers) > 0 {
		g.peers = g.peers[1:]
		g.want, g.left = g.left, nil
	}
	if len(g.want) == 0 || len(g.peers) == 0 {
		g.done(now, g.got, append(g.left, g.want...), g.sure)
		return
	}
	n := min(len(g.want), maxAskedRefs)
	r.ask(&question{
		Ask: Ask{Kind: AskMessages, Refs: g.want[:n:n]}, quick: g.quick, only: g.peers[0], rounds: 2,
		done: func(now Now, _ cmq.NodeID, a *Answer, sure bool) {
			switch {
			case a != nil:
				g.take(a, n)
			case sure:
				g.left, g.want = append(g.left, g.want[:n]...), g.want[n:]
			default: // it is silent: whatever else it may have is not asked
				g.left, g.want, g.sure = append(g.left, g.want...), nil, false
			}
			r.gatherOn(now, g)
		},
	})
}

// take sorts an answer about the first n of want.
func (g *gathering) take(a *Answer, n int) {
	seen := min(int(a.Seen), n)
	have := make(map[store.Ref]bool, len(a.Messages))
	for i := range a.Messages {
		have[a.Messages[i].Ref] = true
	}
	for _, ref := range g.want[:seen] {
		if !have[ref] {
			g.left = append(g.left, ref)
		}
	}
	if len(have) < seen && !a.Whole {
		g.sure = false
	}
	g.got = append(g.got, a.Messages...)
	g.want = g.want[seen:]
}

// FetchMessages asks the other replicas for messages that this one cannot read although they are live. done is called on
// the driver's goroutine with those that were found; the error is ErrLost if no replica has the others, ErrUnsure if not
// all could be asked. What was found is kept here too.
func (r *Replica) FetchMessages(now Now, refs []store.Ref, done func(found []store.Message, err error)) {
	seen := store.RefSet{}
	refs = slices.DeleteFunc(slices.Clone(refs), func(ref store.Ref) bool { return !seen.Add(ref) })
	for _, ref := range refs {
		r.suspect(ref.Index)
	}
	r.gather(now, &gathering{
		quick: true, want: refs,
		done: func(now Now, got []store.Message, missing []store.Ref, sure bool) {
			r.keep(now, got, nil)
			switch {
			case len(missing) == 0:
				done(got, nil)
			case sure && !slices.ContainsFunc(missing, r.storage.store.MayComeBack):
				done(got, ErrLost)
			default:
				done(got, ErrUnsure)
			}
		},
	}, r.leader)
}

// maxKeeping is how many jobs that keep messages somebody waited for may be out; beyond it they are only handed on.
const maxKeeping = 4

// keep stores fetched messages that no file here has. then, which may be nil, is called when they are durable.
func (r *Replica) keep(now Now, msgs []store.Message, then func(now Now, err error)) {
	if len(msgs) == 0 {
		if then != nil {
			then(now, nil)
		}
		return
	}
	if then == nil && r.keeping >= maxKeeping {
		return
	}
	r.keeping++
	st, committed := r.storage.store, r.committed()
	r.jobs = append(r.jobs, &Job{
		Class: Disk, Bytes: chunkBytes,
		run: func() error {
			if err := st.Add(absent(st, msgs, committed)); err != nil {
				return err
			}
			return st.Flush()
		},
		done: func(now Now, err error) {
			r.keeping--
			switch {
			case then != nil:
				then(now, err)
			case err != nil && !noRoom(err):
				r.fail(err)
			}
		},
	})
}

// absent is the messages no file has.
func absent(st *store.Store, msgs []store.Message, committed uint64) []store.Message {
	var out []store.Message
	for i := range msgs {
		if !st.Has(msgs[i].Ref, committed) {
			out = append(out, msgs[i])
		}
	}
	return out
}
