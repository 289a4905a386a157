package route

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/opencmq/cmq/internal/cmq"
)

// sync brings the table up to date. It is repeated when the answer was lost: asking twice does no harm.
func (r *Router) sync(ctx context.Context) error {
	err := r.cfg.Meta.Sync(ctx)
	for tries := 1; tries < 3 && errors.Is(err, cmq.ErrUnknownOutcome) && ctx.Err() == nil; tries++ {
		err = r.cfg.Meta.Sync(ctx)
	}
	return err
}

// find looks the queue up, and once more in a fresh table if it is not in this one.
func (r *Router) find(ctx context.Context, owner, name string) (*cmq.Queue, error) {
	if q := r.cfg.Meta.Table().Queue(owner, name); q != nil {
		return q, nil
	}
	return r.findFresh(ctx, owner, name)
}

// findFresh looks the queue up as of now.
func (r *Router) findFresh(ctx context.Context, owner, name string) (*cmq.Queue, error) {
	if err := r.sync(ctx); err != nil {
		return nil, err
	}
	if q := r.cfg.Meta.Table().Queue(owner, name); q != nil {
		return q, nil
	}
	return nil, cmq.ErrQueueNotExist
}

// onQueue runs do with the named queue, which an opening has found already. If it turns out that this incarnation of the
// queue is gone and there is another one under the name, do runs once more with that: it has done nothing to the first.
func (r *Router) onQueue(ctx context.Context, o *opening, owner, name string, do func(q *cmq.Queue) error) error {
	q, err := o.found(), error(nil)
	if q == nil {
		q, err = r.find(ctx, owner, name)
	}
	if err != nil {
		return err
	}
	err = do(q)
	if !errors.Is(err, cmq.ErrQueueNotExist) {
		return err
	}
	if now := r.cfg.Meta.Table().Queue(owner, name); now != nil && now.ID != q.ID {
		return do(now)
	}
	return err
}

// onShard carries out a request at one shard and returns its refusals as errors. A shard that does not exist
// although the metadata has it was not opened yet, or our table is stale: what is right is done, and the
// request is put once more. req.Shard is filled in.
func (r *Router) onShard(ctx context.Context, o *opening, q *cmq.Queue, shard cmq.Shard, req *cmq.Request) (*cmq.Reply, error) {
	req.Shard = shard.ID
	s := o.search(shard)
	if s == nil {
		s = r.search(shard.Set, req)
	}
	reply, err := refused(s.run(ctx))
	if !errors.Is(err, cmq.ErrQueueNotExist) {
		return reply, err
	}
	shard, err = r.reopen(ctx, q.ID, shard.ID)
	if err != nil {
		return nil, err
	}
	again := *req
	again.Wait = max(0, s.req.Wait-time.Since(s.began))
	return refused(r.Do(ctx, shard.Set, &again))
}

// reopen opens the shard where the fresh table has it; ErrQueueNotExist if it has not.
func (r *Router) reopen(ctx context.Context, queue cmq.QueueID, id cmq.ShardID) (cmq.Shard, error) {
	if err := r.sync(ctx); err != nil {
		return cmq.Shard{}, err
	}
	q := r.cfg.Meta.Table().QueueByID(queue)
	if q == nil {
		return cmq.Shard{}, cmq.ErrQueueNotExist
	}
	i := slices.IndexFunc(q.Shards, func(s cmq.Shard) bool { return s.ID == id })
	if i < 0 {
		return cmq.Shard{}, cmq.ErrQueueNotExist
	}
	return q.Shards[i], r.tellShard(ctx, cmq.KindOpenShard, q, q.Shards[i])
}

// refused makes an error of the refusal in a reply.
func refused(reply *cmq.Reply, err error) (*cmq.Reply, error) {
	if err == nil && reply.Err != nil {
		return nil, reply.Err
	}
	return reply, err
}

// tellShard lets a shard's set know what the metadata decided about the queue.
func (r *Router) tellShard(ctx context.Context, kind cmq.Kind, q *cmq.Queue, shard cmq.Shard) error {
	_, err := refused(r.Do(ctx, shard.Set, &cmq.Request{
		Kind: kind, Shard: shard.ID, Attributes: q.Attributes.ShardAttributes(), Version: q.Version,
	}))
	return err
}

