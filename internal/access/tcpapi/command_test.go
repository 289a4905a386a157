package tcpapi

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"

	"github.com/opencmq/cmq/internal/access"
	"github.com/opencmq/cmq/internal/cmq"

	pb "github.com/opencmq/cmq/internal/access/tcpapi/tcppb"
)

// text is an answer as one line, without what every row has.
func text(m *pb.CMQProto) string {
	m = proto.Clone(m).(*pb.CMQProto)
	m.Seqno, m.Cmd = nil, nil
	line, _ := prototext.MarshalOptions{AllowPartial: true}.Marshal(m)
	return strings.Join(strings.Fields(string(line)), " ")
}

// result is a refusal as text shows it.
func result(e *cmq.Error) string { return fmt.Sprintf("result:%d error:%q", e.Module, e.Text) }

const ok = `result:0 error:""`

// TestCommands goes through every command and every way it can be refused.
func TestCommands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.create("small", 30)
		size := int64(1024)
		_, err := r.fake.SetQueueAttributes(t.Context(), "me", "small", cmq.QueueSettings{MaxMsgSize: &size})
		require.NoError(t, err)
		c := r.login()
		big := strings.Repeat("x", 1<<20)
		full := make([]string, 17)
		for i := range full {
			full[i] = "x"
		}
		confirm := func(queue string, items ...int64) *pb.CMQProto {
			m := ask(9, cmdConfirm)
			m.TransactionConfirm = &pb.TransactionConfirm{QueueName: &queue}
			for _, id := range items {
				m.TransactionConfirm.Item = append(m.TransactionConfirm.Item, &pb.TransactionConfirmItem{MsgId: proto.Uint64(uint64(id)), State: proto.Int32(1)})
			}
			return m
		}
		relock := func(queue string, lock uint32, handles ...uint64) *pb.CMQProto {
			m := ask(7, cmdChangeVisibility)
			m.ChangeVisibility = &pb.ChangeVisibility{QueueName: &queue, VisibleTimeout: &lock, ReceiptHandleList: handles}
			return m
		}
		open := func(queue string, id uint64) *pb.CMQProto {
			m := ask(7, cmdOpenSession)
			m.OpenSession = &pb.OpenSession{QueueName: &queue, SessionId: &id}
			return m
		}
		once := func(m *pb.CMQProto, id, epoch, number uint64) *pb.CMQProto {
			s := &pb.Session{Id: &id, Epoch: &epoch, Number: &number, Acked: proto.Uint64(1)}
			if m.TcpSendMsg != nil {
				m.TcpSendMsg.Session = s
			} else {
				m.TcpBatchSendMsg.Session = s
			}
			return m
		}
		with := func(m *pb.CMQProto, change func(*pb.CMQProto)) *pb.CMQProto { change(m); return m }
		for _, row := range []struct {
			name string
			ask  *pb.CMQProto
			want string
		}{
			{"send", sendTo(1, "jq", "a"), ok + " msgids:4503599627382784"},
			{"send, other case", sendTo(1<<62, "JQ", "b"), ok + " msgids:4503599627386880"},
			{"batch send", batchSendTo(-1, "jq", 0, "c", "d"), ok + " msgids:4503599627390976 msgids:4503599627395072"},
			{"send, wrong name", sendTo(2, "j q", "a"), result(cmq.ErrQueueName)},
			{"send, name not UTF-8", sendTo(2, "\xff\xfe", "a"), result(cmq.ErrQueueName)},
			{"send, unknown queue", sendTo(2, "none", "a"), result(cmq.ErrQueueNotExist)},
			{"send, empty body", sendTo(2, "jq", ""), result(cmq.ErrBodyEmpty)},
			{"send, no body", with(sendTo(2, "jq", ""), func(m *pb.CMQProto) { m.TcpSendMsg.MsgBody = nil }), result(cmq.ErrBodyEmpty)},
			{"send, too large for all", sendTo(2, "jq", big+"x"), result(cmq.ErrMsgSize)},
			{"send, too large for this queue", sendTo(2, "small", big), result(cmq.ErrMsgSize)},
			{"send, delay", with(sendTo(2, "jq", "a"), func(m *pb.CMQProto) { m.TcpSendMsg.DelaySeconds = proto.Uint32(6_048_001) }), result(cmq.ErrDelayRange)},
			{"send, transaction", with(sendTo(2, "jq", "a"), func(m *pb.CMQProto) { m.TcpSendMsg.IsTransaction = proto.Int32(1) }), result(cmq.ErrTransaction)},
			{"send, no queue", with(sendTo(2, "jq", "a"), func(m *pb.CMQProto) { m.TcpSendMsg.QueueName = nil }), result(cmq.ErrParameterMissing("queue_name"))},
			{"send, nothing", ask(2, cmdSend), result(cmq.ErrParameterMissing("tcp_send_msg"))},
			{"send, another body", with(receiveFrom(2, "jq", 0), func(m *pb.CMQProto) { m.Cmd = proto.Int32(cmdSend) }), result(cmq.ErrParameterMissing("tcp_send_msg"))},
			{"batch send, none", batchSendTo(2, "jq", 0), result(cmq.ErrParameterBatch("msgBody"))},
			{"batch send, 17", batchSendTo(2, "jq", 0, full...), result(cmq.ErrParameterBatch("msgBody"))},
			{"batch send, one empty", batchSendTo(2, "jq", 0, "a", ""), result(cmq.ErrBodyEmpty)},
			{"batch send, too large", batchSendTo(2, "jq", 0, big, "a"), result(cmq.ErrBatchSize)},
			{"batch send, delay", batchSendTo(2, "jq", 6_048_001, "a"), result(cmq.ErrDelayRange)},
			{"batch send, nothing", ask(2, cmdBatchSend), result(cmq.ErrParameterMissing("tcp_batch_send_msg"))},

			{"receive", receiveFrom(3, "jq", 0), ok + ` pull_rsp:{msg_id:4503599627382784 receipt_handle:7 msg_body:"a" enqueue_time:946684800 next_visible_time:946684830 first_dequeue_time:946684800 dequeue_count:1}`},
			{"receive, own lock", with(receiveFrom(3, "jq", 0), func(m *pb.CMQProto) { m.TcpPullMsg.VisibleTimeout = proto.Uint32(90) }),
				ok + ` pull_rsp:{msg_id:4503599627386880 receipt_handle:8 msg_body:"b" enqueue_time:946684800 next_visible_time:946684890 first_dequeue_time:946684800 dequeue_count:1}`},
			{"batch receive of 20", batchReceiveFrom(3, "jq", 20, 0), ok + ` batch_pull_rsp:{` +
				`msg_list:{msg_id:4503599627390976 receipt_handle:9 msg_body:"c" enqueue_time:946684800 next_visible_time:946684830 first_dequeue_time:946684800 dequeue_count:1} ` +
				`msg_list:{msg_id:4503599627395072 receipt_handle:10 msg_body:"d" enqueue_time:946684800 next_visible_time:946684830 first_dequeue_time:946684800 dequeue_count:1}}`},
			{"receive, nothing there", receiveFrom(4, "jq", 0), result(cmq.ErrNoMessage)},
			{"batch receive, nothing there", batchReceiveFrom(4, "jq", 16, 0), result(cmq.ErrNoMessage)},
			{"receive, the queue's wait", with(receiveFrom(4, "jq", 0), func(m *pb.CMQProto) { m.TcpPullMsg.PollWaitSeconds = nil }), result(cmq.ErrNoMessage)},
			{"receive, unknown queue", receiveFrom(4, "none", 3), result(cmq.ErrQueueNotExist)},
			{"receive, wrong name", receiveFrom(4, "", 3), result(cmq.ErrQueueName)},
			{"receive, negative wait", receiveFrom(4, "jq", -1), result(cmq.ErrParameterRange("poll_wait_seconds"))},
			{"receive, lock of 0", with(receiveFrom(4, "jq", 0), func(m *pb.CMQProto) { m.TcpPullMsg.VisibleTimeout = proto.Uint32(0) }), result(cmq.ErrParameterRange("visible_timeout"))},
			{"receive, lock too long", with(receiveFrom(4, "jq", 0), func(m *pb.CMQProto) { m.TcpPullMsg.VisibleTimeout = proto.Uint32(43201) }), result(cmq.ErrParameterRange("visible_timeout"))},
			{"receive, no queue", with(receiveFrom(4, "jq", 0), func(m *pb.CMQProto) { m.TcpPullMsg.QueueName = nil }), result(cmq.ErrParameterMissing("queue_name"))},
			{"receive, nothing", ask(4, cmdReceive), result(cmq.ErrParameterMissing("tcp_pull_msg"))},
			{"batch receive of 0", batchReceiveFrom(4, "jq", 0, 0), result(cmq.ErrParameterRange("num_msg"))},
			{"batch receive, no number", with(batchReceiveFrom(4, "jq", 0, 0), func(m *pb.CMQProto) { m.TcpBatchPullMsg.NumMsg = nil }), result(cmq.ErrParameterMissing("num_msg"))},
			{"batch receive, nothing", ask(4, cmdBatchReceive), result(cmq.ErrParameterMissing("tcp_batch_pull_msg"))},

			{"delete", deleteFrom(5, "jq", 7), ok},
			{"delete again", deleteFrom(5, "jq", 7), result(cmq.ErrHandleInvalid)},
			{"delete, unknown queue", deleteFrom(5, "none", 7), result(cmq.ErrQueueNotExist)},
			{"delete, no handle", with(deleteFrom(5, "jq", 7), func(m *pb.CMQProto) { m.TcpDeleteMsg.ReceiptHandle = nil }), result(cmq.ErrParameterMissing("receipt_handle"))},
			{"delete, nothing", ask(5, cmdDelete), result(cmq.ErrParameterMissing("tcp_delete_msg"))},
			{"batch delete in part", batchDeleteFrom(6, "jq", 8, 1<<63, 7), result(cmq.ErrDeletePart) +
				` del_result:{receipt_handle:9223372036854775808 err_code:10260 err_msg:"receipt handle is invalid"} del_result:{receipt_handle:7 err_code:10260 err_msg:"receipt handle is invalid"}`},
			{"batch delete", batchDeleteFrom(6, "jq", 9, 10), ok},
			{"batch delete, none valid", batchDeleteFrom(6, "jq", 9), result(cmq.ErrDeleteBatch) + ` del_result:{receipt_handle:9 err_code:10260 err_msg:"receipt handle is invalid"}`},
			{"batch delete of none", batchDeleteFrom(6, "jq"), result(cmq.ErrParameterBatch("receipt_handle_list"))},
			{"batch delete of 257", batchDeleteFrom(6, "jq", make([]uint64, 257)...), result(cmq.ErrParameterBatch("receipt_handle_list"))},
			{"batch delete, unknown queue", batchDeleteFrom(6, "none", 9), result(cmq.ErrQueueNotExist)},
			{"batch delete, nothing", ask(6, cmdBatchDelete), result(cmq.ErrParameterMissing("tcp_batch_delete_msg"))},

			{"send for a lock", sendTo(6, "jq", "locked"), ok + " msgids:4503599627415552"},
			{"receive for a lock", receiveFrom(6, "jq", 0), ok + ` pull_rsp:{msg_id:4503599627415552 receipt_handle:12 msg_body:"locked" enqueue_time:946684800 next_visible_time:946684830 first_dequeue_time:946684800 dequeue_count:1}`},

			{"confirm, not transactional", confirm("jq", 5, 6), result(cmq.ErrConfirm) + ` transaction_confirm_reply:{queue_name:"jq" ` +
				`item:{msg_id:5 state:3 err_code:10790 err_msg:"transaction message is not supported"} item:{msg_id:6 state:3 err_code:10790 err_msg:"transaction message is not supported"}}`},
			{"confirm, unknown queue", confirm("none", 5), result(cmq.ErrQueueNotExist)},
			{"confirm, wrong state", with(confirm("jq", 5), func(m *pb.CMQProto) { m.TransactionConfirm.Item[0].State = proto.Int32(3) }), result(cmq.ErrParameterRange("state"))},
			{"send, transaction with delay", with(sendTo(2, "jq", "a"), func(m *pb.CMQProto) {
				m.TcpSendMsg.IsTransaction, m.TcpSendMsg.DelaySeconds = proto.Int32(1), proto.Uint32(1)
			}), result(cmq.ErrNotAllowed)},
			{"confirm nothing", confirm("jq"), result(cmq.ErrParameterBatch("item"))},
			{"confirm, no body", ask(9, cmdConfirm), result(cmq.ErrParameterMissing("transaction_confirm"))},
			{"change visibility", relock("jq", 60, 12), ok},
			{"change visibility in part", relock("jq", 0, 12, 7), result(cmq.ErrRelockPart) + ` del_result:{receipt_handle:7 err_code:10260 err_msg:"receipt handle is invalid"}`},
			{"change visibility, none valid", relock("jq", 5, 7), result(cmq.ErrRelockBatch) + ` del_result:{receipt_handle:7 err_code:10260 err_msg:"receipt handle is invalid"}`},
			{"change visibility of none", relock("jq", 5), result(cmq.ErrParameterBatch("receipt_handle_list"))},
			{"change visibility of 257", relock("jq", 5, make([]uint64, 257)...), result(cmq.ErrParameterBatch("receipt_handle_list"))},
			{"change visibility, too long", relock("jq", 43201, 12), result(cmq.ErrParameterRange("visible_timeout"))},
			{"change visibility, no time", with(relock("jq", 5, 12), func(m *pb.CMQProto) { m.ChangeVisibility.VisibleTimeout = nil }), result(cmq.ErrParameterMissing("visible_timeout"))},
			{"change visibility, unknown queue", relock("none", 5, 12), result(cmq.ErrQueueNotExist)},
			{"change visibility, wrong name", relock("j q", 5, 12), result(cmq.ErrQueueName)},
			{"change visibility, nothing", ask(7, cmdChangeVisibility), result(cmq.ErrParameterMissing("change_visibility"))},
			{"stop waiting, nothing", ask(7, cmdStopWaiting), result(cmq.ErrParameterMissing("stop_waiting"))},
			{"stop waiting, no number", with(ask(7, cmdStopWaiting), func(m *pb.CMQProto) { m.StopWaiting = &pb.StopWaiting{} }), result(cmq.ErrParameterMissing("seqno"))},

			{"open session", open("jq", 5), ok + " session_epoch:13"},
			{"open session, taken over", open("jq", 5), ok + " session_epoch:14"},
			{"open session, unknown queue", open("none", 5), result(cmq.ErrQueueNotExist)},
			{"open session, wrong name", open("j q", 5), result(cmq.ErrQueueName)},
			{"open session 0", open("jq", 0), result(cmq.ErrParameterRange("session_id"))},
			{"open session, no id", with(open("jq", 5), func(m *pb.CMQProto) { m.OpenSession.SessionId = nil }), result(cmq.ErrParameterMissing("session_id"))},
			{"open session, nothing", ask(7, cmdOpenSession), result(cmq.ErrParameterMissing("open_session"))},
			{"send once", once(sendTo(6, "jq", "once"), 5, 14, 1), ok + " msgids:4503599627431936"},
			{"send once more", once(sendTo(6, "jq", "once"), 5, 14, 1), ok + " msgids:4503599627431936"},
			{"batch send once", once(batchSendTo(6, "jq", 0, "a", "b"), 5, 14, 2), ok + " msgids:4503599627436032 msgids:4503599627440128"},
			{"batch send once more", once(batchSendTo(6, "jq", 0, "a", "b"), 5, 14, 2), ok + " msgids:4503599627436032 msgids:4503599627440128"},
			{"send in a session that was taken over", once(sendTo(6, "jq", "x"), 5, 13, 3), result(cmq.ErrSession)},
			{"send in a session of 0", once(sendTo(6, "jq", "x"), 0, 1, 3), result(cmq.ErrParameterRange("id"))},
			{"send in a session, number 0", once(sendTo(6, "jq", "x"), 5, 14, 0), result(cmq.ErrParameterRange("number"))},
			{"send in a session, no epoch", with(once(sendTo(6, "jq", "x"), 5, 14, 3), func(m *pb.CMQProto) { m.TcpSendMsg.Session.Epoch = nil }), result(cmq.ErrParameterMissing("epoch"))},
			{"send in a session, no number", with(once(sendTo(6, "jq", "x"), 5, 14, 3), func(m *pb.CMQProto) { m.TcpSendMsg.Session.Number = nil }), result(cmq.ErrParameterMissing("number"))},
			{"send in a session, no id", with(once(sendTo(6, "jq", "x"), 5, 14, 3), func(m *pb.CMQProto) { m.TcpSendMsg.Session.Id = nil }), result(cmq.ErrParameterMissing("id"))},
			{"send in a session, prepared", with(once(sendTo(6, "jq", "x"), 5, 14, 3), func(m *pb.CMQProto) { m.TcpSendMsg.IsTransaction = proto.Int32(1) }), result(cmq.ErrNotAllowed)},

			{"heartbeat", ask(27, cmdHeartbeat), ok},
			{"query from a client", ask(28, cmdQuery), result(cmq.ErrAction("1042"))},
			{"unknown command", ask(28, 1100), result(cmq.ErrAction("1100"))},
			{"negative command", ask(28, -5), result(cmq.ErrAction("-5"))},
			{"body that does not parse", with(ask(29, cmdSend), func(m *pb.CMQProto) {
				m.ProtoReflect().SetUnknown([]byte{0xc2, 0x0c, 1, 0xff}) // field 200
			}), result(cmq.ErrParameters)},
			{"body with a group", with(ask(29, cmdSend), func(m *pb.CMQProto) { m.ProtoReflect().SetUnknown([]byte{0xc2, 0x0c, 1, 0x0b}) }), result(cmq.ErrParameters)},
			{"log in again", authFrame(30, goldenID, goldenSecret), fmt.Sprintf("result:307 error:%q", textAuthorized)},
		} {
			require.Equal(t, row.want, text(c.call(row.ask)), row.name)
		}
		c.conn.Close()
	})
}

