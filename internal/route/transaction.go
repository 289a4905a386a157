package route

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/opencmq/cmq/internal/cmq"
)

// Prepare stores all bodies in one shard or none, as Send does, but nobody receives them before they are committed. After
// interval, or the queue's FirstQueryInterval if that is 0, the producer is asked about those that are not decided;
// conn is its connection, as this node's door numbers it.
func (r *Router) Prepare(ctx context.Context, owner, name string, bodies [][]byte, interval time.Duration, conn uint64) ([]cmq.MsgID, error) {
	req := r.prepare(bodies, interval, conn)
	return r.store(ctx, nil, owner, name, &req)
}

func (r *Router) prepare(bodies [][]byte, interval time.Duration, conn uint64) cmq.Request {
	return cmq.Request{Kind: cmq.KindPrepare, Bodies: bodies, Interval: interval, Origin: cmq.Origin{Node: r.cfg.Node, Conn: conn}}
}

// Confirm commits and rolls back prepared messages and gives one error per decision, in order: nil, ErrNotPrepared, or
// ErrTransaction if the queue is not transactional. An error for the whole call means that some may have been carried out.
func (r *Router) Confirm(ctx context.Context, owner, name string, decisions []cmq.Decision) ([]*cmq.Error, error) {
	var errs []*cmq.Error
	err := r.onQueue(ctx, nil, owner, name, func(q *cmq.Queue) error {
		errs = make([]*cmq.Error, len(decisions))
		for i := range errs {
			if errs[i] = cmq.ErrNotPrepared; !q.Attributes.Transaction.On {
				errs[i] = cmq.ErrTransaction
			}
		}
		for _, shard := range q.Shards {
			if err := r.confirmAt(ctx, q, shard, decisions, errs); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return errs, nil
}

// Prepared lists up to most prepared messages of the queue with ids above after, ascending: all, or only those nobody is
// asked about any more. Fewer than most: there are no others.
func (r *Router) Prepared(ctx context.Context, owner, name string, undecided bool, after cmq.MsgID, most int) ([]cmq.Prepared, error) {
	var list []cmq.Prepared
	err := r.onQueue(ctx, nil, owner, name, func(q *cmq.Queue) error {
		list = nil
		for _, shard := range q.Shards {
			part, err := r.preparedAt(ctx, q, shard, undecided, after, most)
			if err != nil {
				return err
			}
			list = append(list, part...)
		}
		slices.SortFunc(list, func(a, b cmq.Prepared) int { return cmp.Compare(a.ID, b.ID) })
		list = list[:min(most, len(list))]
		return nil
	})
	return list, err
}

// preparedAt asks one shard until there is enough: a set gives fewer at a time than one may want.
func (r *Router) preparedAt(ctx context.Context, q *cmq.Queue, shard cmq.Shard, undecided bool, after cmq.MsgID, most int) (list []cmq.Prepared, err error) {
	for len(list) < most {
		reply, err := r.onShard(ctx, nil, q, shard, &cmq.Request{Kind: cmq.KindPrepared, Max: most - len(list), Number: uint64(after), Undecided: undecided})
		if err != nil {
			return nil, err
		}
		if len(reply.Prepared) == 0 {
			break
		}
		list = append(list, reply.Prepared...)
		after = list[len(list)-1].ID
	}
	return list, nil
}

// confirmAt puts the decisions that no shard has carried out yet to one that may have the messages: an id tells the set,
// and a set may have several shards of the queue.
func (r *Router) confirmAt(ctx context.Context, q *cmq.Queue, shard cmq.Shard, decisions []cmq.Decision, errs []*cmq.Error) error {
	req := &cmq.Request{Kind: cmq.KindDecide}
	var places []int
	for i, d := range decisions {
		if errs[i] != nil && d.ID.Set() == shard.Set {
			req.Decisions, places = append(req.Decisions, d), append(places, i)
		}
	}
	if len(places) == 0 {
		return nil
	}
	reply, err := r.onShard(ctx, nil, q, shard, req)
	if err != nil {
		return err
	}
	if len(reply.Errors) != len(places) {
		return fmt.Errorf("set %d: %d answers for %d decisions", shard.Set, len(reply.Errors), len(places))
	}
	for i, place := range places {
		if reply.Errors[i] == nil {
			errs[place] = nil
		}
	}
	return nil
}

// Queries waits for at most wait until producers are to be asked about prepared messages of the queue, and gives up to
// about most such queries; none when the time is up. Those of producers at this node come here if it asks, others if
// nobody asks at their node. What is given is counted: whoever gets it passes it on.
func (r *Router) Queries(ctx context.Context, owner, name string, most int, wait time.Duration) ([]cmq.Query, error) {
	var queries []cmq.Query
	until := time.Now().Add(wait)
	err := r.onQueue(ctx, nil, owner, name, func(q *cmq.Queue) (err error) {
		queries, err = r.queriesFrom(ctx, q, most, until)
		return err
	})
	return queries, err
}

// queriesFrom waits at all shards at once. The first answer ends the others; what they got all the same is added.
func (r *Router) queriesFrom(ctx context.Context, q *cmq.Queue, most int, until time.Time) ([]cmq.Query, error) {
	if len(q.Shards) == 0 {
		return nil, noShards(q)
	}
	waiting, cancel := context.WithCancel(ctx)
	defer cancel()
	var mu sync.Mutex
	var queries []cmq.Query
	var failed error
	var wg sync.WaitGroup
	for _, shard := range q.Shards {
		wg.Go(func() {
			reply, err := r.onShard(waiting, nil, q, shard, &cmq.Request{
				Kind: cmq.KindQueries, Max: most, Wait: max(0, time.Until(until)), Origin: cmq.Origin{Node: r.cfg.Node},
			})
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil && len(reply.Queries) > 0:
				queries = append(queries, reply.Queries...)
				cancel()
			case err != nil && !(errors.Is(err, context.Canceled) && waiting.Err() != nil):
				failed = err
			}
		})
	}
	wg.Wait()
	switch {
	case len(queries) > 0:
		return slices.Clip(queries), nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	}
	return nil, failed
}
