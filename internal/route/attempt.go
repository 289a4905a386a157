package route

import (
	"fmt"
	"sync/atomic"

	"github.com/opencmq/cmq/internal/cmq"
)

// attempt is a request put to one node.
type attempt struct {
	r    *Router
	set  cmq.SetID
	node cmq.NodeID
	req  *cmq.Request
	done func(*cmq.Reply, error)

	at       cmq.Pending // of a poll elsewhere; under polls.mu
	recalled atomic.Bool // another node leads now
}

// start puts the request to the node, be it this one or another. A poll that waits elsewhere can be called back.
func (a *attempt) start() cmq.Pending {
	if a.node == a.r.cfg.Node {
		return a.r.cfg.Local.Start(a.set, a.req, a.answered)
	}
	payload := encodeRequest(a.set, a.req)
	if !waits(a.req) {
		return a.r.cfg.Remote.Start(a.node, payload, a.replied, a.late)
	}
	a.r.polls.enter(a)
	at := a.r.cfg.Remote.Start(a.node, payload, a.polled, a.late)
	a.r.polls.begun(a, at)
	return at
}

func (a *attempt) replied(payload []byte, err error) {
	if err != nil {
		a.done(nil, err)
		return
	}
	a.answered(decodeReply(payload))
}

func (a *attempt) answered(reply *cmq.Reply, err error) {
	if err == nil {
		a.r.leaders[a.set&cmq.MaxSetID].Store(uint64(a.node))
	}
	a.done(reply, err)
}

// polled is the answer of a poll that waited at another node.
func (a *attempt) polled(payload []byte, err error) {
	a.r.polls.leave(a)
	if err != nil && a.recalled.Load() {
		err = fmt.Errorf("%w: %w", errReplaced, cmq.ErrUnknownOutcome)
	}
	a.replied(payload, err)
}

// recall ends a poll that waits at a node that does not lead any more.
func (a *attempt) recall() {
	a.recalled.Store(true)
	if at := a.r.polls.at(a); at != nil {
		at.Cancel()
	}
}

// late undoes what came for a receive that had been given up.
func (a *attempt) late(payload []byte) {
	if reply, err := decodeReply(payload); err == nil {
		undo(a.req, reply, func(undo *cmq.Request) {
			a.r.cfg.Remote.Start(a.node, encodeRequest(a.set, undo), func([]byte, error) {}, nil)
		})
	}
}

// undo releases the messages of a receive that nobody waits for. It is tried once; if it fails, they come back when
// their locks end.
func undo(req *cmq.Request, reply *cmq.Reply, start func(undo *cmq.Request)) {
	if req.Kind != cmq.KindReceive || len(reply.Messages) == 0 {
		return
	}
	start(&cmq.Request{Kind: cmq.KindRelease, Shard: req.Shard, Handles: handlesOf(reply.Messages)})
}

func handlesOf(messages []cmq.Message) []cmq.Handle {
	handles := make([]cmq.Handle, len(messages))
	for i := range messages {
		handles[i] = messages[i].Handle
	}
	return handles
}
