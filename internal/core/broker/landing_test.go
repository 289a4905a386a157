package broker

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/core/command"
)

// locks is more than one batch carries out, and not a multiple of it.
const locks = 10_000

// lockMany is a shard with so many messages locked at once.
func lockMany(t *testing.T) (s *script, handles []cmq.Handle) {
	s = newScript(t, nil)
	for range locks / 1000 {
		s.send(1000, 0)
	}
	return s, s.lock(locks)
}

// landAll lets empty batches carry out what is left, and says how many it took.
func (s *script) landAll() (batches int) {
	for s.b.Landing(s.id) {
		if batches++; batches > locks {
			s.t.Fatal("the locks never end")
		}
		s.expire(command.Mark{})
	}
	return batches
}

// TestManyLocksEndInTurns: a batch carries out only some thousand locks that have ended, but all of them have.
func TestManyLocksEndInTurns(t *testing.T) {
	s, handles := lockMany(t)
	s.at(0.999).counts(0, locks, 0, 0)
	s.at(1).counts(locks, 0, 0, 0)
	s.invalid(s.delete(handles[locks-1])) // the last to be carried out
	if !s.b.Landing(s.id) {
		t.Fatal("all were carried out in one batch")
	}
	s.counts(locks, 0, 0, 0)
	s.invalid(s.release(handles[locks-1]))

	// A replica that is restored in the middle goes the same way.
	other, err := Decode(7, s.b.Encode(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	twin := *s.rig
	twin.b = other
	for i := range 3 {
		op := command.Op{Kind: command.Receive, Shard: s.id, Max: 16}
		got, also := fmt.Sprint(s.one(s.now, op)), fmt.Sprint(twin.one(s.now, op))
		if got != also {
			t.Fatalf("receive %d: %s on one replica and %s on the other", i, got, also)
		}
	}
	if !bytes.Equal(s.b.Encode(), other.Encode()) || s.b.Sum() != other.Sum() {
		t.Fatal("the restored replica differs")
	}

	s.counts(locks-48, 48, 0, 0)
	if s.b.Landing(s.id) {
		t.Fatal("five batches were not enough")
	}
	seen := 0
	for r := s.op(command.Op{Kind: command.Receive, Max: 1000}); len(r.Deliveries) > 0; r = s.op(command.Op{Kind: command.Receive, Max: 1000}) {
		for _, d := range r.Deliveries {
			if d.Count != 2 {
				t.Fatalf("%+v", d)
			}
		}
		seen += len(r.Deliveries)
	}
	if seen != locks-48 {
		t.Fatalf("%d came back", seen)
	}
}

// TestReceiveFindsWhatHasEnded: a receive is not told that nothing is there because thousands die before the lock of the one
// that comes back.
func TestReceiveFindsWhatHasEnded(t *testing.T) {
	s := newScript(t, dies(cmq.PolicyReceives, 2))
	for range locks / 1000 {
		s.send(1000, 0)
	}
	s.lock(locks)
	s.at(1).lock(locks)
	s.send(1, 0)
	s.lock(1)
	s.at(2).counts(1, locks, 0, 0)
	if got := s.b.Ready(s.id, s.now); got != 1 || !s.b.Dying(s.id, s.now) {
		t.Fatalf("%d are ready", got)
	}
	s.receive(5, locks)
	s.landAll()
	s.counts(0, locks+1, 0, 0)
	if _, dead := s.b.DeadHead(s.id, 2*locks); len(dead) != locks {
		t.Fatalf("%d are dead", len(dead))
	}
}

// lock receives n messages, which is all there are, for a second.
func (s *script) lock(n int) (handles []cmq.Handle) {
	s.t.Helper()
	for r := (Result{}); len(handles) < n; {
		if r = s.op(command.Op{Kind: command.Receive, Max: 1000, Lock: 1000}); r.Err != nil || len(r.Deliveries) == 0 {
			s.t.Fatalf("%d received, then %+v", len(handles), r)
		}
		for _, d := range r.Deliveries {
			handles = append(handles, d.Handle)
		}
	}
	s.receive(1)
	return handles
}
