package route_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/route"
)

// table is a complete, if slow, route.Table.
type table struct {
	queues  []*cmq.Queue
	topics  []*cmq.Topic
	subs    []*cmq.Subscription
	sets    map[cmq.SetID]*cmq.Set
	version uint64
}

func (t *table) Queue(owner, name string) *cmq.Queue {
	return t.first(func(q *cmq.Queue) bool { return q.Owner == owner && strings.EqualFold(q.Name, name) })
}
func (t *table) QueueByID(id cmq.QueueID) *cmq.Queue {
	return t.first(func(q *cmq.Queue) bool { return q.ID == id })
}
func (t *table) first(want func(*cmq.Queue) bool) *cmq.Queue {
	if i := slices.IndexFunc(t.queues, want); i >= 0 {
		return t.queues[i]
	}
	return nil
}
func (t *table) Queues(owner string) (list []*cmq.Queue) {
	for _, q := range t.queues {
		if q.Owner == owner {
			list = append(list, q)
		}
	}
	return list
}
func (t *table) Set(id cmq.SetID) *cmq.Set { return t.sets[id] }
func (t *table) Node(id cmq.NodeID) *cmq.Node {
	return &cmq.Node{ID: id, TCP: fmt.Sprintf("node%d:7671", id)}
}
func (t *table) Version() uint64 { return t.version }

// shard is a queue without locks: what is received is gone when it is deleted, and Release puts it back.
type shard struct {
	version  uint64
	attrs    cmq.ShardAttributes
	sub      *cmq.Subscriber // nil: a queue's
	active   []cmq.Message
	locked   map[cmq.Handle]cmq.Message
	prepared map[cmq.MsgID]cmq.Message
	queries  []cmq.Query // to be given out
	epoch    uint64      // of the newest session
	answers  map[cmq.Session][]cmq.MsgID
	counter  uint64
	received int
}

// cluster is nodes that all hold all sets, whose state they share; of each set one node leads.
type cluster struct {
	mu      sync.Mutex
	changed sync.Cond // something a poll may wait for
	meta    *table    // the truth
	leader  map[cmq.SetID]cmq.NodeID
	shards  map[cmq.ShardID]*shard
	dropped map[cmq.ShardID]bool
	dead    map[cmq.NodeID]bool // cannot be reached
	hung    cmq.NodeID          // answers nothing any more
	nextID  uint64
	done    map[cmq.ShardID]uint64

	agents    map[string]map[uint64]bool // of KindAttend: group → members, for ever
	newLeader bool                       // set 0's does not know them yet

	nodes map[cmq.NodeID]*node
	asked []string // "node kind", every Local.Start

	// before and after run around every Local.Start; an error is its answer.
	before, after func(n cmq.NodeID, req *cmq.Request) error
}

// node is one member: its own, perhaps old, copy of the table, and its Router.
type node struct {
	c      *cluster
	id     cmq.NodeID
	table  *table // under c.mu
	syncs  int
	router *route.Router
	fresh  bool // follows the truth at once
}

var members = []cmq.NodeID{1, 2, 3}

// newCluster makes three nodes and the sets 1 and 2, led by nodes 1 and 2.
func newCluster() *cluster {
	c := &cluster{
		meta:   &table{sets: map[cmq.SetID]*cmq.Set{0: {Replicas: members}, 1: {ID: 1, Replicas: members}, 2: {ID: 2, Replicas: members}}},
		leader: map[cmq.SetID]cmq.NodeID{0: 1, 1: 1, 2: 2},
		shards: map[cmq.ShardID]*shard{}, dropped: map[cmq.ShardID]bool{}, dead: map[cmq.NodeID]bool{},
		done: map[cmq.ShardID]uint64{}, nodes: map[cmq.NodeID]*node{}, agents: map[string]map[uint64]bool{},
	}
	c.changed.L = &c.mu
	for _, id := range members {
		n := &node{c: c, id: id, table: c.meta, fresh: true}
		n.router = route.New(route.Config{Node: id, Meta: n, Local: n, Remote: remote{n}, Logger: slog.New(slog.DiscardHandler)})
		c.nodes[id] = n
	}
	return c
}

func (c *cluster) lead(set cmq.SetID, id cmq.NodeID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.leader[set] = id
	c.changed.Broadcast()
}

