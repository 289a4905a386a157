package tcpapi

import (
	"encoding/binary"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/opencmq/cmq/internal/cmq"
)

// An answer is an envelope with result and error always given, and at most one body behind them, as the published
// service sends it:
//
//	seqno 1 | cmd 2 | result 3 | error 4 | msgids 29 … or pull_rsp 26 or batch_pull_rsp 27 or del_result 28 … or 222
//
// Lengths are computed before anything is written, so that large bodies need not be copied.

// head is what every answer begins with.
type head struct {
	seqno  int64
	cmd    int32
	result int
	text   string
}

func refusal(seqno int64, cmd int32, e *cmq.Error) head { return head{seqno, cmd, e.Module, e.Text} }

func sizeVarint(num protowire.Number, v uint64) int {
	return protowire.SizeTag(num) + protowire.SizeVarint(v)
}

func sizeBytes(num protowire.Number, n int) int {
	return protowire.SizeTag(num) + protowire.SizeBytes(n)
}

func appendVarint(b []byte, num protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, num, protowire.VarintType), v)
}

func appendLength(b []byte, num protowire.Number, n int) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, num, protowire.BytesType), uint64(n))
}

func appendText(b []byte, num protowire.Number, s string) []byte {
	return append(appendLength(b, num, len(s)), s...)
}

// signed is how a negative int32 or int64 travels.
func signed[T int32 | int64 | int](v T) uint64 { return uint64(int64(v)) }

func (h *head) size() int {
	return sizeVarint(fieldSeqno, signed(h.seqno)) + sizeVarint(fieldCmd, signed(h.cmd)) +
		sizeVarint(fieldResult, signed(h.result)) + sizeBytes(fieldError, len(h.text))
}

// appendTo begins a frame whose body has so many bytes.
func (h *head) appendTo(b []byte, body int) []byte {
	b = append(b, 0, 0)
	b = binary.LittleEndian.AppendUint32(b, uint32(headerSize+h.size()+body))
	b = appendVarint(b, fieldSeqno, signed(h.seqno))
	b = appendVarint(b, fieldCmd, signed(h.cmd))
	b = appendVarint(b, fieldResult, signed(h.result))
	return appendText(b, fieldError, h.text)
}

// plain lays out an answer without a body.
func (b *batch) plain(h head) { b.buf = h.appendTo(b.buf, 0) }

// epoch lays out the answer to the opening of a session.
func (b *batch) epoch(h head, epoch uint64) {
	b.buf = h.appendTo(b.buf, sizeVarint(fieldSessionEpoch, epoch))
	b.buf = appendVarint(b.buf, fieldSessionEpoch, epoch)
}

// ids lays out the answer to a send.
func (b *batch) ids(h head, ids []cmq.MsgID) {
	size := 0
	for _, id := range ids {
		size += sizeVarint(fieldMsgIDs, uint64(id))
	}
	b.buf = h.appendTo(b.buf, size)
	for _, id := range ids {
		b.buf = appendVarint(b.buf, fieldMsgIDs, uint64(id))
	}
}

// message lays out the answer to a receive of one.
func (b *batch) message(h head, m *cmq.Message) {
	size := sizeMessage(m)
	b.buf = h.appendTo(b.buf, sizeBytes(fieldPulled, size))
	b.buf = appendLength(b.buf, fieldPulled, size)
	b.pulled(m)
}

// messages lays out the answer to a receive of several.
func (b *batch) messages(h head, messages []cmq.Message) {
	size := 0
	for i := range messages {
		size += sizeBytes(1, sizeMessage(&messages[i]))
	}
	b.buf = h.appendTo(b.buf, sizeBytes(fieldPulls, size))
	b.buf = appendLength(b.buf, fieldPulls, size)
	for i := range messages {
		b.buf = appendLength(b.buf, 1, sizeMessage(&messages[i]))
		b.pulled(&messages[i])
	}
}

// Fields of cmq_pull_msg_rsp. There is no field 2; 9 to 11 are for dead letters only.
const (
	pulledID           = 1
	pulledHandle       = 3
	pulledBody         = 4
	pulledEnqueued     = 5
	pulledNextVisible  = 6
	pulledFirstDequeue = 7
	pulledDequeueCount = 8
	pulledSourceQueue  = 9
	pulledSourceTime   = 10 // when it was sent there
	pulledSourceCount  = 11 // how often it was received there
)

func sizeMessage(m *cmq.Message) int {
	n := sizeVarint(pulledID, uint64(m.ID)) + sizeVarint(pulledHandle, uint64(m.Handle)) + sizeBytes(pulledBody, len(m.Body)) +
		sizeVarint(pulledEnqueued, unix(m.Enqueued)) + sizeVarint(pulledNextVisible, unix(m.NextVisible)) +
		sizeVarint(pulledFirstDequeue, unix(m.FirstDequeue)) + sizeVarint(pulledDequeueCount, uint64(m.DequeueCount))
	if s := m.Source; s != nil {
		n += sizeBytes(pulledSourceQueue, len(s.Queue.String())) + sizeVarint(pulledSourceTime, unix(s.Enqueued)) +
			sizeVarint(pulledSourceCount, uint64(s.DequeueCount))
	}
	return n
}

