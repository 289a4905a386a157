package wire

import (
	"encoding/binary"
	"math/bits"
)

// Request is one frame of a client. Which members count depends on Cmd; the others are not looked at.
type Request struct {
	Seq       int64  // 1: chosen by the client, repeated by the answer
	Cmd       Cmd    // 2
	RequestID uint64 // 10: of sends, the same in each attempt; 0: none

	Name        string   // queue or topic
	Body        string   // Send, Publish
	Bodies      []string // BatchSend, BatchPublish
	Delay       int64    // Send, BatchSend: seconds
	Prepared    bool     // Send, BatchSend: stored, but invisible until it is confirmed
	FirstQuery  int64    // of a prepared message: when the server asks first; 0: as the queue is set
	Tags        []string // Publish, BatchPublish
	RoutingKey  string   // Publish, BatchPublish
	Max         int      // BatchReceive: messages
	Wait        int64    // Receive, BatchReceive: seconds; negative: as the queue is set
	Lock        int64    // Receive, BatchReceive: seconds; 0: as the queue is set. ChangeVisibility: seconds from now
	Handle      uint64   // Delete
	Handles     []uint64 // BatchDelete, ChangeVisibility
	Waiting     int64    // StopWaiting: seqno of the receive
	Session     Session  // Send, BatchSend: zero: none. OpenSession: its ID
	Decisions   []Decision
	Credentials Credentials // Auth
}

// Session makes a send one that is stored once however often it is repeated: field 10000 of its body.
type Session struct {
	ID     uint64 // 1
	Epoch  uint64 // 2: as the answer to OpenSession gave it
	Number uint64 // 3: of the request in the session, from 1
	Acked  uint64 // 4: the answers to all requests below it have come
}

// Credentials is the body of Auth.
type Credentials struct{ SecretID, Signature, ClientID, Method string }

// State says what becomes of a prepared message.
type State int32

// The states of a confirmation. Undecided is only in answers.
const (
	Commit    State = 1
	Rollback  State = 2
	Undecided State = 3
)

// Decision is one item of Confirm, in an answer with the reason why it failed.
type Decision struct {
	ID    uint64
	State State
	Code  int32
	Text  string
}

// bodyField is the field number of a command's body in CMQProto; 0: it has none.
func bodyField(c Cmd) int {
	switch c {
	case Auth:
		return 199
	case Send:
		return 200
	case BatchSend:
		return 201
	case Receive:
		return 202
	case BatchReceive:
		return 204
	case Delete:
		return 206
	case BatchDelete:
		return 207
	case Publish:
		return 208
	case BatchPublish:
		return 209
	case Confirm:
		return 221
	case ChangeVisibility, StopWaiting, OpenSession:
		return int(c)
	}
	return 0
}

// Append appends the frame of r to dst. It does not allocate beyond dst.
func Append(dst []byte, r *Request) []byte {
	start := len(dst)
	e := encoder{b: append(dst, 0, 0, 0, 0, 0, 0)}
	e.number(1, uint64(r.Seq))
	e.number(2, uint64(r.Cmd))
	if r.RequestID != 0 {
		e.number(10, r.RequestID)
	}
	if field := bodyField(r.Cmd); field != 0 {
		size := encoder{counting: true}
		size.body(r)
		e.head(field, size.n)
		e.body(r)
	}
	binary.LittleEndian.PutUint32(e.b[start+2:], uint32(len(e.b)-start))
	return e.b
}

// body writes the body of r's command.
func (e *encoder) body(r *Request) {
	if r.Cmd == Auth {
		c := &r.Credentials
		e.text(1, c.SecretID)
		e.text(2, c.Signature)
		e.text(3, c.ClientID)
		e.text(4, c.Method)
		return
	}
	if r.Cmd == StopWaiting {
		e.number(1, uint64(r.Waiting))
		return
	}
	e.text(1, r.Name)
	switch r.Cmd {
	case Send:
		e.text(2, r.Body)
		e.sending(r)
	case BatchSend:
		e.texts(2, r.Bodies)
		e.sending(r)
	case Receive:
		e.waiting(2, 3, r)
	case BatchReceive:
		e.number(2, uint64(r.Max))
		e.waiting(3, 4, r)
	case Delete:
		e.number(2, r.Handle)
	case BatchDelete:
		e.numbers(2, r.Handles)
	case ChangeVisibility:
		e.numbers(2, r.Handles)
		e.number(3, uint64(r.Lock))
	case Publish:
		e.text(2, r.Body)
		e.labels(r)
	case BatchPublish:
		e.texts(2, r.Bodies)
		e.labels(r)
	case OpenSession:
		e.number(2, r.Session.ID)
	case Confirm:
		for _, d := range r.Decisions {
			e.decision(2, d)
		}
	}
}

// sending writes delay_seconds (3), is_transaction (4), first_query_interval (5) and session (10000).
func (e *encoder) sending(r *Request) {
	if r.Delay > 0 {
		e.number(3, uint64(r.Delay))
	}
	if r.Prepared {
		e.number(4, 1)
		if r.FirstQuery > 0 {
			e.number(5, uint64(r.FirstQuery))
		}
	}
	if s := r.Session; s.ID != 0 {
		e.head(10000, 4+varintLen(s.ID)+varintLen(s.Epoch)+varintLen(s.Number)+varintLen(s.Acked))
		e.number(1, s.ID)
		e.number(2, s.Epoch)
		e.number(3, s.Number)
		e.number(4, s.Acked)
	}
}

// waiting writes poll_wait_seconds and visible_timeout, whose numbers differ between the two receives.
func (e *encoder) waiting(wait, lock int, r *Request) {
	if r.Wait >= 0 {
		e.number(wait, uint64(r.Wait))
	}
	if r.Lock > 0 {
		e.number(lock, uint64(r.Lock))
	}
}

// labels writes msgTags (3) and routing_key (4).
func (e *encoder) labels(r *Request) {
	e.texts(3, r.Tags)
	if r.RoutingKey != "" {
		e.text(4, r.RoutingKey)
	}
}

// decision writes a cmq_transaction_confirm_item: msg_id (1), state (2).
func (e *encoder) decision(field int, d Decision) {
	e.head(field, 2+varintLen(d.ID)+varintLen(uint64(d.State)))
	e.number(1, d.ID)
	e.number(2, uint64(d.State))
}

// encoder appends protobuf fields to b, or only counts their bytes in n. The length of a body stands before it, so
// that it is counted first and written then.
type encoder struct {
	b        []byte
	n        int
	counting bool
}

func (e *encoder) varint(v uint64) {
	if e.counting {
		e.n += varintLen(v)
	} else {
		e.b = binary.AppendUvarint(e.b, v)
	}
}

func (e *encoder) number(field int, v uint64) {
	e.varint(uint64(field)<<3 | kindVarint)
	e.varint(v)
}

func (e *encoder) numbers(field int, all []uint64) {
	for _, v := range all {
		e.number(field, v)
	}
}

// head writes tag and length of a field of n bytes.
func (e *encoder) head(field, n int) {
	e.varint(uint64(field)<<3 | kindBytes)
	e.varint(uint64(n))
}

func (e *encoder) text(field int, s string) {
	e.head(field, len(s))
	if e.counting {
		e.n += len(s)
	} else {
		e.b = append(e.b, s...)
	}
}

func (e *encoder) texts(field int, all []string) {
	for _, s := range all {
		e.text(field, s)
	}
}

func varintLen(v uint64) int { return (bits.Len64(v|1) + 6) / 7 }
