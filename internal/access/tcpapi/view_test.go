package tcpapi

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	pb "github.com/opencmq/cmq/internal/access/tcpapi/tcppb"
	"github.com/opencmq/cmq/internal/cmq"
)

// agree checks that a view and generated code read the same from any bytes: both fail, or both succeed with equal
// values. Only a group is an error for the view alone.
func agree[M proto.Message](t *testing.T, data []byte, m M, v view, missing func() bool, same func(m M) []any, own func() []any) {
	t.Helper()
	if len(data) > keptEntries {
		return // a longer list is not read to its end
	}
	err := v.merge(data)
	generated := proto.UnmarshalOptions{AllowPartial: true}.Unmarshal(data, m)
	if err == errGroup {
		return
	}
	complete := generated == nil && proto.CheckInitialized(m) == nil
	require.Equal(t, complete, err == nil && !missing(), "view %v, generated code %v", err, generated)
	if complete {
		require.Equal(t, same(m), own())
	}
}

func texts(list [][]byte) (out []string) {
	for _, b := range list {
		out = append(out, string(b))
	}
	return out
}

// wrong are bytes that every view gets to see.
func wrong(f *testing.F, good ...proto.Message) {
	for _, m := range good {
		b, err := proto.MarshalOptions{AllowPartial: true}.Marshal(m)
		require.NoError(f, err)
		f.Add(b)
		f.Add(append(b, b...)) // the last value wins, lists grow
		f.Add(b[:len(b)-1])
	}
	f.Add([]byte{})
	f.Add([]byte{0x0b, 0x0c})                                                                        // a group
	f.Add([]byte{0x08, 0x05, 0x12, 0x00})                                                            // a number for a name
	f.Add([]byte{0x0a, 0x01, 'q', 0x12, 0x03, 0x01, 0x02, 0x80})                                     // a packed list that is cut
	f.Add([]byte{0x0a, 0x01, 'q', 0x12, 0x02, 0x01, 0x02, 0x10, 0x03})                               // packed and unpacked
	f.Add([]byte{0x0a, 0x02, 0xff, 0xfe})                                                            // no UTF-8
	f.Add([]byte{0x0a, 0x01, 'q', 0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01}) // a negative number
	f.Add([]byte{0x0a, 0x01, 'q', 0x15, 1, 2, 3, 4, 0x11, 1, 2, 3, 4, 5, 6, 7, 8})                   // fixed ones
	f.Add([]byte{0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f})                                                // longer than there is
	f.Add(protowire.AppendVarint([]byte{0x0a, 0x01, 'q'}, 10001<<3))                                 // an extension, cut
}

func FuzzEnvelope(f *testing.F) {
	wrong(f, authFrame(2, goldenID, goldenSecret), sendTo(1, "jq", "hello"), batchDeleteFrom(1<<62, "jq", 1, 2), ask(-1, -2))
	f.Fuzz(func(t *testing.T, data []byte) {
		var e envelope
		var m pb.Envelope
		err, generated := e.parse(data), proto.Unmarshal(data, &m)
		if err == errGroup {
			return
		}
		require.Equal(t, generated == nil, err == nil, "view %v, generated code %v", err, generated)
		if err != nil {
			return
		}
		require.Equal(t, []any{m.GetSeqno(), m.GetCmd(), m.GetIsOneway()}, []any{e.seqno, e.cmd, e.oneWay})

		// With its bodies: what generated code reads, the view must read too, and a body in pieces as one.
		var whole pb.CMQProto
		if proto.Unmarshal(data, &whole) != nil {
			return
		}
		v := sendView{}
		found, err := e.read(fieldSend, &v)
		if err == errGroup {
			return
		}
		require.NoError(t, err)
		require.Equal(t, whole.TcpSendMsg != nil, found)
		require.Equal(t, whole.TcpSendMsg.GetQueueName(), string(v.queue))
		e.own()
		again := sendView{}
		foundAgain, err := e.read(fieldSend, &again)
		require.NoError(t, err)
		require.Equal(t, found, foundAgain)
		require.Equal(t, v, again)
	})
}

func FuzzAuth(f *testing.F) {
	wrong(f, authFrame(2, goldenID, goldenSecret).TcpAuth)
	f.Fuzz(func(t *testing.T, data []byte) {
		v := new(authView)
		agree(t, data, new(pb.Auth), v, func() bool { return v.missing() != "" },
			func(m *pb.Auth) []any {
				return []any{m.GetSecretId(), m.GetSignature(), m.GetClientId(), m.GetSignatureMethod()}
			},
			func() []any {
				return []any{string(v.secretID), string(v.signature), string(v.clientID), string(v.method)}
			})
	})
}

