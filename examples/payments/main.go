// Program payments tells merchants of payments. There are 200 of them, each with an HTTP endpoint of its own and one in ten
// of them dead. A payment is published once, with the merchant as its tag: to the merchant, who gets payments in order and
// one at a time, and to risk control, which reads all of them from a queue.
//
// Risk control watches the turnover. When that of a merchant jumps, it pauses the merchant's subscription: nothing goes
// there any more, and what is published for it waits. In the end every living merchant but that one has all its payments
// in order; for the dead ones, and for the one that is stopped, the rest waits.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/opencmq/cmq/client"
	"github.com/opencmq/cmq/examples/internal/demo"
)

const (
	merchants = 200
	payments  = 10 // of each merchant
	usual     = 10_000
	suspect   = 7 // number of the merchant whose turnover jumps
	afterStop = 5 // payments of the suspect after it was stopped
)

// payment is what is published.
type payment struct {
	Merchant int   `json:"merchant"`
	Number   int   `json:"number"` // counts the payments of the merchant
	Amount   int64 `json:"amount"` // fen
}

func name(merchant int) string { return fmt.Sprintf("m%04d", merchant) }

func dead(merchant int) bool { return merchant%10 == 3 }

// town is the endpoints of all merchants that live.
type town struct {
	mu    sync.Mutex
	paid  map[int][]int // numbers of the payments, in the order in which they came, without repetitions
	wrong error
	news  chan struct{} // has room for one
}

// ServeHTTP is the endpoint of the merchant in the path.
func (t *town) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	var p payment
	if err == nil {
		err = json.Unmarshal(body, &p)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	merchant, _ := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/"))
	before := t.paid[merchant]
	switch {
	case err != nil:
		t.wrong = err
	case p.Merchant != merchant:
		t.wrong = fmt.Errorf("merchant %d got a payment of merchant %d", merchant, p.Merchant)
	case p.Number > len(before):
		t.wrong = fmt.Errorf("merchant %d got payment %d after %v", merchant, p.Number, before)
	case p.Number == len(before): // else it comes again, because our answer was lost
		t.paid[merchant] = append(before, p.Number)
	}
	select {
	case t.news <- struct{}{}:
	default:
	}
}

// complete tells whether every living merchant but the suspect has all its payments.
func (t *town) complete() (bool, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for m := range merchants {
		if !dead(m) && m != suspect && len(t.paid[m]) < payments {
			return false, t.wrong
		}
	}
	return true, t.wrong
}

// due is how many payments a merchant has not got yet.
func (t *town) due(merchant int) int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	published := payments
	if merchant == suspect {
		published += afterStop
	}
	return int64(published - len(t.paid[merchant]))
}

func main() { demo.Main(scenario) }

func scenario(ctx context.Context, d *demo.Demo) error {
	topic, err := d.MakeTopic(ctx, "payments", client.TopicSettings{})
	if err != nil {
		return err
	}
	t := &town{paid: map[int][]int{}, news: make(chan struct{}, 1)}
	if err := settle(ctx, d, topic, t); err != nil {
		return err
	}
	risk, err := d.MakeQueue(ctx, "payments-risk", client.Settings{})
	if err != nil {
		return err
	}
	if _, err := topic.Subscribe(ctx, "risk", client.Subscription{Protocol: client.ToQueue, Endpoint: risk.Name()}); err != nil {
		return err
	}
	watching, end := context.WithCancel(ctx)
	defer end()
	stopped := make(chan int, 1)
	watched := make(chan error, 1)
	go func() { watched <- watch(watching, risk, topic, stopped) }()

	for number := range payments {
		if err := pay(ctx, topic, number); err != nil {
			return err
		}
	}
	demo.Say("%d payments are published to %d merchants", merchants*payments, merchants)
	select {
	case m := <-stopped:
		if m != suspect {
			return fmt.Errorf("merchant %d was stopped, not %d", m, suspect)
		}
	case err := <-watched:
		return fmt.Errorf("risk control has ended: %w", err)
	case <-ctx.Done():
		return fmt.Errorf("nobody was stopped: %w", ctx.Err())
	}
	demo.Say("risk control has stopped merchant %d", suspect)
	if err := quiet(ctx, topic); err != nil {
		return err
	}
	if err := t.wait(ctx); err != nil {
		return err
	}
	end()
	if err := <-watched; err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return left(ctx, topic, t)
}

