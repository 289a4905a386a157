package compat

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// route asks for the addresses of the TCP door as its client does.
func route(t *testing.T, c *client, queue string) []string {
	t.Helper()
	a := c.ok("QueryQueueRoute", "queueName="+queue)
	if len(a.Addr) == 0 {
		t.Fatalf("no addresses: %s", a.raw)
	}
	for _, address := range a.Addr {
		if _, _, err := net.SplitHostPort(address); err != nil {
			t.Errorf("address %q: %v", address, err)
		}
	}
	return a.Addr
}

// TestWire runs everything on a queue of its own, through the doors of all nodes.
func TestWire(t *testing.T) {
	onBoth(t, func(t *testing.T, addresses []string) {
		for name, test := range map[string]func(t *testing.T, c *client, doors []string, q string){
			"life": wireLife, "repeats": wireRepeats, "subscription": wireSubscription, "times": wireTimes, "gone": wireGone, "wrong": wireWrong, "transactions": wireTransactions, "source": wireDeadLetter, "publishes": wirePublishes,
		} {
			t.Run(name, func(t *testing.T) {
				c := newClient(t, shapes()[0], addresses)
				c.ok("CreateQueue", "queueName="+name)
				doors := route(t, c, name)
				if len(doors) != len(addresses) {
					t.Fatalf("%d nodes, doors %v", len(addresses), doors)
				}
				test(t, c, doors, name)
			})
		}
	})
}

func (a *reply) is(t *testing.T, result int64, text string) {
	t.Helper()
	if a.result != result || a.text != text {
		t.Errorf("result %d %q, want %d %q", a.result, a.text, result, text)
	}
}

// wireLife goes through the life of messages at every node's door, whoever leads the queue.
func wireLife(t *testing.T, c *client, doors []string, q string) {
	for _, door := range doors {
		w := dialWire(t, door)
		sent := w.send(q, "one")
		sent.is(t, 0, "")
		if sent.seqno != 1 || w.seqno != 2 || len(sent.ids) != 1 {
			t.Fatalf("the login came between: %+v", sent)
		}
		got := w.receive(strings.ToUpper(q), 5)
		got.is(t, 0, "")
		m := got.messages[0]
		if m.id != sent.ids[0] || m.body != "one" || m.count != 1 || m.visible < m.first+29 || m.first < m.enqueued || m.enqueued < 1_700_000_000 {
			t.Errorf("%+v", m)
		}
		w.delete(q, m.handle).is(t, 0, "")
		w.delete(q, m.handle).is(t, 10260, "receipt handle is invalid")

		batch := w.call(wireBatchSend, 201, protobuf(1, q, 2, "a", 2, "b", 2, "c"))
		batch.is(t, 0, "")
		all := w.batchReceive(q, 20, 5)
		if len(batch.ids) != 3 || len(all.messages) != 3 || all.messages[2].id != batch.ids[2] || all.messages[0].body != "a" {
			t.Errorf("%+v, %+v", batch, all)
		}
		partly := w.call(wireBatchDelete, 207, protobuf(1, q, 2, all.messages[0].handle, 2, uint64(123), 2, all.messages[1].handle))
		partly.is(t, 10150, "delete message partially failed")
		if !slices.Equal(partly.failed, []uint64{123}) {
			t.Errorf("failed: %v", partly.failed)
		}
		// Ids and handles are the same numbers as over HTTP.
		c.ok("DeleteMessage", "queueName="+q, "receiptHandle="+strconv.FormatUint(all.messages[2].handle, 10))
		other := c.ok("SendMessage", "queueName="+q, "msgBody=over HTTP")
		m = w.receive(q, 5).messages[0]
		if strconv.FormatUint(m.id, 10) != other.MsgID || m.body != "over HTTP" {
			t.Errorf("%+v, sent as %s", m, other.MsgID)
		}
		w.delete(q, m.handle).is(t, 0, "")

		w.receive(q, 0).is(t, 10200, "no message")
		w.send("none", "x").is(t, 10100, "queue is not existed, or deleted")
		w.send(q, "").is(t, 10120, "message body can't be empty")
		w.send(q, string(make([]byte, 65537))).is(t, 10230, "exceed maximum message size")
		w.call(wireSend, 200, protobuf(1, q, 2, "x", 4, 1, 5, 5000)).is(t, 10790, "transaction message is not supported")
		w.call(wireHeartbeat, 0, nil).is(t, 0, "")
	}
}

// wireRepeats: the client repeats the same bytes when it has waited too long; at least once is what it is promised.
func wireRepeats(t *testing.T, _ *client, doors []string, q string) {
	w := dialWire(t, doors[0])
	frame, answer := w.start(wireSend, 200, protobuf(1, q, 2, "twice"))
	w.write(frame)
	first, second := w.await(answer), w.await(answer)
	if first.seqno != second.seqno || len(first.ids) != 1 || len(second.ids) != 1 {
		t.Errorf("%+v, %+v", first, second)
	}
	again := dialWire(t, doors[len(doors)-1])
	for range 2 {
		m := again.receive(q, 5).messages[0]
		if m.body != "twice" {
			t.Errorf("%+v", m)
		}
		again.delete(q, m.handle).is(t, 0, "")
	}
}

