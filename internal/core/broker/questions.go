package broker

import (
	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/core/queue"
)

// LaneInfo describes one lane of a shard for those who keep its messages.
type LaneInfo = queue.LaneInfo

// Dead is a message on its way to the dead-letter queue.
type Dead = queue.Dead

// at is the time a question is answered for: now, but never before the last batch.
func (b *Broker) at(now int64) int64 { return max(now, b.time) }

// Has reports whether the shard is there.
func (b *Broker) Has(id cmq.ShardID) bool { return b.shards[id] != nil }

// Shards visits the ids of all shards in order, until yield returns false.
func (b *Broker) Shards(yield func(cmq.ShardID) bool) { b.order.Scan(yield) }

// Attributes are the settings of a shard and their version.
func (b *Broker) Attributes(id cmq.ShardID) (a cmq.ShardAttributes, version uint64, ok bool) {
	s := b.shards[id]
	if s == nil {
		return a, 0, false
	}
	return s.Attributes(), s.version, true
}

// Status counts the messages of a shard as they are at now; without MinMsgTime, which needs send times,
// and Now.
func (b *Broker) Status(id cmq.ShardID, now int64) (cmq.ShardStatus, bool) {
	s := b.shards[id]
	if s == nil {
		return cmq.ShardStatus{}, false
	}
	return s.Status(b.at(now)), true
}

// Ready counts the messages a receive at now could be given. At the cap of messages in flight a receive is
// refused all the same.
func (b *Broker) Ready(id cmq.ShardID, now int64) int64 {
	if s := b.shards[id]; s != nil {
		return s.Ready(b.at(now))
	}
	return 0
}

// NextWake is the first moment after now at which a lock of the shard ends or delayed messages fall due;
// 0: none.
func (b *Broker) NextWake(id cmq.ShardID, now int64) int64 {
	if s := b.shards[id]; s != nil {
		return s.NextWake(b.at(now))
	}
	return 0
}

// Dying reports whether locks of the shard have ended at now whose messages go to the dead-letter queue, but
// are in the dead list only after the next operation on the shard. An Expire without marks will do.
func (b *Broker) Dying(id cmq.ShardID, now int64) bool {
	s := b.shards[id]
	return s != nil && s.Dying(b.at(now))
}

// Landing reports whether more locks of the shard had ended by the last batch that touched it than one batch carries out:
// an Expire without marks goes on with it.
func (b *Broker) Landing(id cmq.ShardID) bool {
	s := b.shards[id]
	return s != nil && s.Landing()
}

// Lanes visits the lanes of a shard: the main one, then the others as they fall due, until yield returns
// false. What it does not visit has no message left. It costs as much as there are messages in flight and lanes.
func (b *Broker) Lanes(id cmq.ShardID, yield func(LaneInfo) bool) {
	if s := b.shards[id]; s != nil {
		s.Lanes(yield)
	}
}

// LanesFrom visits the lanes of a shard that fall due at or after due, the main one first if due is 0, until yield
// returns false. It costs as much as what it visits: Oldest and Needed may be lower than the true ones.
func (b *Broker) LanesFrom(id cmq.ShardID, due int64, yield func(LaneInfo) bool) {
	if s := b.shards[id]; s != nil {
		s.LanesFrom(due, yield)
	}
}

// Holds reports whether the delivery with this handle is still the message's newest and locked: nobody else can
// have got the message, deleted it or moved it.
func (b *Broker) Holds(id cmq.ShardID, h cmq.Handle) bool {
	s := b.shards[id]
	return s != nil && s.Holds(h)
}

// Lane describes one lane cheaply: Oldest and Needed may be lower than the true ones.
func (b *Broker) Lane(id cmq.ShardID, lane int64) (LaneInfo, bool) {
	if s := b.shards[id]; s != nil {
		return s.Lane(lane)
	}
	return LaneInfo{}, false
}

// Held counts the prepared messages of all shards.
func (b *Broker) Held() int64 { return b.held }

// Prepared counts the prepared messages of a shard, and those of them nobody is asked about any more at now.
func (b *Broker) Prepared(id cmq.ShardID, now int64) (all, undecided int64) {
	if s := b.shards[id]; s != nil {
		return s.Prepared(b.at(now))
	}
	return 0, 0
}

// ListPrepared gives up to max prepared messages of a shard with ids above after, ascending, as they are at now: all, or
// only those nobody is asked about any more. Sent is left empty.
func (b *Broker) ListPrepared(id cmq.ShardID, now int64, after cmq.MsgID, undecided bool, max int) []cmq.Prepared {
	if s := b.shards[id]; s != nil {
		return s.List(b.at(now), after, undecided, max, nil)
	}
	return nil
}

// Asks visits the prepared messages of a shard that are due for a query at now, the longest due first, until yield returns
// false.
func (b *Broker) Asks(id cmq.ShardID, now int64, yield func(cmq.MsgID, cmq.Origin) bool) {
	if s := b.shards[id]; s != nil {
		s.Asks(b.at(now), yield)
	}
}

// NextAsk is when the shard's first prepared message is, or was, due for a query; 0: none will be.
func (b *Broker) NextAsk(id cmq.ShardID) int64 {
	if s := b.shards[id]; s != nil {
		return s.NextAsk()
	}
	return 0
}

// NextUndecided is the first moment after now at which one of the shard's messages becomes undecided: it was asked about
// for the last time before; 0: none will.
func (b *Broker) NextUndecided(id cmq.ShardID, now int64) int64 {
	if s := b.shards[id]; s != nil {
		return s.NextUndecided(b.at(now))
	}
	return 0
}

// WithDead visits the shards with messages waiting for a dead-letter queue, until yield returns false.
func (b *Broker) WithDead(yield func(cmq.ShardID) bool) { b.dead.Scan(yield) }

// Dead counts the messages of a shard that wait for a dead-letter queue or to be forwarded.
func (b *Broker) Dead(id cmq.ShardID) int64 {
	if s := b.shards[id]; s != nil {
		return s.Dead()
	}
	return 0
}

// DeadHead gives the transfer number of the shard's first dead message, and up to max
// messages numbered consecutively from it. All lower numbers are settled: the number is the Base to transfer
// with.
func (b *Broker) DeadHead(id cmq.ShardID, max int) (number uint64, at []Dead) {
	if s := b.shards[id]; s != nil {
		return s.DeadHead(max)
	}
	return 0, nil
}