func (c *cluster) kill(id cmq.NodeID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dead[id] = true
	c.changed.Broadcast()
}

// change publishes a new version of the truth.
func (c *cluster) change(f func(t *table)) {
	t := *c.meta
	t.queues, t.topics, t.subs = slices.Clone(t.queues), slices.Clone(t.topics), slices.Clone(t.subs)
	t.version++
	f(&t)
	c.meta = &t
}

// remote is a node as route.Remote.
type remote struct{ *node }

// Start passes the call on at once. What it brings is lost when the other node dies meanwhile.
func (n remote) Start(to cmq.NodeID, payload []byte, done func([]byte, error), late func([]byte)) cmq.Pending {
	if n.c.isDead(to) {
		done(nil, fmt.Errorf("node %d: %w", to, cmq.ErrDropped))
		return cmq.Answered{}
	}
	p := &remoteCall{done: done, late: late}
	p.at = n.c.nodes[to].router.Serve(n.id, payload, func(reply []byte, err error) bool {
		if n.c.isDead(to) {
			reply, err = nil, fmt.Errorf("node %d: %w", to, cmq.ErrUnknownOutcome)
		}
		return p.answer(reply, err)
	})
	return p
}

func (c *cluster) isDead(id cmq.NodeID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dead[id]
}

// remoteCall is one call of another node.
type remoteCall struct {
	mu       sync.Mutex
	answered bool
	done     func([]byte, error)
	late     func([]byte)
	at       cmq.Pending
}

func (p *remoteCall) settle() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	first := !p.answered
	p.answered = true
	return first
}

func (p *remoteCall) answer(reply []byte, err error) bool {
	if p.settle() {
		p.done(reply, err)
	} else if err == nil {
		p.late(reply)
	}
	return true
}

func (p *remoteCall) Cancel() {
	if p.settle() {
		p.done(nil, context.Canceled)
		p.at.Cancel()
	}
}

// Start is route.Local.
func (n *node) Start(set cmq.SetID, req *cmq.Request, done func(*cmq.Reply, error)) cmq.Pending {
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer cancel()
		done(n.do(ctx, set, req))
	}()
	return localCall(cancel)
}

type localCall context.CancelFunc

func (cancel localCall) Cancel() { cancel() }

func (n *node) do(ctx context.Context, set cmq.SetID, req *cmq.Request) (*cmq.Reply, error) {
	c := n.c
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked = append(c.asked, fmt.Sprintf("%d:%d", n.id, req.Kind))
	if c.leader[set] != n.id {
		return nil, &cmq.NotLeaderError{Set: set, Leader: c.leader[set]}
	}
	if c.before != nil {
		if err := c.before(n.id, req); err != nil {
			return nil, err
		}
	}
	reply, err := n.carryOut(ctx, set, req)
	if err == nil && c.after != nil {
		err = c.after(n.id, req)
	}
	return reply, err
}

