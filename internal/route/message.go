package route

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/opencmq/cmq/internal/cmq"
)

// Send stores all bodies in one shard or none; the shards of a queue take turns. A shard that is full passes the
// turn on.
func (r *Router) Send(ctx context.Context, owner, name string, bodies [][]byte, delay time.Duration) ([]cmq.MsgID, error) {
	return r.store(ctx, nil, owner, name, &cmq.Request{Kind: cmq.KindSend, Bodies: bodies, Delay: delay})
}

// store puts a request with new messages to a shard.
func (r *Router) store(ctx context.Context, o *opening, owner, name string, req *cmq.Request) ([]cmq.MsgID, error) {
	var ids []cmq.MsgID
	err := r.onQueue(ctx, o, owner, name, func(q *cmq.Queue) (err error) {
		if tooLarge(q, req.Bodies) {
			return cmq.ErrMsgSize
		}
		ids, err = r.storeIn(ctx, o, q, req)
		return err
	})
	return ids, err
}

func tooLarge(q *cmq.Queue, bodies [][]byte) bool {
	for _, body := range bodies {
		if len(body) > q.Attributes.MaxMsgSize {
			return true
		}
	}
	return false
}

func (r *Router) storeIn(ctx context.Context, o *opening, q *cmq.Queue, req *cmq.Request) ([]cmq.MsgID, error) {
	err := noShards(q)
	for _, shard := range o.orElse(q, func(q *cmq.Queue) []cmq.Shard { return r.takers(q, req) }) {
		var reply *cmq.Reply
		one := *req
		reply, err = r.onShard(ctx, o, q, shard, &one)
		if err == nil {
			return reply.IDs, nil
		}
		if !errors.Is(err, cmq.ErrHeapFull) && !errors.Is(err, cmq.ErrDiskFull) {
			return nil, err
		}
	}
	return nil, err
}

// takers are the shards that may take new messages, in the order in which to ask them. Those of a session belong to the one
// that remembers what the session has sent.
func (r *Router) takers(q *cmq.Queue, req *cmq.Request) []cmq.Shard {
	if req.Session.ID == 0 || len(q.Shards) == 0 {
		return r.shuffled(q)
	}
	i := req.Session.ID % uint64(len(q.Shards))
	return q.Shards[i : i+1]
}

func noShards(q *cmq.Queue) error { return fmt.Errorf("queue %s has no shards", q.Name) }

// shuffled gives the shards of the queue, beginning with another one each time.
func (r *Router) shuffled(q *cmq.Queue) []cmq.Shard {
	n := len(q.Shards)
	if n <= 1 {
		return q.Shards
	}
	first := int(r.turn.Add(1) % uint64(n))
	return append(q.Shards[first:n:n], q.Shards[:first]...)
}

// Receive gives up to most messages as soon as there is one, waiting for at most *wait, or the queue's
// PollingWait if wait is nil, and locks them for lock, or the queue's VisibilityTimeout if that is 0. No message in
// that time: an empty list.
func (r *Router) Receive(ctx context.Context, owner, name string, most int, wait *time.Duration, lock time.Duration) ([]cmq.Message, error) {
	return r.receive(ctx, nil, owner, name, &take{most: most, wait: wait, lock: lock, began: time.Now()})
}

// take is what a receive wants.
type take struct {
	most  int
	wait  *time.Duration // nil: the queue's PollingWait
	lock  time.Duration  // 0: the queue's VisibilityTimeout
	began time.Time
}

// waitAt is how long it waits at the queue.
func (t *take) waitAt(q *cmq.Queue) time.Duration {
	if t.wait == nil {
		return longer(q.Attributes.PollingWait)
	}
	return longer(*t.wait)
}

// longer is the wait the queue's leader is asked for. It counts whole milliseconds, from the one that has begun, and of a
// clock that may be a little fast, but a client must not see its poll end early.
func longer(wait time.Duration) time.Duration {
	if wait <= 0 {
		return 0
	}
	return wait + wait/1000 + 2*time.Millisecond
}

func (r *Router) receive(ctx context.Context, o *opening, owner, name string, t *take) ([]cmq.Message, error) {
	var messages []cmq.Message
	err := r.onQueue(ctx, o, owner, name, func(q *cmq.Queue) (err error) {
		messages, err = r.receiveFrom(ctx, o, q, t)
		return err
	})
	return messages, err
}

func (r *Router) receiveFrom(ctx context.Context, o *opening, q *cmq.Queue, t *take) ([]cmq.Message, error) {
	until := t.began.Add(t.waitAt(q))
	shards := o.orElse(q, r.shuffled)
	switch len(shards) {
	case 0:
		return nil, noShards(q)
	case 1:
		return r.poll(ctx, o, q, shards[0], t, until)
	}
	for _, shard := range shards {
		messages, err := r.poll(ctx, nil, q, shard, t, time.Time{})
		if len(messages) > 0 || err != nil {
			return messages, err
		}
	}
	if time.Until(until) <= 0 {
		return nil, nil
	}
	return r.pollAll(ctx, q, shards, t, until)
}

// poll asks one shard, waiting until the given time.
func (r *Router) poll(ctx context.Context, o *opening, q *cmq.Queue, shard cmq.Shard, t *take, until time.Time) ([]cmq.Message, error) {
	wait := max(0, time.Until(until))
	reply, err := r.onShard(ctx, o, q, shard, &cmq.Request{Kind: cmq.KindReceive, Max: t.most, Lock: t.lock, Wait: wait})
	if err != nil {
		return nil, err
	}
	return reply.Messages, nil
}