// TestOneWay: no answer, whether it works or not.
func TestOneWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		c := r.login()
		for _, m := range []*pb.CMQProto{sendTo(1, "jq", "a"), sendTo(2, "none", "a"), sendTo(3, "jq", ""), deleteFrom(4, "jq", 1), batchDeleteFrom(5, "jq", 1)} {
			m.IsOneway = proto.Int32(1)
			c.send(m)
		}
		synctest.Wait()
		c.silent()
		m := receiveFrom(6, "jq", 0)
		m.IsOneway = proto.Int32(1)
		require.Equal(t, "a", string(c.call(m).PullRsp.MsgBody), "whoever receives wants to know what")
		c.conn.Close()
	})
}

// TestFailuresOfTheBackend: the module numbers of the catalogue, and nothing of what went wrong.
func TestFailuresOfTheBackend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		c := r.login()
		relockOne := ask(1, cmdChangeVisibility)
		relockOne.ChangeVisibility = &pb.ChangeVisibility{QueueName: proto.String("jq"), VisibleTimeout: proto.Uint32(5), ReceiptHandleList: []uint64{1}}
		for err, want := range map[error]map[*pb.CMQProto]*cmq.Error{
			errors.New("disk on fire"): {sendTo(1, "jq", "a"): cmq.ErrSendFailed, batchSendTo(1, "jq", 0, "a"): cmq.ErrSendFailed,
				receiveFrom(1, "jq", 3): cmq.ErrReceive, batchReceiveFrom(1, "jq", 3, 3): cmq.ErrReceive, batchReceiveFrom(2, "jq", 3, 0): cmq.ErrReceive,
				deleteFrom(1, "jq", 1): cmq.ErrDelete, batchDeleteFrom(1, "jq", 1): cmq.ErrDelete, relockOne: cmq.ErrRelock},
			cmq.ErrBusy:     {sendTo(1, "jq", "a"): cmq.ErrThrottled, receiveFrom(1, "jq", 3): cmq.ErrThrottled},
			cmq.ErrHeapFull: {sendTo(1, "jq", "a"): cmq.ErrHeapFull},
			cmq.ErrTooMany:  {receiveFrom(1, "jq", 3): cmq.ErrTooMany},
			cmq.ErrDiskFull: {sendTo(1, "jq", "a"): cmq.ErrDiskFull},
		} {
			r.fake.Fail = func(access.Action) error { return err }
			for m, refused := range want {
				require.Equal(t, result(refused), text(c.call(m)), "%v: %v", err, m)
			}
		}
		r.fake.Fail = nil
		require.Zero(t, r.door.memory.Load())
		require.Zero(t, r.door.config.Polls.Open())
		c.conn.Close()
	})
}

