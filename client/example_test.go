package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"sync/atomic"
	"time"

	"github.com/opencmq/cmq/client"
	"github.com/opencmq/cmq/client/internal/tcptest"
)

// oneMessage is an endpoint that knows one message, so that the examples run without a server.
func oneMessage() *httptest.Server {
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data, _ := io.ReadAll(r.Body)
		form, _ := url.ParseQuery(string(data))
		switch form.Get("Action") {
		case "SendMessage", "PublishMessage":
			io.WriteString(w, `{"code":0,"message":"","requestId":"1","msgId":"4503599627370497"}`)
		case "ReceiveMessage":
			io.WriteString(w, `{"code":0,"message":"","requestId":"2","msgBody":"hello","msgId":"4503599627370497","receiptHandle":"1","dequeueCount":1}`)
		case "BatchReceiveMessage":
			io.WriteString(w, `{"code":7000,"message":"(10200)no message","requestId":"3"}`)
		default:
			io.WriteString(w, `{"code":0,"message":"","requestId":"4"}`)
		}
	}))
}

// Send, receive and delete one message.
func Example() {
	srv := oneMessage()
	defer srv.Close()

	c, err := client.New(srv.URL, "AKIDexample", "secret")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	ctx := context.Background()
	q := c.Queue("orders")

	if _, err := q.Send(ctx, "hello"); err != nil {
		fmt.Println(err)
		return
	}
	m, err := q.Receive(ctx, 10*time.Second)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(m.Body, m.DequeueCount)
	fmt.Println(q.Delete(ctx, m.Handle))
	// Output:
	// hello 1
	// <nil>
}

// A consumer works until its context ends: long polls, one batch after the other, each deleted when done.
func ExampleQueue_BatchReceive() {
	srv := oneMessage()
	defer srv.Close()
	c, err := client.New(srv.URL, "AKIDexample", "secret")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	q := c.Queue("orders")

	messages, err := q.BatchReceive(context.Background(), client.MaxBatch, 20*time.Second)
	var handles []string
	for _, m := range messages {
		handles = append(handles, m.Handle)
	}
	if len(handles) > 0 {
		err = q.BatchDelete(context.Background(), handles)
	}
	fmt.Println(err)
	// Output:
	// BatchReceiveMessage: no message (code 7000, module 10200, request 3)
}

// tcpService makes a client whose TCP connections lead to a queue in this process, so that the examples run without a
// server. A program writes
//
//	client.New("tcp://127.0.0.1:7671", secretID, secretKey, client.WithEndpoints("http://127.0.0.1:7670"))
func tcpService(opts ...client.Option) *client.Client {
	service := tcptest.NewNetwork()
	service.Start("127.0.0.1:7671", tcptest.NewQueue().Handle)
	c, err := client.New("tcp://127.0.0.1:7671", "AKIDexample", "secret", append(opts, client.WithDialer(service.Dial))...)
	if err != nil {
		panic(err)
	}
	return c
}

// The same calls over TCP.
func ExampleNew_tcp() {
	c := tcpService()
	defer c.Close()
	ctx := context.Background()
	q := c.Queue("orders")

	id, err := q.Send(ctx, "hello")
	fmt.Println(id, err)
	m, err := q.Receive(ctx, 10*time.Second)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(m.Body, q.Delete(ctx, m.Handle))
	// Output:
	// 1 <nil>
	// hello <nil>
}

// What to do when a send fails depends on what is known about the message.
func ExampleOutcomeOf() {
	c := tcpService(client.WithTimeout(10 * time.Millisecond))
	c.Close() // so that the send fails
	_, err := c.Queue("orders").Send(context.Background(), "order 4711 paid")
	switch client.OutcomeOf(err) {
	case client.Stored:
		fmt.Println("done")
	case client.NotStored:
		fmt.Println("send it again, now or later")
	case client.Unknown:
		fmt.Println("send it again if the consumer can cope with seeing it twice; else look first")
	}
	// Output:
	// send it again, now or later
}

