// Program redpacket gives away red packets. Each takes money from one account and puts it into another, which are kept by
// two systems: the one of the wallets, which always works, and the credit service, which fails three times in ten and now
// and then dies after it has booked and before it says so.
//
// There is no transaction across the two and nothing is rolled back. A credit that fails goes to a queue, whose consumer
// repeats it until it succeeds; the receiver sees "waiting" meanwhile. The credit service knows the packets that it has
// booked, so that a repetition does no harm. In the end every packet is credited exactly once and no money is lost or made.
// Nor is it when a node of the service dies meanwhile: what is sent is repeated until it is known to be stored, and what
// was handed out and not deleted comes again.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/opencmq/cmq/client"
	"github.com/opencmq/cmq/examples/internal/demo"
)

const (
	packets = 400
	people  = 20
	purse   = 1_000_000 // what everybody has at first, in fen
	lock    = 3 * time.Second
)

// packet is one gift, as it stands in the queue.
type packet struct {
	ID     int   `json:"id"`
	To     int   `json:"to"`
	Amount int64 `json:"amount"` // fen
}

// credits is the service that puts money into accounts.
type credits struct {
	mu       sync.Mutex
	balance  [people]int64
	booked   map[int]bool // packets
	failures int
	deaths   int
	repeated int
}

var (
	errFailed = errors.New("the credit service is busy")
	errDied   = errors.New("the credit service does not answer")
)

// credit books a packet that it has not booked before.
func (c *credits) credit(p packet) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	chance := rand.IntN(100)
	if chance < 30 {
		c.failures++
		return errFailed
	}
	if c.booked[p.ID] {
		c.repeated++
		return nil
	}
	c.booked[p.ID] = true
	c.balance[p.To] += p.Amount
	if chance < 35 {
		c.deaths++
		return errDied // the caller cannot know that it is booked
	}
	return nil
}

func (c *credits) done() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.booked)
}

func main() { demo.Main(scenario) }

func scenario(ctx context.Context, d *demo.Demo) error {
	queue, err := d.MakeQueue(ctx, "redpacket-credits", client.Settings{VisibilityTimeout: new(lock)})
	if err != nil {
		return err
	}
	service := &credits{booked: map[int]bool{}}
	var wallets [people]int64
	for i := range wallets {
		wallets[i] = purse
	}

	consuming, stop := context.WithCancel(ctx)
	defer stop()
	finished := make(chan error, 1)
	go func() {
		finished <- queue.Consume(consuming, func(_ context.Context, m *client.Message) error {
			var p packet
			if err := json.Unmarshal([]byte(m.Body), &p); err != nil {
				return err
			}
			return service.credit(p) // an error brings the message back
		}, client.ConsumerOptions{RetryDelay: func(*client.Message, error) time.Duration { return 0 }})
	}()

	waiting, err := give(ctx, queue, service, &wallets)
	if err != nil {
		return err
	}
	demo.Say("%d packets are given, %d of them wait for their credit", packets, waiting)
	if err := drained(ctx, queue); err != nil {
		return err
	}
	stop()
	if err := <-finished; err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return check(service, &wallets)
}

// give takes the money of every packet and tries to credit it once. What fails goes to the queue.
func give(ctx context.Context, queue *client.Queue, service *credits, wallets *[people]int64) (waiting int, err error) {
	sender := queue.NewProducer(client.ProducerOptions{Once: true})
	defer func() { err = errors.Join(err, sender.Close(ctx)) }()
	for id := range packets {
		from := rand.IntN(people)
		p := packet{ID: id, To: (from + 1 + rand.IntN(people-1)) % people, Amount: 1 + rand.Int64N(1000)}
		wallets[from] -= p.Amount
		if service.credit(p) == nil {
			continue
		}
		body, err := json.Marshal(p)
		if err != nil {
			return waiting, err
		}
		if _, err := sender.Send(ctx, string(body)); err != nil {
			return waiting, err
		}
		waiting++
	}
	return waiting, nil
}

// drained waits until the queue has no message any more.
func drained(ctx context.Context, queue *client.Queue) error {
	for {
		a, err := queue.Attributes(ctx)
		if err == nil {
			left := a.ActiveMsgNum + a.InactiveMsgNum + a.DelayMsgNum
			if left == 0 {
				return nil
			}
			err = fmt.Errorf("%d messages are left", left)
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		}
	}
}

// check compares the money there is with what there was.
func check(service *credits, wallets *[people]int64) error {
	if n := service.done(); n != packets {
		return fmt.Errorf("%d of %d packets are credited", n, packets)
	}
	sum := int64(0)
	for i := range people {
		sum += wallets[i] + service.balance[i]
	}
	if sum != people*purse {
		return fmt.Errorf("there were %d fen, now there are %d", people*purse, sum)
	}
	if service.failures == 0 || service.deaths == 0 || service.repeated == 0 {
		return errors.New("the credit service did not fail, so nothing was shown")
	}
	demo.Say("all are credited, after %d failures, %d deaths after booking and %d repetitions of what was booked; the sum is %d fen as before",
		service.failures, service.deaths, service.repeated, sum)
	return nil
}