func TestAuth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		c := r.dial()
		notYet := fmt.Sprintf("result:306 error:%q", textNotAuthorized)
		for _, m := range []*pb.CMQProto{sendTo(1, "jq", "a"), receiveFrom(2, "jq", 3), ask(3, cmdHeartbeat), ask(4, 1100), ask(5, cmdConfirm)} {
			require.Equal(t, notYet, text(c.call(m)))
		}
		broken := authFrame(6, goldenID, goldenSecret)
		broken.TcpAuth.SignatureMethod = nil
		for _, row := range []struct {
			ask  *pb.CMQProto
			want string
		}{
			{authFrame(7, goldenID, "wrong"), result(cmq.ErrSignature)},
			{authFrame(7, "AKIDnobody", goldenSecret), result(cmq.ErrKeyUnknown)},
			{authFrame(7, "AKIDoff", goldenSecret), result(cmq.ErrKeyDisabled)},
			{ask(7, cmdAuth), result(cmq.ErrParameterMissing("tcp_auth"))},
			{broken, result(cmq.ErrParameterMissing("signature_method"))},
			{receiveFrom(8, "jq", 3), notYet},
			{authFrame(9, goldenID, goldenSecret), ok},
			{authFrame(9, goldenID, "whatever"), fmt.Sprintf("result:307 error:%q", textAuthorized)},
			{authFrame(9, "AKIDyou", "wrong"), result(cmq.ErrSignature)},
			{receiveFrom(8, "jq", 0), result(cmq.ErrNoMessage)},
			{authFrame(9, "AKIDyou", goldenSecret), ok},
			{receiveFrom(8, "jq", 0), result(cmq.ErrQueueNotExist)},
		} {
			require.Equal(t, row.want, text(c.call(row.ask)), "%v", row.ask)
		}
		you, _ := r.keys.Key("AKIDyou")
		off := *you
		off.Enabled = false
		r.keys.set("AKIDyou", &off)
		require.Equal(t, notYet, text(c.call(receiveFrom(8, "jq", 0))), "a key that is switched off stops working at once")
		require.Equal(t, result(cmq.ErrKeyDisabled), text(c.call(authFrame(9, "AKIDyou", goldenSecret))))
		require.Equal(t, ok, text(c.call(authFrame(9, goldenID, goldenSecret))))
		c.conn.Close()
	})
}

