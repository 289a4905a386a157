package broker

import (
	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/core/command"
)

// move brings messages from the head of an outbox to a queue of the same set. The queue refers to where they were stored
// first, which their ids say, so nothing is written a second time; and because both shards are at hand the outbox forgets
// in the same step what it has given away, and what it has given away or lost by retention does not come again. Messages
// for which the queue has no room stay.
func (b *Broker) move(s *shard, op *command.Op, r *Result, out *Output) {
	from := b.shards[op.From]
	if from == nil || from == s || !from.forwards() {
		r.Err = cmq.ErrParameters
		return
	}
	if head, _ := from.DeadHead(1); head < op.Number {
		r.Number, r.Err = head, cmq.ErrParameters // those before would be lost
		return
	}
	b.touch(op.From, from, out, func() {
		if r.Number = b.adopt(s, from, op, r, out); r.Number > op.Number {
			from.Forget(r.Number)
		}
	})
}

// adopt places what still waits and finds room, up to what is too old by now, and gives the number of the first that it did not.
func (b *Broker) adopt(s, from *shard, op *command.Op, r *Result, out *Output) uint64 {
	for i, id := range op.IDs {
		number := op.Number + uint64(i)
		waits, overdue := from.Waits(number)
		if !waits {
			continue
		}
		if overdue {
			return number
		}
		if s.Room(1) == 0 {
			if r.N == 0 {
				r.Err = cmq.ErrHeapFull
			}
			return number
		}
		out.Placed = append(out.Placed, Placed{
			Shard: op.Shard, Seq: s.Arrive(1), Index: id.Index(), Slot: id.Slot(), N: 1, Bytes: op.Sizes[i],
		})
		r.N++
	}
	return op.Number + uint64(len(op.IDs))
}