func FuzzSend(f *testing.F) {
	m := sendTo(1, "jq", "hello").TcpSendMsg
	m.DelaySeconds, m.IsTransaction, m.FirstQueryInterval = proto.Uint32(1<<32-1), proto.Int32(1), proto.Int32(-5)
	m.Session = &pb.Session{Id: proto.Uint64(1), Epoch: proto.Uint64(2), Number: proto.Uint64(3)}
	wrong(f, m)
	f.Fuzz(func(t *testing.T, data []byte) {
		v := new(sendView)
		agree(t, data, new(pb.SendMsg), v, func() bool { return !v.hasQueue || v.session.partial() },
			func(m *pb.SendMsg) []any {
				var bodies []string
				if m.MsgBody != nil {
					bodies = []string{string(m.MsgBody)}
				}
				return []any{m.GetQueueName(), bodies, m.GetDelaySeconds(), m.GetIsTransaction(), m.GetFirstQueryInterval(), m.Session != nil, m.GetSession().GetNumber()}
			},
			func() []any {
				return []any{string(v.queue), texts(v.bodies), v.delay, v.transaction, v.firstQueryInterval, v.session.given, v.session.number}
			})
	})
}

func FuzzBatchSend(f *testing.F) {
	m := batchSendTo(1, "jq", 7, "hello", "", "you").TcpBatchSendMsg
	m.IsTransaction, m.FirstQueryInterval = proto.Int32(1), proto.Int32(5000)
	m.Session = &pb.Session{Id: proto.Uint64(1), Epoch: proto.Uint64(2), Number: proto.Uint64(3)}
	wrong(f, m)
	f.Fuzz(func(t *testing.T, data []byte) {
		v := &sendView{batch: true}
		agree(t, data, new(pb.BatchSendMsg), v, func() bool { return !v.hasQueue || v.session.partial() },
			func(m *pb.BatchSendMsg) []any {
				return []any{m.GetQueueName(), texts(m.MsgBody), m.GetDelaySeconds(), m.GetIsTransaction(), m.GetFirstQueryInterval(), m.Session != nil, m.GetSession().GetNumber()}
			},
			func() []any {
				return []any{string(v.queue), texts(v.bodies), v.delay, v.transaction, v.firstQueryInterval, v.session.given, v.session.number}
			})
	})
}

func FuzzReceive(f *testing.F) {
	m := receiveFrom(1, "jq", -2).TcpPullMsg
	m.VisibleTimeout = proto.Uint32(1<<32 - 1)
	wrong(f, m)
	f.Fuzz(func(t *testing.T, data []byte) {
		v := new(receiveView)
		agree(t, data, new(pb.PullMsg), v, func() bool { return !v.hasQueue },
			func(m *pb.PullMsg) []any {
				return []any{m.GetQueueName(), m.PollWaitSeconds != nil, m.GetPollWaitSeconds(), m.VisibleTimeout != nil, m.GetVisibleTimeout()}
			},
			func() []any { return []any{string(v.queue), v.hasWait, v.wait, v.hasLock, v.lock} })
	})
}

func FuzzBatchReceive(f *testing.F) {
	m := batchReceiveFrom(1, "jq", -16, 10).TcpBatchPullMsg
	m.VisibleTimeout = proto.Uint32(3)
	wrong(f, m)
	f.Fuzz(func(t *testing.T, data []byte) {
		v := &receiveView{batch: true}
		agree(t, data, new(pb.BatchPullMsg), v, func() bool { return !v.hasQueue || !v.hasNum },
			func(m *pb.BatchPullMsg) []any {
				return []any{m.GetQueueName(), m.GetNumMsg(), m.PollWaitSeconds != nil, m.GetPollWaitSeconds(), m.VisibleTimeout != nil, m.GetVisibleTimeout()}
			},
			func() []any { return []any{string(v.queue), v.num, v.hasWait, v.wait, v.hasLock, v.lock} })
	})
}

func FuzzDelete(f *testing.F) {
	wrong(f, deleteFrom(1, "jq", 1<<63).TcpDeleteMsg)
	f.Fuzz(func(t *testing.T, data []byte) {
		v := new(deleteView)
		agree(t, data, new(pb.DeleteMsg), v, func() bool { return !v.hasQueue || len(v.handles) == 0 },
			func(m *pb.DeleteMsg) []any { return []any{m.GetQueueName(), []uint64{m.GetReceiptHandle()}} },
			func() []any { return []any{string(v.queue), v.handles} })
	})
}

