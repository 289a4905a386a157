package tcpapi

import (
	"encoding/hex"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/opencmq/cmq/internal/cmq"

	pb "github.com/opencmq/cmq/internal/access/tcpapi/tcppb"
)

// The golden frames of the protocol, made with the published client.
const (
	goldenAuth1    = "000052000000080210fc07ba0c440a08414b494474657374121c377050444e4c2f51534c6e4e653068586d576f79535a4b43776c303d1a1031302e312e322e334044454641554c542208486d616353484131"
	goldenAuth256  = "000064000000080210fc07ba0c560a08414b494474657374122c4c7854697961786f6c346c6a45594b64765657666c386350574b303767576c5872486f4c30716f714f644d3d1a1031302e312e322e334044454641554c54220a486d6163534841323536"
	goldenAuthOK   = "00000f000000080210fc0718002200"
	goldenSend     = "00001b000000080110fd075001c20c0b0a026a71120568656c6c6f"
	goldenSent     = "000016000000080110fd0718002200e8018194ebdc03"
	goldenReceive  = "000014000000080610ff07d20c060a026a711002"
	goldenReceived = "000026000000080610ff071800d20116088194ebdc03188198808080808005220568656c6c6f"
	// The same message as a dead letter, with everything this server tells: made from the description, field by field.
	goldenDeadLetter  = "000054000000080610ff0718002200d20142088194ebdc03188198808080808005220568656c6c6f2881e2cfaa063082e2cfaa063883e2cfaa0640044a0e71756575652d30303030303030615080a0f8fa055803"
	goldenNothing     = "00001a000000080b10ff0718d84f220a6e6f206d657373616765"
	goldenPublish     = "000027000000080c1083085005820d170a026a7412067461676765641a037265641a04626c7565"
	goldenDelete      = "00001d000000080a108208fa0c0f0a026a71108298808080808005107b"
	goldenPartly      = "000028000000080a10820818a64f22077061727469616ce2010e087b1094501a07696e76616c6964"
	goldenHeartbeat   = "00000b000000081b109008"
	goldenTransaction = "00001e000000081110fd075008c20c0e0a036a7478120374783120012805"
	goldenQuery       = "00001a00000008d936109208fa0d0b0a036a7478109094ebdc03"
	goldenConfirm     = "0000270000000818109108ea0d190a036a74781208089194ebdc0310011208089294ebdc031002"
)

func parse(t *testing.T, frame string) *envelope {
	t.Helper()
	b, err := hex.DecodeString(frame)
	require.NoError(t, err)
	n, err := frameLength(b, 1<<20)
	require.NoError(t, err)
	require.Len(t, b, n)
	e := new(envelope)
	require.NoError(t, e.parse(b[headerSize:]))
	return e
}

func (e *envelope) mustRead(t *testing.T, field int32, v view) {
	t.Helper()
	found, err := e.read(protowire.Number(field), v)
	require.NoError(t, err)
	require.True(t, found)
}

func TestGoldenRequests(t *testing.T) {
	for _, frame := range []struct{ hex, signature, method string }{
		{goldenAuth1, "7pPDNL/QSLnNe0hXmWoySZKCwl0=", "HmacSHA1"}, {goldenAuth256, "LxTiyaxol4ljEYKdvVWfl8cPWK07gWlXrHoL0qoqOdM=", "HmacSHA256"},
	} {
		e := parse(t, frame.hex)
		require.Equal(t, []any{int64(2), int32(cmdAuth)}, []any{e.seqno, e.cmd})
		var a authView
		e.mustRead(t, fieldAuth, &a)
		require.Equal(t, []string{goldenID, frame.signature, goldenClient, frame.method}, []string{string(a.secretID), string(a.signature), string(a.clientID), string(a.method)})
		require.Empty(t, a.missing())
	}

	e := parse(t, goldenSend)
	require.Equal(t, []any{int64(1), int32(cmdSend), int32(0)}, []any{e.seqno, e.cmd, e.oneWay})
	var s sendView
	e.mustRead(t, fieldSend, &s)
	require.Equal(t, sendView{queue: []byte("jq"), hasQueue: true, bodies: [][]byte{[]byte("hello")}}, s)

	e = parse(t, goldenReceive)
	require.Equal(t, []any{int64(6), int32(cmdReceive)}, []any{e.seqno, e.cmd})
	var r receiveView
	e.mustRead(t, fieldReceive, &r)
	require.Equal(t, receiveView{queue: []byte("jq"), hasQueue: true, wait: 2, hasWait: true}, r)

	e = parse(t, goldenPublish)
	require.Equal(t, []any{int64(12), int32(cmdPublish)}, []any{e.seqno, e.cmd})
	var p publishView
	e.mustRead(t, fieldPublish, &p)
	require.Equal(t, publishView{topic: []byte("jt"), hasTopic: true, bodies: [][]byte{[]byte("tagged")}, tags: [][]byte{[]byte("red"), []byte("blue")}}, p)

	e = parse(t, goldenDelete)
	require.Equal(t, []any{int64(10), int32(cmdBatchDelete)}, []any{e.seqno, e.cmd})
	d := deleteView{batch: true}
	e.mustRead(t, fieldBatchDelete, &d)
	require.Equal(t, deleteView{batch: true, queue: []byte("jq"), hasQueue: true, handles: []uint64{2814749767109634, 123}}, d)

	e = parse(t, goldenHeartbeat)
	require.Equal(t, []any{int64(27), int32(cmdHeartbeat), 0}, []any{e.seqno, e.cmd, e.bodies})

	e = parse(t, goldenTransaction)
	s = sendView{}
	e.mustRead(t, fieldSend, &s)
	require.Equal(t, sendView{queue: []byte("jtx"), hasQueue: true, bodies: [][]byte{[]byte("tx1")}, transaction: 1, firstQueryInterval: 5}, s)

	e = parse(t, goldenConfirm)
	require.Equal(t, []any{int64(24), int32(cmdConfirm)}, []any{e.seqno, e.cmd})
	var c confirmView
	e.mustRead(t, fieldConfirm, &c)
	require.Equal(t, confirmView{queue: []byte("jtx"), hasQueue: true, items: []confirmItem{{1000000017, stateCommit}, {1000000018, stateRollback}}}, c)
}

