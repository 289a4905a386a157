package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/opencmq/cmq/client"
)

// cmqQueues is the queues of a run over several: options queues=N and sets=1 (all of them on one set, which one node leads)
// or sets=0 (wherever the controller puts them, which is evenly).

// settling is how many queues are made at a time, and looked for at most beyond those that are wanted.
const settling = 16

// setup makes the queues, or empties those that are there. With one set, queues are made until enough of them lie on that
// of the first.
func (p *cmqPeer) setup() error {
	want := p.queues
	if p.sets == 1 && want > 1 {
		want = 4 * want // of three sets, each gets a third of them
	}
	names := make([]string, want)
	for i := range names {
		names[i] = p.Queue
		if want > 1 {
			names[i] = fmt.Sprintf("%s-%d", p.Queue, i)
		}
	}
	leaders := make([]string, len(names))
	if err := inParallel(len(names), func(i int) (err error) { leaders[i], err = p.make(names[i]); return err }); err != nil {
		return err
	}
	p.names = p.names[:0]
	for i, name := range names {
		if len(p.names) < p.queues && (p.sets != 1 || leaders[i] == leaders[0]) {
			p.names = append(p.names, name)
		}
	}
	if len(p.names) < p.queues {
		return fmt.Errorf("only %d of %d queues lie on one set", len(p.names), want)
	}
	return nil
}

// make makes a queue, or empties it, and tells the address of its leader.
func (p *cmqPeer) make(name string) (leader string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	heap, size := int64(1e9), 1<<20
	q := p.admin.Queue(name)
	if _, err := p.admin.CreateQueue(ctx, name, client.Settings{MaxMsgHeapNum: &heap, MaxMsgSize: &size}); err != nil {
		if err := q.Clear(ctx); err != nil {
			return "", err
		}
	}
	addrs, err := q.Route(ctx)
	if err != nil {
		return "", err
	}
	return addrs[0], nil
}

// inParallel does n things, settling of them at a time, and gives the first error.
func inParallel(n int, do func(i int) error) error {
	var wg sync.WaitGroup
	errs := make(chan error, n)
	slots := make(chan struct{}, settling)
	for i := range n {
		slots <- struct{}{}
		wg.Go(func() {
			if err := do(i); err != nil {
				errs <- err
			}
			<-slots
		})
	}
	wg.Wait()
	close(errs)
	return <-errs
}

// turn gives the queues one after the other.
type turn struct {
	queues []*client.Queue
	next   int
}

// turn begins at another queue for each of many workers.
func (p *cmqPeer) turn(c *client.Client, first int) *turn {
	t := &turn{next: first % len(p.names)}
	for _, name := range p.names {
		t.queues = append(t.queues, c.Queue(name))
	}
	return t
}

func (t *turn) take() *client.Queue {
	q := t.queues[t.next]
	t.next = (t.next + 1) % len(t.queues)
	return q
}