// polled is what a poll of one of several shards brought.
type polled struct {
	messages []cmq.Message
	err      error
}

// pollAll waits at all shards at once, because the next message may come to any of them. The first answer
// ends the others; what they got all the same is added as far as it fits, and the rest is put back.
func (r *Router) pollAll(ctx context.Context, q *cmq.Queue, shards []cmq.Shard, t *take, until time.Time) ([]cmq.Message, error) {
	polling, cancel := context.WithCancel(ctx)
	defer cancel()
	results := make([]polled, len(shards))
	var wg sync.WaitGroup
	for i, shard := range shards {
		wg.Go(func() {
			messages, err := r.poll(polling, nil, q, shard, t, until)
			results[i] = polled{messages, err}
			if len(messages) > 0 {
				cancel()
			}
		})
	}
	wg.Wait()
	messages, surplus, failed := merge(results, t.most, polling.Err() != nil)
	r.putBack(ctx, q, surplus)
	switch {
	case len(messages) > 0:
		return messages, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	}
	return nil, failed
}

// merge takes up to most messages out of the results. That polls were cancelled is no failure if we did it.
func merge(results []polled, most int, cancelled bool) (messages, surplus []cmq.Message, failed error) {
	for _, p := range results {
		fit := min(len(p.messages), most-len(messages))
		messages = append(messages, p.messages[:fit]...)
		surplus = append(surplus, p.messages[fit:]...)
		if p.err != nil && !(cancelled && errors.Is(p.err, context.Canceled)) {
			failed = p.err
		}
	}
	return messages, surplus, failed
}

// putBack releases messages nobody will get. If it fails they come back when their locks end.
func (r *Router) putBack(ctx context.Context, q *cmq.Queue, messages []cmq.Message) {
	if len(messages) == 0 {
		return
	}
	handles := handlesOf(messages)
	if err := r.releaseAt(context.WithoutCancel(ctx), q, handles); err != nil {
		r.log.Info("messages stay locked", "queue", q.Name, "count", len(handles), "err", err)
	}
}

// Delete gives one error per handle, in order: nil or ErrHandleInvalid. An error for the whole call means that
// some may have been deleted.
func (r *Router) Delete(ctx context.Context, owner, name string, handles []cmq.Handle) ([]*cmq.Error, error) {
	return r.onHandles(ctx, nil, owner, name, handles, cmq.Request{Kind: cmq.KindDelete})
}

// Relock lets the locks of the deliveries with these handles end after lock, counted from now; at once if it is 0. It
// gives one error per handle, in order: nil or ErrHandleInvalid. An error for the whole call means that some may have
// been changed.
func (r *Router) Relock(ctx context.Context, owner, name string, handles []cmq.Handle, lock time.Duration) ([]*cmq.Error, error) {
	return r.onHandles(ctx, nil, owner, name, handles, cmq.Request{Kind: cmq.KindRelock, Lock: lock})
}

// onHandles puts a request to the shards that gave out the handles, and the answers in order.
func (r *Router) onHandles(ctx context.Context, o *opening, owner, name string, handles []cmq.Handle, req cmq.Request) ([]*cmq.Error, error) {
	var errs []*cmq.Error
	err := r.onQueue(ctx, o, owner, name, func(q *cmq.Queue) error {
		errs = make([]*cmq.Error, len(handles))
		for i := range errs {
			errs[i] = cmq.ErrHandleInvalid
		}
		return byShard(q, handles, func(shard cmq.Shard, part []cmq.Handle, places []int) error {
			one := req
			one.Handles = part
			reply, err := r.onShard(ctx, o, q, shard, &one)
			if err != nil {
				return err
			}
			if len(reply.Errors) != len(part) {
				return wrongCount(shard.Set, reply, part)
			}
			for i, place := range places {
				errs[place] = reply.Errors[i]
			}
			return nil
		})
	})
	if err != nil {
		return nil, err
	}
	return errs, nil
}

func wrongCount(set cmq.SetID, reply *cmq.Reply, handles []cmq.Handle) error {
	return fmt.Errorf("set %d: %d answers for %d handles", set, len(reply.Errors), len(handles))
}

// Release undoes receives whose answer nobody got. Handles that are not valid are passed over.
func (r *Router) Release(ctx context.Context, owner, name string, handles []cmq.Handle) error {
	return r.onQueue(ctx, nil, owner, name, func(q *cmq.Queue) error { return r.releaseAt(ctx, q, handles) })
}

func (r *Router) releaseAt(ctx context.Context, q *cmq.Queue, handles []cmq.Handle) error {
	return byShard(q, handles, func(shard cmq.Shard, part []cmq.Handle, _ []int) error {
		_, err := r.onShard(ctx, nil, q, shard, &cmq.Request{Kind: cmq.KindRelease, Handles: part})
		return err
	})
}

// byShard calls do for each shard that gave out some of the handles, with those and their places in the list,
// up to the first error. Handles of no shard are left out.
func byShard(q *cmq.Queue, handles []cmq.Handle, do func(shard cmq.Shard, part []cmq.Handle, places []int) error) error {
	for _, shard := range q.Shards {
		var part []cmq.Handle
		var places []int
		for i, h := range handles {
			if h.Ordinal() == shard.ID.Ordinal() && h>>63 == 0 {
				part = append(part, h)
				places = append(places, i)
			}
		}
		if len(part) == 0 {
			continue
		}
		if err := do(shard, part, places); err != nil {
			return err
		}
	}
	return nil
}
