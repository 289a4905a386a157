package tcpapi

import (
	"encoding/hex"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/opencmq/cmq/internal/cmq"

	pb "github.com/opencmq/cmq/internal/access/tcpapi/tcppb"
)

// The tests here are what the published client does beyond the commands themselves, and what a peer may do that knows
// protobuf and not this server.

func unhex(t testing.TB, frame string) []byte {
	b, err := hex.DecodeString(frame)
	require.NoError(t, err)
	return b
}

// pair is a field of a protobuf message by hand: the number's wire type follows from the value.
func pair(b []byte, num protowire.Number, value any) []byte {
	switch v := value.(type) {
	case int:
		return appendVarint(b, num, uint64(v))
	case uint32:
		return protowire.AppendFixed32(protowire.AppendTag(b, num, protowire.Fixed32Type), v)
	case uint64:
		return protowire.AppendFixed64(protowire.AppendTag(b, num, protowire.Fixed64Type), v)
	case string:
		return appendText(b, num, v)
	case []byte:
		return appendText(b, num, string(v))
	}
	panic(fmt.Sprintf("BUG: no field of %T", value))
}

// message makes a protobuf message of numbers and values in turn, in this order.
func message(pairs ...any) (b []byte) {
	for i := 0; i < len(pairs); i += 2 {
		b = pair(b, protowire.Number(pairs[i].(int)), pairs[i+1])
	}
	return b
}

// TestNothingBeforeLogin: 306 answers every command, known or not, and the connection is as good as before.
func TestNothingBeforeLogin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		c := r.dial()
		notYet := fmt.Sprintf("result:306 error:%q", textNotAuthorized)
		for _, frame := range []string{goldenSend, goldenReceive, goldenPublish, goldenDelete, goldenHeartbeat, goldenTransaction, goldenConfirm} {
			asked := parse(t, frame)
			c.hex(frame)
			a := c.next()
			require.Equal(t, notYet, text(a), frame)
			require.Equal(t, []any{asked.seqno, asked.cmd}, []any{a.GetSeqno(), a.GetCmd()})
		}
		for cmd := int32(1000); cmd < 1250; cmd++ {
			if cmd != cmdAuth {
				require.Equal(t, notYet, text(c.call(ask(1, cmd))), "%d", cmd)
			}
		}
		for _, cmd := range []int32{0, -1, cmdChangeVisibility, cmdStopWaiting, cmdOpenSession} {
			require.Equal(t, notYet, text(c.call(ask(1, cmd))), "%d", cmd)
		}
		c.hex(goldenAuth1)
		require.Equal(t, goldenAuthOK, hex.EncodeToString(c.raw()))
		require.Zero(t, r.door.Stats().BadFrames)
		c.conn.Close()
	})
}

// TestCommandsOfOthers: numbers of the published definition that belong to back ends, with bodies of their own, are
// refused, and the connection stays.
func TestCommandsOfOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		c := r.login()
		for cmd := 1000; cmd < 1250; cmd++ {
			switch cmd {
			case cmdAuth, cmdSend, cmdBatchSend, cmdReceive, cmdBatchReceive, cmdDelete, cmdBatchDelete, cmdPublish, cmdBatchPublish, cmdHeartbeat, cmdConfirm:
				continue
			}
			for _, field := range []int{20, 25, 40, 43, 101, 148, 203, 205} {
				c.write(rawFrame(message(1, cmd+7, 2, cmd, field, message(1, "q", 2, 3))))
				a := c.next()
				require.Equal(t, []any{int64(cmd + 7), int32(cmd)}, []any{a.GetSeqno(), a.GetCmd()})
				require.EqualValues(t, cmq.ErrAction("x").Module, a.GetResult())
				require.NotEmpty(t, a.GetError())
			}
		}
		require.Equal(t, ok, text(c.call(ask(1, cmdHeartbeat))))
		c.conn.Close()
	})
}

