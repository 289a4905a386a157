package broker

import (
	"cmp"
	"slices"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/core/command"
)

// arrival says how far the dead messages of another shard have arrived here.
type arrival struct {
	from cmq.ShardID
	next uint64 // transfer number wanted next
}

// from lists the shards of which something has arrived.
func (s *shard) from() []arrival {
	if s.arrivals == nil {
		return nil
	}
	return *s.arrivals
}

// accept takes note of n dead messages of another shard, numbered from number, each once however often it is sent: what is
// numbered below the next one wanted is here already. Numbers below base will never come, so nothing waits for them; a gap
// above it means that messages would be lost and refuses them all. Those of [lo, hi) are to be stored now: all that are new, or
// as many as room says there is room for.
func (s *shard) accept(from cmq.ShardID, base, number uint64, n int, room func(n int) int) (lo, hi int, next uint64, err *cmq.Error) {
	list := s.from()
	i, found := slices.BinarySearchFunc(list, from, func(a arrival, from cmq.ShardID) int { return cmp.Compare(a.from, from) })
	if next = base; found {
		next = max(next, list[i].next)
	}
	if number > next {
		return 0, 0, next, cmq.ErrParameters
	}
	lo = int(min(next-number, uint64(n)))
	if hi = n; hi > lo && room != nil {
		if hi = lo + room(hi-lo); hi == lo {
			return 0, 0, next, cmq.ErrHeapFull
		}
	}
	next += uint64(hi - lo)
	if !found {
		list = slices.Insert(list, i, arrival{from: from})
		s.arrivals = &list
	}
	list[i].next = next
	return lo, hi, next, nil
}

// transfer stores dead messages of another shard, whatever MaxMsgHeapNum says.
func (b *Broker) transfer(s *shard, op *command.Op, r *Result, out *Output) {
	lo, hi, next, err := s.accept(op.From, op.Base, op.Number, op.N, nil)
	if r.Number, r.Err = next, err; err != nil {
		return
	}
	r.FirstSlot, r.N = op.First+uint16(lo), hi-lo
	out.place(op.Shard, 0, s.Arrive(r.N), r.FirstSlot, r.N)
}

// spread gives messages of outboxes of another set to the shards they are for. Several may refer to one message, as when it
// was published on this set. Each share has its own answer: one queue that is full or gone keeps nothing from the others.
func (b *Broker) spread(op *command.Op, r *Result, out *Output) {
	errs, numbers := len(out.errors), len(out.numbers)
	for i := range op.Shares {
		share := &op.Shares[i]
		next, err := uint64(0), cmq.ErrQueueNotExist
		if s := b.shards[share.Shard]; s != nil {
			b.touch(share.Shard, s, out, func() { next, err = s.takeShare(share, op.First, out) })
		}
		out.errors, out.numbers = append(out.errors, err), append(out.numbers, next)
	}
	r.Errors = out.errors[errs:len(out.errors):len(out.errors)]
	r.Numbers = out.numbers[numbers:len(out.numbers):len(out.numbers)]
}

// takeShare stores what a share has for the shard and gives the number wanted next. Messages that lie in consecutive slots are
// placed together.
func (s *shard) takeShare(share *cmq.Share, first uint16, out *Output) (next uint64, err *cmq.Error) {
	lo, hi, next, err := s.accept(share.From, share.Base, share.Number, len(share.Places), s.Room)
	if err != nil {
		return next, err
	}
	seq := s.Arrive(hi - lo)
	for places := share.Places[lo:hi]; len(places) > 0; {
		n := 1
		for n < len(places) && places[n] == places[n-1]+1 {
			n++
		}
		out.place(share.Shard, 0, seq, first+places[0], n)
		seq, places = seq+uint64(n), places[n:]
	}
	return next, nil
}
