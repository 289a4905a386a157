package compat

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	bin "encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// wire is one connection of a client of the TCP protocol. It is written from the description of the protocol and shares
// no code with the server. Answers are given to whoever waits for their seqno.
type wire struct {
	t    testing.TB
	conn net.Conn

	mu        sync.Mutex
	seqno     int64
	waiting   map[int64]chan *reply
	loggedIn  bool
	questions chan question
}

// reply is an answer, with the fields that the strictest client insists on.
type reply struct {
	seqno, cmd, result int64
	text               string
	ids                []uint64
	messages           []pulled
	failed             []uint64 // handles
	asked              question
}

// question is the server's, about a prepared message.
type question struct {
	queue string
	id    uint64
}

type pulled struct {
	id, handle               uint64
	body                     string
	enqueued, visible, first uint64
	count                    uint64
	fromQueue                string // of a dead letter
	fromTime, fromCount      uint64
}

// Commands and the fields of their bodies.
const (
	wireAuth, wireSend, wireBatchSend, wireReceive, wireBatchReceive = 1020, 1021, 1022, 1023, 1024
	wireDelete, wireBatchDelete, wirePublish, wireHeartbeat          = 1025, 1026, 1027, 1040
	wireBatchPublish, wireConfirm, wireQuery                         = 1028, 1041, 1042
)

func dialWire(t testing.TB, address string) *wire {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{t: t, conn: conn, waiting: make(map[int64]chan *reply), questions: make(chan question, 64)}
	t.Cleanup(func() { conn.Close() })
	go w.read()
	return w
}

// fields makes a protobuf message of pairs of number and value.
func protobuf(pairs ...any) (b []byte) {
	for i := 0; i < len(pairs); i += 2 {
		num := protowire.Number(pairs[i].(int))
		switch v := pairs[i+1].(type) {
		case int:
			b = protowire.AppendVarint(protowire.AppendTag(b, num, protowire.VarintType), uint64(v))
		case uint64:
			b = protowire.AppendVarint(protowire.AppendTag(b, num, protowire.VarintType), v)
		case string:
			b = protowire.AppendString(protowire.AppendTag(b, num, protowire.BytesType), v)
		case []byte:
			b = protowire.AppendBytes(protowire.AppendTag(b, num, protowire.BytesType), v)
		default:
			panic(fmt.Sprintf("%T", v))
		}
	}
	return b
}

func wireFrame(body []byte) []byte {
	return append(bin.LittleEndian.AppendUint32([]byte{0, 0}, uint32(6+len(body))), body...)
}

func (w *wire) next() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seqno++
	return w.seqno
}

// expect makes the place where the answer will be.
func (w *wire) expect(seqno int64) chan *reply {
	ch := make(chan *reply, 8)
	w.mu.Lock()
	w.waiting[seqno] = ch
	w.mu.Unlock()
	return ch
}

// start sends a request. Before the first one it logs in, and its number was given out before that of the login.
func (w *wire) start(cmd, field int, body []byte) (frame []byte, answer chan *reply) {
	seqno := w.next()
	if !w.loggedIn {
		w.login()
	}
	pairs := []any{1, int(seqno), 2, cmd}
	if field != 0 {
		pairs = append(pairs, field, body)
	}
	frame = wireFrame(protobuf(pairs...))
	answer = w.expect(seqno)
	w.write(frame)
	return frame, answer
}

func (w *wire) write(frame []byte) {
	if _, err := w.conn.Write(frame); err != nil {
		w.t.Errorf("write: %v", err)
	}
}

func (w *wire) login() {
	const client = "10.1.2.3@DEFAULT"
	mac := hmac.New(sha1.New, []byte(secretKey))
	io.WriteString(mac, client+secretID)
	seqno := w.next()
	body := protobuf(1, secretID, 2, base64.StdEncoding.EncodeToString(mac.Sum(nil)), 3, client, 4, "HmacSHA1")
	answer := w.expect(seqno)
	w.write(wireFrame(protobuf(1, int(seqno), 2, wireAuth, 199, body)))
	if a := w.await(answer); a.result != 0 {
		w.t.Fatalf("login: %d %s", a.result, a.text)
	}
	w.loggedIn = true
}

// patience is more than any answer takes on a machine with other work to do.
const patience = 60 * time.Second

