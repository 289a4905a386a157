package cluster

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/opencmq/cmq/client"
)

// maxWrong is how many wrong things a Ledger keeps.
const maxWrong = 20

// Ledger is what the clients of one test know: which messages are confirmed, which were seen, which are deleted.
// A body begins with a key of its own, so that a message whose send was not answered is known too, and goes on with
// bytes that follow from the key, so that a damaged one is known.
type Ledger struct {
	mu      sync.Mutex
	byKey   map[string]*message
	keys    map[string]string // id to key, of confirmed messages
	totals  Totals
	missing int      // confirmed, and no delete was tried
	wrong   []string // what must not happen
	changed chan struct{}
}

// message is what is known of one message.
type message struct {
	id      string    // "": the send was not confirmed
	seen    bool      // was received
	came    string    // the id it was received with first
	tried   bool      // a delete was sent, so that it may be gone
	deleted time.Time // when the delete was confirmed; zero: it was not
}

// Totals are counts of messages.
type Totals struct {
	Confirmed  int
	Unknown    int // sends without an answer
	Refused    int // sends refused with an answer
	Deleted    int // deletes confirmed
	Deliveries int
	Duplicates int // deliveries of a message that had been delivered before and whose delete was not confirmed
	Returned   int // deliveries of a message whose delete was confirmed before they were asked for
	Damaged    int // deliveries with a body or id that is not what was sent
}

// NewLedger makes an empty one.
func NewLedger() *Ledger {
	return &Ledger{byKey: make(map[string]*message), keys: make(map[string]string), changed: make(chan struct{}, 1)}
}

// Changed gets a value when something was confirmed or seen; several changes may be one value.
func (l *Ledger) Changed() <-chan struct{} { return l.changed }

func (l *Ledger) wakeUp() {
	select {
	case l.changed <- struct{}{}:
	default:
	}
}

// Body makes a message of size bytes, or as many as the key needs.
func Body(key string, size int) string {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	r := rand.New(rand.NewPCG(hash(key), 1))
	var b strings.Builder
	b.Grow(size)
	b.WriteString(key)
	b.WriteByte(':')
	for b.Len() < size {
		for x, n := r.Uint64(), 0; n < 10 && b.Len() < size; n++ {
			b.WriteByte(letters[x&63])
			x >>= 6
		}
	}
	return b.String()
}

func hash(key string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(key))
	return h.Sum64()
}

func keyOf(body string) string {
	key, _, _ := strings.Cut(body, ":")
	return key
}

// of gives the entry of a key.
func (l *Ledger) of(key string) *message {
	m := l.byKey[key]
	if m == nil {
		m = &message{}
		l.byKey[key] = m
	}
	return m
}

// note keeps something wrong.
func (l *Ledger) note(format string, args ...any) {
	if len(l.wrong) < maxWrong {
		l.wrong = append(l.wrong, fmt.Sprintf(format, args...))
	}
}

// Send sends messages of size bytes with these keys once and notes the outcome. It returns the error of the send.
func (l *Ledger) Send(ctx context.Context, q *client.Queue, keys []string, size int) error {
	bodies := make([]string, len(keys))
	for i, k := range keys {
		bodies[i] = Body(k, size)
	}
	ids, err := q.BatchSend(ctx, bodies, 0)
	l.mu.Lock()
	defer l.mu.Unlock()
	var refused *client.Error
	switch {
	case errors.As(err, &refused):
		l.totals.Refused += len(keys)
		return err
	case err != nil:
		l.totals.Unknown += len(keys)
		return err
	}
	for i, k := range keys {
		m := l.of(k)
		m.id = ids[i]
		if other, used := l.keys[m.id]; used {
			l.note("id %s was given to message %s and to message %s: what was confirmed first is not in the log any more", m.id, other, k)
		}
		l.keys[m.id] = k
		l.totals.Confirmed++
		if !m.tried {
			l.missing++
		}
	}
	l.wakeUp()
	return nil
}

