package route

import (
	"encoding/binary"
	"errors"
	"math"
	"time"

	"github.com/opencmq/cmq/internal/cmq"
)

// What travels between Routers. Numbers are varints (signed ones zigzag) unless said otherwise; fixed ones are
// little endian; fields follow each other without gaps, all of them always.
//
//	request:  version u8 = 6 | kind u8 | set | shard | delay | max | lock | wait | time | attributes
//	          | version | from | base | number | handles | ids | bodies | payload | interval | origin | decisions | session
//	          | subscriber | publication | sources | shares | sizes | u8 undecided
//	answer:   version u8 = 6 | outcome u8 | by outcome:
//	            0 reply        error | queue | base | number | numbers | upto u64 | overdue | status | ids | errors | messages | payload | queries | prepared
//	            1 not leader   set | leader
//	            6 failed       text
//	            others         nothing
//
//	attributes: heap | visibility | retention | rewind | dead letter: queue, policy, receives, age | in flight
//	            | transactions: u8 on, interval, queries
//	status:     active | inactive | delayed | rewindable | prepared | undecided | oldest time | now time
//	message:    id u64 | handle u64 | enqueued, first dequeue, next visible time | dequeue count | bytes body | publication
//	            | u8 = 0: no source; else 1, source
//	source:     queue | enqueued time | dequeue count
//	origin:     node | connection
//	share:      shard | from | base | number | places
//	session:    id, epoch, number, acked
//	subscriber: u8 = 0: none; else 1, topic, filter, texts tags, texts keys, u8 forward
//	publication: u8 = 0: none; else 1, texts tags, text routing key
//	decision:   id u64 | u8 commit
//	prepared:   id u64 | bytes | sent, next time | queries | origin
//	query:      id u64 | count | origin
//	error:      u8 = 0: none; else 1, code, module, text
//	time:       i64 Unix milliseconds, the smallest number is Go's zero time
//	durations:  nanoseconds
//	ids, handles, numbers: count u32, then u64 each
//	sizes:        count u32, then u32 each
//	places:       count u32, then u16 each
//	bodies, errors, messages, decisions, sources, shares, queries, prepared, texts: count u32, then each
//	bytes, text: length u32, then the bytes
const codecVersion = 6

// Outcomes of a request.
const (
	outcomeReply = iota
	outcomeNotLeader
	outcomeDropped
	outcomeUnknown
	outcomeBusy
	outcomeStopping
	outcomeFailed
)

var errCodec = errors.New("request or reply of another node does not parse")

// RemoteError is a failure at another node, as text.
type RemoteError struct{ Text string }

func (e *RemoteError) Error() string { return e.Text }

// writer appends fields.
type writer struct{ b []byte }

func (w *writer) u8(v uint8)    { w.b = append(w.b, v) }
func (w *writer) uint(v uint64) { w.b = binary.AppendUvarint(w.b, v) }
func (w *writer) int(v int64)   { w.b = binary.AppendVarint(w.b, v) }
func (w *writer) u32(v int)     { w.b = binary.LittleEndian.AppendUint32(w.b, uint32(v)) }
func (w *writer) u64(v uint64)  { w.b = binary.LittleEndian.AppendUint64(w.b, v) }

func (w *writer) bool(v bool) {
	if v {
		w.u8(1)
	} else {
		w.u8(0)
	}
}

func (w *writer) bytes(b []byte) {
	w.u32(len(b))
	w.b = append(w.b, b...)
}

func (w *writer) text(s string) {
	w.u32(len(s))
	w.b = append(w.b, s...)
}

const zeroTime = math.MinInt64

func (w *writer) time(t time.Time) {
	if t.IsZero() {
		w.u64(1 << 63) // zeroTime's bits
		return
	}
	w.u64(uint64(t.UnixMilli()))
}

func u64s[T ~uint64](w *writer, list []T) {
	w.u32(len(list))
	for _, v := range list {
		w.u64(uint64(v))
	}
}

func encodeRequest(set cmq.SetID, q *cmq.Request) []byte {
	size := 256 + 8*(len(q.Handles)+len(q.IDs)) + 9*len(q.Decisions) + 4*len(q.Sizes) + 32*len(q.Sources) + len(q.Payload)
	for i := range q.Shares {
		size += 44 + 2*len(q.Shares[i].Places)
	}
	for _, b := range q.Bodies {
		size += 4 + len(b)
	}
	w := writer{make([]byte, 0, size)}
	w.u8(codecVersion)
	w.u8(uint8(q.Kind))
	w.uint(uint64(set))
	w.uint(uint64(q.Shard))
	w.int(int64(q.Delay))
	w.int(int64(q.Max))
	w.int(int64(q.Lock))
	w.int(int64(q.Wait))
	w.time(q.Time)
	w.attributes(&q.Attributes)
	w.uint(q.Version)
	w.uint(uint64(q.From))
	w.uint(q.Base)
	w.uint(q.Number)
	u64s(&w, q.Handles)
	u64s(&w, q.IDs)
	w.u32(len(q.Bodies))
	for _, b := range q.Bodies {
		w.bytes(b)
	}
	w.bytes(q.Payload)
	w.int(int64(q.Interval))
	w.origin(q.Origin)
	w.u32(len(q.Decisions))
	for _, d := range q.Decisions {
		w.u64(uint64(d.ID))
		w.bool(d.Commit)
	}
	for _, v := range []uint64{q.Session.ID, q.Session.Epoch, q.Session.Number, q.Session.Acked} {
		w.uint(v)
	}
	w.subscriber(q.Subscriber)
	w.publication(q.Publication)
	w.u32(len(q.Sources))
	for i := range q.Sources {
		w.source(&q.Sources[i])
	}
	w.u32(len(q.Shares))
	for i := range q.Shares {
		w.share(&q.Shares[i])
	}
	w.u32(len(q.Sizes))
	for _, n := range q.Sizes {
		w.u32(int(n))
	}
	w.bool(q.Undecided)
	return w.b
}

