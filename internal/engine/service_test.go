package engine

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/core/broker"
	"github.com/opencmq/cmq/internal/set"
	"github.com/opencmq/cmq/internal/store"
)

// bench is a rig under a Service. Calls wait until turn, as they wait for a real loop; readers run in between.
type bench struct {
	*rig
	s     *Service
	calls []set.Timed
	ended bool
}

func newBench(t *testing.T) *bench {
	b := &bench{rig: newRig(t)}
	b.open(nil)
	b.s = &Service{Machine: b.m, Loop: b, Go: func(f func()) { b.elsewhere = append(b.elsewhere, f) }}
	return b
}

func (b *bench) Exec(call set.Timed) bool {
	if !b.ended {
		b.calls = append(b.calls, call)
	}
	return !b.ended
}

func (b *bench) ExecForNextEntry(call set.Timed) bool { return b.Exec(call) }

// take runs the calls that wait, but no entry.
func (b *bench) take() {
	for len(b.calls) > 0 {
		call := b.calls[0]
		b.calls = b.calls[1:]
		call.Run(b.now)
	}
}

// turn runs everything until nothing is left to do.
func (b *bench) turn() {
	for range 100 {
		b.take()
		b.applyHeld()
		b.settle()
		if len(b.calls) == 0 {
			return
		}
	}
	b.t.Fatal("the service never comes to rest")
}

// started is the answer of a Start, once it has come.
type started struct {
	cmq.Pending
	reply *cmq.Reply
	err   error
	n     int
}

func (b *bench) start(req *cmq.Request) *started {
	req.Shard = testShard
	a := new(started)
	a.Pending = b.s.Start(req, func(reply *cmq.Reply, err error) {
		a.reply, a.err = reply, err
		a.n++
	})
	return a
}

func (b *bench) canceled(a *started) {
	b.t.Helper()
	require.Equal(b.t, 1, a.n)
	require.ErrorIs(b.t, a.err, context.Canceled)
	require.Nil(b.t, a.reply)
}

func TestServiceAnswers(t *testing.T) {
	b := newBench(t)
	sent := b.start(&cmq.Request{Kind: cmq.KindSend, Bodies: [][]byte{[]byte("a"), []byte("b")}})
	got := b.start(&cmq.Request{Kind: cmq.KindReceive, Max: 16, Wait: time.Second})
	require.Zero(t, sent.n+got.n, "nothing happens before the loop turns")
	b.turn()
	require.Equal(t, 1, sent.n)
	require.Len(t, sent.reply.IDs, 2)
	require.Equal(t, 1, got.n)
	require.Equal(t, []string{"a", "b"}, bodies(got.reply.Messages))
	require.Equal(t, sent.reply.IDs[0], got.reply.Messages[0].ID)
	sent.Cancel()
	got.Cancel()
	b.turn()
	require.Equal(t, 2, sent.n+got.n, "answered once")
	require.EqualValues(t, 2, b.status().Inactive, "what was handed over stays locked")
}

// TestReceiveGoesOnWhenAllItGotIsLost: an empty reply would say that the queue is empty.
func TestReceiveGoesOnWhenAllItGotIsLost(t *testing.T) {
	b := newBench(t)
	for _, id := range b.send("a", "b", "c") {
		b.damage(id, nobody)
	}
	b.send("d")
	for _, want := range [][]string{{"d"}, nil} {
		a := b.start(&cmq.Request{Kind: cmq.KindReceive, Max: 1})
		b.turn()
		require.NoError(t, a.err)
		require.Equal(t, want, bodies(a.reply.Messages))
	}
	require.EqualValues(t, 3, b.m.Stats().Quarantined.Load())
}

// TestReceiveOfAClientThatHasGone: wherever the receive is when its client goes, the message is the next one's, and
// its first receive does not count.
func TestReceiveOfAClientThatHasGone(t *testing.T) {
	for name, goes := range map[string]func(b *bench, a *started){
		"before the loop has it": func(b *bench, a *started) { a.Cancel() },
		"parked":                 func(b *bench, a *started) { b.take(); a.Cancel() },
		"queued":                 func(b *bench, a *started) { b.send0(); b.take(); a.Cancel() },
		"in an entry":            func(b *bench, a *started) { b.send0(); b.take(); b.cut(); a.Cancel() },
		"applied, not read":      func(b *bench, a *started) { b.send0(); b.take(); b.cut(); b.applyHeld(); a.Cancel() },
		"its message is fetched from a replica": func(b *bench, a *started) {
			id := b.send("m")[0]
			b.damage(id, here)
			b.take()
			b.cut()
			b.applyHeld()
			b.elsewhere[0]() // the reader finds the damage
			b.elsewhere = b.elsewhere[1:]
			require.Len(b.t, b.calls, 1)
			a.Cancel()
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			a := b.start(&cmq.Request{Kind: cmq.KindReceive, Max: 1, Wait: time.Minute})
			goes(b, a)
			b.canceled(a)
			if b.sentNothing() {
				b.send("m")
			}
			b.turn()
			b.canceled(a)
			got := b.receive(1)
			require.Equal(t, []string{"m"}, bodies(got))
			require.Equal(t, 1, got[0].DequeueCount)
		})
	}
}