// wireSubscription: eleven polls are open on one connection, heartbeats and sends go on, and no message is handed
// to two of them.
func wireSubscription(t *testing.T, _ *client, doors []string, q string) {
	for _, door := range doors {
		w := dialWire(t, door)
		w.call(wireHeartbeat, 0, nil).is(t, 0, "")
		var polls []chan *reply
		for range 11 {
			_, answer := w.start(wireBatchReceive, 204, protobuf(1, q, 2, 16, 3, 3))
			polls = append(polls, answer)
			w.call(wireHeartbeat, 0, nil).is(t, 0, "")
		}
		sent := map[uint64]bool{}
		for i := range 20 {
			sent[w.send(q, fmt.Sprint(i)).ids[0]] = true
		}
		for _, answer := range polls {
			a := w.await(answer)
			if a.result == 10200 {
				continue
			}
			a.is(t, 0, "")
			for _, m := range a.messages {
				if !sent[m.id] {
					t.Errorf("message %d was handed out twice, or was not sent", m.id)
				}
				delete(sent, m.id)
				w.delete(q, m.handle).is(t, 0, "")
			}
		}
		for len(sent) > 0 {
			for _, m := range w.batchReceive(q, 16, 10).messages {
				delete(sent, m.id)
				w.delete(q, m.handle).is(t, 0, "")
			}
		}
	}
}

// wireTimes: an empty poll is not a moment too short at the client, and messages that fall due together come
// together.
func wireTimes(t *testing.T, _ *client, doors []string, q string) {
	for _, door := range doors {
		w := dialWire(t, door)
		w.call(wireHeartbeat, 0, nil)
		began := time.Now()
		w.receive(q, 2).is(t, 10200, "no message")
		if took := time.Since(began); took <= 2*time.Second {
			t.Errorf("a poll of 2 s took %v", took)
		}
		began = time.Now()
		for i := range 3 {
			w.call(wireSend, 200, protobuf(1, q, 2, fmt.Sprint(i), 3, 2)).is(t, 0, "")
		}
		sending := time.Since(began)
		a := w.batchReceive(q, 10, 10)
		if took := time.Since(began); took < 2*time.Second {
			t.Errorf("delayed by 2 s, received after %v", took)
		}
		if sending < 50*time.Millisecond && len(a.messages) != 3 {
			t.Errorf("sent within %v, received %d", sending, len(a.messages))
		}
		for len(a.messages) < 3 {
			a.messages = append(a.messages, w.batchReceive(q, 10, 10).messages...)
		}
		for _, m := range a.messages {
			w.delete(q, m.handle).is(t, 0, "")
		}
	}
}

// wireGone: connections that go away while they wait for a message get none.
func wireGone(t *testing.T, c *client, doors []string, q string) {
	c.ok("SetQueueAttributes", "queueName="+q, "visibilityTimeout=43200")
	for round := range 3 {
		for _, door := range doors {
			w := dialWire(t, door)
			for range 3 {
				w.start(wireReceive, 202, protobuf(1, q, 2, 30))
				w.start(wireBatchReceive, 204, protobuf(1, q, 2, 16, 3, 30))
			}
			w.call(wireHeartbeat, 0, nil).is(t, 0, "")
			w.receive(q, 1).is(t, 10200, "no message") // by then the others wait
			w.conn.Close()
		}
		body := fmt.Sprintf("round %d", round)
		next := dialWire(t, doors[round%len(doors)])
		next.send(q, body).is(t, 0, "")
		m := next.receive(q, 10).messages
		if len(m) != 1 || m[0].body != body || m[0].count != 1 {
			t.Fatalf("round %d: %+v", round, m)
		}
		next.delete(q, m[0].handle).is(t, 0, "")
	}
}

// wireWrong: what is wrong is answered with its number, or ends its own connection.
func wireWrong(t *testing.T, _ *client, doors []string, q string) {
	other := dialWire(t, doors[0])
	other.call(wireHeartbeat, 0, nil).is(t, 0, "")
	stranger := dialWire(t, doors[0])
	stranger.loggedIn = true // it says so
	stranger.send(q, "x").is(t, 306, "connection is not authenticated")
	stranger.login()
	stranger.send(q, "x").is(t, 0, "")
	stranger.call(1100, 0, nil).is(t, 10430, "action name 1100 is not existed")
	for _, frame := range [][]byte{{1, 0, 6, 0, 0, 0}, {0, 0, 5, 0, 0, 0}, {0, 0, 0xff, 0xff, 0xff, 0xff}, wireFrame([]byte{8, 1})} {
		w := dialWire(t, doors[0])
		w.call(wireHeartbeat, 0, nil).is(t, 0, "")
		conn, err := net.Dial("tcp", doors[0])
		if err != nil {
			t.Fatal(err)
		}
		conn.Write(frame)
		conn.SetReadDeadline(time.Now().Add(patience))
		if n, err := conn.Read(make([]byte, 1)); n != 0 || err == nil {
			t.Errorf("frame %x was answered", frame)
		}
		conn.Close()
	}
	other.call(wireHeartbeat, 0, nil).is(t, 0, "")
}

