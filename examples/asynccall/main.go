// Program asynccall calls a back end whose work takes long, and is notified when it is done. The call is a message in a
// queue. The back end takes it, works, and publishes the result to a topic; the service pushes it to the caller's HTTP
// endpoint. Nobody polls. There are several callers, each with a subscription by a tag of its own, so that each gets its
// own results only; and each checks the signature, because anybody could call its endpoint.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/opencmq/cmq/client"
	"github.com/opencmq/cmq/examples/internal/demo"
)

const (
	callers = 4
	calls   = 25 // of each
	secret  = "what the service and the callers know"
)

// call is a request, result its answer.
type call struct {
	Caller string `json:"caller"`
	Number int    `json:"number"`
	Input  int    `json:"input"`
}

type result struct {
	Number int `json:"number"`
	Output int `json:"output"`
}

// compute is the work of the back end.
func compute(input int) int { return input*input + 1 }

// caller is one program that calls. It is its own HTTP endpoint.
type caller struct {
	name string
	done chan struct{} // closed when all results are here

	mu      sync.Mutex
	results map[int]int
	wrong   error
}

// ServeHTTP takes a notice. What it does not answer with 200 comes again.
func (c *caller) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil || client.VerifyPush(r.Header, body, 0, secret) != nil {
		http.Error(w, "who are you?", http.StatusForbidden)
		return
	}
	var got result
	if err := json.Unmarshal(body, &got); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	c.take(got)
}

func (c *caller) take(got result) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, twice := c.results[got.Number]; twice {
		return // it may come twice, if our answer was lost
	}
	c.results[got.Number] = got.Output
	if want := compute(got.Number); got.Output != want {
		c.wrong = fmt.Errorf("%s: call %d gave %d, not %d", c.name, got.Number, got.Output, want)
	}
	if len(c.results) == calls {
		close(c.done)
	}
}

func (c *caller) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.results)
}

func main() { demo.Main(scenario) }

func scenario(ctx context.Context, d *demo.Demo) error {
	requests, err := d.MakeQueue(ctx, "asynccall-requests", client.Settings{})
	if err != nil {
		return err
	}
	notices, err := d.MakeTopic(ctx, "asynccall-notices", client.TopicSettings{})
	if err != nil {
		return err
	}
	var all []*caller
	for i := range callers {
		c := &caller{name: fmt.Sprint("caller", i), done: make(chan struct{}), results: map[int]int{}}
		all = append(all, c)
		address, err := d.Serve(c)
		if err != nil {
			return err
		}
		if _, err := notices.Subscribe(ctx, c.name, client.Subscription{
			Protocol: client.ToHTTP, Endpoint: address + "/done", NotifyContentFormat: client.FormatSimplified,
			FilterTags: []string{c.name}, Push: client.PushSettings{Secret: new(secret)},
		}); err != nil {
			return err
		}
	}
	working, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- backEnd(working, requests, notices) }()

	for _, c := range all {
		if err := c.call(ctx, requests); err != nil {
			return err
		}
	}
	demo.Say("%d callers have made %d calls each", callers, calls)
	for _, c := range all {
		select {
		case <-c.done:
		case err := <-ended:
			return fmt.Errorf("the back end has ended: %w", err)
		case <-ctx.Done():
			return fmt.Errorf("%s has %d of %d results: %w", c.name, c.count(), calls, ctx.Err())
		}
		if c.wrong != nil {
			return c.wrong
		}
	}
	stop()
	if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	demo.Say("each was notified of all its results, and of nobody else's")
	return nil
}

// call sends all calls.
func (c *caller) call(ctx context.Context, requests *client.Queue) error {
	p := requests.NewProducer(client.ProducerOptions{})
	for n := range calls {
		body, err := json.Marshal(call{Caller: c.name, Number: n, Input: n})
		if err != nil {
			return err
		}
		if _, err := p.SendAsync(ctx, string(body)); err != nil {
			return err
		}
	}
	return p.Close(ctx)
}

// backEnd works on calls until ctx ends. A call is deleted when its result is published.
func backEnd(ctx context.Context, requests *client.Queue, notices *client.Topic) error {
	return requests.Consume(ctx, func(ctx context.Context, m *client.Message) error {
		var c call
		if err := json.Unmarshal([]byte(m.Body), &c); err != nil {
			return err
		}
		select {
		case <-time.After(20 * time.Millisecond): // heavy work
		case <-ctx.Done():
			return ctx.Err()
		}
		body, err := json.Marshal(result{Number: c.Number, Output: compute(c.Input)})
		if err != nil {
			return err
		}
		_, err = notices.Publish(ctx, string(body), client.PublishOptions{Tags: []string{c.Caller}})
		return err
	}, client.ConsumerOptions{Concurrency: 32})
}
