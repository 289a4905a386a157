package engine

import (
	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/core/command"
	"github.com/opencmq/cmq/internal/store"
)

// Result is the outcome of a request. If it is Unread, the messages of the reply are not in it yet: Fill reads them away
// from the loop.
type Result struct {
	Reply   cmq.Reply
	Surplus []cmq.Handle // delivered, but left out of the reply by Fill

	shard   cmq.ShardID
	at      []command.LaneSeq // positions of Reply.Messages
	dead    bool              // they are the head of the dead list, not deliveries
	held    bool              // the records of Reply.Prepared are to be read
	trouble []trouble         // what Fill could not read
	tries   int               // of Mend

	published bool // they are a subscription's
}

// trouble is a message that could not be read here.
type trouble struct {
	i     int // its place in the reply
	ref   store.Ref
	known bool // ref says where it is
	sent  int64
	err   error
}

// Unread reports whether messages have to be read before the reply is complete.
func (r *Result) Unread() bool { return len(r.at) > 0 || r.held }

// unread is how many messages are to be read; the records of prepared messages count for one, as little of them is kept.
func (r *Result) unread() int { return max(1, len(r.at)) }

// Whole reports whether everything that Fill was to read could be read.
func (r *Result) Whole() bool { return len(r.trouble) == 0 }

// Call is one request on its way through the engine.
type Call struct {
	req    *cmq.Request
	done   taker       // nil: nobody waits, or it has the outcome
	until  int64       // cluster time until which a receive may wait; 0: not at all
	op     int         // place among the operations of its entry
	size   int         // bytes it will take in an entry, about
	queued int64       // cluster time when it was put into the queue
	ids    []cmq.MsgID // messages that are asked about
	taken  int         // messages this receive was counted for in its shard's takes
	gone   bool        // the caller has gone
	parked bool
	tries  int  // how often it waited for references to be read
	hasty  bool // it does not wait for references any more
	asked  bool // it has been through the log, or past it, and only its answer is missing
}

// taker takes the outcome of a call, once.
type taker interface{ answered(*Result, error) }

// takerFunc is a function as taker.
type takerFunc func(*Result, error)

func (f takerFunc) answered(r *Result, err error) { f(r, err) }

func (c *Call) finish(r *Result, err error) {
	if c.done != nil {
		done := c.done
		c.done = nil
		done.answered(r, err)
	}
}

func (c *Call) refuse(e *cmq.Error) { c.finish(&Result{Reply: cmq.Reply{Err: e}}, nil) }

// sizeOf is about how many bytes the request takes in an entry.
func sizeOf(req *cmq.Request) int {
	n := 64 + 8*len(req.Handles) + 11*len(req.Decisions) + 12*len(req.Sizes)
	if req.Kind == cmq.KindQueries {
		n += 10 * maxAsks
	}
	for i := range req.Shares {
		n += 24 + 2*len(req.Shares[i].Places)
	}
	each := 32
	if p := req.Publication; p != nil {
		for _, tag := range p.Tags {
			each += len(tag) + 1
		}
		each += len(p.RoutingKey)
	}
	for _, b := range req.Bodies {
		n += len(b) + each
	}
	return n
}

// cut is one entry that was proposed and is not applied yet.
type cut struct {
	number uint64
	term   uint64
	calls  []*Call
}
