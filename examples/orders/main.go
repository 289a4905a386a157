// Program orders lets a shop tell everybody who has to know of an order. The shop publishes each order once. Four branches
// subscribe: growth points, the coupon, the analysis, each with a queue of its own, and the gift, whose system is
// switched off, and its queue with it.
//
// The coupon comes long after the order: its branch puts a message into a queue from which it cannot be received before
// it is due. The seconds here would be months elsewhere. The dead branch delays nobody, and what it has missed waits for
// it. In the end every living branch has seen each order exactly once: what is published comes to a queue once, and who
// reads it there knows by the id of the message if it is handed out a second time.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/opencmq/cmq/client"
	"github.com/opencmq/cmq/examples/internal/demo"
)

const (
	orders      = 200
	couponDelay = 3 * time.Second
)

// order is what is published.
type order struct {
	ID     int       `json:"id"`
	Amount int64     `json:"amount"` // fen
	At     time.Time `json:"at"`
}

// branch is what came to one branch: the messages of each order, by their ids.
type branch struct {
	mu   sync.Mutex
	seen map[int]map[string]bool
}

func newBranch() *branch { return &branch{seen: map[int]map[string]bool{}} }

// note takes in a message about an order.
func (b *branch) note(id int, m *client.Message) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.seen[id] == nil {
		b.seen[id] = map[string]bool{}
	}
	b.seen[id][m.ID] = true
}

// knows tells whether the order has come before.
func (b *branch) knows(id int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.seen[id] != nil
}

// count tells how many orders have come, and fails if one came as two messages.
func (b *branch) count() (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for id, messages := range b.seen {
		if len(messages) > 1 {
			return 0, fmt.Errorf("order %d came as %d messages", id, len(messages))
		}
	}
	return len(b.seen), nil
}

func main() { demo.Main(scenario) }

func scenario(ctx context.Context, d *demo.Demo) error {
	topic, err := d.MakeTopic(ctx, "orders", client.TopicSettings{})
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop(nil)
	// consume lets handle work on everything in the queue until the end.
	consume := func(q *client.Queue, handle client.Handler) {
		wg.Go(func() {
			if err := q.Consume(ctx, handle, client.ConsumerOptions{}); err != nil && ctx.Err() == nil {
				stop(err)
			}
		})
	}
	// subscribe makes a queue of its own for a branch.
	subscribe := func(name string) (*client.Queue, error) {
		q, err := d.MakeQueue(ctx, "orders-"+name, client.Settings{})
		if err == nil {
			_, err = topic.Subscribe(ctx, name, client.Subscription{Protocol: client.ToQueue, Endpoint: q.Name()})
		}
		return q, err
	}

	branches := map[string]*branch{"points": newBranch(), "analysis": newBranch(), "coupon": newBranch()}
	for _, name := range []string{"points", "analysis"} {
		q, err := subscribe(name)
		if err != nil {
			return err
		}
		consume(q, func(_ context.Context, m *client.Message) error {
			o, err := read(m)
			if err == nil {
				branches[name].note(o.ID, m)
			}
			return err
		})
	}
	if err := coupons(ctx, d, subscribe, consume, branches["coupon"], stop); err != nil {
		return err
	}
	if err := deadBranch(ctx, d, topic); err != nil {
		return err
	}
	if err := shop(ctx, topic); err != nil {
		return err
	}
	if err := wait(ctx, branches); err != nil {
		return err
	}
	return missed(ctx, topic)
}

func read(m *client.Message) (o order, err error) {
	err = json.Unmarshal([]byte(m.Body), &o)
	return o, err
}

// coupons puts a coupon for each order into a queue where it is not seen before its time, and checks that.
func coupons(ctx context.Context, d *demo.Demo, subscribe func(string) (*client.Queue, error), consume func(*client.Queue, client.Handler),
	b *branch, stop context.CancelCauseFunc) error {
	later, err := d.MakeQueue(ctx, "orders-coupons-due", client.Settings{})
	if err != nil {
		return err
	}
	q, err := subscribe("coupon")
	if err != nil {
		return err
	}
	begun := newBranch()
	consume(q, func(ctx context.Context, m *client.Message) error {
		o, err := read(m)
		if err != nil || begun.knows(o.ID) {
			return err
		}
		if _, err = later.SendDelayed(ctx, m.Body, couponDelay); err == nil {
			begun.note(o.ID, m)
		}
		return err
	})
	consume(later, func(_ context.Context, m *client.Message) error {
		o, err := read(m)
		if err != nil {
			return err
		}
		if early := couponDelay - time.Since(o.At); early > 0 {
			stop(fmt.Errorf("the coupon of order %d came %v too early", o.ID, early))
		}
		b.note(o.ID, m)
		return nil
	})
	return nil
}

// deadBranch subscribes a branch whose queue is gone.
func deadBranch(ctx context.Context, d *demo.Demo, topic *client.Topic) error {
	q, err := d.MakeQueue(ctx, "orders-gift", client.Settings{})
	if err != nil {
		return err
	}
	if _, err := topic.Subscribe(ctx, "gift", client.Subscription{Protocol: client.ToQueue, Endpoint: q.Name()}); err != nil {
		return err
	}
	return d.DeleteQueue(ctx, q.Name())
}

// shop publishes the orders.
func shop(ctx context.Context, topic *client.Topic) error {
	p := topic.NewProducer(client.ProducerOptions{}, client.PublishOptions{})
	for id := range orders {
		body, err := json.Marshal(order{ID: id, Amount: int64(100 + id), At: time.Now()})
		if err != nil {
			return err
		}
		if _, err := p.SendAsync(ctx, string(body)); err != nil {
			return err
		}
	}
	if err := p.Close(ctx); err != nil {
		return err
	}
	demo.Say("%d orders are published", orders)
	return nil
}

// wait waits until every living branch has every order.
func wait(ctx context.Context, branches map[string]*branch) error {
	for name, b := range branches {
		for {
			n, err := b.count()
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			if n == orders {
				break
			}
			select {
			case <-time.After(50 * time.Millisecond):
			case <-ctx.Done():
				return fmt.Errorf("%s has %d of %d orders: %w", name, n, orders, context.Cause(ctx))
			}
		}
	}
	demo.Say("points, analysis and coupon have each order exactly once, no coupon too early")
	return nil
}

// missed checks that everything waits for the dead branch.
func missed(ctx context.Context, topic *client.Topic) error {
	gift, err := topic.Subscription(ctx, "gift")
	if err != nil {
		return err
	}
	if gift.MsgCount != orders {
		return fmt.Errorf("for the dead branch %d orders wait, not %d", gift.MsgCount, orders)
	}
	demo.Say("all %d wait for the dead branch", gift.MsgCount)
	return nil
}