func (n *node) carryOut(ctx context.Context, set cmq.SetID, req *cmq.Request) (*cmq.Reply, error) {
	c := n.c
	if req.Kind == cmq.KindOpenShard {
		if c.dropped[req.Shard] {
			return &cmq.Reply{Err: cmq.ErrQueueNotExist}, nil
		}
		if c.shards[req.Shard] == nil {
			c.shards[req.Shard] = &shard{version: req.Version, attrs: req.Attributes, sub: req.Subscriber, locked: map[cmq.Handle]cmq.Message{}, prepared: map[cmq.MsgID]cmq.Message{}}
		}
		return &cmq.Reply{}, nil
	}
	switch req.Kind {
	case cmq.KindPublish:
		return c.publish(set, req), nil
	case cmq.KindAttend:
		return c.attend(set, req), nil
	}
	s := c.shards[req.Shard]
	if s == nil {
		return &cmq.Reply{Err: cmq.ErrQueueNotExist}, nil
	}
	reply := &cmq.Reply{}
	switch req.Kind {
	case cmq.KindOpenSession:
		s.epoch++
		s.answers = map[cmq.Session][]cmq.MsgID{}
		reply.Number = s.epoch
	case cmq.KindSend:
		switch ids, known := s.answers[req.Session]; {
		case req.Session.Epoch != 0 && req.Session.Epoch != s.epoch:
			reply.Err = cmq.ErrSession
		case known:
			reply.IDs = ids
		default:
			if reply.Err = n.send(s, set, req, reply); reply.Err == nil && req.Session.ID != 0 {
				s.answers[req.Session] = reply.IDs
			}
		}
	case cmq.KindPrepare:
		for _, b := range req.Bodies {
			n.c.nextID++
			id := cmq.NewMsgID(set, n.c.nextID, 0)
			s.prepared[id] = cmq.Message{ID: id, Body: b}
			s.queries = append(s.queries, cmq.Query{ID: id, Count: 1, Origin: req.Origin})
			reply.IDs = append(reply.IDs, id)
		}
		n.c.changed.Broadcast()
	case cmq.KindDecide:
		reply.Errors = s.decide(req.Decisions)
		n.c.changed.Broadcast()
	case cmq.KindReceive, cmq.KindQueries:
		return n.receive(ctx, s, set, req)
	case cmq.KindRelock:
		for _, h := range req.Handles {
			var err *cmq.Error
			m, ok := s.locked[h]
			switch {
			case !ok:
				err = cmq.ErrHandleInvalid
			case req.Lock <= 0:
				delete(s.locked, h)
				s.active = append(s.active, m)
			default:
				m.NextVisible = time.Now().Add(req.Lock)
				s.locked[h] = m
			}
			reply.Errors = append(reply.Errors, err)
		}
	case cmq.KindDelete:
		for _, h := range req.Handles {
			var err *cmq.Error
			if _, ok := s.locked[h]; !ok {
				err = cmq.ErrHandleInvalid
			}
			delete(s.locked, h)
			reply.Errors = append(reply.Errors, err)
		}
	case cmq.KindRelease:
		for _, h := range req.Handles {
			if m, ok := s.locked[h]; ok {
				delete(s.locked, h)
				s.active = append(s.active, m)
			}
		}
	case cmq.KindRewind:
		if s.attrs.Rewind == 0 {
			reply.Err = cmq.ErrNotRewindable
		}
	case cmq.KindClear:
		s.active = nil
		clear(s.locked)
	case cmq.KindStatus:
		reply.Status = cmq.ShardStatus{
			Active: int64(len(s.active)), Inactive: int64(len(s.locked)), Delayed: 1, Rewindable: 2,
			MinMsgTime: time.UnixMilli(int64(req.Shard.Ordinal()) + 50), Now: time.UnixMilli(int64(req.Shard.Ordinal()) + 100),
		}
	case cmq.KindSetShard:
		if req.Version > s.version {
			s.version, s.attrs, s.sub = req.Version, req.Attributes, req.Subscriber
		}
	case cmq.KindDropShard:
		delete(c.shards, req.Shard)
		c.dropped[req.Shard] = true
		c.changed.Broadcast()
	}
	return reply, nil
}

func (n *node) send(s *shard, set cmq.SetID, req *cmq.Request, reply *cmq.Reply) *cmq.Error {
	if s.attrs.MaxMsgHeapNum > 0 && int64(len(s.active)+len(req.Bodies)) > s.attrs.MaxMsgHeapNum {
		return cmq.ErrHeapFull
	}
	for _, b := range req.Bodies {
		n.c.nextID++
		id := cmq.NewMsgID(set, n.c.nextID, 0)
		s.active = append(s.active, cmq.Message{ID: id, Body: b})
		reply.IDs = append(reply.IDs, id)
	}
	n.c.changed.Broadcast()
	return nil
}

func (n *node) receive(ctx context.Context, s *shard, set cmq.SetID, req *cmq.Request) (*cmq.Reply, error) {
	c := n.c
	over := ctx.Done()
	timer := time.AfterFunc(req.Wait, c.wakeAll)
	defer timer.Stop()
	defer context.AfterFunc(ctx, c.wakeAll)()
	until := time.Now().Add(req.Wait)
	for {
		select {
		case <-over:
			return nil, ctx.Err()
		default:
		}
		switch {
		case c.hung == n.id: // until its caller gives up
		case c.dead[n.id]:
			return nil, cmq.ErrStopping
		case c.leader[set] != n.id:
			return nil, &cmq.NotLeaderError{Set: set, Leader: c.leader[set]}
		case c.shards[req.Shard] != s:
			return &cmq.Reply{Err: cmq.ErrQueueNotExist}, nil
		case req.Kind == cmq.KindQueries && len(s.queries) > 0:
			k := min(req.Max, len(s.queries))
			list := s.queries[:k:k]
			s.queries = s.queries[k:]
			return &cmq.Reply{Queries: list}, nil
		case req.Kind == cmq.KindReceive && len(s.active) > 0:
			return &cmq.Reply{Messages: s.take(req)}, nil
		case !time.Now().Before(until):
			return &cmq.Reply{}, nil
		}
		c.changed.Wait()
	}
}

