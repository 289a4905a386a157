package cmq

import "time"

// Kind says what a Request asks of a shard.
type Kind uint8

const (
	KindSend        Kind = iota + 1 // Bodies, Delay, Session → IDs
	KindReceive                     // Max, Lock, Wait → Messages (none: nothing came within Wait)
	KindDelete                      // Handles → Errors, one per handle, nil = deleted
	KindRelease                     // Handles: undo receives whose client has gone (lock and receive count)
	KindRewind                      // Time: everything sent at or after it becomes active again
	KindClear                       // drop every message
	KindStatus                      // linearizable read → Status
	KindOpenShard                   // Attributes, Subscriber, Version: create; nothing happens if it is there
	KindSetShard                    // Attributes, Subscriber, Version: change; nothing happens if Version is not newer
	KindDropShard                   // delete shard and messages; nothing happens if it is gone
	KindDeadList                    // Max → Messages due for the dead-letter queue or an outbox's, Number of the first, Queue, Upto, Overdue
	KindTransfer                    // From, Base, Number, IDs, Bodies, Sources: arrivals from From's dead list → Number: next one wanted
	KindForget                      // Number: transfers below it have arrived
	KindMeta                        // Payload: a command or query of the controller → Payload
	KindRelock                      // Handles, Lock: locks end that much from now (0: now) → Errors, one per handle
	KindPrepare                     // Bodies, Interval, Origin → IDs: stored, invisible until decided
	KindDecide                      // Decisions → Errors, one per decision
	KindQueries                     // Max, Wait, Origin.Node → Queries that have come due (none: nothing within Wait)
	KindOpenSession                 // Session.ID: begin a session, or take over the one with this id → Number: its epoch
	KindPublish                     // Shard: a topic's; Bodies, Publication → IDs: stored once, in every subscription that matches
	KindMove                        // From, Number, IDs, Sizes: as a share within a set, which also forgets → Number: first not moved
	KindPrepared                    // Max, Number: ids above it, Undecided: those only → Prepared, ascending (linearizable read)
	KindSpread                      // IDs, Bodies, Shares: what outboxes of another set have for shards of this one, each body stored once → Numbers, Errors: one per share
	KindAttend                      // Payload: a group, Number: a member or 0, Lock: for how long it is there, 0: it leaves → Number: members there, Base: 1, or 0 while the leader is too new to know. Of set 0; not in the log
	KindTrial                       // Shard: a subscription's, Bodies: one → Payload: a Trial as JSON; it is delivered at once. Not in the log

	KindEnd // one more than the last kind
)

// Request is one call to the leader of a set. Which fields count depends on Kind.
type Request struct {
	Kind        Kind
	Shard       ShardID
	Bodies      [][]byte
	Delay       time.Duration
	Max         int
	Lock        time.Duration // Receive: 0 is the queue's VisibilityTimeout
	Wait        time.Duration // how long a receive may wait for a message
	Handles     []Handle
	Time        time.Time
	Attributes  ShardAttributes
	Version     uint64
	From        ShardID
	Base        uint64 // Transfer: every number below it is settled at From
	Number      uint64
	IDs         []MsgID
	Sources     []Source // Transfer: none, or one for each body
	Payload     []byte
	Interval    time.Duration // Prepare: 0 is the queue's FirstQueryInterval
	Origin      Origin
	Decisions   []Decision
	Undecided   bool // Prepared
	Session     Session
	Subscriber  *Subscriber  // OpenShard, SetShard; nil: the shard is a queue's
	Publication *Publication // Publish
	Shares      []Share      // Spread
	Sizes       []uint32     // Move: bytes of each message
}

// Share is what one outbox has for one shard: some of the messages of a Spread, numbered as those of a Transfer. The shard
// takes as many as it has room for; if it has none at all, that is ErrHeapFull.
type Share struct {
	Shard  ShardID  // takes them
	From   ShardID  // the outbox
	Base   uint64   // every number below it is settled there
	Number uint64   // of the first; the others follow
	Places []uint16 // of the messages among those of the request, in the order of their numbers
}

// Session makes a send one that may be repeated: the shard that opened the session stores each of its requests once and
// gives every repetition the answer of the first, through any change of leader. A producer chooses the session's id at
// random (not 0), numbers its requests from 1 in the order in which it makes them, and repeats one with the same
// number and the same bodies. Requests may overtake each other; at most 1,024 of them may be without an answer.
//
// The zero Session is none.
type Session struct {
	ID     uint64
	Epoch  uint64 // as OpenSession gave it
	Number uint64
	Acked  uint64 // the producer has the answers to all requests below it, so they need not be kept
}

// Origin is where a prepared message came in, so that who sent it can be asked about it.
type Origin struct {
	Node NodeID
	Conn uint64 // the connection, as its door numbers it
}

// Prepared is a prepared message as those see it who look after a queue.
type Prepared struct {
	ID      MsgID
	Bytes   int       // of its body
	Sent    time.Time // when it was prepared; zero: that cannot be read here now
	Queries int       // how often its producer was asked
	Next    time.Time // when it is asked next, or until when an answer is waited for; zero: undecided, nobody is asked any more
	Origin  Origin
}

// Decision is what becomes of a prepared message: it is sent, or it never was.
type Decision struct {
	ID     MsgID
	Commit bool // otherwise it is rolled back
}

// Query asks the producer of a prepared message what becomes of it.
type Query struct {
	ID     MsgID
	Count  int // queries including this one
	Origin Origin
}

// Reply answers a Request. A refusal that the API's user caused is in Err; everything else that can go
// wrong is an error value beside the reply.
type Reply struct {
	Err      *Error
	IDs      []MsgID
	Messages []Message
	Errors   []*Error
	Status   ShardStatus
	Queue    QueueID
	Base     uint64 // DeadList: every number below it is settled
	Number   uint64
	Numbers  []uint64 // Spread: the next one wanted of each share
	Upto     MsgID    // DeadList: nothing else waits there that was stored first with an id up to this one; 0: there is more behind Messages
	Overdue  int      // DeadList of an outbox: so many of the first messages are too old for its queue, and go to Queue
	Payload  []byte
	Queries  []Query
	Prepared []Prepared
}

// Message is one delivery.
type Message struct {
	ID           MsgID
	Handle       Handle
	Body         []byte
	Enqueued     time.Time
	FirstDequeue time.Time
	NextVisible  time.Time
	DequeueCount int
	Publication  *Publication // of a message that was published and is handed out by a subscription's shard; nil: of a queue
	Source       *Source      // of a dead letter: where it died; nil: it is none
}

// Source is what a dead letter was in the queue in which it died.
type Source struct {
	Queue        QueueID
	Enqueued     time.Time // in whole milliseconds
	DequeueCount int
}

// ShardStatus are the counters of one shard at one moment.
type ShardStatus struct {
	Active     int64     // can be received now
	Inactive   int64     // locked
	Delayed    int64     // not due yet
	Rewindable int64     // deleted, but can be rewound
	Prepared   int64     // sent, but not decided: invisible
	Undecided  int64     // of these, how many nobody asks about any more
	MinMsgTime time.Time // send time of the oldest message not deleted; now if there is none
	Now        time.Time // cluster time of the reading
}
