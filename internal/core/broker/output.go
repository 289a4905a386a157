package broker

import (
	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/core/command"
	"github.com/opencmq/cmq/internal/core/queue"
)

// Delivery is one message handed out.
type Delivery = queue.Delivery

// Result answers one operation. Which fields count depends on the kind.
type Result struct {
	Kind       command.Kind
	Shard      cmq.ShardID
	Err        *cmq.Error   // the operation as a whole was refused and changed nothing
	Index      uint64       // Send: the entry that has the messages, if the send is a repetition; 0: this one
	FirstSlot  uint16       // Send, Prepare, Transfer, Publish: slot of the first message stored
	N          int          // Send, Prepare, Transfer, Publish: how many were stored, in consecutive slots; Move: how many were moved
	Deliveries []Delivery   // Receive
	Errors     []*cmq.Error // Delete, Release, Relock, Decide, Spread: one for each handle, decision or share, nil: done
	Queries    []cmq.Query  // Ask: those that were due
	Number     uint64       // Transfer: the next number wanted; Move: the first not moved; OpenSession: the epoch
	Numbers    []uint64     // Spread: of each share the next number wanted
}

// Placed says where new messages were put: N messages from the slot of the entry on are the positions from
// Seq on. The entry is that of this batch unless a message was prepared before and is committed now, or was moved. Positions of one lane
// only grow, but those of a delayed lane need not begin at 0. A published message is placed in several shards.
type Placed struct {
	Shard cmq.ShardID
	Lane  int64
	Seq   uint64
	Index uint64 // 0: this batch
	Slot  uint16
	N     int
	Bytes uint32 // of the message, if it is of another batch
}

// Output is what applying one batch gave. It is reused: everything in it is good until the next Apply with
// the same Output.
type Output struct {
	Results []Result // one for each operation, in order
	Placed  []Placed

	// Touched lists the shards some operation of the batch concerned, each once.
	Touched []cmq.ShardID
	// Cleared lists shards that were emptied by the batch. What Broker.Lanes then says of the shard counts:
	// lanes it does not visit are gone and positions below Low as well, but a batch may send again after the
	// clear, so Placed must not be thrown away with the rest.
	Cleared []cmq.ShardID
	// Dropped lists the shards that ceased to exist. Their ids never come back.
	Dropped []cmq.ShardID

	deliveries []Delivery   // backs Results[i].Deliveries
	errors     []*cmq.Error // backs Results[i].Errors
	queries    []cmq.Query  // backs Results[i].Queries
	numbers    []uint64     // backs Results[i].Numbers
}

func (o *Output) reset() {
	o.Results, o.Placed = o.Results[:0], o.Placed[:0]
	o.Touched, o.Cleared, o.Dropped = o.Touched[:0], o.Cleared[:0], o.Dropped[:0]
	o.deliveries, o.errors, o.queries, o.numbers = o.deliveries[:0], o.errors[:0], o.queries[:0], o.numbers[:0]
}

func (o *Output) place(shard cmq.ShardID, lane int64, seq uint64, slot uint16, n int) {
	if n > 0 {
		o.Placed = append(o.Placed, Placed{Shard: shard, Lane: lane, Seq: seq, Slot: slot, N: n})
	}
}
