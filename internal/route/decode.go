package route

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/opencmq/cmq/internal/cmq"
)

// reader takes fields off the front of b. After the first fault all reads give zero values.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) fail() { r.b, r.bad = nil, true }

func (r *reader) take(n int) []byte {
	if n > len(r.b) {
		r.fail()
		return nil
	}
	b := r.b[:n:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) u8() uint8 {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) u64() uint64 {
	if b := r.take(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

func (r *reader) uint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) int() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) bool() bool {
	v := r.u8()
	if v > 1 {
		r.fail()
	}
	return v == 1
}

// count reads how many elements of at least size bytes follow.
func (r *reader) count(size int) int {
	b := r.take(4)
	if b == nil {
		return 0
	}
	n := binary.LittleEndian.Uint32(b)
	if uint64(n)*uint64(size) > uint64(len(r.b)) {
		r.fail()
		return 0
	}
	return int(n)
}

// bytes aliases the input; nil if there are none.
func (r *reader) bytes() []byte {
	n := r.count(1)
	if n == 0 {
		return nil
	}
	return r.take(n)
}

func (r *reader) text() string { return string(r.bytes()) }

func (r *reader) set() cmq.SetID {
	v := r.uint()
	if v > uint64(cmq.MaxSetID) {
		r.fail()
		return 0
	}
	return cmq.SetID(v)
}

func (r *reader) duration() time.Duration { return time.Duration(r.int()) }

func (r *reader) time() time.Time {
	ms := int64(r.u64())
	if ms == zeroTime || r.bad {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}

func readU64s[T ~uint64](r *reader) []T {
	n := r.count(8)
	if n == 0 {
		return nil
	}
	list := make([]T, n)
	for i := range list {
		list[i] = T(r.u64())
	}
	return list
}

// end checks that everything was read and understood.
func (r *reader) end() error {
	if r.bad || len(r.b) != 0 {
		return errCodec
	}
	return nil
}

func (r *reader) version() error {
	if v := r.u8(); !r.bad && v != codecVersion {
		return fmt.Errorf("%w: version %d, this program knows %d", errCodec, v, codecVersion)
	}
	return nil
}

// decodeRequest reads a request. Bodies and payload alias b.
func decodeRequest(b []byte) (cmq.SetID, *cmq.Request, error) {
	r := reader{b: b}
	if err := r.version(); err != nil {
		return 0, nil, err
	}
	q := &cmq.Request{Kind: cmq.Kind(r.u8())}
	if q.Kind < cmq.KindSend || q.Kind >= cmq.KindEnd {
		r.fail()
	}
	set := r.set()
	q.Shard = cmq.ShardID(r.uint())
	q.Delay, q.Max, q.Lock, q.Wait = r.duration(), int(r.int()), r.duration(), r.duration()
	q.Time = r.time()
	q.Attributes = r.attributes()
	q.Version, q.From, q.Base, q.Number = r.uint(), cmq.ShardID(r.uint()), r.uint(), r.uint()
	q.Handles = readU64s[cmq.Handle](&r)
	q.IDs = readU64s[cmq.MsgID](&r)
	if n := r.count(4); n > 0 {
		q.Bodies = make([][]byte, n)
		for i := range q.Bodies {
			q.Bodies[i] = r.bytes()
		}
	}
	q.Payload = r.bytes()
	q.Interval, q.Origin = r.duration(), r.origin()
	if n := r.count(9); n > 0 {
		q.Decisions = make([]cmq.Decision, n)
		for i := range q.Decisions {
			q.Decisions[i] = cmq.Decision{ID: cmq.MsgID(r.u64()), Commit: r.bool()}
		}
	}
	q.Session = cmq.Session{ID: r.uint(), Epoch: r.uint(), Number: r.uint(), Acked: r.uint()}
	q.Subscriber, q.Publication = r.subscriber(), r.publication()
	if n := r.count(sourceSize); n > 0 {
		q.Sources = make([]cmq.Source, n)
		for i := range q.Sources {
			q.Sources[i] = r.source()
		}
	}
	if n := r.count(shareSize); n > 0 {
		q.Shares = make([]cmq.Share, n)
		for i := range q.Shares {
			q.Shares[i] = r.share()
		}
	}
	if n := r.count(4); n > 0 {
		q.Sizes = make([]uint32, n)
		for i := range q.Sizes {
			q.Sizes[i] = binary.LittleEndian.Uint32(r.take(4))
		}
	}
	q.Undecided = r.bool()
	return set, q, r.end()
}

func (r *reader) subscriber() *cmq.Subscriber {
	if !r.bool() {
		return nil
	}
	return &cmq.Subscriber{
		Topic: cmq.ShardID(r.uint()), Filter: cmq.FilterType(r.int()), Tags: r.texts(), Keys: r.texts(), Forward: r.bool(),
	}
}

func (r *reader) publication() *cmq.Publication {
	if !r.bool() {
		return nil
	}
	return &cmq.Publication{Tags: r.texts(), RoutingKey: r.text()}
}

// texts is nil if there are none.
func (r *reader) texts() []string {
	n := r.count(4)
	if n == 0 {
		return nil
	}
	list := make([]string, n)
	for i := range list {
		list[i] = r.text()
	}
	return list
}

// share is one of which Places is nil if there are none.
func (r *reader) share() cmq.Share {
	s := cmq.Share{Shard: cmq.ShardID(r.uint()), From: cmq.ShardID(r.uint()), Base: r.uint(), Number: r.uint()}
	if n := r.count(2); n > 0 {
		s.Places = make([]uint16, n)
		for i := range s.Places {
			s.Places[i] = binary.LittleEndian.Uint16(r.take(2))
		}
	}
	return s
}

func (r *reader) origin() cmq.Origin {
	return cmq.Origin{Node: cmq.NodeID(r.uint()), Conn: r.uint()}
}

func (r *reader) attributes() cmq.ShardAttributes {
	return cmq.ShardAttributes{
		MaxMsgHeapNum:     r.int(),
		VisibilityTimeout: r.duration(),
		MsgRetention:      r.duration(),
		Rewind:            r.duration(),
		DeadLetter: cmq.DeadLetterPolicy{
			Queue:           cmq.QueueID(r.uint()),
			Policy:          int(r.int()),
			MaxReceiveCount: int(r.int()),
			MaxTimeToLive:   r.duration(),
		},
		MaxInFlight: int(r.int()),
		Transaction: cmq.TransactionPolicy{On: r.bool(), FirstQueryInterval: r.duration(), MaxQueryCount: int(r.int())},
	}
}

// decodeReply reads an answer: a reply, whose bodies and payload alias b, or the error it tells of.
func decodeReply(b []byte) (*cmq.Reply, error) {
	r := reader{b: b}
	if err := r.version(); err != nil {
		return nil, err
	}
	outcome := r.u8()
	var reply *cmq.Reply
	var told error
	switch outcome {
	case outcomeReply:
		reply = r.reply()
	case outcomeNotLeader:
		told = &cmq.NotLeaderError{Set: r.set(), Leader: cmq.NodeID(r.uint())}
	case outcomeDropped:
		told = cmq.ErrDropped
	case outcomeUnknown:
		told = cmq.ErrUnknownOutcome
	case outcomeBusy:
		told = cmq.ErrBusy
	case outcomeStopping:
		told = cmq.ErrStopping
	case outcomeFailed:
		told = &RemoteError{r.text()}
	default:
		r.fail()
	}
	if err := r.end(); err != nil {
		return nil, err
	}
	return reply, told
}

func (r *reader) reply() *cmq.Reply {
	p := &cmq.Reply{Err: r.error(), Queue: cmq.QueueID(r.uint()), Base: r.uint(), Number: r.uint(), Numbers: readU64s[uint64](r), Upto: cmq.MsgID(r.u64()), Overdue: int(r.int()), Status: r.status()}
	p.IDs = readU64s[cmq.MsgID](r)
	if n := r.count(1); n > 0 {
		p.Errors = make([]*cmq.Error, n)
		for i := range p.Errors {
			p.Errors[i] = r.error()
		}
	}
	if n := r.count(messageSize); n > 0 {
		p.Messages = make([]cmq.Message, n)
		for i := range p.Messages {
			p.Messages[i] = r.message()
		}
	}
	p.Payload = r.bytes()
	if n := r.count(querySize); n > 0 {
		p.Queries = make([]cmq.Query, n)
		for i := range p.Queries {
			p.Queries[i] = cmq.Query{ID: cmq.MsgID(r.u64()), Count: int(r.int()), Origin: r.origin()}
		}
	}
	if n := r.count(preparedSize); n > 0 {
		p.Prepared = make([]cmq.Prepared, n)
		for i := range p.Prepared {
			p.Prepared[i] = cmq.Prepared{
				ID: cmq.MsgID(r.u64()), Bytes: int(r.int()), Sent: r.time(), Next: r.time(), Queries: int(r.int()), Origin: r.origin(),
			}
		}
	}
	return p
}

func (r *reader) error() *cmq.Error {
	switch r.u8() {
	case 0:
		return nil
	case 1:
		return &cmq.Error{Code: int(r.int()), Module: int(r.int()), Text: r.text()}
	}
	r.fail()
	return nil
}

func (r *reader) status() cmq.ShardStatus {
	return cmq.ShardStatus{
		Active: r.int(), Inactive: r.int(), Delayed: r.int(), Rewindable: r.int(), Prepared: r.int(), Undecided: r.int(),
		MinMsgTime: r.time(), Now: r.time(),
	}
}

func (r *reader) source() cmq.Source {
	return cmq.Source{Queue: cmq.QueueID(r.uint()), Enqueued: r.time(), DequeueCount: int(r.int())}
}

// The least a message, a query, a source and a prepared message take.
const (
	messageSize  = 2*8 + 3*8 + 1 + 4 + 1 + 1
	sourceSize   = 1 + 8 + 1
	shareSize    = 4 + 4
	querySize    = 8 + 3
	preparedSize = 8 + 1 + 2*8 + 3
)

func (r *reader) message() cmq.Message {
	m := cmq.Message{
		ID: cmq.MsgID(r.u64()), Handle: cmq.Handle(r.u64()),
		Enqueued: r.time(), FirstDequeue: r.time(), NextVisible: r.time(),
		DequeueCount: int(r.int()), Body: r.bytes(), Publication: r.publication(),
	}
	if r.bool() {
		s := r.source()
		m.Source = &s
	}
	return m
}
