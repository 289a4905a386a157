package httpapi

import (
	"github.com/opencmq/cmq/internal/access"
	"github.com/opencmq/cmq/internal/cmq"
)

func (c *call) publishMessage() error {
	ids, err := c.publish(c.oneBody)
	if err == nil {
		c.msgID(ids)
	}
	return err
}

func (c *call) batchPublishMessage() error {
	ids, err := c.publish(c.batchBodies)
	if err == nil {
		c.msgList(ids)
	}
	return err
}

// publish stores what read gives, with one set of tags and one key for all.
func (c *call) publish(read func() ([][]byte, error)) ([]cmq.MsgID, error) {
	name, err := c.topic()
	if err != nil {
		return nil, err
	}
	bodies, err := read()
	if err != nil {
		return nil, err
	}
	publication, err := c.publication()
	if err != nil {
		return nil, err
	}
	return await(c, c.ends(), func(done func([]cmq.MsgID, error)) cmq.Pending {
		return c.backend().StartPublish(c.owner, name, bodies, publication, done)
	})
}

func (c *call) publication() (p cmq.Publication, err error) {
	key, err := c.find("routingKey")
	if err == nil && len(key) == 0 {
		key, err = c.find("routingkey") // the C++ client's, for a batch
	}
	if err != nil {
		return p, err
	}
	tags, err := c.entries("msgTag", c.door.config.Limits.Tags)
	switch {
	case err == errTooMany:
		return p, cmq.ErrMsgTags
	case err != nil:
		return p, err
	}
	p, refusal := access.ReadPublication(&c.door.config.Limits, tags, key)
	if refusal != nil {
		return p, refusal
	}
	return p, nil
}