func (w *writer) subscriber(s *cmq.Subscriber) {
	w.bool(s != nil)
	if s == nil {
		return
	}
	w.uint(uint64(s.Topic))
	w.int(int64(s.Filter))
	w.texts(s.Tags)
	w.texts(s.Keys)
	w.bool(s.Forward)
}

func (w *writer) publication(p *cmq.Publication) {
	w.bool(p != nil)
	if p == nil {
		return
	}
	w.texts(p.Tags)
	w.text(p.RoutingKey)
}

func (w *writer) texts(list []string) {
	w.u32(len(list))
	for _, s := range list {
		w.text(s)
	}
}

func (w *writer) share(s *cmq.Share) {
	w.uint(uint64(s.Shard))
	w.uint(uint64(s.From))
	w.uint(s.Base)
	w.uint(s.Number)
	w.u32(len(s.Places))
	for _, p := range s.Places {
		w.b = binary.LittleEndian.AppendUint16(w.b, p)
	}
}

func (w *writer) source(s *cmq.Source) {
	w.uint(uint64(s.Queue))
	w.time(s.Enqueued)
	w.int(int64(s.DequeueCount))
}

func (w *writer) origin(o cmq.Origin) {
	w.uint(uint64(o.Node))
	w.uint(o.Conn)
}

func (w *writer) attributes(a *cmq.ShardAttributes) {
	w.int(a.MaxMsgHeapNum)
	w.int(int64(a.VisibilityTimeout))
	w.int(int64(a.MsgRetention))
	w.int(int64(a.Rewind))
	w.uint(uint64(a.DeadLetter.Queue))
	w.int(int64(a.DeadLetter.Policy))
	w.int(int64(a.DeadLetter.MaxReceiveCount))
	w.int(int64(a.DeadLetter.MaxTimeToLive))
	w.int(int64(a.MaxInFlight))
	w.bool(a.Transaction.On)
	w.int(int64(a.Transaction.FirstQueryInterval))
	w.int(int64(a.Transaction.MaxQueryCount))
}

func encodeReply(p *cmq.Reply) []byte {
	size := 256 + 8*len(p.IDs) + len(p.Errors) + len(p.Payload) + 64*len(p.Prepared)
	for i := range p.Messages {
		size += 64 + len(p.Messages[i].Body)
	}
	w := writer{make([]byte, 0, size)}
	w.u8(codecVersion)
	w.u8(outcomeReply)
	w.error(p.Err)
	w.uint(uint64(p.Queue))
	w.uint(p.Base)
	w.uint(p.Number)
	u64s(&w, p.Numbers)
	w.u64(uint64(p.Upto))
	w.int(int64(p.Overdue))
	w.status(&p.Status)
	u64s(&w, p.IDs)
	w.u32(len(p.Errors))
	for _, e := range p.Errors {
		w.error(e)
	}
	w.u32(len(p.Messages))
	for i := range p.Messages {
		w.message(&p.Messages[i])
	}
	w.bytes(p.Payload)
	w.u32(len(p.Queries))
	for i := range p.Queries {
		q := &p.Queries[i]
		w.u64(uint64(q.ID))
		w.int(int64(q.Count))
		w.origin(q.Origin)
	}
	w.u32(len(p.Prepared))
	for i := range p.Prepared {
		w.prepared(&p.Prepared[i])
	}
	return w.b
}

func (w *writer) prepared(p *cmq.Prepared) {
	w.u64(uint64(p.ID))
	w.int(int64(p.Bytes))
	w.time(p.Sent)
	w.time(p.Next)
	w.int(int64(p.Queries))
	w.origin(p.Origin)
}

func (w *writer) error(e *cmq.Error) {
	if e == nil {
		w.u8(0)
		return
	}
	w.u8(1)
	w.int(int64(e.Code))
	w.int(int64(e.Module))
	w.text(e.Text)
}

func (w *writer) status(s *cmq.ShardStatus) {
	w.int(s.Active)
	w.int(s.Inactive)
	w.int(s.Delayed)
	w.int(s.Rewindable)
	w.int(s.Prepared)
	w.int(s.Undecided)
	w.time(s.MinMsgTime)
	w.time(s.Now)
}

func (w *writer) message(m *cmq.Message) {
	w.u64(uint64(m.ID))
	w.u64(uint64(m.Handle))
	w.time(m.Enqueued)
	w.time(m.FirstDequeue)
	w.time(m.NextVisible)
	w.int(int64(m.DequeueCount))
	w.bytes(m.Body)
	w.publication(m.Publication)
	if w.bool(m.Source != nil); m.Source != nil {
		w.source(m.Source)
	}
}

func encodeError(err error) []byte {
	w := writer{[]byte{codecVersion}}
	var not *cmq.NotLeaderError
	switch {
	case errors.As(err, &not):
		w.u8(outcomeNotLeader)
		w.uint(uint64(not.Set))
		w.uint(uint64(not.Leader))
	case errors.Is(err, cmq.ErrUnknownOutcome):
		w.u8(outcomeUnknown)
	case errors.Is(err, cmq.ErrDropped):
		w.u8(outcomeDropped)
	case errors.Is(err, cmq.ErrBusy):
		w.u8(outcomeBusy)
	case errors.Is(err, cmq.ErrStopping):
		w.u8(outcomeStopping)
	default:
		w.u8(outcomeFailed)
		w.text(err.Error())
	}
	return w.b
}
