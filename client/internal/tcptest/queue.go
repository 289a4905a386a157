package tcptest

import (
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// Queue is one queue with locks, for tests of what works on queues. Its Handle is given to Network.Start; several
// addresses may serve the same queue. It knows sends without delay, producer sessions, receives, deletes, changes of visibility and the end
// of waiting; of prepared messages it knows that everybody is content.
type Queue struct {
	// Refuse, if set, is asked about each request first. An answer other than nil is given instead of the queue's.
	Refuse func(r *Request) *Answer
	// Drop, if set, is asked after a request was carried out whether its answer is lost with the connection.
	Drop func(r *Request) bool
	// NoExtensions makes the queue one of another service: it does not know commands from 10000.
	NoExtensions bool

	mu      sync.Mutex
	next    uint64
	ready   []*item
	locked  map[uint64]*item // by handle
	waiting []*waiter
	stored  int
	deleted map[uint64]bool
	polls   int

	epoch    uint64                 // of the newest session
	sessions map[uint64]uint64      // id to epoch
	answered map[[2]uint64][]uint64 // session id and number to message ids
}

type item struct {
	id, handle uint64
	body       string
	received   int64
	unlock     *time.Timer
}

// waiter is a receive that waits.
type waiter struct {
	s    *Session
	r    *Request
	late *time.Timer
}

// NewQueue makes an empty one.
func NewQueue() *Queue {
	return &Queue{locked: make(map[uint64]*item), deleted: make(map[uint64]bool),
		sessions: make(map[uint64]uint64), answered: make(map[[2]uint64][]uint64)}
}

// ForgetSessions is what happens to sessions that have to make room.
func (q *Queue) ForgetSessions() {
	q.mu.Lock()
	defer q.mu.Unlock()
	clear(q.sessions)
}

// Put stores messages.
func (q *Queue) Put(bodies ...string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.store(bodies)
}

func (q *Queue) store(bodies []string) (ids []uint64) {
	for _, b := range bodies {
		q.next++
		q.stored++
		q.ready = append(q.ready, &item{id: q.next, body: b})
		ids = append(ids, q.next)
	}
	q.serve()
	return ids
}

// Bodies lists what is in the queue, locked or not, in the order of the sends.
func (q *Queue) Bodies() (bodies []string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	all := slices.Clone(q.ready)
	for _, i := range q.locked {
		all = append(all, i)
	}
	slices.SortFunc(all, func(a, b *item) int { return int(a.id) - int(b.id) })
	for _, i := range all {
		bodies = append(bodies, i.body)
	}
	return bodies
}

// Counts gives how many messages were stored ever, can be received now, and are locked.
func (q *Queue) Counts() (stored, ready, locked int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.stored, len(q.ready), len(q.locked)
}

// Waiting counts receives that wait.
func (q *Queue) Waiting() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.waiting)
}

// Polls counts receives.
func (q *Queue) Polls() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.polls
}

// Handle answers one request.
func (q *Queue) Handle(s *Session, r *Request) {
	if q.Refuse != nil {
		if a := q.Refuse(r); a != nil {
			s.Answer(r, *a)
			return
		}
	}
	q.mu.Lock()
	a := q.do(s, r)
	q.mu.Unlock()
	switch {
	case q.Drop != nil && q.Drop(r):
		s.Conn.Close()
	case a != nil:
		s.Answer(r, *a)
	}
}

// do carries out a request; nil: it is answered later, or never.
func (q *Queue) do(s *Session, r *Request) *Answer {
	if r.Cmd >= 10000 && q.NoExtensions {
		return &Answer{Result: 10430, Error: "action name " + strconv.Itoa(int(r.Cmd)) + " is not existed"}
	}
	switch r.Cmd {
	case 1021, 1022:
		return q.send(r)
	case 10003:
		id, _ := r.Number(2)
		q.epoch++
		q.sessions[id] = q.epoch
		return &Answer{Raw: protowire.AppendVarint(protowire.AppendTag(nil, 10004, protowire.VarintType), q.epoch)}
	case 1023, 1024:
		return q.receive(s, r)
	case 1025, 1026:
		return q.onHandles(r, 10290, 10150, q.remove)
	case 10001:
		lock, _ := r.Number(3)
		return q.onHandles(r, 10830, 10820, func(i *item) { q.lock(i, time.Duration(lock)*time.Second) })
	case 10002:
		seq, _ := r.Number(1)
		q.stopWaiting(s, int64(seq))
		return nil
	case 1040, 1041:
		return &Answer{}
	}
	return &Answer{Result: 10430, Error: "action name " + strconv.Itoa(int(r.Cmd)) + " is not existed"}
}

