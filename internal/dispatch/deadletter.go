// Package dispatch carries out, on a set's leader, what the replicated state says must happen elsewhere: messages that
// are due for their dead-letter queue are moved there, and so are those that a topic's subscription has for its queue.
//
// What must happen is always visible in the state and found again from there: a notice may be lost or doubled when
// leadership moves. The move is a copy and two commands: the dead-letter queue takes each message once, because it
// remembers per source the next number it wants; only then does the source forget it. The copy carries along what the
// message was in the source: consumers of the dead-letter queue are told.
//
// The shard of a subscription that delivers to a queue, an outbox, has everything on its dead list from the start, so that each
// message arrives once. There it is a message as any other: nobody is told where it was before (forward.go). What several
// outboxes of a topic have for queues of another set goes there as one message (courier.go).
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
	// forwardBatch is the same for an outbox. The more it is, the further outboxes may be from each other and still share messages.
	forwardBatch = 64
	// moveBytes bounds the bodies of one transfer; the rest of the batch waits for the next.
	moveBytes = 1 << 20
	// maxMoves is how many shards are worked on at a time, not counting outboxes that wait for a courier.
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
	news   func() <-chan struct{}
	log    *slog.Logger
	ctx    context.Context
	stop   context.CancelFunc
	wg     sync.WaitGroup
	slots  chan struct{}

	mu     sync.Mutex
	active map[cmq.ShardID]bool // true: notified again meanwhile
	topics map[topicKey]*topic
	closed bool
}

// NewMover makes a mover; Close ends it. news gives a channel that is closed when target may answer differently; nil: nobody
// can tell.
func NewMover(do Do, target Target, news func() <-chan struct{}, log *slog.Logger) *Mover {
	if news == nil {
		news = func() <-chan struct{} { return nil }
	}
	ctx, stop := context.WithCancel(context.Background())
	return &Mover{
		do: do, target: target, news: news, log: log, ctx: ctx, stop: stop,
		slots: make(chan struct{}, maxMoves), active: make(map[cmq.ShardID]bool), topics: make(map[topicKey]*topic),
	}
}

// Notify says that a shard of a set this node leads has messages for its dead-letter queue, or that it is an outbox of the topic
// and has some for its queue. It never blocks.
func (m *Mover) Notify(set cmq.SetID, shard, topic cmq.ShardID) {
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
	j := &job{set: set, shard: shard, topic: topic}
	if topic != 0 {
		m.topicOf(j.key()).looked[shard] = true
	}
	m.wg.Add(1)
	go m.work(j)
}

// Close stops all moves and waits for them.
func (m *Mover) Close() {
	m.mu.Lock()
	m.closed = true
	m.mu.Unlock()
	m.stop()
	m.wg.Wait()
}

// job is a shard whose messages are moved.
type job struct {
	set   cmq.SetID
	shard cmq.ShardID
	topic cmq.ShardID // whose outbox it is; 0: none's

	refused uint64    // number of the message that was too long for the queue
	since   time.Time // when that was seen first; zero: none was
}

func (j *job) key() topicKey { return topicKey{j.set, j.topic} }

// work moves the shard's dead messages until none is left and no notice came meanwhile.
func (m *Mover) work(j *job) {
	defer m.wg.Done()
	for {
		m.drain(j)
		m.leave(j.key(), j.shard)
		m.mu.Lock()
		again := m.active[j.shard] && m.ctx.Err() == nil
		if !again {
			delete(m.active, j.shard)
			m.mu.Unlock()
			return
		}
		m.active[j.shard] = false
		m.mu.Unlock()
	}
}

func (m *Mover) drain(j *job) {
	for retry := firstRetry; m.ctx.Err() == nil; {
		news := m.news()
		more, err := m.step(j)
		switch {
		case err == nil && !more:
			return
		case err == nil:
			retry = firstRetry
			continue
		case errors.Is(err, cmq.ErrQueueNotExist):
			return // the source is gone, its messages with it
		}
		m.leave(j.key(), j.shard)
		m.log.Debug("dead messages wait", "set", j.set, "shard", j.shard, "error", err)
		if !errors.Is(err, errNoTarget) && !errors.Is(err, errTooLarge) {
			news = nil
		}
		retry = m.pause(retry, news)
	}
}

// pause waits before the next try, and gives the pause after that. News, which may be nil, ends it early, but not so early that
// one piece after the other would keep the mover busy.
func (m *Mover) pause(retry time.Duration, news <-chan struct{}) (next time.Duration) {
	select {
	case <-time.After(firstRetry):
	case <-m.ctx.Done():
	}
	select {
	case <-news:
		return firstRetry
	case <-time.After(retry - firstRetry):
	case <-m.ctx.Done():
	}
	return min(2*retry, lastRetry)
}

// step moves one batch and reports whether there may be more.
func (m *Mover) step(j *job) (more bool, err error) {
	m.look(j.key(), j.shard)
	dead, to, err := m.head(j)
	if err != nil || dead == nil {
		return false, err
	}
	if j.topic != 0 && dead.Overdue == 0 {
		return m.forward(j, to, dead)
	}
	return m.carry(j, to, dead)
}

// head lists the first messages of the source and finds out where they go; nil: there are none.
func (m *Mover) head(j *job) (dead *cmq.Reply, to Destination, err error) {
	done, err := m.slot()
	if err != nil {
		return nil, to, err
	}
	defer done()
	ctx, cancel := context.WithTimeout(m.ctx, callLimit)
	defer cancel()
	batch := moveBatch
	if j.topic != 0 {
		batch = forwardBatch
	}
	dead, err = m.call(ctx, j.set, &cmq.Request{Kind: cmq.KindDeadList, Shard: j.shard, Max: batch})
	if err != nil || len(dead.Messages) == 0 {
		return nil, to, err
	}
	queue := dead.Queue
	switch {
	case j.topic == 0:
	case dead.Overdue > 0:
		dead.Messages = dead.Messages[:dead.Overdue]
	default:
		queue = 0
	}
	to, ok := m.target(ctx, queue, j.shard)
	if !ok {
		return nil, to, errNoTarget
	}
	return dead, to, nil
}

// slot waits until one more shard may be worked on; done says that it is no more.
func (m *Mover) slot() (done func(), err error) {
	select {
	case m.slots <- struct{}{}:
		return func() { <-m.slots }, nil
	case <-m.ctx.Done():
		return nil, m.ctx.Err()
	}
}

// carry transfers dead letters, and lets the source forget those that have arrived.
func (m *Mover) carry(j *job, to Destination, dead *cmq.Reply) (more bool, err error) {
	m.leave(j.key(), j.shard)
	done, err := m.slot()
	if err != nil {
		return false, err
	}
	defer done()
	arrived, err := m.arrive(to.Set, transfer(j.shard, to.Shard, dead))
	if err != nil {
		return false, err
	}
	return true, m.forget(j, arrived.Number)
}

// forget lets the source forget the messages numbered below number.
func (m *Mover) forget(j *job, number uint64) error {
	ctx, cancel := context.WithTimeout(m.ctx, callLimit)
	defer cancel()
	_, err := m.call(ctx, j.set, &cmq.Request{Kind: cmq.KindForget, Shard: j.shard, Number: number})
	return err
}

// arrive puts messages to where they go. That there is no such queue says nothing of the source.
func (m *Mover) arrive(set cmq.SetID, req *cmq.Request) (*cmq.Reply, error) {
	ctx, cancel := context.WithTimeout(m.ctx, callLimit)
	defer cancel()
	reply, err := m.call(ctx, set, req)
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
