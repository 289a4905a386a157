package cmq

import (
	"fmt"
	"strconv"
)

// NodeID is the number of one server process. It is also its raft id in every set it holds a replica of.
// Numbers start at 1 and are never reused.
type NodeID uint64

// SetID is the number of a set (one raft group). Set 0 is the controller; data sets start at 1.
// Twelve bits are used, because the number is part of every message id.
type SetID uint16

// ControllerSet is the set that replicates the metadata.
const ControllerSet SetID = 0

// MaxSetID is the largest set number: the message id has 12 bits for it.
const MaxSetID SetID = 1<<12 - 1

// QueueID is the number of one incarnation of a queue. A queue that is deleted and created again under
// the same name has another QueueID, so nothing of the old one can appear in the new one.
type QueueID uint64

// String gives the form used in API answers: "queue-" and eight or more base-36 digits.
func (q QueueID) String() string {
	return fmt.Sprintf("queue-%08s", strconv.FormatUint(uint64(q), 36))
}

// ShardID is the number of one shard of one queue: queue id (57 bits) and ordinal of the shard (7 bits).
type ShardID uint64

// MaxShards is how many shards one queue may have: the receipt handle has 7 bits for the ordinal.
const MaxShards = 1 << 7

// Shard makes the id of the queue's shard with this ordinal, which must be below MaxShards.
func (q QueueID) Shard(ordinal uint8) ShardID {
	return ShardID(uint64(q)<<7 | uint64(ordinal&(MaxShards-1)))
}

// Queue is the queue the shard belongs to.
func (s ShardID) Queue() QueueID { return QueueID(s >> 7) }

// Ordinal is the shard's number within its queue.
func (s ShardID) Ordinal() uint8 { return uint8(s & (MaxShards - 1)) }

// MsgID identifies a message for ever: where it was first stored.
//
//	 63        52 51                          12 11         0
//	+------------+------------------------------+------------+
//	| set (12)   | raft index (40)              | slot (12)  |
//	+------------+------------------------------+------------+
//
// The id stays with the message when it moves to another queue or set.
type MsgID uint64

// MaxSlots is how many messages one raft entry can carry.
const MaxSlots = 1 << 12

// MaxIndex is the largest raft index a message id can hold.
const MaxIndex = 1<<40 - 1

// NewMsgID makes the id of the message in the given slot of the given raft entry.
func NewMsgID(set SetID, index uint64, slot uint16) MsgID {
	return MsgID(uint64(set&MaxSetID)<<52 | (index&MaxIndex)<<12 | uint64(slot)&(MaxSlots-1))
}

// Set is the set in which the message was first stored.
func (m MsgID) Set() SetID { return SetID(m >> 52) }

// Index is the raft index under which the message was first stored.
func (m MsgID) Index() uint64 { return uint64(m>>12) & MaxIndex }

// Slot is the message's place in its raft entry.
func (m MsgID) Slot() uint16 { return uint16(m & (MaxSlots - 1)) }

// String is the decimal form used in JSON.
func (m MsgID) String() string { return strconv.FormatUint(uint64(m), 10) }

// Handle is a receipt handle: proof of one delivery of one message.
//
//	 63  62          56 55                                   0
//	+---+--------------+--------------------------------------+
//	| 0 | ordinal (7)  | receipt counter of the shard (56)    |
//	+---+--------------+--------------------------------------+
//
// The counter is replicated with the shard and only grows, so a handle is unique across terms and moves. It begins at 1 in
// every shard, so handles as the state machine knows them are unique in one queue only; Outward makes them unique in the
// cluster.
type Handle uint64

// counterMask is the place of the counter in a handle.
const counterMask = 1<<56 - 1

// NewHandle makes the handle of the delivery with this counter value.
func NewHandle(ordinal uint8, counter uint64) Handle {
	return Handle(uint64(ordinal&(MaxShards-1))<<56 | counter&counterMask)
}

// Outward is the handle as clients and other nodes see it: the counters of each queue begin somewhere else. So a handle of
// another queue, or of a deleted one of the same name, is that of no delivery, and not that of the delivery which happens
// to have the same counter.
func (h Handle) Outward(q QueueID) Handle { return h.turn(q.firstCounter()) }

// Inward is the handle as the queue's shards know it; it undoes Outward.
func (h Handle) Inward(q QueueID) Handle { return h.turn(-q.firstCounter()) }

// turn adds to the counter and leaves the rest.
func (h Handle) turn(by uint64) Handle {
	return h&^counterMask | Handle((uint64(h)+by)&counterMask)
}

// firstCounter is where a queue's counters begin: the multiples of the golden section divide a circle so evenly that the
// first million queues are 2^33 deliveries apart from each other, and from 0, which is no handle.
func (q QueueID) firstCounter() uint64 {
	const goldenSection = 0x9e3779b97f4a7c15 // of 2^64
	return uint64(q) * goldenSection >> 8
}

// Ordinal is the shard of the queue which gave out the handle.
func (h Handle) Ordinal() uint8 { return uint8(h>>56) & (MaxShards - 1) }

// String is the decimal form used in JSON.
func (h Handle) String() string { return strconv.FormatUint(uint64(h), 10) }