func FuzzBatchDelete(f *testing.F) {
	wrong(f, batchDeleteFrom(1, "jq", 1, 1<<63, 0).TcpBatchDeleteMsg)
	f.Fuzz(func(t *testing.T, data []byte) {
		v := &deleteView{batch: true}
		agree(t, data, new(pb.BatchDeleteMsg), v, func() bool { return !v.hasQueue },
			func(m *pb.BatchDeleteMsg) []any {
				return []any{m.GetQueueName(), append([]uint64{}, m.ReceiptHandleList...)}
			},
			func() []any { return []any{string(v.queue), append([]uint64{}, v.handles...)} })
	})
}

func FuzzChangeVisibility(f *testing.F) {
	wrong(f, &pb.ChangeVisibility{QueueName: proto.String("jq"), ReceiptHandleList: []uint64{1, 1 << 63, 0}, VisibleTimeout: proto.Uint32(1 << 31)})
	f.Fuzz(func(t *testing.T, data []byte) {
		v := new(relockView)
		agree(t, data, new(pb.ChangeVisibility), v, func() bool { return !v.hasQueue || !v.hasLock },
			func(m *pb.ChangeVisibility) []any {
				return []any{m.GetQueueName(), append([]uint64{}, m.ReceiptHandleList...), m.GetVisibleTimeout()}
			},
			func() []any { return []any{string(v.queue), append([]uint64{}, v.handles...), v.lock} })
	})
}

func FuzzStopWaiting(f *testing.F) {
	wrong(f, &pb.StopWaiting{Seqno: proto.Int64(-5)})
	f.Fuzz(func(t *testing.T, data []byte) {
		v := new(stopView)
		agree(t, data, new(pb.StopWaiting), v, func() bool { return !v.hasSeqno },
			func(m *pb.StopWaiting) []any { return []any{m.GetSeqno()} },
			func() []any { return []any{v.seqno} })
	})
}

// partial: a field that must be there is not.
func (v *sessionView) partial() bool { return v.given && (!v.hasID || !v.hasEpoch || !v.hasNumber) }

func FuzzOpenSession(f *testing.F) {
	wrong(f, &pb.OpenSession{QueueName: proto.String("jq"), SessionId: proto.Uint64(1 << 63)})
	f.Fuzz(func(t *testing.T, data []byte) {
		v := new(openView)
		agree(t, data, new(pb.OpenSession), v, func() bool { return !v.hasQueue || !v.hasID },
			func(m *pb.OpenSession) []any { return []any{m.GetQueueName(), m.GetSessionId()} },
			func() []any { return []any{string(v.queue), v.id} })
	})
}

func FuzzSession(f *testing.F) {
	wrong(f, &pb.Session{Id: proto.Uint64(1 << 63), Epoch: proto.Uint64(2), Number: proto.Uint64(3), Acked: proto.Uint64(4)})
	f.Fuzz(func(t *testing.T, data []byte) {
		v := new(sessionView)
		v.given = true
		agree(t, data, new(pb.Session), v, v.partial,
			func(m *pb.Session) []any { return []any{m.GetId(), m.GetEpoch(), m.GetNumber(), m.GetAcked()} },
			func() []any { return []any{v.id, v.epoch, v.number, v.acked} })
	})
}

func FuzzPublish(f *testing.F) {
	wrong(f, &pb.PublishMsg{TopicName: proto.String("jt"), MsgBody: []byte("x"), MsgTags: []string{"a", ""}, RoutingKey: proto.String("a.b")})
	f.Fuzz(func(t *testing.T, data []byte) {
		v := new(publishView)
		agree(t, data, new(pb.PublishMsg), v, func() bool { return !v.hasTopic || len(v.bodies) == 0 },
			func(m *pb.PublishMsg) []any {
				return []any{m.GetTopicName(), []string{string(m.MsgBody)}, append([]string{}, m.MsgTags...), m.RoutingKey != nil, m.GetRoutingKey()}
			},
			func() []any {
				return []any{string(v.topic), texts(v.bodies), append([]string{}, texts(v.tags)...), v.hasKey, string(v.key)}
			})
	})
}

