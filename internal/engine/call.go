package engine

import (
	"github.com/opencmq/cmq/internal/cmq"
)

// Result is the outcome of a request. The bodies of Reply.Messages are not read yet: Fill does that away from the
// loop.
type Result struct {
	Reply cmq.Reply
	Refs  []Ref // one per message
}

// Ref says where a message of a Result is stored.
type Ref struct {
	Index uint64
	Slot  uint16
}

// Call is one request on its way through the engine.
type Call struct {
	req    *cmq.Request
	done   func(*Result, error)
	until  int64 // cluster time until which a receive may wait; 0: not at all
	op     int   // place among the operations of its entry
	size   int   // bytes it will take in an entry, about
	taken  int   // messages this receive was counted for in its shard's takes
	gone   bool  // the caller has gone
	parked bool
}

func (c *Call) finish(r *Result, err error) {
	if c.done != nil {
		done := c.done
		c.done = nil
		done(r, err)
	}
}

func (c *Call) refuse(e *cmq.Error) { c.finish(&Result{Reply: cmq.Reply{Err: e}}, nil) }

// sizeOf is about how many bytes the request takes in an entry.
func sizeOf(req *cmq.Request) int {
	n := 64 + 8*len(req.Handles)
	for _, b := range req.Bodies {
		n += len(b) + 32
	}
	return n
}

// cut is one entry that was proposed and is not applied yet.
type cut struct {
	number uint64
	term   uint64
	calls  []*Call
}
