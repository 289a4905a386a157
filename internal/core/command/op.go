package command

import "github.com/opencmq/cmq/internal/cmq"

// Kind says what an operation does. The numbers are part of the format and are never reused.
type Kind uint8

// The operations. The comment names the fields of Op that count besides Shard.
const (
	Send        Kind = iota + 1 // Delay, Session, Bodies
	Receive                     // Max, Lock
	Delete                      // Handles
	Release                     // Handles
	Rewind                      // To
	Clear                       //
	Expire                      // Marks; none: only ended locks are carried out
	Open                        // Version, Attributes, Subscriber
	Set                         // Version, Attributes, Subscriber
	Drop                        //
	Transfer                    // From, Base, Number, IDs, Sources, Bodies
	Forget                      // Number
	Relock                      // Handles, Lock; 0: the lock ends now
	Prepare                     // Interval, Origin, Bodies
	Decide                      // Decisions
	Ask                         // IDs
	OpenSession                 // Session.ID
	Publish                     // Publication, Bodies; Shard is a topic's
	Move                        // From, Number, IDs, Sizes
	Spread                      // Shares, IDs, Bodies; Shard is 0: each share has its own
	kinds
)

// Op is one operation on one shard. A Builder reads it, Ops.Next fills it. Times are milliseconds.
type Op struct {
	Kind  Kind
	Shard cmq.ShardID

	Delay  int64    // how long the messages stay hidden
	Bodies [][]byte // for a Builder only; a parsed operation has First and N instead

	Max  int
	Lock int64 // Receive: 0 is the queue's VisibilityTimeout

	Handles []cmq.Handle
	To      []LaneSeq
	Marks   []Mark

	Version    uint64
	Attributes cmq.ShardAttributes
	Subscriber *cmq.Subscriber // nil: the shard is a queue's; once read it is never changed

	From    cmq.ShardID  // the shard whose dead messages arrive
	Base    uint64       // every number below it is settled at From: arrived, expired or taken back
	Number  uint64       // Transfer: number of the first message; Forget: first number to keep
	IDs     []cmq.MsgID  // Ask, Move; Transfer, Spread, for a Builder only: the ids the messages were born with
	Sources []cmq.Source // Transfer, for a Builder only: where the messages died

	Interval  int64 // Prepare: 0: the queue's FirstQueryInterval
	Origin    cmq.Origin
	Decisions []cmq.Decision
	Session   cmq.Session

	Publication cmq.Publication

	Sizes  []uint32    // Move: bytes of each message; as many as IDs
	Shares []cmq.Share // Spread; Places count from First

	First uint16 // slot of the first body
	N     int    // how many bodies, in consecutive slots
}

// LaneSeq is a position: place Seq in lane Lane. Lane 0 is the main lane; any other lane is named by the
// moment its messages become receivable.
type LaneSeq struct {
	Lane int64
	Seq  uint64
}

// Mark tells one lane how far time has come. The leader reads the positions off the send times.
type Mark struct {
	Lane  int64
	Low   uint64 // positions below it are past the retention: gone in every state
	Floor uint64 // deleted positions below it can no longer be rewound
	Age   uint64 // positions below it are older than the dead-letter policy's MaxTimeToLive
}
