package access

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencmq/cmq/internal/cmq"
)

// questions is a Queries that gives what the test puts in.
type questions struct {
	mu    sync.Mutex
	waits map[string]int // open waits by "owner/queue"
	give  chan []cmq.Query
	fail  chan error
}

func newQuestions() *questions {
	return &questions{waits: map[string]int{}, give: make(chan []cmq.Query), fail: make(chan error)}
}

func (q *questions) Queries(ctx context.Context, owner, name string, most int, wait time.Duration) ([]cmq.Query, error) {
	key := owner + "/" + name
	q.count(key, 1)
	defer q.count(key, -1)
	if most < 1 || wait <= 0 {
		return nil, fmt.Errorf("asked for %d in %v", most, wait)
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case list := <-q.give:
		return list, nil
	case err := <-q.fail:
		return nil, err
	case <-timer.C:
		return nil, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (q *questions) count(key string, n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.waits[key] += n; q.waits[key] == 0 {
		delete(q.waits, key)
	}
}

func (q *questions) open() string {
	synctest.Wait()
	q.mu.Lock()
	defer q.mu.Unlock()
	return fmt.Sprint(q.waits)
}

// seller is a connection that writes down what it is asked.
type seller struct {
	mu    sync.Mutex
	gone  bool
	asked []string
}

func (s *seller) Ask(queue string, id cmq.MsgID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone {
		return false
	}
	s.asked = append(s.asked, fmt.Sprint(queue, " ", id))
	return true
}

func (s *seller) Address() string { return "10.0.0.1:5" }

func (s *seller) want(t *testing.T, asked ...string) {
	t.Helper()
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !reflect.DeepEqual(s.asked, asked) && len(s.asked)+len(asked) > 0 {
		t.Errorf("asked %v, want %v", s.asked, asked)
	}
	s.asked = nil
}

func TestProducersAreAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQuestions()
		p := NewProducers(3, q, slog.New(slog.DiscardHandler))
		defer p.Close()
		var a, b seller
		one, two := p.Number(), p.Number()
		if one == 0 || one == two {
			t.Fatal(one, two)
		}
		p.Enter("me", "Orders", one, &a)
		p.Enter("me", "orders", two, &b)
		p.Enter("me", "orders", two, &b)
		if got := q.open(); got != "map[me/orders:1]" {
			t.Fatal(got)
		}
		q.give <- []cmq.Query{{ID: 1, Origin: cmq.Origin{Node: 3, Conn: two}}, {ID: 2, Origin: cmq.Origin{Node: 3, Conn: one}}}
		a.want(t, "Orders 2")
		b.want(t, "orders 1")
		for origin, want := range map[cmq.Origin]string{{Node: 3, Conn: two}: "10.0.0.1:5", {Node: 4, Conn: two}: "", {Node: 3, Conn: two + 1}: ""} {
			if got := p.Address(origin); got != want {
				t.Errorf("%+v is at %q, want %q", origin, got, want)
			}
		}

		// A connection of another node with the same number is not this one; strangers take turns.
		q.give <- []cmq.Query{{ID: 3, Origin: cmq.Origin{Node: 4, Conn: one}}, {ID: 4, Origin: cmq.Origin{Node: 4, Conn: one}}}
		synctest.Wait()
		if len(a.asked) != 1 || len(b.asked) != 1 {
			t.Fatalf("%v, %v", a.asked, b.asked)
		}
		a.asked, b.asked = nil, nil

		// The sender is gone, and the door does not know yet.
		a.gone = true
		q.give <- []cmq.Query{{ID: 5, Origin: cmq.Origin{Node: 3, Conn: one}}}
		b.want(t, "orders 5")
		p.Leave(one)
		q.give <- []cmq.Query{{ID: 6, Origin: cmq.Origin{Node: 3, Conn: one}}}
		b.want(t, "orders 6")
		p.Leave(two)
		if got := q.open(); got != "map[]" {
			t.Fatal("nobody is there to be asked: ", got)
		}
		p.Enter("me", "orders", two, &b)
		if got := q.open(); got != "map[me/orders:1]" {
			t.Fatal(got)
		}
	})
}

func TestProducersOutliveFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQuestions()
		p := NewProducers(3, q, slog.New(slog.DiscardHandler))
		var a seller
		number := p.Number()
		p.Enter("me", "q", number, &a)
		for range 3 {
			q.fail <- errors.New("no leader")
			if got := q.open(); got != "map[]" {
				t.Fatal("asked again at once: ", got)
			}
			<-time.After(time.Second)
		}
		q.give <- []cmq.Query{{ID: 1}}
		a.want(t, "q 1")
		<-time.After(time.Minute) // waits that end empty go on at once
		if got := q.open(); got != "map[me/q:1]" {
			t.Fatal(got)
		}
		q.fail <- fmt.Errorf("route: %w", cmq.ErrQueueNotExist)
		if got := q.open(); got != "map[]" {
			t.Fatal(got)
		}
		p.Enter("me", "q", number, &a) // there is one of this name again
		if got := q.open(); got != "map[me/q:1]" {
			t.Fatal(got)
		}
		p.Close()
		if got := q.open(); got != "map[]" {
			t.Fatal(got)
		}
		p.Enter("me", "q", number, &a)
		if got := q.open(); got != "map[]" {
			t.Fatal(got)
		}
	})
}
