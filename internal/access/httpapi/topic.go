package httpapi

import (
	"context"

	"github.com/opencmq/cmq/internal/access"
	"github.com/opencmq/cmq/internal/cmq"
)

// runOnTopic is run for the actions on topics and subscriptions.
func (c *call) runOnTopic(ctx context.Context) error {
	switch c.action {
	case access.CreateTopic:
		return c.createTopic(ctx)
	case access.ListTopic:
		return c.listTopic(ctx)
	case access.GetTopicAttributes:
		return c.getTopicAttributes(ctx)
	case access.SetTopicAttributes:
		return c.setTopicAttributes(ctx)
	case access.DeleteTopic:
		return c.deleteTopic(ctx)
	case access.QueryTopicRoute:
		return c.queryTopicRoute(ctx)
	case access.Subscribe:
		return c.subscribe(ctx)
	case access.ListSubscriptionByTopic:
		return c.listSubscriptionByTopic(ctx)
	case access.GetSubscriptionAttributes:
		return c.getSubscriptionAttributes(ctx)
	case access.SetSubscriptionAttributes:
		return c.setSubscriptionAttributes(ctx)
	case access.ClearSubscriptionFilterTags:
		return c.onSubscription(ctx, c.backend().ClearFilterTags)
	case access.Unsubscribe:
		return c.onSubscription(ctx, c.backend().Unsubscribe)
	case access.ListSubscriptionByAgent:
		return c.listSubscriptionByAgent(ctx)
	case access.DeleteSubscriptionMessage:
		return c.deleteSubscriptionMessage(ctx)
	case access.ChangeSubscriptionMessageVisibility:
		return c.changeSubscriptionMessageVisibility(ctx)
	}
	panic("BUG: action " + c.action.String() + " is in access but not in httpapi")
}

// topic gives the name of the topic.
func (c *call) topic() (string, error) { return c.name("topicName", cmq.ErrTopicName) }

// subscription gives the names of the topic and the subscription.
func (c *call) subscription() (topic, name string, err error) {
	if topic, err = c.topic(); err != nil {
		return "", "", err
	}
	name, err = c.name("subscriptionName", cmq.ErrSubscriptionName)
	return topic, name, err
}

// onSubscription does the actions that take the names of a topic and a subscription and answer nothing.
func (c *call) onSubscription(ctx context.Context, do func(ctx context.Context, owner, topic, name string) error) error {
	topic, name, err := c.subscription()
	if err != nil {
		return err
	}
	if err := do(ctx, c.owner, topic, name); err != nil {
		return err
	}
	c.envelope(nil)
	return nil
}

func (c *call) deleteTopic(ctx context.Context) error {
	name, err := c.topic()
	if err != nil {
		return err
	}
	if err := c.backend().DeleteTopic(ctx, c.owner, name); err != nil {
		return err
	}
	c.envelope(nil)
	return nil
}
