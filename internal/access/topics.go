package access

import (
	"context"

	"github.com/opencmq/cmq/internal/cmq"
)

// Topics is the part of a Backend that carries out the actions on topics and subscriptions. All methods that name a
// topic refuse with ErrTopicNotExist when the owner has no such topic, those that name a subscription as well with
// ErrSubscriptionNotExist.
type Topics interface {
	// CreateTopic refuses with ErrTopicExists, ErrTopicLimit and ErrQueueNameBusy.
	CreateTopic(ctx context.Context, owner, name string, settings cmq.TopicSettings) (cmq.TopicID, error)

	// ListTopics gives the owner's topics whose name contains search, as ListQueues gives queues.
	ListTopics(ctx context.Context, owner, search string, offset, limit int) (total int, topics []*cmq.Topic, err error)

	// TopicAttributes gives the topic, and how many messages its subscriptions have still to be delivered, each counted
	// once for each subscription.
	TopicAttributes(ctx context.Context, owner, name string) (topic *cmq.Topic, messages int64, err error)

	SetTopicAttributes(ctx context.Context, owner, name string, settings cmq.TopicSettings) error

	// DeleteTopic refuses with ErrTopicInUse while there are subscriptions.
	DeleteTopic(ctx context.Context, owner, name string) error

	// TopicRoute gives the "host:port" addresses of the TCP door for the topic, the best first.
	TopicRoute(ctx context.Context, owner, name string) ([]string, error)

	// Publish stores all bodies or none, each once, and gives their ids in order. It may keep the bodies. It refuses with
	// ErrMsgSize, ErrRoutingKey, ErrNoSubscription, ErrNoMatch and ErrDiskFull.
	Publish(ctx context.Context, owner, topic string, bodies [][]byte, publication cmq.Publication) ([]cmq.MsgID, error)

	// Subscribe refuses with ErrSubscriptionExists, ErrSubscriptionLimit, ErrBindingKey and, if the queue for dead letters
	// is not there, ErrDeadLetterNotExist.
	Subscribe(ctx context.Context, owner, topic, name string, settings cmq.SubscriptionSettings) (cmq.SubscriptionID, error)

	// ListSubscriptions gives the topic's subscriptions whose name contains search, as ListQueues gives queues.
	ListSubscriptions(ctx context.Context, owner, topic, search string, offset, limit int) (total int, subscriptions []*cmq.Subscription, err error)

	// SubscriptionAttributes gives the subscription, its DeadLetterName and Agents filled in, and how many messages it has
	// still to deliver.
	SubscriptionAttributes(ctx context.Context, owner, topic, name string) (subscription *cmq.Subscription, messages int64, err error)

	// SetSubscriptionAttributes refuses like Subscribe.
	SetSubscriptionAttributes(ctx context.Context, owner, topic, name string, settings cmq.SubscriptionSettings) error

	// ClearFilterTags removes the filter tags, so that the subscription gets every message.
	ClearFilterTags(ctx context.Context, owner, topic, name string) error

	// TestSubscription delivers the body to the subscription's endpoint at once and says what came of it; nothing is stored.
	// It takes as long as the endpoint does, up to 20 s. It refuses with ErrFrequency while there are many tests.
	TestSubscription(ctx context.Context, owner, topic, name string, body []byte) (*cmq.Trial, error)

	// Unsubscribe drops what the subscription had still to deliver.
	Unsubscribe(ctx context.Context, owner, topic, name string) error
}
