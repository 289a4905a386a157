package route

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/opencmq/cmq/internal/cmq"
)

// Table is an immutable snapshot of the metadata.
type Table interface {
	Queue(owner, name string) *cmq.Queue // name in any case; nil: there is none
	QueueByID(cmq.QueueID) *cmq.Queue    // nil: there is none
	Queues(owner string) []*cmq.Queue    // by creation time, then name

	Topic(owner, name string) *cmq.Topic                           // name in any case; nil: there is none
	Topics(owner string) []*cmq.Topic                              // by creation time, then name
	Subscription(topic cmq.TopicID, name string) *cmq.Subscription // name in any case; nil: there is none
	Subscriptions(topic cmq.TopicID) []*cmq.Subscription           // by creation time, then name
	TopicByID(cmq.TopicID) *cmq.Topic                              // nil: there is none
	SubscriptionByShard(cmq.ShardID) *cmq.Subscription             // nil: there is none
	AllSubscriptions() []*cmq.Subscription                         // by id

	Set(cmq.SetID) *cmq.Set    // nil: there is none
	Node(cmq.NodeID) *cmq.Node // nil: there is none
	Version() uint64           // grows with every change
}

// Meta is the metadata of the cluster. Refusals are *cmq.Error.
type Meta interface {
	// Table is this node's newest snapshot.
	Table() Table
	// Sync returns when Table shows every change that was answered before the call.
	Sync(ctx context.Context) error

	// The changes return the queue as it is afterwards; DeleteQueue as it was, with the version under which
	// its shards are to be dropped. The shards have to be told, and Done reports that one has carried out
	// what was decided up to a version of its queue. What is not reported is done by the controller later.
	CreateQueue(ctx context.Context, owner, name string, settings cmq.QueueSettings) (*cmq.Queue, error)
	SetQueue(ctx context.Context, owner, name string, settings cmq.QueueSettings) (*cmq.Queue, error)
	DeleteQueue(ctx context.Context, owner, name string) (*cmq.Queue, error)
	Unbind(ctx context.Context, owner, name string) (*cmq.Queue, error)

	// The changes of topics likewise; those of a subscription return its topic as well, on whose set its shard is.
	CreateTopic(ctx context.Context, owner, name string, settings cmq.TopicSettings) (*cmq.Topic, error)
	SetTopic(ctx context.Context, owner, name string, settings cmq.TopicSettings) (*cmq.Topic, error)
	DeleteTopic(ctx context.Context, owner, name string) error
	Subscribe(ctx context.Context, owner, topic, name string, settings cmq.SubscriptionSettings) (*cmq.Topic, *cmq.Subscription, error)
	SetSubscription(ctx context.Context, owner, topic, name string, settings cmq.SubscriptionSettings) (*cmq.Topic, *cmq.Subscription, error)
	Unsubscribe(ctx context.Context, owner, topic, name string) (*cmq.Topic, *cmq.Subscription, error)

	Done(ctx context.Context, shard cmq.ShardID, version uint64) error
}

// Local is this node's replicas. Errors: *cmq.NotLeaderError, cmq.ErrDropped, cmq.ErrBusy and cmq.ErrStopping
// say that nothing was done, cmq.ErrUnknownOutcome that something may have been. For a set without a replica here
// it is *cmq.NotLeaderError. See cmq.Pending for done; req must not be changed until then.
type Local interface {
	Start(set cmq.SetID, req *cmq.Request, done func(*cmq.Reply, error)) cmq.Pending
}

// Remote calls Serve on another node. cmq.ErrDropped and cmq.ErrBusy say that it was not reached,
// cmq.ErrUnknownOutcome that its answer was lost. The payload belongs to Remote from the call on. See cmq.Pending for
// done; late gets the answer to a call that was cancelled when that was on its way.
type Remote interface {
	Start(node cmq.NodeID, payload []byte, done func([]byte, error), late func([]byte)) cmq.Pending
}

// Config is what a Router stands on. Node, Meta, Local and Remote are required.
type Config struct {
	Node   cmq.NodeID
	Meta   Meta
	Local  Local
	Remote Remote

	// Leader tells what this node's replica of the set knows about the leader: 0 if it knows none, or if
	// there is no replica here. Nil: never known. It must be quick; it is asked for every request and
	// spares those a call of a node that has just fallen silent.
	Leader func(cmq.SetID) cmq.NodeID
	// Controllers are the nodes to ask for set 0 while the table does not name them yet.
	Controllers []cmq.NodeID
	// LeaderWait bounds the search for a set's leader: 8 s if zero.
	LeaderWait time.Duration
	Logger     *slog.Logger // slog.Default if nil
}

// Router finds who can carry out a request. Its methods may be called concurrently.
type Router struct {
	cfg     Config
	log     *slog.Logger
	leaders [cmq.MaxSetID + 1]atomic.Uint64 // node that answered last; 0: none
	turn    atomic.Uint64                   // where the next round of shards or replicas begins
	polls   polls
}

// New makes a Router. It has no goroutines but those of started requests that need a second attempt, which end when
// the request is answered or cancelled.
func New(cfg Config) *Router {
	if cfg.Leader == nil {
		cfg.Leader = func(cmq.SetID) cmq.NodeID { return 0 }
	}
	if cfg.LeaderWait == 0 {
		cfg.LeaderWait = 8 * time.Second
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	return &Router{cfg: cfg, log: cfg.Logger}
}
