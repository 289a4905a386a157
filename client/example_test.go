package client_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"time"

	"github.com/opencmq/cmq/client"
)

// oneMessage is an endpoint that knows one message, so that the examples run without a server.
func oneMessage() *httptest.Server {
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data, _ := io.ReadAll(r.Body)
		form, _ := url.ParseQuery(string(data))
		switch form.Get("Action") {
		case "SendMessage":
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
