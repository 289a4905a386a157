package httpapi

import "context"

func (c *call) getTopicAttributes(ctx context.Context) error {
	name, err := c.topic()
	if err != nil {
		return err
	}
	topic, messages, err := c.backend().TopicAttributes(ctx, c.owner, name)
	if err != nil {
		return err
	}
	c.envelope(nil)
	c.number("msgCount", messages)
	c.number("maxMsgSize", int64(topic.MaxMsgSize))
	c.seconds("msgRetentionSeconds", topic.MsgRetention)
	c.unix("createTime", topic.Created)
	c.unix("lastModifyTime", topic.Modified)
	c.number("filterType", int64(topic.Filter))
	return nil
}