// tell tells all shards, and the controller about those that have carried it out. The controller repeats what
// is not reported, so an error is no reason to undo anything.
func (r *Router) tell(ctx context.Context, kind cmq.Kind, q *cmq.Queue) error {
	var first error
	for _, shard := range q.Shards {
		err := r.tellShard(ctx, kind, q, shard)
		if err == nil {
			r.report(ctx, shard, q)
		} else if first == nil {
			first = err
		}
	}
	return first
}

func (r *Router) report(ctx context.Context, shard cmq.Shard, q *cmq.Queue) {
	if err := r.cfg.Meta.Done(ctx, shard.ID, q.Version); err != nil {
		r.log.Info("shard is ready, the controller does not know", "queue", q.Name, "set", uint64(shard.Set), "err", err)
	}
}

// CreateQueue makes a queue and opens its shards. Once the metadata has it, the queue exists: shards that could
// not be opened are opened by the first request for them, or by the controller.
func (r *Router) CreateQueue(ctx context.Context, owner, name string, settings cmq.QueueSettings) (cmq.QueueID, error) {
	q, err := r.cfg.Meta.CreateQueue(ctx, owner, name, settings)
	if err != nil {
		return 0, err
	}
	if err := r.tell(ctx, cmq.KindOpenShard, q); err != nil {
		r.log.Warn("queue is created, its shard is not open yet", "queue", q.Name, "err", err)
	}
	return q.ID, nil
}

// SetQueueAttributes changes what settings gives. An error from a shard means that the change is made and will
// get there later.
func (r *Router) SetQueueAttributes(ctx context.Context, owner, name string, settings cmq.QueueSettings) (*cmq.Queue, error) {
	q, err := r.cfg.Meta.SetQueue(ctx, owner, name, settings)
	if err != nil {
		return nil, err
	}
	return r.named(q), r.setShards(ctx, q)
}

// setShards tells the shards new attributes. A shard that is not open is opened with them.
func (r *Router) setShards(ctx context.Context, q *cmq.Queue) error {
	err := r.tell(ctx, cmq.KindSetShard, q)
	if errors.Is(err, cmq.ErrQueueNotExist) {
		err = r.tell(ctx, cmq.KindOpenShard, q)
	}
	return err
}

// UnbindDeadLetter clears the queue's dead-letter policy.
func (r *Router) UnbindDeadLetter(ctx context.Context, owner, name string) error {
	q, err := r.cfg.Meta.Unbind(ctx, owner, name)
	if err != nil {
		return err
	}
	return r.setShards(ctx, q)
}

// DeleteQueue deletes a queue: first its name, then its messages. An error from a shard means that nodes
// with an old table may still take messages for it, which will be deleted with the rest.
func (r *Router) DeleteQueue(ctx context.Context, owner, name string) error {
	q, err := r.cfg.Meta.DeleteQueue(ctx, owner, name)
	if err != nil {
		return err
	}
	err = r.tell(ctx, cmq.KindDropShard, q)
	if errors.Is(err, cmq.ErrQueueNotExist) {
		return nil
	}
	return err
}

// named gives a copy of the queue with the name of its dead-letter queue.
func (r *Router) named(q *cmq.Queue) *cmq.Queue {
	c := *q
	c.DeadLetterName = r.queueName(q.Attributes.DeadLetter.Queue)
	return &c
}

// queueName is the name of a queue; empty if there is none.
func (r *Router) queueName(id cmq.QueueID) string {
	if id != 0 {
		if q := r.cfg.Meta.Table().QueueByID(id); q != nil {
			return q.Name
		}
	}
	return ""
}

// ListQueues gives the owner's queues whose name contains search in any case: how many there are, and the part
// [offset, offset+limit) of the list, by creation time, then name.
func (r *Router) ListQueues(ctx context.Context, owner, search string, offset, limit int) (int, []*cmq.Queue, error) {
	if err := r.sync(ctx); err != nil {
		return 0, nil, err
	}
	total, list := r.queues(r.cfg.Meta.Table().Queues(owner), search, offset, limit)
	return total, list, nil
}

// DeadLetterSources lists the queues whose dead-letter queue is the named one, as ListQueues does.
func (r *Router) DeadLetterSources(ctx context.Context, owner, name, search string, offset, limit int) (int, []*cmq.Queue, error) {
	dead, err := r.findFresh(ctx, owner, name)
	if err != nil {
		return 0, nil, err
	}
	sources := slices.DeleteFunc(slices.Clone(r.cfg.Meta.Table().Queues(owner)), func(q *cmq.Queue) bool { return q.Attributes.DeadLetter.Queue != dead.ID })
	total, list := r.queues(sources, search, offset, limit)
	return total, list, nil
}

