package tcpapi

import (
	"github.com/opencmq/cmq/internal/access"
	"github.com/opencmq/cmq/internal/cmq"
)

// publish carries out commands 1027 and 1028.
func (c *conn) publish() {
	var r *request
	v := publishView{batch: c.envelope.cmd == cmdBatchPublish}
	if v.batch {
		r = c.newRequest(access.BatchPublishMessage)
	} else {
		r = c.newRequest(access.PublishMessage)
		v.bodies = r.body[:0]
	}
	publication, refused := c.checkPublish(r, &v)
	if refused != nil {
		r.plain(refused)
		return
	}
	if !c.beginSend(r) {
		return
	}
	r.keep(c.door.config.Backend.StartPublish(r.owner, r.name, v.bodies, publication, r.sent))
}

// checkPublish reads and checks the body.
func (c *conn) checkPublish(r *request, v *publishView) (p cmq.Publication, refused *cmq.Error) {
	if v.batch {
		refused = c.body(fieldBatchPublish, "tcp_batch_publish_msg", v)
	} else {
		refused = c.body(fieldPublish, "tcp_publish_msg", v)
	}
	switch {
	case refused != nil:
		return p, refused
	case !v.hasTopic:
		return p, cmq.ErrParameterMissing("topic_name")
	case !cmq.ValidName(v.topic):
		return p, cmq.ErrTopicName
	}
	r.name = string(v.topic)
	if r.size, refused = c.checkBodies(v.bodies, v.batch); refused != nil {
		return p, refused
	}
	return access.ReadPublication(&c.door.config.Limits, v.tags, v.key)
}
