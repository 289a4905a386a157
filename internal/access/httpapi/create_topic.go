package httpapi

import (
	"context"

	"github.com/opencmq/cmq/internal/cmq"
)

func (c *call) createTopic(ctx context.Context) error {
	name, err := c.topic()
	if err != nil {
		return err
	}
	settings, err := c.topicSettings()
	if err != nil {
		return err
	}
	if settings.Filter, err = c.filterType(); err != nil {
		return err
	}
	id, err := c.backend().CreateTopic(ctx, c.owner, name, settings)
	if err != nil {
		return err
	}
	c.envelope(nil)
	c.text("topicId", id.String())
	return nil
}

func (c *call) setTopicAttributes(ctx context.Context) error {
	name, err := c.topic()
	if err != nil {
		return err
	}
	settings, err := c.topicSettings()
	if err != nil {
		return err
	}
	if err := c.backend().SetTopicAttributes(ctx, c.owner, name, settings); err != nil {
		return err
	}
	c.envelope(nil)
	return nil
}

// topicSettings reads the attributes that CreateTopic and SetTopicAttributes have in common. The last two are published
// only for API 3.0.
func (c *call) topicSettings() (s cmq.TopicSettings, err error) {
	l := &c.door.config.Limits
	if s.MaxMsgSize, err = c.integer("maxMsgSize", l.MaxMsgSize); err != nil {
		return s, err
	}
	if s.MsgRetentionSeconds, err = c.integer("msgRetentionSeconds", l.TopicRetention); err != nil {
		return s, err
	}
	s.Trace, err = c.boolean("trace")
	return s, err
}

// filterType reads by what the topic filters; nil if it is not given.
func (c *call) filterType() (*cmq.FilterType, error) {
	given, err := c.integer("filterType", cmq.Range{Min: int64(cmq.FilterTags), Max: int64(cmq.FilterKeys)})
	if err != nil || given == nil {
		return nil, err
	}
	filter := cmq.FilterType(*given)
	return &filter, nil
}
