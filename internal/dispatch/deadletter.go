// Package dispatch carries out, on a set's leader, what the replicated state says must happen elsewhere: messages that
// are due for their dead-letter queue are moved there, and so are those that a topic's subscription has for its queue.
//
// What must happen is always visible in the state and found again from there: a notice may be lost or doubled when
// leadership moves. The move is a copy and two commands: the dead-letter queue takes each message once, because it
// remembers per source the next number it wants; only then does the source forget it. The copy carries along what the
// message was in the source: consumers of the dead-letter queue are told.
//
// The shard of a subscription that delivers to a queue has everything on its dead list from the start, so that each
// message arrives once. There it is a message as any other: nobody is told where it was before (forward.go).
//
//	source                     dispatch                         dead-letter queue
//	dead list, numbered ─────► read from number n ────────────► accept n, n+1, …; skip what it has
//	forget below m      ◄───── arrived below m    ◄──────────── next number wanted: m
package dispatch

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/opencmq/cmq/internal/cmq"
)

// Limits of the mover.
const (
	// moveBatch is how many messages move in one go: a batch must fit an entry even if bodies are large.
	moveBatch = 16
	// moveBytes bounds the bodies of one transfer; the rest of the batch waits for the next.
	moveBytes = 1 << 20
	// maxMoves is how many shards are worked on at a time.
	maxMoves = 32

	firstRetry = 50 * time.Millisecond
	lastRetry  = 5 * time.Second
	callLimit  = 10 * time.Second
)

// Do carries out a request at the leader of a set, wherever that is.
type Do func(ctx context.Context, set cmq.SetID, req *cmq.Request) (*cmq.Reply, error)

// Destination is the shard of a queue that takes messages from elsewhere.
type Destination struct {
	Set        cmq.SetID
	Shard      cmq.ShardID
	MaxMsgSize int // of the queue, in bytes
}

// Target says where what comes from source goes: to the queue, or if that is 0 to the endpoint of the subscription of which
// source is the shard; false if that is not known, or nothing is to be delivered to it now.
type Target func(ctx context.Context, queue cmq.QueueID, source cmq.ShardID) (Destination, bool)

// Mover moves messages from dead lists to their queues. Notices may come from any goroutine.
type Mover struct {
	do     Do
	target Target
	log    *slog.Logger
	ctx    context.Context
	stop   context.CancelFunc
	wg     sync.WaitGroup
	slots  chan struct{}

	mu     sync.Mutex
	active map[cmq.ShardID]bool // true: notified again meanwhile
	closed bool
}

// NewMover makes a mover; Close ends it.
func NewMover(do Do, target Target, log *slog.Logger) *Mover {
	ctx, stop := context.WithCancel(context.Background())
	return &Mover{
		do: do, target: target, log: log, ctx: ctx, stop: stop,
		slots: make(chan struct{}, maxMoves), active: make(map[cmq.ShardID]bool),
	}
}

// Notify says that a shard of a set this node leads has messages for its dead-letter queue. It never blocks.
func (m *Mover) Notify(set cmq.SetID, shard cmq.ShardID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return
	}
	if _, running := m.active[shard]; running {
		m.active[shard] = true
		return
	}
	m.active[shard] = false
	m.wg.Add(1)
	go m.work(set, shard)
}

// Close stops all moves and waits for them.
func (m *Mover) Close() {
	m.mu.Lock()
	m.closed = true
	m.mu.Unlock()
	m.stop()
	m.wg.Wait()
}

// work moves the shard's dead messages until none is left and no notice came meanwhile.
func (m *Mover) work(set cmq.SetID, shard cmq.ShardID) {
	defer m.wg.Done()
	for {
		m.drain(set, shard)
		m.mu.Lock()
		again := m.active[shard] && m.ctx.Err() == nil
		if !again {
			delete(m.active, shard)
			m.mu.Unlock()
			return
		}
		m.active[shard] = false
		m.mu.Unlock()
	}
}

func (m *Mover) drain(set cmq.SetID, shard cmq.ShardID) {
	for retry := firstRetry; m.ctx.Err() == nil; {
		more, err := m.step(set, shard)
		switch {
		case err == nil && !more:
			return
		case err == nil:
			retry = firstRetry
			continue
		case errors.Is(err, cmq.ErrQueueNotExist):
			return // the source is gone, its messages with it
		}
		m.log.Debug("dead messages wait", "set", set, "shard", shard, "error", err)
		select {
		case <-time.After(retry):
			retry = min(2*retry, lastRetry)
		case <-m.ctx.Done():
		}
	}
}

// step moves one batch and reports whether there may be more.
func (m *Mover) step(set cmq.SetID, shard cmq.ShardID) (more bool, err error) {
	select {
	case m.slots <- struct{}{}:
		defer func() { <-m.slots }()
	case <-m.ctx.Done():
		return false, m.ctx.Err()
	}
	ctx, cancel := context.WithTimeout(m.ctx, callLimit)
	defer cancel()
	dead, err := m.call(ctx, set, &cmq.Request{Kind: cmq.KindDeadList, Shard: shard, Max: moveBatch})
	if err != nil || len(dead.Messages) == 0 {
		return false, err
	}
	to, ok := m.target(ctx, dead.Queue, shard)
	if !ok {
		return false, errNoTarget
	}
	if dead.Queue == 0 {
		return m.forward(ctx, set, shard, to, dead)
	}
	return m.carry(ctx, set, shard, to, transfer(shard, to.Shard, dead))
}

// carry transfers messages, and lets the source forget those that have arrived.
func (m *Mover) carry(ctx context.Context, set cmq.SetID, shard cmq.ShardID, to Destination, req *cmq.Request) (more bool, err error) {
	arrived, err := m.arrive(ctx, to, req)
	if err != nil {
		return false, err
	}
	_, err = m.call(ctx, set, &cmq.Request{Kind: cmq.KindForget, Shard: shard, Number: arrived.Number})
	return true, err
}

// arrive puts messages to where they go. That there is no such queue says nothing of the source.
func (m *Mover) arrive(ctx context.Context, to Destination, req *cmq.Request) (*cmq.Reply, error) {
	reply, err := m.call(ctx, to.Set, req)
	if errors.Is(err, cmq.ErrQueueNotExist) {
		err = errNoTarget
	}
	return reply, err
}

var errNoTarget = errors.New("the queue is not known, or nothing is to be delivered to it now")

func transfer(from, to cmq.ShardID, dead *cmq.Reply) *cmq.Request {
	req := &cmq.Request{Kind: cmq.KindTransfer, Shard: to, From: from, Base: dead.Base, Number: dead.Number}
	size := 0
	for i := range dead.Messages {
		msg := &dead.Messages[i]
		if size += len(msg.Body); i > 0 && size > moveBytes {
			break
		}
		req.Bodies = append(req.Bodies, msg.Body)
		req.IDs = append(req.IDs, msg.ID)
		req.Sources = append(req.Sources, cmq.Source{Queue: from.Queue(), Enqueued: msg.Enqueued, DequeueCount: msg.DequeueCount})
	}
	return req
}

func (m *Mover) call(ctx context.Context, set cmq.SetID, req *cmq.Request) (*cmq.Reply, error) {
	reply, err := m.do(ctx, set, req)
	if err != nil {
		return nil, err
	}
	if reply.Err != nil {
		return nil, reply.Err
	}
	return reply, nil
}
