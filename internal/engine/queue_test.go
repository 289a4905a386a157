package engine

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/internal/cmq"
)

// outcomes counts what calls came to.
type outcomes struct{ done, busy, other int }

func (o *outcomes) take(r *Result, err error) {
	switch {
	case err == cmq.ErrBusy:
		o.busy++
	case err == nil && r.Reply.Err == nil:
		o.done++
	default:
		o.other++
	}
}

// TestFullQueueRefusesBodiesFirst: when too much waits, sends are refused before they cost anything, and those who delete
// and receive, who make the room, go on.
func TestFullQueueRefusesBodiesFirst(t *testing.T) {
	r := newRig(t)
	r.open(nil)
	mb := make([]byte, 1<<20)
	var sends, others outcomes
	send := func() {
		r.m.Submit(r.now, &cmq.Request{Kind: cmq.KindSend, Shard: testShard, Bodies: [][]byte{mb}}, sends.take)
	}
	for range 70 {
		send()
	}
	require.Greater(t, sends.busy, 3)
	require.LessOrEqual(t, r.m.Waiting(), maxQueued+1<<20+100)
	require.EqualValues(t, sends.busy, r.m.Stats().Busy.Load())
	r.m.Submit(r.now, &cmq.Request{Kind: cmq.KindDelete, Shard: testShard, Handles: []cmq.Handle{1}}, others.take)
	r.m.Submit(r.now, &cmq.Request{Kind: cmq.KindReceive, Shard: testShard, Max: 1, Lock: time.Minute}, others.take)
	require.Zero(t, others.busy)
	refused := sends.busy
	r.settle()
	require.Equal(t, outcomes{done: 70 - refused, busy: refused}, sends)
	require.Zero(t, others.busy)
	send()
	r.settle()
	require.Equal(t, refused, sends.busy, "there is room again")
}

// TestNothingIsTakenThatWouldComeTooLate: while the oldest request waits for an entry, as without a majority, new sends are
// refused instead of being stored when their senders have given them up. The first entry ends it.
func TestNothingIsTakenThatWouldComeTooLate(t *testing.T) {
	r := newRig(t)
	r.open(nil)
	var sends outcomes
	send := func() {
		r.m.Submit(r.now, &cmq.Request{Kind: cmq.KindSend, Shard: testShard, Bodies: [][]byte{{'x'}}}, sends.take)
	}
	send()
	r.now += maxQueuedFor
	send()
	require.Zero(t, sends.busy)
	r.now++
	send()
	require.Equal(t, 1, sends.busy)
	r.settle()
	send()
	r.settle()
	require.Equal(t, outcomes{done: 3, busy: 1}, sends)
}

func TestCallQueue(t *testing.T) {
	var q callQueue
	next, first := 0, 0
	for _, step := range []struct{ add, remove int }{{1000, 1}, {0, 100}, {50, 900}, {3, 0}, {0, 52}, {10, 10}, {100, 60}, {0, 40}} {
		for range step.add {
			q.add(&Call{req: &cmq.Request{}, size: 10, op: next}, 5)
			next++
		}
		all := q.calls
		q.remove(step.remove)
		first += step.remove
		require.Len(t, q.calls, next-first)
		require.Equal(t, 10*(next-first), q.bytes)
		for i, c := range q.calls {
			require.Equal(t, first+i, c.op)
		}
		kept := map[*Call]bool{}
		for _, c := range q.calls {
			kept[c] = true
		}
		for _, c := range all {
			require.True(t, c == nil || kept[c], "nothing is kept of what was removed")
		}
		require.Equal(t, min(len(q.calls), 4), q.fitting(35))
	}
}
