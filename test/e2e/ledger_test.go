package e2e

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/opencmq/cmq/client"
)

// ledger is what the clients of one test know: which messages are confirmed, which were seen, which are deleted.
// Bodies begin with a key of their own, so that a message whose send was not answered is known too.
type ledger struct {
	mu        sync.Mutex
	confirmed map[string]string    // key → message id
	seen      map[string]bool      // keys of deliveries
	deleted   map[string]time.Time // key → when the delete was confirmed
	unknown   int                  // messages whose send was not answered
	wrong     []string             // what must not happen
	changed   chan struct{}        // gets a value when something was confirmed or seen
}

func newLedger() *ledger {
	return &ledger{confirmed: make(map[string]string), seen: make(map[string]bool), deleted: make(map[string]time.Time), changed: make(chan struct{}, 1)}
}

func (l *ledger) wakeUp() {
	select {
	case l.changed <- struct{}{}:
	default:
	}
}

// body makes a message of size bytes with this key.
func body(key string, size int) string {
	return key + ":" + strings.Repeat("x", max(0, size-len(key)-1))
}

func keyOf(body string) string {
	key, _, _ := strings.Cut(body, ":")
	return key
}

// send sends the bodies of keys once and notes the outcome. It returns the error of the send, if any.
func (l *ledger) send(ctx context.Context, q *client.Queue, keys []string, size int) error {
	bodies := make([]string, len(keys))
	for i, k := range keys {
		bodies[i] = body(k, size)
	}
	ids, err := q.BatchSend(ctx, bodies, 0)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.unknown += len(keys)
		return err
	}
	for i, k := range keys {
		l.confirmed[k] = ids[i]
	}
	l.wakeUp()
	return nil
}

// receive receives and deletes one batch and notes what it saw.
func (l *ledger) receive(ctx context.Context, q *client.Queue, wait time.Duration) error {
	asked := time.Now()
	messages, err := q.BatchReceive(ctx, client.MaxBatch, wait)
	if errors.Is(err, client.ErrNoMessage) {
		return nil
	}
	if err != nil {
		return err
	}
	handles := make([]string, len(messages))
	l.mu.Lock()
	for i, m := range messages {
		key := keyOf(m.Body)
		handles[i] = m.Handle
		l.seen[key] = true
		if id := l.confirmed[key]; id != "" && id != m.ID {
			l.wrong = append(l.wrong, fmt.Sprintf("message %s was confirmed with id %s and came with id %s", key, id, m.ID))
		}
		if at, gone := l.deleted[key]; gone && at.Before(asked) {
			l.wrong = append(l.wrong, fmt.Sprintf("message %s (%s) came after its delete was confirmed", key, m.ID))
		}
	}
	l.wakeUp()
	l.mu.Unlock()
	err = q.BatchDelete(ctx, handles)
	done := time.Now()
	refused := make(map[string]bool)
	var batch *client.BatchError
	if errors.As(err, &batch) {
		for _, f := range batch.Failed {
			refused[f.Handle] = true
		}
	} else if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, m := range messages {
		if !refused[handles[i]] {
			l.deleted[keyOf(m.Body)] = done
		}
	}
	return nil
}

// missing counts confirmed messages nobody has seen.
func (l *ledger) missing() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for k := range l.confirmed {
		if !l.seen[k] {
			n++
		}
	}
	return n
}

func (l *ledger) counts() (confirmed, unknown int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.confirmed), l.unknown
}

// retry waits a moment after a failure, or not at all once ctx has ended.
func retry(ctx context.Context) {
	t := time.NewTimer(20 * time.Millisecond)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