// Many requests under way without a goroutine for each. A channel with room bounds them.
func ExampleQueue_StartSend() {
	n := tcptest.NewNetwork()
	defer n.Close()
	n.Start("127.0.0.1:7671", tcptest.NewQueue().Handle)
	c, err := client.New("tcp://127.0.0.1:7671", "AKIDexample", "secret", client.WithDialer(n.Dial))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	q := c.Queue("orders")

	underWay := make(chan struct{}, 100)
	var stored, unknown atomic.Int32
	for range 1000 {
		underWay <- struct{}{}
		q.StartSend(context.Background(), "hello", func(id string, err error) {
			switch client.OutcomeOf(err) { // it must not wait here: the answers behind this one would
			case client.Stored:
				stored.Add(1)
			case client.Unknown:
				unknown.Add(1)
			}
			<-underWay // does not wait: this request is in it
		})
	}
	for range cap(underWay) {
		underWay <- struct{}{} // all have ended
	}
	fmt.Println(stored.Load(), "stored")
	// Output: 1000 stored
}

// A producer sends in batches. Most programs wait for the futures together.
func ExampleProducer() {
	c := tcpService()
	defer c.Close()
	ctx := context.Background()
	p := c.Queue("orders").NewProducer(client.ProducerOptions{Linger: 5 * time.Millisecond})

	var futures []client.Future
	for i := range 3 {
		f, err := p.SendAsync(ctx, fmt.Sprintf("order %d", i)) // waits only while the producer is full
		if err != nil {
			fmt.Println(err)
			return
		}
		futures = append(futures, f)
	}
	for _, f := range futures {
		id, err := f.Wait(ctx)
		fmt.Println(id, err)
	}
	fmt.Println(p.Close(ctx))
	// Output:
	// 1 <nil>
	// 2 <nil>
	// 3 <nil>
	// <nil>
}

// With Once a batch is sent again whatever became of the first attempt, and its messages are stored once.
func ExampleProducer_once() {
	c := tcpService()
	defer c.Close()
	ctx := context.Background()
	p := c.Queue("payments").NewProducer(client.ProducerOptions{Once: true, RetryFor: 5 * time.Minute})
	id, err := p.Send(ctx, "credit account 4711")
	fmt.Println(id, err)
	fmt.Println(p.Close(ctx))
	// Output:
	// 1 <nil>
	// <nil>
}

// A consumer works until its context ends. A message is deleted when its handler returns nil, and comes again when it
// returns an error.
func ExampleQueue_Consume() {
	c := tcpService()
	defer c.Close()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	q := c.Queue("orders")
	if _, err := q.Send(ctx, "order 4711"); err != nil {
		fmt.Println(err)
		return
	}

	err := q.Consume(ctx, func(ctx context.Context, m *client.Message) error {
		if m.DequeueCount == 1 {
			return errors.New("the data base is away") // tried again at once, see RetryDelay
		}
		fmt.Println(m.Body, "received", m.DequeueCount, "times")
		stop() // a program stops when it gets a signal, for example with signal.NotifyContext
		return nil
	}, client.ConsumerOptions{
		Concurrency: 4,
		RetryDelay:  func(*client.Message, error) time.Duration { return 0 },
	})
	fmt.Println(err)
	// Output:
	// order 4711 received 2 times
	// <nil>
}

// A topic hands each message to all subscriptions whose tags match.
func ExampleTopic() {
	srv := oneMessage()
	defer srv.Close()
	c, err := client.New(srv.URL, "AKIDexample", "secret")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	ctx := context.Background()

	_, err = c.CreateTopic(ctx, "payments", client.TopicSettings{Filter: client.ByTags})
	fmt.Println(err)
	topic := c.Topic("payments")
	_, err = topic.Subscribe(ctx, "refunds", client.Subscription{Protocol: client.ToQueue, Endpoint: "refunds", FilterTags: []string{"refund"}})
	fmt.Println(err)
	id, err := topic.Publish(ctx, "order 4711", client.PublishOptions{Tags: []string{"refund"}})
	fmt.Println(id, err)
	// Output:
	// <nil>
	// <nil>
	// 4503599627370497 <nil>
}

// A prepared message becomes visible when the transaction it belongs to has succeeded. Should this program end in
// between, the service asks the checker of any program that prepares messages for the queue.
func ExampleQueue_SendPrepared() {
	paid := map[string]bool{"1": true} // a table of the data base, in a program
	c := tcpService(client.WithChecker("orders", func(_ context.Context, queue, msgID string) client.State {
		if paid[msgID] {
			return client.Commit
		}
		return client.Rollback
	}))
	defer c.Close()
	ctx := context.Background()
	q := c.Queue("orders")

	id, err := q.SendPrepared(ctx, "order 4711 paid", 10*time.Second)
	if err != nil {
		fmt.Println(err)
		return
	}
	// Here the local transaction runs, and notes the id.
	fmt.Println(q.Confirm(ctx, client.Decision{ID: id, State: client.Commit}))
	// Output:
	// <nil>
}