// TestGoldenAuth: the published client's own frames, whose numbers run backwards: it numbers its command first.
func TestGoldenAuth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		for _, frame := range []string{goldenAuth1, goldenAuth256} {
			c := r.dial()
			c.hex(frame)
			require.Equal(t, goldenAuthOK, fmt.Sprintf("%x", c.raw()))
			c.hex(goldenSend)
			a := c.next()
			require.EqualValues(t, 1, a.GetSeqno())
			require.Len(t, a.Msgids, 1)
			c.conn.Close()
		}
	})
}

func TestTooManyAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		c := r.dial()
		for range maxAttempts {
			require.Equal(t, result(cmq.ErrSignature), text(c.call(authFrame(1, goldenID, "wrong"))))
		}
		c.closed()
	})
}

func TestWhoSaysNothingIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		began := time.Now()
		r.dial().closed()
		require.Equal(t, 10*time.Second, time.Since(began), "a stranger")

		began = time.Now()
		stranger := r.dial()
		for range 9 {
			<-time.After(time.Second)
			require.EqualValues(t, resultNotAuthorized, stranger.call(ask(1, cmdHeartbeat)).GetResult())
		}
		stranger.closed()
		require.Equal(t, 10*time.Second, time.Since(began), "a stranger who talks")

		c := r.login()
		for range 10 {
			<-time.After(50 * time.Second)
			require.Equal(t, ok, text(c.call(ask(1, cmdHeartbeat))))
		}
		began = time.Now()
		c.closed()
		require.InDelta(t, 60, time.Since(began).Seconds(), 15, "a silent client")

		c = r.login()
		began = time.Now()
		frame := frameOf(t, sendTo(1, "jq", strings.Repeat("x", 1000)))
		stopped := make(chan struct{})
		go func() {
			defer close(stopped)
			for i := range frame {
				if _, err := c.conn.Write(frame[i : i+1]); err != nil {
					return
				}
				<-time.After(time.Second)
			}
		}()
		c.closed()
		require.InDelta(t, 60, time.Since(began).Seconds(), 15, "a byte a second")
		<-stopped
	})
}
