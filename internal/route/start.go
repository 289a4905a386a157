package route

import (
	"context"
	"time"

	"github.com/opencmq/cmq/internal/cmq"
)

// A request that is started costs no goroutine as long as all goes well: its first attempt is made at once, and if that
// is the answer, the answer is given where it arrives.
//
//	StartSend ──► table ──► first node ──┬── the answer ────────────────────► done
//	                                     └── anything else ──► goroutine: Send, with the first attempt as its
//	                                                           opening, so it does not ask that node again
//
// What is to be done about anything else is known only to the calls that wait.

// opening is a first attempt, for the call that goes on from it.
type opening struct {
	queue  *cmq.Queue
	shards []cmq.Shard // in the order in which they are asked, the one of the attempt first
	first  *search     // its opening is what came of it; nil once the call has taken it up
}

// found is the queue the opening is about; nil without an opening, or when it is used up.
func (o *opening) found() *cmq.Queue {
	if o == nil || o.first == nil {
		return nil
	}
	return o.queue
}

// orElse gives the queue's shards in the order of the opening, if that is about them.
func (o *opening) orElse(q *cmq.Queue, order func(*cmq.Queue) []cmq.Shard) []cmq.Shard {
	if o == nil || o.first == nil || o.queue != q {
		return order(q)
	}
	return o.shards
}

// search takes up the search that was begun at the shard; nil if none was, or it is taken up already.
func (o *opening) search(shard cmq.Shard) *search {
	if o == nil || o.first == nil || o.shards[0].ID != shard.ID {
		return nil
	}
	s := o.first
	o.first = nil
	return s
}

// StartSend is Send without waiting, see cmq.Pending.
func (r *Router) StartSend(owner, name string, bodies [][]byte, delay time.Duration, done func([]cmq.MsgID, error)) cmq.Pending {
	f := r.newSending(owner, name, done)
	f.first.req.Kind, f.first.req.Bodies, f.first.req.Delay = cmq.KindSend, bodies, delay
	return f.start()
}

// StartPrepare is Prepare without waiting, see cmq.Pending.
func (r *Router) StartPrepare(owner, name string, bodies [][]byte, interval time.Duration, conn uint64, done func([]cmq.MsgID, error)) cmq.Pending {
	f := r.newSending(owner, name, done)
	f.first.req = r.prepare(bodies, interval, conn)
	return f.start()
}

// StartSendOnce is SendOnce without waiting, see cmq.Pending.
func (r *Router) StartSendOnce(owner, name string, bodies [][]byte, delay time.Duration, session cmq.Session, done func([]cmq.MsgID, error)) cmq.Pending {
	f := r.newSending(owner, name, done)
	f.first.req.Kind, f.first.req.Bodies, f.first.req.Delay, f.first.req.Session = cmq.KindSend, bodies, delay, session
	return f.start()
}

// StartOpenSession is OpenSession without waiting, see cmq.Pending. It costs a goroutine: a session has many messages.
func (r *Router) StartOpenSession(owner, name string, id uint64, done func(epoch uint64, err error)) cmq.Pending {
	f := &sessionOpening{flight: flight{r: r, owner: owner, name: name}, id: id, done: done}
	f.call = f
	return f.await(nil)
}

func (r *Router) newSending(owner, name string, done func([]cmq.MsgID, error)) *sending {
	f := &sending{flight: flight{r: r, owner: owner, name: name}, done: done}
	f.call = f
	return f
}

func (f *sending) start() cmq.Pending {
	q := f.r.cfg.Meta.Table().Queue(f.owner, f.name)
	if q == nil || len(q.Shards) == 0 || tooLarge(q, f.first.req.Bodies) {
		return f.await(nil)
	}
	return f.try(q, f.r.takers(q, &f.first.req))
}

// StartReceive is Receive without waiting, see cmq.Pending. The messages are locked for lock, or for the queue's
// VisibilityTimeout if it is 0. A queue of several shards costs a goroutine.
func (r *Router) StartReceive(owner, name string, most int, wait *time.Duration, lock time.Duration, done func([]cmq.Message, error)) cmq.Pending {
	f := &receiving{flight: flight{r: r, owner: owner, name: name}, take: take{most: most, wait: wait, lock: lock, began: time.Now()}, done: done}
	f.call = f
	q := r.cfg.Meta.Table().Queue(owner, name)
	if q == nil || len(q.Shards) != 1 {
		return f.await(nil)
	}
	req := &f.first.req
	req.Kind, req.Max, req.Lock, req.Wait = cmq.KindReceive, most, lock, f.waitAt(q)
	return f.try(q, q.Shards)
}

// StartDelete is Delete without waiting, see cmq.Pending. Handles of several shards cost a goroutine.
func (r *Router) StartDelete(owner, name string, handles []cmq.Handle, done func([]*cmq.Error, error)) cmq.Pending {
	return r.startHandles(owner, name, handles, cmq.KindDelete, 0, done)
}

// StartRelock is Relock without waiting, like StartDelete.
func (r *Router) StartRelock(owner, name string, handles []cmq.Handle, lock time.Duration, done func([]*cmq.Error, error)) cmq.Pending {
	return r.startHandles(owner, name, handles, cmq.KindRelock, lock, done)
}