func FuzzBatchPublish(f *testing.F) {
	wrong(f, &pb.BatchPublishMsg{TopicName: proto.String("jt"), MsgBody: [][]byte{[]byte("x"), nil}, MsgTags: []string{"a", ""}, RoutingKey: proto.String("a.b")})
	f.Fuzz(func(t *testing.T, data []byte) {
		v := &publishView{batch: true}
		agree(t, data, new(pb.BatchPublishMsg), v, func() bool { return !v.hasTopic },
			func(m *pb.BatchPublishMsg) []any {
				return []any{m.GetTopicName(), texts(m.MsgBody), append([]string{}, m.MsgTags...), m.GetRoutingKey()}
			},
			func() []any {
				return []any{string(v.topic), texts(v.bodies), append([]string{}, texts(v.tags)...), string(v.key)}
			})
	})
}

func FuzzConfirm(f *testing.F) {
	item := func(id uint64, state int32) *pb.TransactionConfirmItem {
		return &pb.TransactionConfirmItem{MsgId: &id, State: &state}
	}
	wrong(f, &pb.TransactionConfirm{QueueName: proto.String("jtx"), Item: []*pb.TransactionConfirmItem{item(1, 1), item(1<<63, -2)}})
	f.Fuzz(func(t *testing.T, data []byte) {
		v := new(confirmView)
		agree(t, data, new(pb.TransactionConfirm), v, func() bool { return !v.hasQueue },
			func(m *pb.TransactionConfirm) []any {
				var items []confirmItem
				for _, i := range m.Item {
					items = append(items, confirmItem{i.GetMsgId(), i.GetState()})
				}
				return []any{m.GetQueueName(), items}
			},
			func() []any { return []any{string(v.queue), v.items} })
	})
}

// TestLongListsTakeNoMemory: of a list in the largest frame no more is kept than it takes to refuse it.
func TestLongListsTakeNoMemory(t *testing.T) {
	const entries = 1 << 20
	empty := bytes.Repeat([]byte{0x12, 0}, entries)
	send, publish, deleted, packed, relocked, confirm := &sendView{batch: true}, &publishView{batch: true}, &deleteView{batch: true}, &deleteView{batch: true}, &relockView{}, &confirmView{}
	for v, list := range map[view][]byte{
		send: empty, publish: append(empty, bytes.Repeat([]byte{0x1a, 0}, entries)...),
		deleted: bytes.Repeat([]byte{0x10, 5}, entries), relocked: bytes.Repeat([]byte{0x10, 5}, entries),
		packed: protowire.AppendBytes([]byte{0x12}, bytes.Repeat([]byte{5}, entries)), confirm: bytes.Repeat([]byte{0x12, 4, 8, 1, 0x10, 1}, entries),
	} {
		require.NoError(t, v.merge(list))
	}
	for name, n := range map[string]int{
		"bodies": cap(send.bodies), "published": cap(publish.bodies), "tags": cap(publish.tags), "handles": cap(deleted.handles),
		"packed": cap(packed.handles), "locks": cap(relocked.handles), "items": cap(confirm.items),
	} {
		require.GreaterOrEqual(t, n, keptEntries, name)
		require.Less(t, n, 2*keptEntries, name)
	}
	limits := cmq.DefaultLimits()
	require.Less(t, max(limits.BatchEntries, limits.ReceiveEntries, limits.Tags), keptEntries, "what is cut is refused")
}

// TestViewsDoNotAllocate: a message of one kilobyte is not touched until somebody wants it.
func TestViewsDoNotAllocate(t *testing.T) {
	frame := frameOf(t, sendTo(1, "orders", string(make([]byte, 1024))))[headerSize:]
	var e envelope
	var v sendView
	var room [1][]byte
	require.Zero(t, testing.AllocsPerRun(100, func() {
		v = sendView{bodies: room[:0]}
		if e.parse(frame) != nil {
			t.Fatal("does not parse")
		}
		if found, err := e.read(fieldSend, &v); !found || err != nil {
			t.Fatal("no body")
		}
	}))
	require.Len(t, v.bodies[0], 1024)
}

func BenchmarkView(b *testing.B) {
	frame := frameOf(b, sendTo(1, "orders", string(make([]byte, 1024))))[headerSize:]
	var room [1][]byte
	for b.Loop() {
		var e envelope
		v := sendView{bodies: room[:0]}
		if e.parse(frame) != nil {
			b.Fatal("does not parse")
		}
		e.read(fieldSend, &v)
	}
}