// send0 puts a send before what waits, to be stored with it.
func (b *bench) send0() { b.submit(&cmq.Request{Kind: cmq.KindSend, Bodies: [][]byte{[]byte("m")}}) }

func (b *bench) sentNothing() bool {
	return b.m.Stats().Sent.Load() == 0 && b.m.Waiting() == 0 && len(b.held) == 0
}

func TestCancelledSendIsStoredAllTheSame(t *testing.T) {
	b := newBench(t)
	a := b.start(&cmq.Request{Kind: cmq.KindSend, Bodies: [][]byte{[]byte("m")}})
	b.take()
	a.Cancel()
	b.canceled(a)
	b.turn()
	b.canceled(a)
	require.Equal(t, []string{"m"}, bodies(b.receive(1)))
}

func TestServiceOfALoopThatHasEnded(t *testing.T) {
	b := newBench(t)
	b.ended = true
	a := b.start(&cmq.Request{Kind: cmq.KindReceive, Max: 1})
	require.ErrorIs(t, a.err, cmq.ErrStopping)
	a.Cancel()
	require.Equal(t, 1, a.n)
}

// TestReadersPileUp: a reader that waits for the disk does not hold up the others for ever, and there are never too
// many.
func TestReadersPileUp(t *testing.T) {
	b := newBench(t)
	entered, leave := make(chan struct{}, 1000), make(chan struct{})
	var wg sync.WaitGroup
	var q readers
	reading := func() { entered <- struct{}{}; <-leave }
	s := &Service{Machine: b.m, Loop: &slowLoop{reading}}
	for range 1000 {
		t := &task{s: s, req: &cmq.Request{Kind: cmq.KindReceive}}
		t.settled.Store(true)
		q.add(wg.Go, unread{t, &Result{Reply: cmq.Reply{Messages: make([]cmq.Message, 1)}}})
	}
	for range maxReaders {
		<-entered
	}
	require.Equal(t, maxReaders, q.running)
	close(leave)
	wg.Wait()
	require.Len(t, entered, 1000-maxReaders)
	require.Zero(t, q.running)
}

// TestReadersBehindASlowOne: a result that comes while the only reader waits for the disk gets a reader of its own.
func TestReadersBehindASlowOne(t *testing.T) {
	b := newBench(t)
	entered, leave := make(chan struct{}, 2), make(chan struct{})
	var wg sync.WaitGroup
	var q readers
	s := &Service{Machine: b.m, Loop: &slowLoop{func() { entered <- struct{}{}; <-leave }}}
	for range cap(entered) {
		t := &task{s: s, req: &cmq.Request{Kind: cmq.KindReceive}}
		t.settled.Store(true)
		q.add(wg.Go, unread{t, &Result{Reply: cmq.Reply{Messages: make([]cmq.Message, 1)}}})
		<-entered
	}
	close(leave)
	wg.Wait()
	require.Zero(t, q.running)
}

// TestReadersOfABurst: results that are in memory are read by those who run anyway. A reader starts another one only when
// the one it started last has begun.
func TestReadersOfABurst(t *testing.T) {
	b := newBench(t)
	var started []func()
	var q readers
	start := func(f func()) { started = append(started, f) }
	read := 0
	s := &Service{Machine: b.m, Loop: &slowLoop{func() { read++ }}}
	for range 100 {
		t := &task{s: s, req: &cmq.Request{Kind: cmq.KindReceive}}
		t.settled.Store(true)
		q.add(start, unread{t, &Result{Reply: cmq.Reply{Messages: make([]cmq.Message, 1)}}})
	}
	require.Len(t, started, 1)
	started[0]()
	require.Equal(t, 100, read)
	require.Len(t, started, 2, "the first reader has left results behind when it took its first, and one reader is on its way")
	started[1]()
	require.Len(t, started, 2)
	require.Zero(t, q.running)
}