func (r *Router) startHandles(owner, name string, handles []cmq.Handle, kind cmq.Kind, lock time.Duration, done func([]*cmq.Error, error)) cmq.Pending {
	f := &onHandles{flight: flight{r: r, owner: owner, name: name}, done: done}
	f.call = f
	f.first.req.Kind, f.first.req.Lock, f.first.req.Handles = kind, lock, handles
	q := r.cfg.Meta.Table().Queue(owner, name)
	shards := sameShard(q, handles)
	if len(shards) == 0 {
		return f.await(nil)
	}
	return f.try(q, shards)
}

// StartConfirm is Confirm without waiting, see cmq.Pending. It costs a goroutine: decisions are rarer than messages.
func (r *Router) StartConfirm(owner, name string, decisions []cmq.Decision, done func([]*cmq.Error, error)) cmq.Pending {
	f := &confirming{flight: flight{r: r, owner: owner, name: name}, decisions: decisions, done: done}
	f.call = f
	return f.await(nil)
}

// StartRelease is Release without waiting, like StartDelete.
func (r *Router) StartRelease(owner, name string, handles []cmq.Handle, done func(error)) cmq.Pending {
	f := &releasing{flight: flight{r: r, owner: owner, name: name}, handles: handles, done: done}
	f.call = f
	q := r.cfg.Meta.Table().Queue(owner, name)
	shards := sameShard(q, handles)
	if len(shards) == 0 {
		return f.await(nil)
	}
	f.first.req.Kind, f.first.req.Handles = cmq.KindRelease, handles
	return f.try(q, shards)
}

// sameShard is the shard that gave out all of the handles, if it is one.
func sameShard(q *cmq.Queue, handles []cmq.Handle) []cmq.Shard {
	if q == nil || len(handles) == 0 {
		return nil
	}
	for _, h := range handles {
		if h>>63 != 0 || h.Ordinal() != handles[0].Ordinal() {
			return nil
		}
	}
	for i := range q.Shards {
		if q.Shards[i].ID.Ordinal() == handles[0].Ordinal() {
			return q.Shards[i : i+1]
		}
	}
	return nil
}

// sending, receiving, onHandles and releasing are started requests.
type sending struct {
	flight
	done func([]cmq.MsgID, error)
}

func (f *sending) goOn(ctx context.Context, o *opening) {
	if ids, err := f.r.store(ctx, o, f.owner, f.name, &f.first.req); f.end() {
		f.done(ids, err)
	}
}

func (f *sending) answer(reply *cmq.Reply) { f.done(reply.IDs, nil) }
func (f *sending) fail(err error)          { f.done(nil, err) }

type receiving struct {
	flight
	take
	done func([]cmq.Message, error)
}

func (f *receiving) goOn(ctx context.Context, o *opening) {
	messages, err := f.r.receive(ctx, o, f.owner, f.name, &f.take)
	if f.end() {
		f.done(messages, err)
	} else if len(messages) > 0 {
		f.release(messages)
	}
}

func (f *receiving) answer(reply *cmq.Reply) { f.done(reply.Messages, nil) }
func (f *receiving) fail(err error)          { f.done(nil, err) }

type onHandles struct {
	flight
	done func([]*cmq.Error, error)
}

func (f *onHandles) goOn(ctx context.Context, o *opening) {
	if errs, err := f.r.onHandles(ctx, o, f.owner, f.name, f.first.req.Handles, f.first.req); f.end() {
		f.done(errs, err)
	}
}

func (f *onHandles) answer(reply *cmq.Reply) {
	if handles := f.first.req.Handles; len(reply.Errors) != len(handles) {
		f.done(nil, wrongCount(f.first.set, reply, handles))
		return
	}
	f.done(reply.Errors, nil)
}
func (f *onHandles) fail(err error) { f.done(nil, err) }

type releasing struct {
	flight
	handles []cmq.Handle
	done    func(error)
}

// goOn begins anew: a handle is released once, however often that is asked for.
func (f *releasing) goOn(ctx context.Context, _ *opening) {
	if err := f.r.Release(ctx, f.owner, f.name, f.handles); f.end() {
		f.done(err)
	}
}

func (f *releasing) answer(*cmq.Reply) { f.done(nil) }
func (f *releasing) fail(err error)    { f.done(err) }

type sessionOpening struct {
	flight
	id   uint64
	done func(uint64, error)
}

func (f *sessionOpening) goOn(ctx context.Context, _ *opening) {
	if epoch, err := f.r.OpenSession(ctx, f.owner, f.name, f.id); f.end() {
		f.done(epoch, err)
	}
}

func (f *sessionOpening) answer(*cmq.Reply) {
	panic("BUG: the opening of a session has no first attempt")
}
func (f *sessionOpening) fail(err error) { f.done(0, err) }

type confirming struct {
	flight
	decisions []cmq.Decision
	done      func([]*cmq.Error, error)
}

func (f *confirming) goOn(ctx context.Context, _ *opening) {
	if errs, err := f.r.Confirm(ctx, f.owner, f.name, f.decisions); f.end() {
		f.done(errs, err)
	}
}

func (f *confirming) answer(*cmq.Reply) { panic("BUG: a confirmation has no first attempt") }
func (f *confirming) fail(err error)    { f.done(nil, err) }