func (w *wire) await(answer chan *reply) *reply {
	w.t.Helper()
	select {
	case a := <-answer:
		return a
	case <-time.After(patience):
		w.t.Fatal("no answer")
		return nil
	}
}

func (w *wire) call(cmd, field int, body []byte) *reply {
	w.t.Helper()
	_, answer := w.start(cmd, field, body)
	return w.await(answer)
}

func (w *wire) send(queue, body string) *reply {
	return w.call(wireSend, 200, protobuf(1, queue, 2, body))
}

func (w *wire) receive(queue string, wait int) *reply {
	return w.call(wireReceive, 202, protobuf(1, queue, 2, wait))
}

func (w *wire) batchReceive(queue string, num, wait int) *reply {
	return w.call(wireBatchReceive, 204, protobuf(1, queue, 2, num, 3, wait))
}

func (w *wire) delete(queue string, handle uint64) *reply {
	return w.call(wireDelete, 206, protobuf(1, queue, 2, handle))
}

// read hands out answers until the connection ends.
func (w *wire) read() {
	for {
		head := make([]byte, 6)
		if _, err := io.ReadFull(w.conn, head); err != nil {
			return
		}
		body := make([]byte, bin.LittleEndian.Uint32(head[2:])-6)
		if _, err := io.ReadFull(w.conn, body); err != nil || !bytes.Equal(head[:2], []byte{0, 0}) {
			w.t.Errorf("frame %x, %v", head, err)
			return
		}
		a, err := parseReply(body)
		if err != nil {
			w.t.Errorf("answer %x: %v", body, err)
			return
		}
		if a.cmd == wireQuery {
			w.questions <- a.asked
			continue
		}
		w.mu.Lock()
		ch := w.waiting[a.seqno]
		w.mu.Unlock()
		if ch == nil {
			w.t.Errorf("answer to nothing: %+v", a)
			return
		}
		ch <- a
	}
}

// eachField walks over a message.
func eachField(b []byte, visit func(num protowire.Number, n uint64, data []byte) error) error {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		var v uint64
		var data []byte
		switch typ {
		case protowire.VarintType:
			v, n = protowire.ConsumeVarint(b)
		case protowire.BytesType:
			data, n = protowire.ConsumeBytes(b)
		default:
			return fmt.Errorf("field %d has type %d", num, typ)
		}
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		if err := visit(num, v, data); err != nil {
			return err
		}
	}
	return nil
}

func parseReply(b []byte) (*reply, error) {
	a, seen := new(reply), map[protowire.Number]bool{}
	err := eachField(b, func(num protowire.Number, n uint64, data []byte) error {
		seen[num] = true
		switch num {
		case 1:
			a.seqno = int64(n)
		case 2:
			a.cmd = int64(n)
		case 3:
			a.result = int64(n)
		case 4:
			a.text = string(data)
		case 26:
			return a.pulled(data)
		case 27:
			return eachField(data, func(_ protowire.Number, _ uint64, data []byte) error { return a.pulled(data) })
		case 28:
			return eachField(data, func(num protowire.Number, n uint64, _ []byte) error {
				if num == 1 {
					a.failed = append(a.failed, n)
				}
				return nil
			})
		case 29:
			a.ids = append(a.ids, n)
		case 223:
			return eachField(data, func(num protowire.Number, n uint64, data []byte) error {
				if num == 1 {
					a.asked.queue = string(data)
				} else {
					a.asked.id = n
				}
				return nil
			})
		}
		return nil
	})
	if err == nil && (!seen[1] || !seen[2]) {
		err = fmt.Errorf("no seqno or no cmd")
	}
	return a, err
}

func (a *reply) pulled(b []byte) error {
	var m pulled
	err := eachField(b, func(num protowire.Number, n uint64, data []byte) error {
		switch num {
		case 1:
			m.id = n
		case 3:
			m.handle = n
		case 4:
			m.body = string(data)
		case 5:
			m.enqueued = n
		case 6:
			m.visible = n
		case 7:
			m.first = n
		case 8:
			m.count = n
		case 9:
			m.fromQueue = string(data)
		case 10:
			m.fromTime = n
		case 11:
			m.fromCount = n
		}
		return nil
	})
	if err == nil && (m.id == 0 || m.handle == 0 || m.id>>63 != 0 || m.handle>>63 != 0) {
		err = fmt.Errorf("id %d and handle %d do not fit a signed number, or are missing", m.id, m.handle)
	}
	a.messages = append(a.messages, m)
	return err
}