// send stores messages, those of a request of a session once.
func (q *Queue) send(r *Request) *Answer {
	stamp := r.Text(10000)
	if stamp == "" {
		return &Answer{IDs: q.store(r.Texts(2))}
	}
	var id, epoch, number uint64
	_ = fields([]byte(stamp), func(f Field) error { // the client's own tests look at the bytes
		switch f.Number {
		case 1:
			id = f.Value
		case 2:
			epoch = f.Value
		case 3:
			number = f.Value
		}
		return nil
	})
	if q.sessions[id] != epoch || epoch == 0 {
		return &Answer{Result: 10840, Error: "the producer session does not exist any more, the outcome of its requests is unknown"}
	}
	key := [2]uint64{id, number}
	ids, known := q.answered[key]
	if !known {
		ids = q.store(r.Texts(2))
		q.answered[key] = ids
	}
	return &Answer{IDs: ids}
}

// receiveOptions reads how many, how long to wait and how long to lock.
func receiveOptions(r *Request) (max int, wait, lock time.Duration) {
	max, waitField, lockField := 1, 2, 3
	if r.Cmd == 1024 {
		n, _ := r.Number(2)
		max, waitField, lockField = int(n), 3, 4
	}
	w, _ := r.Number(waitField)
	l, ok := r.Number(lockField)
	if !ok {
		l = 30
	}
	return max, time.Duration(w) * time.Second, time.Duration(l) * time.Second
}

func (q *Queue) receive(s *Session, r *Request) *Answer {
	q.polls++
	max, wait, lock := receiveOptions(r)
	if len(q.ready) > 0 {
		return q.deliver(r, max, lock)
	}
	if wait == 0 {
		return &Answer{Result: 10200, Error: "no message"}
	}
	w := &waiter{s: s, r: r}
	w.late = time.AfterFunc(wait, func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.stopWaiting(s, r.Seq)
	})
	q.waiting = append(q.waiting, w)
	return nil
}

func (q *Queue) deliver(r *Request, max int, lock time.Duration) *Answer {
	a := &Answer{List: r.Cmd == 1024}
	now := time.Now()
	for n := min(max, len(q.ready)); n > 0; n-- {
		i := q.ready[0]
		q.ready = q.ready[1:]
		i.received++
		q.next++
		i.handle = q.next
		q.locked[i.handle] = i
		q.lock(i, lock)
		a.Messages = append(a.Messages, Message{ID: i.id, Handle: i.handle, Body: i.body, Enqueued: now.Unix(), FirstDequeue: now.Unix(),
			NextVisible: now.Add(lock).Unix(), Dequeued: i.received})
	}
	return a
}

// lock lets the lock of an item end d from now.
func (q *Queue) lock(i *item, d time.Duration) {
	if i.unlock != nil {
		i.unlock.Stop()
	}
	if d == 0 {
		q.free(i)
		return
	}
	handle := i.handle
	i.unlock = time.AfterFunc(d, func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		if q.locked[handle] == i {
			q.free(i)
		}
	})
}

func (q *Queue) free(i *item) {
	delete(q.locked, i.handle)
	q.ready = append(q.ready, i)
	q.serve()
}

func (q *Queue) remove(i *item) {
	i.unlock.Stop()
	delete(q.locked, i.handle)
	q.deleted[i.id] = true
}

// serve gives messages to those who wait.
func (q *Queue) serve() {
	for len(q.ready) > 0 && len(q.waiting) > 0 {
		w := q.waiting[0]
		q.waiting = q.waiting[1:]
		w.late.Stop()
		max, _, lock := receiveOptions(w.r)
		a := q.deliver(w.r, max, lock)
		go w.s.Answer(w.r, *a)
	}
}

// stopWaiting answers a receive that waits.
func (q *Queue) stopWaiting(s *Session, seq int64) {
	at := slices.IndexFunc(q.waiting, func(w *waiter) bool { return w.s == s && w.r.Seq == seq })
	if at < 0 {
		return
	}
	w := q.waiting[at]
	q.waiting = slices.Delete(q.waiting, at, at+1)
	w.late.Stop()
	go s.Answer(w.r, Answer{Result: 10200, Error: "no message"})
}

func (q *Queue) onHandles(r *Request, all, some int32, do func(*item)) *Answer {
	a := &Answer{}
	handles := r.Numbers(2)
	for _, h := range handles {
		if i := q.locked[h]; i != nil {
			do(i)
		} else {
			a.Failed = append(a.Failed, Failure{Handle: h, Code: 10260, Text: "receipt handle is invalid"})
		}
	}
	switch {
	case len(a.Failed) == 0:
		return a
	case r.Cmd == 1025:
		return &Answer{Result: 10260, Error: "receipt handle is invalid"}
	case len(a.Failed) == len(handles):
		a.Result = all
	default:
		a.Result = some
	}
	a.Error = strings.Repeat("failed ", len(a.Failed))
	return a
}
