package tcpapi

import (
	"github.com/opencmq/cmq/internal/access"
	"github.com/opencmq/cmq/internal/cmq"
)

// publish carries out commands 1027 and 1028. There are no topics yet, so after the checks that need none the answer is
// that this one does not exist.
func (c *conn) publish() {
	v := publishView{batch: c.envelope.cmd == cmdBatchPublish}
	r := c.newRequest(access.SendMessage)
	r.plain(c.checkPublish(&v))
}

func (c *conn) checkPublish(v *publishView) (refused *cmq.Error) {
	if v.batch {
		refused = c.body(fieldBatchPublish, "tcp_batch_publish_msg", v)
	} else {
		refused = c.body(fieldPublish, "tcp_publish_msg", v)
	}
	switch {
	case refused != nil:
		return refused
	case !v.hasTopic:
		return cmq.ErrParameterMissing("topic_name")
	case !cmq.ValidName(v.topic):
		return cmq.ErrTopicName
	}
	if _, refused := c.checkBodies(v.bodies, v.batch); refused != nil {
		return refused
	}
	return cmq.ErrTopicNotExist
}