// Receive receives and deletes one batch and notes what it saw. Messages that leave says yes to are not deleted
// when they are seen for the first time; nil: all are deleted. It returns the error of the receive or of the delete.
func (l *Ledger) Receive(ctx context.Context, q *client.Queue, wait time.Duration, leave func(key string) bool) error {
	messages, first, err := l.look(ctx, q, wait)
	if err != nil {
		return err
	}
	var chosen []client.Message
	for i, m := range messages {
		if leave == nil || !first[i] || !leave(keyOf(m.Body)) {
			chosen = append(chosen, m)
		}
	}
	return l.Delete(ctx, q, chosen)
}

// Look receives one batch, deletes nothing, and notes what it saw. It returns the error of the receive.
func (l *Ledger) Look(ctx context.Context, q *client.Queue, wait time.Duration) ([]client.Message, error) {
	messages, _, err := l.look(ctx, q, wait)
	return messages, err
}

func (l *Ledger) look(ctx context.Context, q *client.Queue, wait time.Duration) (messages []client.Message, first []bool, err error) {
	asked := time.Now()
	messages, err = q.BatchReceive(ctx, client.MaxBatch, wait)
	if errors.Is(err, client.ErrNoMessage) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range messages {
		first = append(first, l.saw(&messages[i], asked))
	}
	l.wakeUp()
	return messages, first, nil
}

// Delete deletes what was received and notes what came of it. It returns the error of the delete.
func (l *Ledger) Delete(ctx context.Context, q *client.Queue, messages []client.Message) error {
	if len(messages) == 0 {
		return nil
	}
	var handles []string
	l.mu.Lock()
	for i := range messages {
		handles = append(handles, messages[i].Handle)
		l.try(keyOf(messages[i].Body))
	}
	l.mu.Unlock()
	err := q.BatchDelete(ctx, handles)
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
	for i := range messages {
		if m := l.of(keyOf(messages[i].Body)); !refused[handles[i]] && m.deleted.IsZero() {
			m.deleted = done
			l.totals.Deleted++
		}
	}
	return err
}

// saw notes a delivery that was asked for at this time. It tells whether the message had not been seen before.
func (l *Ledger) saw(d *client.Message, asked time.Time) (first bool) {
	key := keyOf(d.Body)
	l.totals.Deliveries++
	if d.Body != Body(key, len(d.Body)) {
		l.totals.Damaged++
		l.note("message %s has the wrong body %.200q", d.ID, d.Body)
		return false
	}
	m := l.of(key)
	if m.id != "" && m.id != d.ID {
		l.totals.Damaged++
		l.note("message %s was confirmed with id %s and came with id %s", key, m.id, d.ID)
	}
	switch gone := !m.deleted.IsZero(); {
	case gone && m.deleted.Before(asked):
		l.totals.Returned++
		l.note("message %s (%s, sent as %q, received first as %s) came after its delete was confirmed", key, d.ID, m.id, m.came)
	case m.seen && !gone:
		l.totals.Duplicates++
	}
	if first = !m.seen; first {
		m.came = d.ID
	}
	m.seen = true
	return first
}

// try notes that a delete is about to be sent.
func (l *Ledger) try(key string) {
	if m := l.of(key); !m.tried {
		m.tried = true
		if m.id != "" {
			l.missing--
		}
	}
}

// Missing counts confirmed messages that nobody has tried to delete: they must still come.
func (l *Ledger) Missing() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.missing
}

// Lost lists the ids of some of them.
func (l *Ledger) Lost() (ids []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for key, m := range l.byKey {
		if m.id != "" && !m.tried && len(ids) < maxWrong {
			ids = append(ids, fmt.Sprintf("%s (key %s, seen %v)", m.id, key, m.seen))
		}
	}
	return ids
}

// Totals counts.
func (l *Ledger) Totals() Totals {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.totals
}

// Wrong lists what must not happen: damaged messages and deleted ones that came back.
func (l *Ledger) Wrong() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.wrong...)
}