func (r *Router) queues(all []*cmq.Queue, search string, offset, limit int) (int, []*cmq.Queue) {
	total, list := page(all, search, offset, limit, func(q *cmq.Queue) string { return q.Name })
	for i, q := range list {
		list[i] = r.named(q)
	}
	return total, list
}

// page gives the part [offset, offset+limit) of those whose name contains search in any case, in a list of its own, and
// how many there are.
func page[T any](all []T, search string, offset, limit int, name func(T) string) (total int, list []T) {
	search = cmq.FoldName(search)
	for _, v := range all {
		if !strings.Contains(cmq.FoldName(name(v)), search) {
			continue
		}
		if total >= offset && len(list) < limit {
			list = append(list, v)
		}
		total++
	}
	return total, list
}

// QueueRoute gives the TCP addresses of the nodes with a replica of the queue's (first) set, the one that led
// it last in front.
func (r *Router) QueueRoute(ctx context.Context, owner, name string) ([]string, error) {
	q, err := r.find(ctx, owner, name)
	if err != nil {
		return nil, err
	}
	if len(q.Shards) == 0 {
		return nil, nil
	}
	return r.addresses(q.Shards[0].Set), nil
}

// addresses are the TCP addresses of the nodes with a replica of the set, the one that led it last in front.
func (r *Router) addresses(set cmq.SetID) []string {
	nodes := slices.Clone(r.replicas(set))
	if i := slices.Index(nodes, r.believedLeader(set)); i > 0 {
		nodes[0], nodes[i] = nodes[i], nodes[0]
	}
	var addrs []string
	table := r.cfg.Meta.Table()
	for _, id := range nodes {
		if n := table.Node(id); n != nil && n.TCP != "" {
			addrs = append(addrs, n.TCP)
		}
	}
	return addrs
}

func (r *Router) believedLeader(set cmq.SetID) cmq.NodeID {
	if n := r.cfg.Leader(set); n != 0 {
		return n
	}
	return cmq.NodeID(r.leaders[set&cmq.MaxSetID].Load())
}

// QueueAttributes gives the queue as of now, with the sum of its shards' counters.
func (r *Router) QueueAttributes(ctx context.Context, owner, name string) (*cmq.Queue, cmq.ShardStatus, error) {
	q, err := r.findFresh(ctx, owner, name)
	if err != nil {
		return nil, cmq.ShardStatus{}, err
	}
	var sum cmq.ShardStatus
	for i, shard := range q.Shards {
		reply, err := r.onShard(ctx, nil, q, shard, &cmq.Request{Kind: cmq.KindStatus})
		if err != nil {
			return nil, cmq.ShardStatus{}, err
		}
		if sum = add(sum, reply.Status); i == 0 {
			sum = reply.Status
		}
	}
	return r.named(q), sum, nil
}

func add(a, b cmq.ShardStatus) cmq.ShardStatus {
	a.Active += b.Active
	a.Inactive += b.Inactive
	a.Delayed += b.Delayed
	a.Rewindable += b.Rewindable
	a.Prepared += b.Prepared
	a.Undecided += b.Undecided
	if b.MinMsgTime.Before(a.MinMsgTime) {
		a.MinMsgTime = b.MinMsgTime
	}
	if b.Now.After(a.Now) {
		a.Now = b.Now
	}
	return a
}

// RewindQueue makes everything sent at or after from active again. The leaders check the time.
func (r *Router) RewindQueue(ctx context.Context, owner, name string, from time.Time) error {
	return r.onAll(ctx, owner, name, cmq.Request{Kind: cmq.KindRewind, Time: from})
}

// ClearQueue drops all messages.
func (r *Router) ClearQueue(ctx context.Context, owner, name string) error {
	return r.onAll(ctx, owner, name, cmq.Request{Kind: cmq.KindClear})
}

// onAll puts the request to every shard of the queue, up to the first that fails.
func (r *Router) onAll(ctx context.Context, owner, name string, req cmq.Request) error {
	return r.onQueue(ctx, nil, owner, name, func(q *cmq.Queue) error {
		for _, shard := range q.Shards {
			if _, err := r.onShard(ctx, nil, q, shard, &req); err != nil {
				return err
			}
		}
		return nil
	})
}
