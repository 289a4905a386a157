package tcpapi

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/opencmq/cmq/internal/cmq"

	pb "github.com/opencmq/cmq/internal/access/tcpapi/tcppb"
)

// prepareIn is a transactional send as the published client makes it.
func prepareIn(seqno int64, queue string, interval int32, bodies ...string) *pb.CMQProto {
	m := batchSendTo(seqno, queue, 0, bodies...)
	m.TcpBatchSendMsg.DelaySeconds = nil
	m.TcpBatchSendMsg.IsTransaction, m.TcpBatchSendMsg.FirstQueryInterval = proto.Int32(1), &interval
	return m
}

// decide is a confirmation: ids and states in turn.
func decide(seqno int64, queue string, pairs ...uint64) *pb.CMQProto {
	m := ask(seqno, cmdConfirm)
	m.TransactionConfirm = &pb.TransactionConfirm{QueueName: &queue}
	for i := 0; i < len(pairs); i += 2 {
		m.TransactionConfirm.Item = append(m.TransactionConfirm.Item, &pb.TransactionConfirmItem{MsgId: &pairs[i], State: proto.Int32(int32(pairs[i+1]))})
	}
	return m
}

func (r *rig) transactional(name string) {
	on := true
	_, err := r.fake.CreateQueue(r.t.Context(), "me", name, cmq.QueueSettings{Transaction: &on})
	require.NoError(r.t, err)
}

func TestTransactions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.transactional("jtx")
		producer, consumer := r.login(), r.login()
		ids := producer.call(prepareIn(1, "jtx", 5, "a", "b", "c")).Msgids
		require.Len(t, ids, 3)
		require.Equal(t, result(cmq.ErrNoMessage), text(consumer.call(receiveFrom(1, "jtx", 0))), "prepared, not sent")

		a := producer.call(decide(2, "jtx", ids[0], stateCommit, ids[1], stateRollback))
		require.Zero(t, a.GetResult())
		require.Equal(t, []int32{stateCommit, stateRollback}, []int32{a.TransactionConfirmReply.Item[0].GetState(), a.TransactionConfirmReply.Item[1].GetState()})
		require.Equal(t, []string{"a"}, bodiesOf(consumer.call(batchReceiveFrom(2, "jtx", 16, 0))))

		a = producer.call(decide(3, "jtx", ids[0], stateRollback, ids[2], stateCommit))
		require.EqualValues(t, cmq.ErrConfirmPart.Module, a.GetResult(), "queries and confirmations may cross")
		require.EqualValues(t, cmq.ErrNotPrepared.Module, a.TransactionConfirmReply.Item[0].GetErrCode())
		require.Equal(t, []string{"c"}, bodiesOf(consumer.call(batchReceiveFrom(3, "jtx", 16, 0))))

		one := decide(4, "jtx", ids[0], stateCommit)
		one.IsOneway = proto.Int32(1)
		producer.send(one)
		require.Equal(t, ok, text(producer.call(ask(5, cmdHeartbeat))))
		for _, c := range []*client{producer, consumer} {
			c.conn.Close()
		}
	})
}

// TestQueries: who sent is asked after the interval, and its confirmation has a number of its own; if it has gone, another
// connection that sent to the queue is asked.
func TestQueries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.transactional("jtx")
		sender, other, consumer := r.login(), r.login(), r.login()
		began := time.Now()
		other.call(prepareIn(1, "JTX", 900, "other"))
		id := sender.call(prepareIn(1, "jtx", 5000, "a")).Msgids[0]
		query := sender.next()
		require.Equal(t, 5*time.Second, time.Since(began), "5000 are milliseconds")
		require.EqualValues(t, cmdQuery, query.GetCmd())
		require.Equal(t, "jtx", query.TransactionQuery.GetQueueName())
		require.Equal(t, id, query.TransactionQuery.GetMsgId())

		sender.conn.Close()
		query = other.next()
		require.Equal(t, 10*time.Second, time.Since(began))
		require.Equal(t, "JTX", query.TransactionQuery.GetQueueName(), "as this client spells it")
		require.Equal(t, id, query.TransactionQuery.GetMsgId())
		other.send(decide(77, "JTX", id, stateCommit))
		require.Zero(t, other.next().GetResult())
		require.Equal(t, []string{"a"}, bodiesOf(consumer.call(receiveFrom(1, "jtx", 0))))
		for _, c := range []*client{other, consumer} {
			c.conn.Close()
		}
	})
}

func TestQueryInterval(t *testing.T) {
	limit := cmq.Range{Min: 1, Max: 3600}
	for n, want := range map[int32]time.Duration{
		-5: 0, 0: 0, 1: time.Second, 5: 5 * time.Second, 999: 999 * time.Second, 1000: time.Second, 5000: 5 * time.Second, 1<<31 - 1: time.Hour,
	} {
		require.Equal(t, want, queryInterval(n, limit), "%d", n)
	}
}

// TestMany: what published clients may ask for by their documents, and what they may not.
func TestMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		c := r.login()
		for range 20 {
			r.send("1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16")
		}
		list := c.call(batchReceiveFrom(1, "jq", 1000, 30)).BatchPullRsp.MsgList
		require.Len(t, list, 256)
		var handles []uint64
		for _, m := range list {
			handles = append(handles, m.GetReceiptHandle())
		}
		require.Equal(t, ok, text(c.call(batchDeleteFrom(2, "jq", handles...))))
		require.Len(t, c.call(batchReceiveFrom(3, "jq", 20, 30)).BatchPullRsp.MsgList, 20)
		c.conn.Close()
	})
}