// TestFieldsOfOthers: what this server does not know is passed over, wherever it stands and of whatever type; fields come in
// any order; of two the last counts; a known number of another type is one that is not known.
func TestFieldsOfOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		c := r.login()
		unknown := func(b []byte) []byte {
			return pair(pair(pair(pair(b, 5, "CMQProto"), 77, 1<<40), 78, uint32(9)), 79, uint64(9))
		}
		body := message(2, "kept", 1, "jq")
		for name, envelope := range map[string][]byte{
			"as it is":           message(1, 1, 2, cmdSend, 200, body),
			"backwards":          message(200, body, 10, 1<<50, 2, cmdSend, 1, 1),
			"unknown outside":    unknown(message(1, 1, 2, cmdSend, 200, body)),
			"unknown inside":     message(1, 1, 2, cmdSend, 200, pair(pair(body, 9, "x"), 4096, 5)),
			"the last one":       message(1, 9, 1, 1, 2, 1, 2, cmdSend, 200, message(1, "none", 2, "lost", 1, "jq", 2, "kept")),
			"a body in pieces":   message(1, 1, 200, message(1, "jq"), 2, cmdSend, 200, message(2, "kept")),
			"an answer's fields": message(1, 1, 2, cmdSend, 3, 5, 4, "error", 29, 7, 200, body),
			"another's body too": message(1, 1, 2, cmdSend, 202, message(1, "none", 2, 30), 200, body),
			"name of a number":   message(1, 1, 2, cmdSend, 200, pair(body, 1, 5)),
			"delay of a text":    message(1, 1, 2, cmdSend, 200, pair(body, 3, "5")),
		} {
			c.write(rawFrame(envelope))
			a := c.next()
			require.Len(t, a.GetMsgids(), 1, "%s: %v", name, a)
			require.EqualValues(t, 1, a.GetSeqno(), name)
			got := c.call(receiveFrom(2, "jq", 0))
			require.Equal(t, []string{"kept"}, bodiesOf(got), name)
			require.Equal(t, ok, text(c.call(deleteFrom(3, "jq", got.PullRsp.GetReceiptHandle()))), name)
		}
		for name, row := range map[string]struct {
			body []byte
			want *cmq.Error
		}{
			"name of a number only":  {message(1, 5, 2, "x"), cmq.ErrParameterMissing("queue_name")},
			"body of a number only":  {message(1, "jq", 2, 5), cmq.ErrBodyEmpty},
			"name of fixed width":    {message(1, uint64(5), 2, "x"), cmq.ErrParameterMissing("queue_name")},
			"no UTF-8":               {message(1, "\xc3\x28", 2, "x"), cmq.ErrQueueName},
			"no UTF-8 in the middle": {message(1, "j\xed\xa0\x80q", 2, "x"), cmq.ErrQueueName},
		} {
			c.write(rawFrame(message(1, 4, 2, cmdSend, 200, row.body)))
			require.Equal(t, result(row.want), text(c.next()), name)
		}
		c.write(rawFrame(message(1, 4, 2, cmdSend, 200, 5)))
		require.Equal(t, result(cmq.ErrParameterMissing("tcp_send_msg")), text(c.next()), "a number for a body")
		require.Len(t, c.call(sendTo(5, "jq", "\xff\x00\xfe")).GetMsgids(), 1, "a message is bytes")
		require.Equal(t, []string{"\xff\x00\xfe"}, bodiesOf(c.call(receiveFrom(6, "jq", 0))))
		c.conn.Close()
	})
}

// TestPackedNumbers: lists of numbers may be packed, which this server never does itself.
func TestPackedNumbers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		c := r.login()
		c.call(batchSendTo(1, "jq", 0, "a", "b", "c"))
		var packed []byte
		for _, m := range c.call(batchReceiveFrom(2, "jq", 16, 0)).BatchPullRsp.MsgList {
			packed = protowire.AppendVarint(packed, m.GetReceiptHandle())
		}
		c.write(rawFrame(message(1, 3, 2, cmdBatchDelete, 207, message(1, "jq", 2, packed, 2, 123))))
		a := c.next()
		require.EqualValues(t, cmq.ErrDeletePart.Module, a.GetResult())
		require.Len(t, a.GetDelResult(), 1, "packed and not, in one list")
		require.EqualValues(t, 123, a.GetDelResult()[0].GetReceiptHandle())
		c.conn.Close()
	})
}

