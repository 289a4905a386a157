package tcpapi

import (
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/opencmq/cmq/internal/access"
	"github.com/opencmq/cmq/internal/cmq"

	pb "github.com/opencmq/cmq/internal/access/tcpapi/tcppb"
)

// topic makes a topic. If filter is not empty, it has a subscription with this tag or binding key that delivers to the
// queue sub, which is made for it if need be.
func (r *rig) topic(name string, by cmq.FilterType, filter string) {
	ctx := r.t.Context()
	_, err := r.fake.CreateTopic(ctx, "me", name, cmq.TopicSettings{Filter: &by})
	require.NoError(r.t, err)
	if filter == "" {
		return
	}
	if _, err := r.fake.CreateQueue(ctx, "me", "sub", cmq.QueueSettings{}); err != cmq.ErrQueueExists {
		require.NoError(r.t, err)
	}
	protocol, endpoint, list := cmq.ProtocolQueue, "sub", []string{filter}
	_, err = r.fake.Subscribe(ctx, "me", name, "s", cmq.SubscriptionSettings{Protocol: &protocol, Endpoint: &endpoint, Tags: &list, Keys: &list})
	require.NoError(r.t, err)
}

// publishTo publishes one message with a tag, or several with a key.
func publishTo(seqno int64, topic string, bodies ...string) *pb.CMQProto {
	if len(bodies) == 1 {
		m := ask(seqno, cmdPublish)
		m.TcpPublishMsg = &pb.PublishMsg{TopicName: &topic, MsgBody: []byte(bodies[0]), MsgTags: []string{"red"}}
		return m
	}
	m := ask(seqno, cmdBatchPublish)
	m.TcpBatchPublishMsg = &pb.BatchPublishMsg{TopicName: &topic, RoutingKey: proto.String("a.b")}
	for _, b := range bodies {
		m.TcpBatchPublishMsg.MsgBody = append(m.TcpBatchPublishMsg.MsgBody, []byte(b))
	}
	return m
}

// TestPublish goes through the ways commands 1027 and 1028 are answered.
func TestPublish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.topic("jt", cmq.FilterTags, "red")
		r.topic("keys", cmq.FilterKeys, "a.*")
		r.topic("alone", cmq.FilterTags, "")
		c := r.login()
		big := strings.Repeat("x", 1<<20)
		full := strings.Split(strings.Repeat("x", 17), "")
		one := func(change func(*pb.PublishMsg)) *pb.CMQProto {
			m := publishTo(9, "jt", "x")
			change(m.TcpPublishMsg)
			return m
		}
		for _, row := range []struct {
			name string
			ask  *pb.CMQProto
			want string
		}{
			{"publish", publishTo(9, "jt", "x"), ok + " msgids:4503599627403264"},
			{"publish, other case", publishTo(9, "JT", "x"), ok + " msgids:4503599627407360"},
			{"publish, unknown topic", publishTo(9, "none", "x"), result(cmq.ErrTopicNotExist)},
			{"publish, a queue", publishTo(9, "jq", "x"), result(cmq.ErrTopicNotExist)},
			{"publish, wrong name", publishTo(9, "9", "x"), result(cmq.ErrTopicName)},
			{"publish, empty", publishTo(9, "jt", ""), result(cmq.ErrBodyEmpty)},
			{"publish, too large for this topic", publishTo(9, "jt", big), result(cmq.ErrMsgSize)},
			{"publish, too large for all", publishTo(9, "jt", big+"x"), result(cmq.ErrMsgSize)},
			{"publish, nobody there", publishTo(9, "alone", "x"), result(cmq.ErrNoSubscription)},
			{"publish, no match", one(func(m *pb.PublishMsg) { m.MsgTags = []string{"green"} }), result(cmq.ErrNoMatch)},
			{"publish, no key", publishTo(9, "keys", "x"), result(cmq.ErrRoutingKey)},
			{"publish, empty key", one(func(m *pb.PublishMsg) { m.TopicName, m.RoutingKey = proto.String("keys"), proto.String("") }), result(cmq.ErrRoutingKey)},
			{"publish, 6 tags", one(func(m *pb.PublishMsg) { m.MsgTags = full[:6] }), result(cmq.ErrMsgTags)},
			{"publish, long tag", one(func(m *pb.PublishMsg) { m.MsgTags = []string{strings.Repeat("x", 17)} }), result(cmq.ErrParameterRange("msgTag"))},
			{"publish, long key", one(func(m *pb.PublishMsg) { m.RoutingKey = proto.String(strings.Repeat("x", 65)) }), result(cmq.ErrParameterRange("routingKey"))},
			{"publish, 16 dots", one(func(m *pb.PublishMsg) { m.RoutingKey = proto.String(strings.Repeat(".", 16)) }), result(cmq.ErrDots)},
			{"publish, nothing", ask(9, cmdPublish), result(cmq.ErrParameterMissing("tcp_publish_msg"))},
			{"publish, no topic", one(func(m *pb.PublishMsg) { m.TopicName = nil }), result(cmq.ErrParameterMissing("topic_name"))},
			{"batch publish", publishTo(9, "keys", "x", "y"), ok + " msgids:4503599627411456 msgids:4503599627415552"},
			{"batch publish, no match", publishTo(9, "jt", "x", "y"), result(cmq.ErrNoMatch)},
			{"batch publish, one empty", publishTo(9, "keys", "x", ""), result(cmq.ErrBodyEmpty)},
			{"batch publish, 17", publishTo(9, "keys", full...), result(cmq.ErrParameterBatch("msgBody"))},
			{"batch publish, too large", publishTo(9, "keys", big, "y"), result(cmq.ErrBatchSize)},
			{"batch publish, nothing", ask(9, cmdBatchPublish), result(cmq.ErrParameterMissing("tcp_batch_publish_msg"))},
			{"batch receive of what was published", batchReceiveFrom(9, "sub", 9, 0), ok + ` batch_pull_rsp:{` +
				`msg_list:{msg_id:4503599627403264 receipt_handle:12 msg_body:"x" enqueue_time:946684800 next_visible_time:946684830 first_dequeue_time:946684800 dequeue_count:1} ` +
				`msg_list:{msg_id:4503599627407360 receipt_handle:13 msg_body:"x" enqueue_time:946684800 next_visible_time:946684830 first_dequeue_time:946684800 dequeue_count:1} ` +
				`msg_list:{msg_id:4503599627411456 receipt_handle:14 msg_body:"x" enqueue_time:946684800 next_visible_time:946684830 first_dequeue_time:946684800 dequeue_count:1} ` +
				`msg_list:{msg_id:4503599627415552 receipt_handle:15 msg_body:"y" enqueue_time:946684800 next_visible_time:946684830 first_dequeue_time:946684800 dequeue_count:1}}`},
		} {
			require.Equal(t, row.want, text(c.call(row.ask)), row.name)
		}
		c.conn.Close()
	})
}