// wireDeadLetter: a message that died tells where, over both protocols.
func wireDeadLetter(t *testing.T, c *client, doors []string, q string) {
	grave := q + "-dead"
	c.ok("CreateQueue", "queueName="+grave)
	c.ok("SetQueueAttributes", "queueName="+q, "visibilityTimeout=1", `deadLetterPolicy={"deadLetterQueue":"`+grave+`","policy":0,"maxReceiveCount":2}`)
	id := c.ok("ListQueue", "searchWord="+q).QueueList[0]
	if id.QueueName != q {
		t.Fatalf("%+v", id)
	}
	w := dialWire(t, doors[0])
	sent := w.send(q, "poison").ids[0]
	var first pulled
	for range 2 {
		first = w.receive(q, 10).messages[0]
	}
	m := dialWire(t, doors[len(doors)-1]).receive(grave, 30).messages[0]
	if m.id != sent || m.body != "poison" || m.count != 1 || m.fromQueue != id.QueueID || m.fromTime != first.enqueued || m.fromCount != 2 {
		t.Errorf("%+v of %s, received before as %+v", m, id.QueueID, first)
	}
	if first.fromQueue != "" || first.fromTime != 0 || first.fromCount != 0 {
		t.Errorf("a message that has not died says %+v", first)
	}
	c.ok("ChangeMessageVisibility", "queueName="+grave, fmt.Sprint("receiptHandle=", m.handle), "visibilityTimeout=0")
	want := fmt.Sprintf(`"dequeueCount":2,"originalQueueId":"%s","originalEnqueueTime":%d,"originalDequeueCount":2}`, id.QueueID, first.enqueued)
	if got := c.ok("ReceiveMessage", "queueName="+grave); !strings.Contains(string(got.raw), want) {
		t.Errorf("%s, want %s", got.raw, want)
	}
}

// wireTransactions: what is prepared is received by nobody until it is committed; its producer is asked, at whatever node it
// is, and when it has gone another one that sent to the queue.
func wireTransactions(t *testing.T, c *client, doors []string, q string) {
	c.ok("SetQueueAttributes", "queueName="+q, "transaction=1", "firstQueryInterval=1")
	prepare := func(w *wire, body string, interval int) uint64 {
		a := w.call(wireSend, 200, protobuf(1, q, 2, body, 4, 1, 5, interval))
		a.is(t, 0, "")
		return a.ids[0]
	}
	decide := func(w *wire, id uint64, state int) *reply {
		return w.call(wireConfirm, 221, protobuf(1, q, 2, protobuf(1, id, 2, state)))
	}
	await := func(w *wire, id uint64) {
		t.Helper()
		select {
		case asked := <-w.questions:
			if asked != (question{q, id}) {
				t.Errorf("asked %+v, prepared %d", asked, id)
			}
		case <-time.After(patience):
			t.Fatal("nobody asks")
		}
	}
	for i, door := range doors {
		producer, consumer := dialWire(t, door), dialWire(t, doors[(i+1)%len(doors)])
		rolledBack, committed := prepare(producer, "never", 900), prepare(producer, "sent", 900)
		consumer.receive(q, 0).is(t, 10200, "no message")
		decide(producer, rolledBack, 2).is(t, 0, "")
		decide(producer, committed, 1).is(t, 0, "")
		m := consumer.receive(q, 10).messages[0]
		if m.body != "sent" || m.id != committed {
			t.Errorf("%+v", m)
		}
		consumer.delete(q, m.handle).is(t, 0, "")
		decide(producer, committed, 2).is(t, 10750, "transaction confirmation failed")

		asked := prepare(producer, "asked", 1)
		await(producer, asked)
		decide(producer, asked, 1).is(t, 0, "")
		m = consumer.receive(q, 10).messages[0]
		consumer.delete(q, m.handle).is(t, 0, "")

		heir := dialWire(t, doors[(i+1)%len(doors)])
		decide(heir, prepare(heir, "never", 900), 2).is(t, 0, "")
		left := prepare(producer, "left", 2000)
		producer.conn.Close()
		await(heir, left)
		decide(heir, left, 1).is(t, 0, "")
		m = consumer.receive(q, 10).messages[0]
		if m.body != "left" || m.id != left {
			t.Errorf("%+v", m)
		}
		consumer.delete(q, m.handle).is(t, 0, "")
		heir.conn.Close() // or it would be asked in the next round
	}
}