func TestGoldenAnswers(t *testing.T) {
	for want, lay := range map[string]func(b *batch){
		goldenAuthOK: func(b *batch) { b.plain(head{seqno: 2, cmd: cmdAuth}) },
		goldenSent:   func(b *batch) { b.ids(head{seqno: 1, cmd: cmdSend}, []cmq.MsgID{1000000001}) },
		goldenNothing: func(b *batch) {
			b.plain(refusal(11, cmdReceive, cmq.ErrNoMessage))
		},
		goldenQuery: func(b *batch) { b.query(7001, "jtx", 1000000016) },
		goldenPartly: func(b *batch) {
			b.failures(head{10, cmdBatchDelete, cmq.ErrDeletePart.Module, "partial"}, []deleteFailure{{123, &cmq.Error{Module: cmq.ErrHandleInvalid.Module, Text: "invalid"}}})
		},
	} {
		b := new(batch)
		lay(b)
		require.Equal(t, want, hex.EncodeToString(b.buf))
	}
}

// TestGoldenReceived: the published answer is the smallest that its client accepts; ours tells more behind it.
func TestGoldenReceived(t *testing.T) {
	frame, err := hex.DecodeString(goldenReceived)
	require.NoError(t, err)
	var want, got pb.CMQProto
	require.NoError(t, proto.Unmarshal(frame[headerSize:], &want))
	b := new(batch)
	b.message(head{seqno: 6, cmd: cmdReceive}, &cmq.Message{ID: 1000000001, Handle: cmq.Handle(want.PullRsp.GetReceiptHandle()), Body: []byte("hello"),
		Enqueued: time.Unix(1700000001, 0), NextVisible: time.Unix(1700000002, 0), FirstDequeue: time.Unix(1700000003, 999_000_000), DequeueCount: 4})
	require.NoError(t, proto.Unmarshal(b.buf[headerSize:], &got))
	want.Error = proto.String("")
	want.PullRsp.EnqueueTime, want.PullRsp.NextVisibleTime = proto.Int64(1700000001), proto.Int64(1700000002)
	want.PullRsp.FirstDequeueTime, want.PullRsp.DequeueCount = proto.Int64(1700000003), proto.Int64(4)
	require.True(t, proto.Equal(&want, &got), "%v", &got)
}

func TestGoldenDeadLetter(t *testing.T) {
	b := new(batch)
	m := cmq.Message{ID: 1000000001, Handle: 2814749767109633, Body: []byte("hello"),
		Enqueued: time.Unix(1700000001, 0), NextVisible: time.Unix(1700000002, 0), FirstDequeue: time.Unix(1700000003, 999_000_000), DequeueCount: 4,
		Source: &cmq.Source{Queue: 10, Enqueued: time.UnixMilli(1600000000_999), DequeueCount: 3}}
	b.message(head{seqno: 6, cmd: cmdReceive}, &m)
	require.Equal(t, goldenDeadLetter, hex.EncodeToString(b.buf))

	var one, several pb.CMQProto
	require.NoError(t, proto.Unmarshal(b.buf[headerSize:], &one))
	b = new(batch)
	b.messages(head{seqno: 6, cmd: cmdReceive}, []cmq.Message{m, m})
	require.NoError(t, proto.Unmarshal(b.buf[headerSize:], &several))
	require.Len(t, several.BatchPullRsp.MsgList, 2)
	require.True(t, proto.Equal(one.PullRsp, several.BatchPullRsp.MsgList[1]))
	require.Equal(t, []any{"queue-0000000a", uint64(1600000000), uint32(3)},
		[]any{one.PullRsp.GetOriginalQueueId(), one.PullRsp.GetOriginalPubTm(), one.PullRsp.GetOriginalDequeueCnt()})
}
