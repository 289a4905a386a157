package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/opencmq/cmq/client"
)

// fanOuts are to how many queues what is published goes.
var fanOuts = []int{1, 10, 100}

// publish: rates, bytes written and processor time of publishing to queues on three nodes. Each fan-out has a cluster of its
// own and as many messages as make o.messages copies.
func publish(o *options) error {
	if err := room(3 * 2 * int64(o.messages) * int64(o.size+64) * 11 / 10); err != nil {
		return err
	}
	var errs []error
	for _, n := range fanOuts {
		errs = append(errs, o.publishTo(n, o.messages/n))
	}
	return errors.Join(errs...)
}

// publishTo publishes messages to a topic that n queues subscribe.
func (o *options) publishTo(n, messages int) error {
	c, err := o.newCluster(3)
	if err != nil {
		return err
	}
	defer c.close()
	cl := c.client()
	defer cl.Close()
	f, err := newFanOut(cl, "news", n)
	if err != nil {
		return err
	}
	doors, err := c.doors()
	if err != nil {
		return err
	}
	defer closeDoors(doors)
	if _, err := f.publish(doors, connections*batch, o.size); err != nil { // so that all connections are there
		return err
	}
	if err := f.delivered(time.Minute); err != nil {
		return err
	}

	before, err := c.usage()
	if err != nil {
		return err
	}
	begin := time.Now()
	confirmed, err := f.publish(doors, messages, o.size)
	if err != nil {
		return err
	}
	if err := f.delivered(2 * time.Minute); err != nil {
		return err
	}
	all := time.Since(begin)
	after, err := c.usage()
	if err != nil {
		return err
	}
	copies := float64(n * messages)
	o.report.figure("%d queue(s), %d of them on the topic's set; %d messages of %d B", n, f.near, messages, o.size)
	o.report.figure("  %.0f/s published until confirmed; %.0f/s until all copies were in the queues, which is %.0f copies/s",
		float64(messages)/confirmed.Seconds(), float64(messages)/all.Seconds(), copies/all.Seconds())
	f.writings(o, before, after, messages)
	cpu := float64(after.cpu-before.cpu) / float64(time.Microsecond)
	o.report.figure("  processor of the three nodes: %.1f µs a message, %.1f µs a copy", cpu/float64(messages), cpu/copies)
	return f.complete(o)
}

// fanOut is a topic and the queues that subscribe it.
type fanOut struct {
	cl     *client.Client
	topic  *client.Topic
	set    string // of the topic
	queues []string
	beside int   // further subscriptions
	near   int   // queues on the set of the topic: they get references to what is stored there
	each   int64 // messages that each queue has got
}

// newFanOut makes a topic and n queues, which are spread over all sets. Each queue gets two messages.
func newFanOut(cl *client.Client, name string, n int) (*fanOut, error) {
	ctx := context.Background()
	f := &fanOut{cl: cl, topic: cl.Topic(name), queues: names(name, n), each: 2}
	on := make(map[string]int)
	for _, q := range f.queues { // before the subscriptions, beside which the topic's set would get no queue
		if err := mustQueue(cl, q, client.Settings{MaxMsgHeapNum: most()}); err != nil {
			return nil, err
		}
		set, err := setOf(cl.Queue(q).Send(ctx, "x"))
		if err != nil {
			return nil, err
		}
		on[set]++
	}
	if _, err := cl.CreateTopic(ctx, name, client.TopicSettings{}); err != nil {
		return nil, err
	}
	for _, q := range f.queues {
		if _, err := f.topic.Subscribe(ctx, q, client.Subscription{Protocol: client.ToQueue, Endpoint: q}); err != nil {
			return nil, err
		}
	}
	var err error
	f.set, err = setOf(f.topic.Publish(ctx, "x", client.PublishOptions{}))
	f.near = on[f.set]
	return f, err
}

// setOf is the set that stored a message: the top 12 bits of its id.
func setOf(id string, err error) (string, error) {
	if err != nil {
		return "", err
	}
	n, err := strconv.ParseUint(id, 10, 64)
	return strconv.FormatUint(n>>52, 10), err
}

// publish publishes messages through all doors and says how long it took until all were confirmed.
func (f *fanOut) publish(doors []*client.Client, messages, size int) (time.Duration, error) {
	bodies := make([]string, batch)
	for i := range bodies {
		bodies[i] = strings.Repeat("x", size)
	}
	var next atomic.Int64
	f.each += int64(messages)
	begin := time.Now()
	err := together(connections, func(i int) error {
		topic := doors[i%len(doors)].Topic(f.topic.Name())
		for {
			k := min(batch, messages-int(next.Add(batch))+batch)
			if k <= 0 {
				return nil
			}
			if _, err := topic.BatchPublish(context.Background(), bodies[:k], client.PublishOptions{}); err != nil {
				return err
			}
		}
	})
	return time.Since(begin), err
}

// delivered waits until nothing waits for a subscriber any more.
func (f *fanOut) delivered(limit time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	for {
		a, err := f.topic.Attributes(ctx)
		if err != nil {
			return err
		}
		if a.MsgCount == 0 {
			return nil
		}
		if !pause(ctx, 10*time.Millisecond) {
			return fmt.Errorf("%d messages still wait for their subscribers after %v", a.MsgCount, limit)
		}
	}
}

// writings says what each node has written for a message. The set of the topic has one body, and so have the others for
// what comes to their queues together.
func (f *fanOut) writings(o *options, before, after usage, messages int) {
	own := (after.sets[f.set] - before.sets[f.set]) / 3 / float64(messages)
	rest := (after.written-before.written)/3/float64(messages) - own
	all, far := len(f.queues)+f.beside, len(f.queues)-f.near
	o.report.figure("  written on each node for a message: %.0f B by the topic's set, which is one body and %.0f B for each of %d subscriptions; %.2f KB by the others, where %d queues are",
		own, (own-float64(o.size))/float64(all), all, rest/1e3, far)
}

// complete judges by their number whether each queue has each message once.
func (f *fanOut) complete(o *options) error {
	wrong := 0
	for _, q := range f.queues {
		a, err := f.cl.Queue(q).Attributes(context.Background())
		if err != nil {
			return err
		}
		if a.ActiveMsgNum != f.each {
			wrong++
		}
	}
	return o.report.bound(wrong == 0, "  %d of %d queues have more or fewer messages than were published (0)", wrong, len(f.queues))
}