func (s *shard) decide(decisions []cmq.Decision) (errs []*cmq.Error) {
	for _, d := range decisions {
		m, ok := s.prepared[d.ID]
		switch {
		case !ok:
			errs = append(errs, cmq.ErrNotPrepared)
			continue
		case d.Commit:
			s.active = append(s.active, m)
		}
		delete(s.prepared, d.ID)
		errs = append(errs, nil)
	}
	return errs
}

func (s *shard) take(req *cmq.Request) []cmq.Message {
	n := min(req.Max, len(s.active))
	messages := slices.Clone(s.active[:n])
	s.active = slices.Clone(s.active[n:])
	for i := range messages {
		s.counter++
		messages[i].NextVisible = time.Now().Add(req.Lock)
		messages[i].Handle = cmq.NewHandle(req.Shard.Ordinal(), s.counter)
		s.locked[messages[i].Handle] = messages[i]
	}
	s.received += n
	return messages
}

func (c *cluster) wakeAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.changed.Broadcast()
}

// Table, Sync and the rest are route.Meta. The truth is changed directly; who gets to see it when is up to fresh.
func (n *node) Table() route.Table {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	if n.fresh {
		n.table = n.c.meta
	}
	return n.table
}

func (n *node) Sync(ctx context.Context) error {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	n.syncs++
	n.table = n.c.meta
	return ctx.Err()
}

func (n *node) CreateQueue(_ context.Context, owner, name string, settings cmq.QueueSettings) (*cmq.Queue, error) {
	return n.c.create(owner, name, 1, settings)
}

// create makes a queue with shards in sets 1 and 2 in turn.
func (c *cluster) create(owner, name string, shards int, settings cmq.QueueSettings) (*cmq.Queue, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.meta.Queue(owner, name) != nil {
		return nil, cmq.ErrQueueExists
	}
	attrs, refusal := settings.Apply(cmq.DefaultQueueAttributes(), 0)
	if refusal != nil {
		return nil, refusal
	}
	c.nextID++
	q := &cmq.Queue{ID: cmq.QueueID(c.nextID), Owner: owner, Name: name, Attributes: attrs, Version: 1}
	for i := range shards {
		q.Shards = append(q.Shards, cmq.Shard{ID: q.ID.Shard(uint8(i)), Set: cmq.SetID(1 + i%2)})
	}
	c.change(func(t *table) { t.queues = append(t.queues, q) })
	return q, nil
}

func (n *node) SetQueue(_ context.Context, owner, name string, settings cmq.QueueSettings) (*cmq.Queue, error) {
	return n.c.alter(owner, name, func(q *cmq.Queue) { q.Attributes, _ = settings.Apply(q.Attributes, 0) })
}

func (n *node) Unbind(_ context.Context, owner, name string) (*cmq.Queue, error) {
	return n.c.alter(owner, name, func(q *cmq.Queue) { q.Attributes.DeadLetter = cmq.DeadLetterPolicy{} })
}

func (c *cluster) alter(owner, name string, change func(q *cmq.Queue)) (*cmq.Queue, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	old := c.meta.Queue(owner, name)
	if old == nil {
		return nil, cmq.ErrQueueNotExist
	}
	q := *old
	q.Version++
	change(&q)
	c.change(func(t *table) { t.queues[slices.Index(t.queues, old)] = &q })
	return &q, nil
}

func (n *node) DeleteQueue(_ context.Context, owner, name string) (*cmq.Queue, error) {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	old := n.c.meta.Queue(owner, name)
	if old == nil {
		return nil, cmq.ErrQueueNotExist
	}
	q := *old
	q.Version++
	n.c.change(func(t *table) { t.queues = slices.DeleteFunc(t.queues, func(e *cmq.Queue) bool { return e == old }) })
	return &q, nil
}

func (n *node) Done(_ context.Context, shard cmq.ShardID, version uint64) error {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	n.c.done[shard] = version
	return nil
}
