package engine

import (
	"errors"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/store"
)

var errDamaged = errors.New("checksum")

// damage makes a message unreadable here.
func (r *rig) damage(id cmq.MsgID, others verdict) {
	ref := store.Ref{Index: id.Index(), Slot: id.Slot()}
	r.lost[ref], r.peers[ref] = errDamaged, others
}

func TestDamagedMessageComesFromAnotherReplica(t *testing.T) {
	r := newRig(t)
	r.open(nil)
	ids := r.send("a", "b", "c")
	r.damage(ids[1], here)
	got := r.receive(16)
	require.Equal(t, []string{"a", "b", "c"}, bodies(got))
	require.Equal(t, ids[1], got[1].ID)
	require.Equal(t, 1, r.fetched)
	require.EqualValues(t, 1, r.m.Stats().Mended.Load())
}

// TestMessageLostEverywhereIsQuarantined: it is deleted on all replicas, the others are delivered.
func TestMessageLostEverywhereIsQuarantined(t *testing.T) {
	r := newRig(t)
	r.open(nil)
	ids := r.send("a", "b", "c")
	r.damage(ids[1], nobody)
	require.Equal(t, []string{"a", "c"}, bodies(r.receive(16)))
	r.settle()
	require.EqualValues(t, 1, r.m.Stats().Quarantined.Load())
	require.EqualValues(t, 2, r.status().Inactive)
	r.pass(time.Minute)
	require.Equal(t, []string{"a", "c"}, bodies(r.receive(16)))
}

// TestUnreachableMessageIsLeftOutAndStays: nobody can say that it is lost, so it is not deleted.
func TestUnreachableMessageIsLeftOutAndStays(t *testing.T) {
	r := newRig(t)
	r.open(nil)
	ids := r.send("a", "b")
	r.damage(ids[0], 0)
	require.Equal(t, []string{"b"}, bodies(r.receive(16)))
	require.EqualValues(t, 2, r.status().Inactive)
	r.pass(time.Minute)
	alone, _ := r.submit(&cmq.Request{Kind: cmq.KindReceive, Max: 1})
	r.settle()
	require.ErrorIs(t, alone.err, errDamaged, "a reply without messages would be a lie")
	delete(r.lost, store.Ref{Index: ids[0].Index(), Slot: ids[0].Slot()})
	r.pass(time.Minute)
	require.Equal(t, []string{"a", "b"}, bodies(r.receive(16)))
}

// TestMessageThatCannotBeOpenedJustNowStays, although the others have lost it: this replica may be the last that has it.
func TestMessageThatCannotBeOpenedJustNowStays(t *testing.T) {
	for _, busy := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM} {
		r := newRig(t)
		r.open(nil)
		ids := r.send("a", "b")
		ref := store.Ref{Index: ids[0].Index(), Slot: ids[0].Slot()}
		r.damage(ids[0], nobody)
		r.lost[ref] = fmt.Errorf("open a file: %w", busy)
		require.Equal(t, []string{"b"}, bodies(r.receive(16)))
		r.settle()
		require.Zero(t, r.m.Stats().Quarantined.Load())
		delete(r.lost, ref)
		r.pass(time.Minute)
		require.Equal(t, []string{"a", "b"}, bodies(r.receive(16)))
	}
}

// TestMessageGoneBeforeItIsReadIsLeftOut: somebody emptied the queue, and maintenance was quick.
func TestMessageGoneBeforeItIsReadIsLeftOut(t *testing.T) {
	for name, end := range map[string]*cmq.Request{
		"cleared": {Kind: cmq.KindClear, Shard: testShard},
		"dropped": {Kind: cmq.KindDropShard, Shard: testShard},
	} {
		r := newRig(t)
		r.open(nil)
		ids := r.send("a", "b")
		var got *Result
		r.m.Submit(r.now, &cmq.Request{Kind: cmq.KindReceive, Shard: testShard, Max: 16}, func(res *Result, _ error) { got = res })
		r.settle()
		r.do(end)
		r.damage(ids[0], here)
		r.m.Fill(got)
		require.False(t, got.Whole(), name)
		r.m.Mend(got, func(err error) { require.NoError(t, err) })
		require.Zero(t, r.fetched, name)
		require.LessOrEqual(t, len(got.Reply.Messages), 1, name)
	}
}

// poisoned is a rig with three dead messages.
func poisoned(t *testing.T) (*rig, []cmq.MsgID) {
	r := newRig(t)
	r.open(func(a *cmq.ShardAttributes) {
		a.DeadLetter = cmq.DeadLetterPolicy{Queue: 9, Policy: cmq.PolicyReceives, MaxReceiveCount: 1}
	})
	ids := r.send("a", "b", "c")
	require.Len(t, r.receive(16), 3)
	r.pass(31 * time.Second)
	return r, ids
}

func TestDeadLettersAreMovedUpToTheDamagedOne(t *testing.T) {
	r, ids := poisoned(t)
	r.damage(ids[1], nobody)
	list := func() *cmq.Reply { return r.do(&cmq.Request{Kind: cmq.KindDeadList, Max: 10}) }
	first := list()
	require.Equal(t, []string{"a"}, bodies(first.Messages))
	require.Zero(t, r.m.Stats().Quarantined.Load())
	require.Nil(t, r.do(&cmq.Request{Kind: cmq.KindForget, Number: first.Number + 1}).Err)
	r.dead = nil
	require.Empty(t, list().Messages)
	r.settle()
	require.EqualValues(t, 1, r.m.Stats().Quarantined.Load())
	require.Contains(t, r.dead, testShard, "the mover hears that it can go on")
	last := list()
	require.Equal(t, []string{"c"}, bodies(last.Messages))
	require.Equal(t, first.Number+2, last.Number)
}

func TestDeadLetterThatCannotBeReadNowWaits(t *testing.T) {
	r, ids := poisoned(t)
	r.damage(ids[0], 0)
	list, _ := r.submit(&cmq.Request{Kind: cmq.KindDeadList, Max: 10})
	r.settle()
	require.ErrorIs(t, list.err, errDamaged)
	r.damage(ids[0], here)
	require.Equal(t, []string{"a", "b", "c"}, bodies(r.do(&cmq.Request{Kind: cmq.KindDeadList, Max: 10}).Messages))
}

func TestCloseEndsMending(t *testing.T) {
	r := newRig(t)
	r.open(nil)
	r.damage(r.send("a")[0], here)
	got, _ := r.submit(&cmq.Request{Kind: cmq.KindReceive, Max: 1})
	r.cut()
	r.applyHeld()
	require.Zero(t, got.n)
	r.m.Close()
	require.ErrorIs(t, got.err, cmq.ErrStopping)
	r.rest()
	require.Equal(t, 1, got.n)
}