// TestABurstIsReadTogether: a reader asks for the messages of its share at once, and a message that cannot be read is the trouble
// of its own result alone.
func TestABurstIsReadTogether(t *testing.T) {
	b := newBench(t)
	sent := b.start(&cmq.Request{Kind: cmq.KindSend, Bodies: [][]byte{[]byte("a"), []byte("b"), []byte("c"), []byte("d"), []byte("e"), []byte("f"), []byte("g"), []byte("h")}})
	b.turn()
	var got [8]*started
	for i := range got {
		got[i] = b.start(&cmq.Request{Kind: cmq.KindReceive, Max: 1, Wait: time.Second})
	}
	b.lost[store.Ref{Index: sent.reply.IDs[1].Index(), Slot: sent.reply.IDs[1].Slot()}] = errors.New("the disk says no")
	b.reads = nil
	b.turn()
	require.Equal(t, []int{2, 1, 1, 1, 1, 1, 1}, b.reads, "messages read at once: one of four results that wait, at least one")
	for i, a := range got {
		require.Equal(t, 1, a.n)
		if i == 1 {
			require.ErrorContains(t, a.err, "the disk says no")
			continue
		}
		require.NoError(t, a.err)
		require.Equal(t, string(rune('a'+i)), string(a.reply.Messages[0].Body))
	}
}

// TestShareOfAReader: no more messages than surely fit into one reply are read before the first of them is given.
func TestShareOfAReader(t *testing.T) {
	of := func(results, messages int) int {
		var q readers
		for range results {
			q.waiting = append(q.waiting, unread{&task{}, newDelivery(messages)})
		}
		share, _ := q.take(nil)
		return len(share)
	}
	require.Equal(t, 1, of(1, 1))
	require.Equal(t, 1, of(7, 1))
	require.Equal(t, 2, of(8, 1))
	require.Equal(t, surelyFits, of(1000, 1))
	require.Equal(t, surelyFits/4, of(1000, 4))
	require.Equal(t, 1, of(1000, 256))
}

// TestWhoWakesTheLoop: what can have no effect before the next entry does not; a poll that does not wait may be answered
// without an entry.
func TestWhoWakesTheLoop(t *testing.T) {
	for _, c := range []struct {
		req  cmq.Request
		late bool
	}{
		{cmq.Request{Kind: cmq.KindSend}, true},
		{cmq.Request{Kind: cmq.KindDelete}, true},
		{cmq.Request{Kind: cmq.KindReceive, Wait: time.Second}, true},
		{cmq.Request{Kind: cmq.KindReceive}, false},
		{cmq.Request{Kind: cmq.KindStatus}, false},
	} {
		var l lateness
		s := &Service{Machine: newBench(t).m, Loop: &l}
		s.Start(&c.req, func(*cmq.Reply, error) {})
		require.Equal(t, lateness{c.late}, l, "%+v", c.req)
	}
}

// lateness is a loop that notes how it was called last.
type lateness struct{ late bool }

func (l *lateness) Exec(set.Timed) bool             { l.late = false; return true }
func (l *lateness) ExecForNextEntry(set.Timed) bool { l.late = true; return true }

// TestResultOfOne: what most requests bring costs one allocation.
func TestResultOfOne(t *testing.T) {
	var res *Result
	require.Equal(t, 1.0, testing.AllocsPerRun(100, func() { res = newDelivery(1) }))
	require.Len(t, res.at, 1)
	require.Len(t, res.Reply.Messages, 1)
	one := &broker.Result{Errors: []*cmq.Error{cmq.ErrHandleInvalid}}
	require.Equal(t, 1.0, testing.AllocsPerRun(100, func() { res = handled(one) }))
	require.Equal(t, one.Errors, res.Reply.Errors)
	one.Errors[0] = nil
	require.Equal(t, cmq.ErrHandleInvalid, res.Reply.Errors[0], "the broker's memory is used again")
	two := &broker.Result{Errors: []*cmq.Error{nil, cmq.ErrHandleInvalid}}
	require.Equal(t, two.Errors, handled(two).Reply.Errors)
	require.Len(t, newDelivery(2).Reply.Messages, 2)
}

// slowLoop does something whenever it is called.
type slowLoop struct{ call func() }

func (l *slowLoop) Exec(set.Timed) bool             { l.call(); return true }
func (l *slowLoop) ExecForNextEntry(set.Timed) bool { l.call(); return true }