// settle subscribes all merchants, the dead ones at an address where nobody is.
func settle(ctx context.Context, d *demo.Demo, topic *client.Topic, t *town) error {
	address, err := d.Serve(t)
	if err != nil {
		return err
	}
	nobody, err := demo.Nobody()
	if err != nil {
		return err
	}
	for m := range merchants {
		endpoint := fmt.Sprint(address, "/", m)
		if dead(m) {
			endpoint = fmt.Sprint(nobody, "/", m)
		}
		if _, err := topic.Subscribe(ctx, name(m), client.Subscription{
			Protocol: client.ToHTTP, Endpoint: endpoint, NotifyContentFormat: client.FormatSimplified,
			FilterTags: []string{name(m)}, Push: client.PushSettings{Ordered: new(true)},
		}); err != nil {
			return err
		}
	}
	return nil
}

// pay publishes one payment of each merchant. From the third on those of the suspect are large.
func pay(ctx context.Context, topic *client.Topic, number int) error {
	for m := range merchants {
		p := payment{Merchant: m, Number: number, Amount: usual}
		if m == suspect && number >= 2 {
			p.Amount = 100 * usual
		}
		if err := publish(ctx, topic, p); err != nil {
			return err
		}
	}
	return nil
}

func publish(ctx context.Context, topic *client.Topic, p payment) error {
	body, err := json.Marshal(p)
	if err != nil {
		return err
	}
	_, err = topic.Publish(ctx, string(body), client.PublishOptions{Tags: []string{name(p.Merchant)}})
	return err
}

// watch adds up the turnover of each merchant, and stops the first one whose turnover is far above what it could be.
func watch(ctx context.Context, risk *client.Queue, topic *client.Topic, stopped chan<- int) error {
	turnover := map[int]int64{}
	return risk.Consume(ctx, func(ctx context.Context, m *client.Message) error {
		var p payment
		if err := json.Unmarshal([]byte(m.Body), &p); err != nil {
			return err
		}
		before := turnover[p.Merchant]
		after := before + p.Amount
		if before <= 2*payments*usual && after > 2*payments*usual {
			if err := topic.SetSubscription(ctx, name(p.Merchant), client.Subscription{Push: client.PushSettings{Paused: new(true)}}); err != nil {
				return err // the payment comes again, and counts then
			}
			stopped <- p.Merchant
		}
		turnover[p.Merchant] = after
		return nil
	}, client.ConsumerOptions{Concurrency: 1})
}

// quiet publishes more for the suspect, which is to wait.
func quiet(ctx context.Context, topic *client.Topic) error {
	for number := range afterStop {
		if err := publish(ctx, topic, payment{Merchant: suspect, Number: payments + number, Amount: usual}); err != nil {
			return err
		}
	}
	return nil
}

// wait waits until the living merchants have their payments.
func (t *town) wait(ctx context.Context) error {
	for {
		done, err := t.complete()
		if done || err != nil {
			return err
		}
		select {
		case <-t.news:
		case <-ctx.Done():
			return fmt.Errorf("some living merchants have not got all their payments: %w", ctx.Err())
		}
	}
}

// left checks that everything that was not delivered waits. A delivery that was on its way when its merchant was stopped
// may be counted for a moment after the merchant has had it.
func left(ctx context.Context, topic *client.Topic, t *town) error {
	for m := range merchants {
		for {
			s, err := topic.Subscription(ctx, name(m))
			if err != nil {
				return err
			}
			want := t.due(m)
			if s.MsgCount == want {
				break
			}
			select {
			case <-time.After(50 * time.Millisecond):
			case <-ctx.Done():
				return fmt.Errorf("for merchant %d there wait %d payments, not %d: %w", m, s.MsgCount, want, ctx.Err())
			}
		}
	}
	if n := t.due(suspect); n < afterStop {
		return fmt.Errorf("merchant %d was stopped and got payments all the same: %d wait, %d were made after that", suspect, n, afterStop)
	}
	demo.Say("every living merchant has its payments in order; nothing is lost for the %d dead ones and the one that was stopped", merchants/10)
	return nil
}