// TestGoldenPublished: the published client's own frame, and byte for byte what it is answered.
func TestGoldenPublished(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.topic("jt", cmq.FilterTags, "blue")
		c := r.login()
		c.hex(goldenPublish)
		require.Equal(t, "000019000000080c10830818002200e80180a0818080808008", hex.EncodeToString(c.raw()))
		require.Equal(t, "tagged", string(c.call(receiveFrom(13, "sub", 0)).PullRsp.MsgBody))
		c.conn.Close()
	})
}

// TestPublishOneWay: no answer, whether it works or not.
func TestPublishOneWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.topic("jt", cmq.FilterTags, "red")
		c := r.login()
		for _, m := range []*pb.CMQProto{publishTo(1, "jt", "x"), publishTo(2, "none", "x"), publishTo(3, "jt", ""), publishTo(4, "jt", "x", "y")} {
			m.IsOneway = proto.Int32(1)
			c.send(m)
		}
		synctest.Wait()
		c.silent()
		require.Equal(t, ok+` pull_rsp:{msg_id:4503599627390976 receipt_handle:6 msg_body:"x" enqueue_time:946684800 next_visible_time:946684830 first_dequeue_time:946684800 dequeue_count:1}`,
			text(c.call(receiveFrom(5, "sub", 0))))
		c.conn.Close()
	})
}

// TestPublishFails: the server's failure is told as for a send, what takes too long too, and no memory stays counted.
func TestPublishFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.topic("jt", cmq.FilterTags, "red")
		c := r.login()
		for err, want := range map[error]*cmq.Error{errors.New("disk on fire"): cmq.ErrSendFailed, cmq.ErrBusy: cmq.ErrThrottled, cmq.ErrDiskFull: cmq.ErrDiskFull} {
			r.fake.Fail = func(access.Action) error { return err }
			require.Equal(t, result(want), text(c.call(publishTo(1, "jt", "x"))))
			require.Equal(t, result(want), text(c.call(publishTo(1, "jt", "x", "y"))))
		}
		answer := make(chan struct{})
		r.fake.Fail = func(access.Action) error { <-answer; return errors.New("at last") }
		begin := time.Now()
		require.Equal(t, result(cmq.ErrSendFailed), text(c.call(publishTo(1, "jt", "x"))))
		require.Equal(t, r.door.config.CallTimeout, time.Since(begin))
		close(answer)
		require.Zero(t, r.door.memory.Load())
		c.conn.Close()
	})
}
