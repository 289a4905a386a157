package access

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/opencmq/cmq/internal/cmq"
)

// Producer is a connection that sent prepared messages and can be asked what becomes of them.
type Producer interface {
	// Ask passes on a query about a message of a queue, named as the producer spelled it, without waiting for the answer,
	// which comes as a decision or not at all. False: the connection is gone.
	Ask(queue string, id cmq.MsgID) bool
	// Address is where it comes from, for the operator's eyes.
	Address() string
}

// Queries is the part of a Backend that Producers needs.
type Queries interface {
	Queries(ctx context.Context, owner, name string, most int, wait time.Duration) ([]cmq.Query, error)
}

// Producers brings the questions about prepared messages to the connections of this node that can answer them. For each
// queue that has any it keeps one wait for queries open, wherever the queue's leader is; so a query reaches a producer
// at any node, and none is counted while nobody is there.
//
//	leader ──query──► Backend.Queries ──► Producers ──► the connection that sent the message,
//	                                                    else another one of the account that sent to the queue
//
// Doors enter connections and let them leave; Producers may be used by any goroutine.
type Producers struct {
	node    cmq.NodeID
	backend Queries
	log     *slog.Logger
	ctx     context.Context
	stop    context.CancelFunc
	wg      sync.WaitGroup

	mu     sync.Mutex
	next   uint64 // number of the next connection
	queues map[producerKey]*producerQueue
	closed bool
}

type producerKey struct{ owner, queue string } // the queue's name folded

// producerQueue is the producers of one queue. It is there as long as it has any.
type producerQueue struct {
	key   producerKey
	conns []producerConn // in the order in which they came
	turn  int            // of those that did not send the message
	stop  context.CancelFunc
}

type producerConn struct {
	number uint64
	name   string // of the queue, as this producer spells it
	Producer
}

const (
	// queriesAtATime is how many queries one wait brings.
	queriesAtATime = 64
	// queriesWait is how long one wait lasts; nothing depends on it.
	queriesWait = 30 * time.Second

	firstQueriesRetry = 50 * time.Millisecond
	lastQueriesRetry  = 5 * time.Second
)

// NewProducers makes the Producers of a node; Close ends it. Numbers of connections begin somewhere at random, because
// messages remember them longer than a process lives.
func NewProducers(node cmq.NodeID, backend Queries, log *slog.Logger) *Producers {
	ctx, stop := context.WithCancel(context.Background())
	return &Producers{
		node: node, backend: backend, log: log, ctx: ctx, stop: stop,
		next: rand.Uint64() >> 1, queues: make(map[producerKey]*producerQueue),
	}
}

// Number gives a connection the number it sends prepared messages under. It is never 0.
func (p *Producers) Number() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.next++
	return p.next
}

// Enter says that the connection with this number sent prepared messages to the owner's queue. It may be said again.
func (p *Producers) Enter(owner, queue string, number uint64, to Producer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	key := producerKey{owner, cmq.FoldName(queue)}
	q := p.queues[key]
	if q == nil {
		ctx, stop := context.WithCancel(p.ctx)
		q = &producerQueue{key: key, stop: stop}
		p.queues[key] = q
		p.wg.Go(func() { p.carry(ctx, q) })
	}
	if !slices.ContainsFunc(q.conns, func(c producerConn) bool { return c.number == number }) {
		q.conns = append(q.conns, producerConn{number, queue, to})
	}
}

// Address is where the producer of a prepared message comes from: empty unless it is connected to this node.
func (p *Producers) Address(from cmq.Origin) string {
	if from.Node != p.node {
		return ""
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, q := range p.queues {
		for _, c := range q.conns {
			if c.number == from.Conn {
				return c.Address()
			}
		}
	}
	return ""
}

// Leave says that the connection with this number is gone.
func (p *Producers) Leave(number uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, q := range p.queues {
		q.conns = slices.DeleteFunc(q.conns, func(c producerConn) bool { return c.number == number })
		if len(q.conns) == 0 {
			p.forget(q)
		}
	}
}

// forget ends a queue; p.mu is held.
func (p *Producers) forget(q *producerQueue) {
	q.stop()
	if p.queues[q.key] == q {
		delete(p.queues, q.key)
	}
}

// Close ends all waits and returns when they have ended.
func (p *Producers) Close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.stop()
	p.wg.Wait()
}

// carry waits for queries of the queue and passes them on, until its last producer has left or the queue is gone.
func (p *Producers) carry(ctx context.Context, q *producerQueue) {
	defer q.stop()
	retry := firstQueriesRetry
	for ctx.Err() == nil {
		queries, err := p.backend.Queries(ctx, q.key.owner, q.key.queue, queriesAtATime, queriesWait)
		for _, query := range queries {
			p.pass(q, query)
		}
		switch {
		case err == nil:
			retry = firstQueriesRetry
			continue
		case errors.Is(err, cmq.ErrQueueNotExist):
			p.mu.Lock()
			p.forget(q)
			p.mu.Unlock()
			return
		case ctx.Err() == nil:
			p.log.Debug("queries about prepared messages wait", "queue", q.key.queue, "error", err)
		}
		timer := time.NewTimer(retry)
		select {
		case <-timer.C:
			retry = min(2*retry, lastQueriesRetry)
		case <-ctx.Done():
			timer.Stop()
		}
	}
}

// pass gives a query to one connection, the sender's if that is here. Nobody left: the query is lost, and comes again
// after its interval.
func (p *Producers) pass(q *producerQueue, query cmq.Query) {
	for _, c := range p.candidates(q, query.Origin) {
		if c.Ask(c.name, query.ID) {
			return
		}
	}
}

// candidates lists the connections that may be asked, the best first.
func (p *Producers) candidates(q *producerQueue, from cmq.Origin) []producerConn {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(q.conns)
	if n == 0 {
		return nil
	}
	q.turn++
	first := q.turn % n
	if from.Node == p.node {
		if i := slices.IndexFunc(q.conns, func(c producerConn) bool { return c.number == from.Conn }); i >= 0 {
			first = i
		}
	}
	return slices.Concat(q.conns[first:], q.conns[:first])
}
