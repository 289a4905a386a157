// Package tcptest is a TCP server of CMQ for tests of the client: the test says what it answers, and it can misbehave
// in every way that the client must survive. It reads requests with the protobuf project's own code, so that it finds
// what package wire gets wrong. It is no queue.
package tcptest

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"

	"google.golang.org/protobuf/encoding/protowire"
)

// Request is a frame from the client.
type Request struct {
	Seq       int64
	Cmd       int32
	RequestID uint64
	Fields    []Field // of the body
}

// Field is one field of a body.
type Field struct {
	Number int
	Value  uint64 // of a varint
	Data   string // of anything else
}

// Text gives the first text with this number.
func (r *Request) Text(number int) string {
	for _, f := range r.Fields {
		if f.Number == number {
			return f.Data
		}
	}
	return ""
}

// Texts gives all texts with this number.
func (r *Request) Texts(number int) (all []string) {
	for _, f := range r.Fields {
		if f.Number == number {
			all = append(all, f.Data)
		}
	}
	return all
}

// Number gives the first number with this field number, and whether there was one.
func (r *Request) Number(number int) (uint64, bool) {
	for _, f := range r.Fields {
		if f.Number == number {
			return f.Value, true
		}
	}
	return 0, false
}

// Numbers gives all numbers with this field number.
func (r *Request) Numbers(number int) (all []uint64) {
	for _, f := range r.Fields {
		if f.Number == number {
			all = append(all, f.Value)
		}
	}
	return all
}

// Message is one delivery in an answer.
type Message struct {
	ID, Handle                                    uint64
	Body                                          string
	Enqueued, NextVisible, FirstDequeue, Dequeued int64
}

// Failure is one refused handle in an answer.
type Failure struct {
	Handle uint64
	Code   int32
	Text   string
}

// Answer is a frame to the client.
type Answer struct {
	Result   int32
	Error    string
	IDs      []uint64
	Messages []Message // one is written as pull_rsp unless List is set
	List     bool
	Failed   []Failure
	Raw      []byte // further protobuf fields
}

// Session is one connection, on the side of the server.
type Session struct {
	Conn net.Conn
	N    int // counts connections from 1

	mu sync.Mutex
}

// Answer answers r.
func (s *Session) Answer(r *Request, a Answer) { s.Write(Frame(r.Seq, r.Cmd, a)) }

// Write writes bytes as they are. A connection that is gone is not an error.
func (s *Session) Write(frame []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, _ = s.Conn.Write(frame) // the client may have gone, which some tests want
}

// Frame makes the bytes of an answer.
func Frame(seq int64, cmd int32, a Answer) []byte {
	b := make([]byte, 6)
	number := func(b []byte, n protowire.Number, v uint64) []byte {
		return protowire.AppendVarint(protowire.AppendTag(b, n, protowire.VarintType), v)
	}
	text := func(b []byte, n protowire.Number, v string) []byte {
		return protowire.AppendString(protowire.AppendTag(b, n, protowire.BytesType), v)
	}
	b = number(number(b, 1, uint64(seq)), 2, uint64(cmd))
	b = text(number(b, 3, uint64(a.Result)), 4, a.Error)
	for _, id := range a.IDs {
		b = number(b, 29, id)
	}
	var list []byte
	for _, m := range a.Messages {
		one := text(number(number(nil, 1, m.ID), 3, m.Handle), 4, m.Body)
		for n, v := range []int64{m.Enqueued, m.NextVisible, m.FirstDequeue, m.Dequeued} {
			one = number(one, protowire.Number(5+n), uint64(v))
		}
		if a.List {
			list = text(list, 1, string(one))
		} else {
			b = text(b, 26, string(one))
		}
	}
	if a.List {
		b = text(b, 27, string(list))
	}
	for _, f := range a.Failed {
		b = text(b, 28, string(text(number(number(nil, 1, f.Handle), 2, uint64(f.Code)), 3, f.Text)))
	}
	b = append(b, a.Raw...)
	binary.LittleEndian.PutUint32(b[2:], uint32(len(b)))
	return b
}

// Query makes a frame with which a server asks what became of a prepared message.
func Query(queue string, id uint64) []byte {
	body := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), queue)
	body = protowire.AppendVarint(protowire.AppendTag(body, 2, protowire.VarintType), id)
	return Frame(7001, 1042, Answer{Raw: protowire.AppendBytes(protowire.AppendTag(nil, 223, protowire.BytesType), body)})
}

// Decode reads one frame without its header.
func Decode(body []byte) (*Request, error) {
	r := &Request{}
	err := fields(body, func(f Field) error {
		switch {
		case f.Number == 1:
			r.Seq = int64(f.Value)
		case f.Number == 2:
			r.Cmd = int32(f.Value)
		case f.Number == 10:
			r.RequestID = f.Value
		default:
			return fields([]byte(f.Data), func(f Field) error {
				r.Fields = append(r.Fields, f)
				return nil
			})
		}
		return nil
	})
	return r, err
}

func fields(b []byte, each func(Field) error) error {
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		f := Field{Number: int(number)}
		switch kind {
		case protowire.VarintType:
			f.Value, n = protowire.ConsumeVarint(b)
		case protowire.BytesType:
			f.Data, n = protowire.ConsumeString(b)
		default:
			return fmt.Errorf("field %d has kind %d", number, kind)
		}
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		if err := each(f); err != nil {
			return err
		}
	}
	return nil
}

// Serve reads frames from one connection until it ends and gives them to handle, one after the other. It answers
// authentications itself, with 0, unless handle wants them.
func Serve(s *Session, auth bool, handle func(s *Session, r *Request)) error {
	defer s.Conn.Close()
	for {
		var head [6]byte
		if _, err := io.ReadFull(s.Conn, head[:]); err != nil {
			return err
		}
		if head[0] != 0 || head[1] != 0 {
			return fmt.Errorf("a frame begins with %x", head)
		}
		body := make([]byte, binary.LittleEndian.Uint32(head[2:])-6)
		if _, err := io.ReadFull(s.Conn, body); err != nil {
			return err
		}
		r, err := Decode(body)
		if err != nil {
			return err
		}
		if r.Cmd == 1020 && !auth {
			s.Answer(r, Answer{})
			continue
		}
		handle(s, r)
	}
}
