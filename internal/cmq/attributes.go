package cmq

import "time"

// DeadLetterPolicy says when a message of a queue moves to the dead-letter queue.
type DeadLetterPolicy struct {
	Queue           QueueID // the dead-letter queue; 0: no policy
	Policy          int     // PolicyReceives, PolicyAge or PolicyEither
	MaxReceiveCount int     // 1..1000 for PolicyReceives
	MaxTimeToLive   time.Duration
}

// The dead-letter policies: two of the API, and that of a subscription.
const (
	PolicyReceives = 0 // received MaxReceiveCount times without delete
	PolicyAge      = 1 // not consumed within MaxTimeToLive of the send
	PolicyEither   = 2 // whichever comes first
)

// Counts reports whether a message dies of being received too often.
func (p *DeadLetterPolicy) Counts() bool { return p.Queue != 0 && p.Policy != PolicyAge }

// Ages reports whether a message dies of its age.
func (p *DeadLetterPolicy) Ages() bool { return p.Queue != 0 && p.Policy != PolicyReceives }

// TransactionPolicy says how a queue treats messages that are sent before it is decided whether they count.
type TransactionPolicy struct {
	On                 bool          // prepared messages are taken; those that are there stay when it is switched off
	FirstQueryInterval time.Duration // between the send, or a query, and the next query
	MaxQueryCount      int           // after so many queries without an answer nobody asks any more
}

// QueueAttributes are the settings of one queue. Durations are whole seconds in the API.
type QueueAttributes struct {
	MaxMsgHeapNum     int64
	PollingWait       time.Duration
	VisibilityTimeout time.Duration
	MaxMsgSize        int
	MsgRetention      time.Duration
	Rewind            time.Duration // 0: deleted messages cannot be rewound
	DeadLetter        DeadLetterPolicy
	Transaction       TransactionPolicy
	Trace             bool
	MaxInFlight       int // messages locked at a time, in each shard
}

// DefaultQueueAttributes are the published defaults (http-api.md 2.1; those of transactions 8, 30).
func DefaultQueueAttributes() QueueAttributes {
	return QueueAttributes{
		MaxMsgHeapNum:     100_000_000,
		PollingWait:       0,
		VisibilityTimeout: 30 * time.Second,
		MaxMsgSize:        65536,
		MsgRetention:      345600 * time.Second,
		Transaction:       TransactionPolicy{FirstQueryInterval: 5 * time.Second, MaxQueryCount: 15},
		MaxInFlight:       DefaultMaxInFlight,
	}
}

// ShardAttributes is what a shard's replicated state needs of its queue's attributes.
type ShardAttributes struct {
	MaxMsgHeapNum     int64
	VisibilityTimeout time.Duration
	MsgRetention      time.Duration
	Rewind            time.Duration
	DeadLetter        DeadLetterPolicy
	Transaction       TransactionPolicy
	MaxInFlight       int // locked messages; DefaultMaxInFlight if 0
}

// DefaultMaxInFlight caps the locked messages of one shard where nothing else is set (architecture.md 12).
const DefaultMaxInFlight = 120_000

// ShardAttributes picks what the shards need.
func (a *QueueAttributes) ShardAttributes() ShardAttributes {
	return ShardAttributes{
		MaxMsgHeapNum:     a.MaxMsgHeapNum,
		VisibilityTimeout: a.VisibilityTimeout,
		MsgRetention:      a.MsgRetention,
		Rewind:            a.Rewind,
		DeadLetter:        a.DeadLetter,
		Transaction:       a.Transaction,
		MaxInFlight:       a.MaxInFlight,
	}
}

// Queue is one queue as the controller knows it. Values are immutable once published.
type Queue struct {
	ID         QueueID
	Name       string // as spelled at creation; compared without case
	Owner      string // account
	Attributes QueueAttributes
	Version    uint64 // grows with every change of Attributes
	Created    time.Time
	Modified   time.Time
	Shards     []Shard

	// DeadLetterName is the name of Attributes.DeadLetter.Queue. Whoever reads a queue for a door fills it in
	// (in a copy); it is not stored with the queue.
	DeadLetterName string
}

// Shard says where one shard of a queue lives.
type Shard struct {
	ID    ShardID
	Set   SetID
	Epoch uint64 // grows with every change of owner
}

// Set says which nodes hold the replicas of a set.
type Set struct {
	ID       SetID
	Replicas []NodeID
}

// Node is one server process and where to reach it. Addresses are "host:port".
type Node struct {
	ID    NodeID
	HTTP  string
	TCP   string
	Peer  string
	Admin string
}

// AccessKey is a pair of id and secret that signs requests.
type AccessKey struct {
	ID      string
	Secret  string
	Owner   string // account
	Enabled bool
}