// TestNumbersOfRequests: any 64 bits will do, also those of a request that is still open: each is answered under its own.
func TestNumbersOfRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		c := r.login()
		for _, seqno := range []int64{0, -1, 1<<63 - 1, -1 << 63} {
			a := c.call(ask(seqno, cmdHeartbeat))
			require.Equal(t, seqno, a.GetSeqno())
		}
		for range 3 { // a client that repeats the same bytes after its time-out
			c.send(receiveFrom(7, "jq", 20))
		}
		synctest.Wait()
		require.Equal(t, 3, r.door.config.Polls.Open())
		r.send("one", "two")
		var got []string
		for range 2 {
			a := c.next()
			require.EqualValues(t, 7, a.GetSeqno())
			got = append(got, bodiesOf(a)...)
		}
		require.ElementsMatch(t, []string{"one", "two"}, got, "no message twice")
		require.Equal(t, result(cmq.ErrNoMessage), text(c.next()))

		// One way and 0, as nobody sends it: carried out, and not answered.
		m := sendTo(0, "jq", "one way")
		m.IsOneway = proto.Int32(1)
		c.send(m)
		require.Equal(t, ok, text(c.call(ask(8, cmdHeartbeat))))
		require.Equal(t, []string{"one way"}, bodiesOf(c.call(receiveFrom(9, "jq", 5))))
		c.conn.Close()
	})
}

// TestFramesGluedAndTorn: the published frames in one write, and byte by byte.
func TestFramesGluedAndTorn(t *testing.T) {
	for name, size := range map[string]int{"glued": 1 << 20, "torn": 1, "in between": 13} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, nil)
			r.transactional("jtx")
			c := r.dial()
			var stream []byte
			frames := []string{goldenAuth256, goldenSend, goldenHeartbeat, goldenReceive, goldenDelete, goldenTransaction, goldenConfirm, goldenPublish}
			for _, frame := range frames {
				stream = append(stream, unhex(t, frame)...)
			}
			go func() {
				for len(stream) > 0 {
					n := min(size, len(stream))
					c.write(stream[:n])
					stream = stream[n:]
				}
			}()
			answers := map[int32]*pb.CMQProto{}
			for range frames {
				a := c.next()
				answers[a.GetCmd()*100+int32(a.GetSeqno())] = a
			}
			require.Len(t, answers, len(frames), name)
			require.Equal(t, []string{"hello"}, bodiesOf(answers[cmdReceive*100+6]))
			require.EqualValues(t, cmq.ErrDeleteBatch.Module, answers[cmdBatchDelete*100+10].GetResult(), "handles nobody gave out")
			require.Len(t, answers[cmdSend*100+17].GetMsgids(), 1, "prepared")
			require.EqualValues(t, cmq.ErrConfirm.Module, answers[cmdConfirm*100+24].GetResult(), "ids nobody gave out")
			c.conn.Close()
		})
	}
}

// TestOnlyProducersAreAsked: the server begins no frame to anybody but who sent prepared messages, and an undecided one is
// asked about as often as the queue says and no more.
func TestOnlyProducersAreAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.transactional("jtx")
		producer, consumer := r.login(), r.login()
		id := producer.call(prepareIn(1, "jtx", 5, "a")).Msgids[0]
		for range cmq.DefaultQueueAttributes().Transaction.MaxQueryCount {
			query := producer.next()
			require.Equal(t, []any{int32(cmdQuery), id}, []any{query.GetCmd(), query.GetTransactionQuery().GetMsgId()})
			require.Nil(t, query.Result, "it is a request")
			require.Equal(t, ok, text(producer.call(ask(2, cmdHeartbeat))), "silence is an answer")
			require.Equal(t, ok, text(consumer.call(ask(1, cmdHeartbeat))), "it is not asked")
		}
		began := time.Now()
		producer.send(receiveFrom(3, "jtx", 30))
		require.Equal(t, result(cmq.ErrNoMessage), text(producer.next()), "nobody is asked any more, and nobody gets it")
		require.GreaterOrEqual(t, time.Since(began), 30*time.Second)

		// Whoever knows decides late, with a number of its own.
		consumer.send(decide(99, "jtx", id, stateCommit))
		require.Zero(t, consumer.next().GetResult())
		require.Equal(t, []string{"a"}, bodiesOf(consumer.call(receiveFrom(4, "jtx", 0))))
		for _, c := range []*client{producer, consumer} {
			c.conn.Close()
		}
	})
}