// pulled lays out a message, without its length.
func (b *batch) pulled(m *cmq.Message) {
	b.buf = appendVarint(b.buf, pulledID, uint64(m.ID))
	b.buf = appendVarint(b.buf, pulledHandle, uint64(m.Handle))
	b.buf = appendLength(b.buf, pulledBody, len(m.Body))
	b.bytes(m.Body)
	b.buf = appendVarint(b.buf, pulledEnqueued, unix(m.Enqueued))
	b.buf = appendVarint(b.buf, pulledNextVisible, unix(m.NextVisible))
	b.buf = appendVarint(b.buf, pulledFirstDequeue, unix(m.FirstDequeue))
	b.buf = appendVarint(b.buf, pulledDequeueCount, uint64(m.DequeueCount))
	if s := m.Source; s != nil {
		b.buf = appendText(b.buf, pulledSourceQueue, s.Queue.String())
		b.buf = appendVarint(b.buf, pulledSourceTime, unix(s.Enqueued))
		b.buf = appendVarint(b.buf, pulledSourceCount, uint64(s.DequeueCount))
	}
}

// unix is the time in seconds, as all times of this protocol are.
func unix(t time.Time) uint64 { return uint64(max(0, t.Unix())) }

// deleteFailure is one handle that was not deleted.
type deleteFailure struct {
	handle cmq.Handle
	err    *cmq.Error
}

// failures lays out the answer to a delete of several of which some failed.
func (b *batch) failures(h head, list []deleteFailure) {
	size := 0
	for i := range list {
		size += sizeBytes(fieldDeleted, list[i].size())
	}
	b.buf = h.appendTo(b.buf, size)
	for i := range list {
		f := &list[i]
		b.buf = appendLength(b.buf, fieldDeleted, f.size())
		b.buf = appendVarint(b.buf, 1, uint64(f.handle))
		b.buf = appendVarint(b.buf, 2, signed(f.err.Module))
		b.buf = appendText(b.buf, 3, f.err.Text)
	}
}

func (f *deleteFailure) size() int {
	return sizeVarint(1, uint64(f.handle)) + sizeVarint(2, signed(f.err.Module)) + sizeBytes(3, len(f.err.Text))
}

// confirmed is what became of one message of a confirmation: err says why state is stateUnknown.
type confirmed struct {
	id    uint64
	state int32
	err   *cmq.Error
}

func (c *confirmed) size() int {
	n := sizeVarint(1, c.id) + sizeVarint(2, signed(c.state))
	if c.err != nil {
		n += sizeVarint(3, signed(c.err.Module)) + sizeBytes(4, len(c.err.Text))
	}
	return n
}

// confirmation lays out the answer to a confirmation.
func (b *batch) confirmation(h head, queue string, list []confirmed) {
	size := sizeBytes(1, len(queue))
	for i := range list {
		size += sizeBytes(2, list[i].size())
	}
	b.buf = h.appendTo(b.buf, sizeBytes(fieldConfirmed, size))
	b.buf = appendLength(b.buf, fieldConfirmed, size)
	b.buf = appendText(b.buf, 1, queue)
	for i := range list {
		c := &list[i]
		b.buf = appendLength(b.buf, 2, c.size())
		b.buf = appendVarint(b.buf, 1, c.id)
		b.buf = appendVarint(b.buf, 2, signed(c.state))
		if c.err != nil {
			b.buf = appendVarint(b.buf, 3, signed(c.err.Module))
			b.buf = appendText(b.buf, 4, c.err.Text)
		}
	}
}

// query lays out the server's question for a prepared message. It is no answer, so it has no result.
func (b *batch) query(seqno int64, queue string, id cmq.MsgID) {
	body := sizeBytes(1, len(queue)) + sizeVarint(2, uint64(id))
	size := sizeVarint(fieldSeqno, signed(seqno)) + sizeVarint(fieldCmd, cmdQuery) + sizeBytes(fieldQuery, body)
	b.buf = append(b.buf, 0, 0)
	b.buf = binary.LittleEndian.AppendUint32(b.buf, uint32(headerSize+size))
	b.buf = appendVarint(b.buf, fieldSeqno, signed(seqno))
	b.buf = appendVarint(b.buf, fieldCmd, cmdQuery)
	b.buf = appendLength(b.buf, fieldQuery, body)
	b.buf = appendText(b.buf, 1, queue)
	b.buf = appendVarint(b.buf, 2, uint64(id))
}