// spans is an Observer. One for OpenTelemetry starts a span in Start, ends it in End and records the metrics
// client.MetricDuration and client.MetricSent there, with the same attributes.
type spans struct{}

func (spans) Start(ctx context.Context, op client.Operation) context.Context { return ctx }

func (spans) End(ctx context.Context, op client.Operation, took time.Duration, err error) {
	attributes := maps.Collect(op.Attributes(err))
	for _, name := range slices.Sorted(maps.Keys(attributes)) {
		fmt.Println(name, attributes[name])
	}
}

// traced is what this program puts into bodies: the data, and the trace it belongs to.
type traced struct {
	Traceparent string `json:"traceparent"`
	Data        string `json:"data"`
}

// traceKey is where this program keeps the trace in a context. With OpenTelemetry it is the propagator that puts it there
// and takes it out.
type traceKey struct{}

// traces is an Observer that lets a handler go on with the trace of its message.
type traces struct{}

func (traces) Start(ctx context.Context, op client.Operation) context.Context {
	var t traced
	if op.Message != nil && json.Unmarshal([]byte(op.Message.Body), &t) == nil {
		ctx = context.WithValue(ctx, traceKey{}, t.Traceparent)
	}
	return ctx
}

func (traces) End(context.Context, client.Operation, time.Duration, error) {}

// Messages have no headers: a trace that goes from the producer to the handler travels in the body.
func ExampleWithObserver_traceContext() {
	c := tcpService(client.WithObserver(traces{}))
	defer c.Close()
	q := c.Queue("orders")
	ctx, stop := context.WithCancel(context.Background())
	defer stop()

	body, _ := json.Marshal(traced{Traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", Data: "order 4711"})
	if _, err := q.Send(ctx, string(body)); err != nil {
		fmt.Println(err)
		return
	}
	err := q.Consume(ctx, func(ctx context.Context, m *client.Message) error {
		fmt.Println(ctx.Value(traceKey{}))
		stop() // one message is enough here
		return nil
	}, client.ConsumerOptions{Visibility: 30 * time.Second})
	fmt.Println(err)
	// Output:
	// 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01
	// <nil>
}

// What a producer that crashed has left undecided is listed, and decided by whoever knows.
func ExampleQueue_PreparedMessages() {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data, _ := io.ReadAll(r.Body)
		if form, _ := url.ParseQuery(string(data)); form.Get("Action") == "ListPreparedMessages" {
			io.WriteString(w, `{"code":0,"message":"","requestId":"1","messageList":[{"msgId":"4503599627370497","msgSize":15,"prepareTime":1700000000,"queryCount":15,"nextQueryTime":0,"undecided":1,"producerNode":2}]}`)
			return
		}
		io.WriteString(w, `{"code":0,"message":"","requestId":"2"}`)
	}))
	defer srv.Close()
	c, err := client.New(srv.URL, "AKIDexample", "secret")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	q := c.Queue("orders")

	list, err := q.PreparedMessages(context.Background(), client.PreparedOptions{Undecided: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, m := range list {
		fmt.Println(m.ID, m.Prepared.UTC().Format(time.DateOnly), m.Size, "bytes, asked", m.Queries, "times")
		fmt.Println(q.Confirm(context.Background(), client.Decision{ID: m.ID, State: client.Rollback}))
	}
	// Output:
	// 4503599627370497 2023-11-14 15 bytes, asked 15 times
	// <nil>
}

// An observer sees every operation.
func ExampleWithObserver() {
	c := tcpService(client.WithObserver(spans{}))
	defer c.Close()
	if _, err := c.Queue("orders").BatchSend(context.Background(), []string{"a", "b"}, 0); err != nil {
		fmt.Println(err)
	}
	// Output:
	// messaging.batch.message_count 2
	// messaging.destination.name orders
	// messaging.operation.name send
	// messaging.operation.type send
	// messaging.system cmq
	// server.address 127.0.0.1:7671
}
