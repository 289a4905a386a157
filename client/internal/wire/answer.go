package wire

import (
	"errors"
	"fmt"
)

// Answer is one frame of a server. Decode fills it; slices are reused from one frame to the next.
type Answer struct {
	Cmd       Cmd
	Result    int32  // 3: 0 or the module code of an error
	Error     string // 4
	IDs       []uint64
	Messages  []Message
	Failed    []Failure  // handles of BatchDelete that were refused
	Decisions []Decision // answer to Confirm
	Asked     Asked      // Query
	Epoch     uint64     // answer to OpenSession
}

// Message is one delivery. Times are Unix seconds.
type Message struct {
	ID            uint64
	Handle        uint64
	Body          string
	Enqueued      int64
	NextVisible   int64
	FirstDequeue  int64
	DequeueCount  int64
	OriginQueue   string // of a dead letter: the id of the queue it came from
	OriginTime    int64
	OriginDequeue int64
}

// Failure says why one handle was refused.
type Failure struct {
	Handle uint64
	Code   int32
	Text   string
}

// Asked is the body of Query.
type Asked struct {
	Name string
	ID   uint64
}

var errNoSeq = errors.New("a frame without seqno or cmd")

// Head gives seqno and cmd of a frame's body, which say what the rest is.
func Head(body []byte) (seq int64, cmd Cmd, err error) {
	var hasSeq, hasCmd bool
	f := fields{b: body}
	for f.next() {
		switch {
		case f.is(1, kindVarint):
			seq, hasSeq = int64(f.value), true
		case f.is(2, kindVarint):
			cmd, hasCmd = Cmd(f.value), true
		}
	}
	if f.err != nil {
		return 0, 0, f.err
	}
	if !hasSeq || !hasCmd {
		return 0, 0, errNoSeq
	}
	return seq, cmd, nil
}

// Reset empties the answer and keeps its memory, but no body.
func (a *Answer) Reset() {
	clear(a.Messages)
	*a = Answer{IDs: a.IDs[:0], Messages: a.Messages[:0], Failed: a.Failed[:0], Decisions: a.Decisions[:0]}
}

// Decode reads a frame's body. Nothing of the answer aliases it.
func (a *Answer) Decode(body []byte) error {
	a.Reset()
	f := fields{b: body}
	for f.next() && f.err == nil {
		switch {
		case f.is(2, kindVarint):
			a.Cmd = Cmd(f.value)
		case f.is(3, kindVarint):
			a.Result = int32(f.value)
		case f.is(4, kindBytes):
			a.Error = string(f.data)
		case f.number == 29 && (f.kind == kindVarint || f.kind == kindBytes):
			a.IDs = f.numbers(a.IDs)
		case f.is(26, kindBytes):
			f.err = a.message(f.data)
		case f.is(27, kindBytes):
			f.err = each(f.data, 1, a.message)
		case f.is(28, kindBytes):
			f.err = a.failure(f.data)
		case f.is(222, kindBytes):
			f.err = each(f.data, 2, a.decision)
		case f.is(10004, kindVarint):
			a.Epoch = f.value
		case f.is(223, kindBytes):
			f.err = a.Asked.decode(f.data)
		}
	}
	if f.err != nil {
		return fmt.Errorf("answer to command %d: %w", a.Cmd, f.err)
	}
	return nil
}

// each calls read for every element of the repeated message field.
func each(data []byte, field uint64, read func([]byte) error) error {
	f := fields{b: data}
	for f.next() && f.err == nil {
		if f.is(field, kindBytes) {
			f.err = read(f.data)
		}
	}
	return f.err
}

// message reads a cmq_pull_msg_rsp.
func (a *Answer) message(data []byte) error {
	a.Messages = append(a.Messages, Message{})
	m := &a.Messages[len(a.Messages)-1]
	f := fields{b: data}
	for f.next() {
		if f.kind == kindBytes {
			switch f.number {
			case 4:
				m.Body = string(f.data)
			case 9:
				m.OriginQueue = string(f.data)
			}
			continue
		}
		switch f.number {
		case 1:
			m.ID = f.value
		case 3:
			m.Handle = f.value
		case 5:
			m.Enqueued = int64(f.value)
		case 6:
			m.NextVisible = int64(f.value)
		case 7:
			m.FirstDequeue = int64(f.value)
		case 8:
			m.DequeueCount = int64(f.value)
		case 10:
			m.OriginTime = int64(f.value)
		case 11:
			m.OriginDequeue = int64(f.value)
		}
	}
	return f.err
}

// failure reads a cmq_msg_delete_result.
func (a *Answer) failure(data []byte) error {
	var r Failure
	f := fields{b: data}
	for f.next() {
		switch {
		case f.is(1, kindVarint):
			r.Handle = f.value
		case f.is(2, kindVarint):
			r.Code = int32(f.value)
		case f.is(3, kindBytes):
			r.Text = string(f.data)
		}
	}
	a.Failed = append(a.Failed, r)
	return f.err
}

// decision reads a cmq_transaction_confirm_reply_item.
func (a *Answer) decision(data []byte) error {
	var d Decision
	f := fields{b: data}
	for f.next() {
		switch {
		case f.is(1, kindVarint):
			d.ID = f.value
		case f.is(2, kindVarint):
			d.State = State(f.value)
		case f.is(3, kindVarint):
			d.Code = int32(f.value)
		case f.is(4, kindBytes):
			d.Text = string(f.data)
		}
	}
	a.Decisions = append(a.Decisions, d)
	return f.err
}

// decode reads a cmq_transaction_query.
func (q *Asked) decode(data []byte) error {
	f := fields{b: data}
	for f.next() {
		switch {
		case f.is(1, kindBytes):
			q.Name = string(f.data)
		case f.is(2, kindVarint):
			q.ID = f.value
		}
	}
	return f.err
}
