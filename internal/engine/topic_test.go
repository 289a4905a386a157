package engine

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/set"
)

const (
	topic   = cmq.TopicID(20)
	pushed  = cmq.SubscriptionID(21)
	outbox  = cmq.SubscriptionID(22)
	picky   = cmq.SubscriptionID(23)
	retains = 86400 * time.Second
)

// subscribe opens subscriptions: one that is received from, one that forwards, and one that wants only messages with a tag.
func (r *rig) subscribe() {
	r.t.Helper()
	for id, s := range map[cmq.SubscriptionID]cmq.Subscriber{pushed: {}, outbox: {Forward: true}, picky: {Tags: []string{"rare"}}} {
		s.Topic, s.Filter = topic.Shard(), cmq.FilterTags
		require.Nil(r.t, r.do(&cmq.Request{
			Kind: cmq.KindOpenShard, Shard: id.Shard(), Version: 1, Subscriber: &s,
			Attributes: cmq.ShardAttributes{VisibilityTimeout: 30 * time.Second, MsgRetention: retains},
		}).Err)
	}
}

func (r *rig) publish(p cmq.Publication, bodies ...string) *cmq.Reply {
	req := &cmq.Request{Kind: cmq.KindPublish, Shard: topic.Shard(), Publication: &p}
	for _, b := range bodies {
		req.Bodies = append(req.Bodies, []byte(b))
	}
	return r.do(req)
}

func (r *rig) receiveFrom(id cmq.SubscriptionID, max int) []cmq.Message {
	return r.do(&cmq.Request{Kind: cmq.KindReceive, Shard: id.Shard(), Max: max}).Messages
}

func TestPublish(t *testing.T) {
	r := newRig(t)
	r.subscribe()
	p := cmq.Publication{Tags: []string{"a", "订单"}, RoutingKey: "x.y"}
	reply := r.publish(p, "one", "")
	require.Nil(t, reply.Err)
	require.Len(t, reply.IDs, 2)
	require.Equal(t, cmq.SetID(3), reply.IDs[0].Set())
	require.EqualValues(t, 2, r.m.Stats().Published.Load())
	require.Zero(t, r.m.Stats().Sent.Load())

	msgs := r.receiveFrom(pushed, 16)
	require.Equal(t, []string{"one", ""}, bodies(msgs))
	for i := range msgs {
		require.Equal(t, reply.IDs[i], msgs[i].ID)
		require.Equal(t, &p, msgs[i].Publication)
		require.Equal(t, start, msgs[i].Enqueued.UnixMilli())
	}
	require.Empty(t, r.receiveFrom(picky, 16))
	require.Empty(t, r.receiveFrom(outbox, 16))
	require.Contains(t, r.dead, outbox.Shard(), "what is to be forwarded is announced")
	list := r.do(&cmq.Request{Kind: cmq.KindDeadList, Shard: outbox.Shard(), Max: 16})
	require.Equal(t, []string{"one", ""}, bodies(list.Messages))
	require.Equal(t, reply.IDs[1], list.Messages[1].ID)
	require.Zero(t, list.Queue, "its endpoint is looked up elsewhere")
	require.NotContains(t, r.m.shards, topic.Shard(), "a topic has no view")
}

func TestPublishIsRefused(t *testing.T) {
	r := newRig(t)
	require.Equal(t, cmq.ErrNoSubscription, r.publish(cmq.Publication{}, "a").Err)
	r.do(&cmq.Request{
		Kind: cmq.KindOpenShard, Shard: picky.Shard(), Version: 1,
		Subscriber: &cmq.Subscriber{Topic: topic.Shard(), Filter: cmq.FilterTags, Tags: []string{"rare"}},
	})
	require.Equal(t, cmq.ErrNoMatch, r.publish(cmq.Publication{Tags: []string{"a"}}, "a").Err)
	require.Empty(t, r.live(), "nothing is stored that somebody needs")
	r.m.SetSpace(set.SpaceSoft)
	require.Equal(t, cmq.ErrDiskFull, r.publish(cmq.Publication{Tags: []string{"rare"}}, "a").Err)
	require.Zero(t, r.m.Stats().Published.Load())
}

// TestPollOfASubscriptionIsWokenByAPublish: dispatch waits for messages with long polls, as clients do.
func TestPollOfASubscriptionIsWokenByAPublish(t *testing.T) {
	r := newRig(t)
	r.subscribe()
	poll, _ := r.submit(&cmq.Request{Kind: cmq.KindReceive, Shard: pushed.Shard(), Max: 1, Wait: time.Minute})
	require.Zero(t, poll.n)
	r.publish(cmq.Publication{}, "a")
	require.Equal(t, 1, poll.n)
	require.Equal(t, []string{"a"}, bodies(poll.got.Reply.Messages))
}

// TestBodyLivesAsLongAsSomebodyNeedsIt: one slot that several shards refer to.
func TestBodyLivesAsLongAsSomebodyNeedsIt(t *testing.T) {
	r := newRig(t)
	r.subscribe()
	live := func(want ...string) {
		t.Helper()
		got := map[string]bool{}
		for _, stored := range r.live() {
			got[stored[len(stored)-1:]] = true // behind the properties
		}
		require.Len(t, got, len(want))
		for _, body := range want {
			require.Contains(t, got, body)
		}
	}
	for i := range 3 {
		require.Nil(t, r.publish(cmq.Publication{}, fmt.Sprint(i)).Err)
	}
	live("0", "1", "2")
	for _, msg := range r.receiveFrom(pushed, 3) {
		r.do(&cmq.Request{Kind: cmq.KindDelete, Shard: pushed.Shard(), Handles: []cmq.Handle{msg.Handle}})
	}
	live("0", "1", "2")
	r.do(&cmq.Request{Kind: cmq.KindForget, Shard: outbox.Shard(), Number: 2})
	live("2")
	r.restart()
	live("2")
	r.do(&cmq.Request{Kind: cmq.KindDropShard, Shard: outbox.Shard()})
	live()
}

// TestWhatNobodyTakesExpires, in the outbox too, without traffic.
func TestWhatNobodyTakesExpires(t *testing.T) {
	r := newRig(t)
	r.subscribe()
	r.publish(cmq.Publication{Tags: []string{"rare"}}, "a")
	r.pass(retains - time.Second)
	require.NotEmpty(t, r.live())
	r.pass(2 * time.Second)
	require.Empty(t, r.live())
	require.Empty(t, r.do(&cmq.Request{Kind: cmq.KindDeadList, Shard: outbox.Shard(), Max: 1}).Messages)
	require.Empty(t, r.receiveFrom(picky, 1))
}

// TestDeadLetterOfASubscriptionIsABody: what it was published with stays behind.
func TestDeadLetterOfASubscriptionIsABody(t *testing.T) {
	r := newRig(t)
	r.open(nil)
	r.do(&cmq.Request{
		Kind: cmq.KindOpenShard, Shard: pushed.Shard(), Version: 1,
		Attributes: cmq.ShardAttributes{
			VisibilityTimeout: time.Second, MsgRetention: retains,
			DeadLetter: cmq.DeadLetterPolicy{Queue: testShard.Queue(), Policy: cmq.PolicyReceives, MaxReceiveCount: 1},
		},
		Subscriber: &cmq.Subscriber{Topic: topic.Shard(), Filter: cmq.FilterTags},
	})
	ids := r.publish(cmq.Publication{Tags: []string{"a"}}, "a").IDs
	require.Len(t, r.receiveFrom(pushed, 1), 1)
	r.pass(2 * time.Second)
	list := r.do(&cmq.Request{Kind: cmq.KindDeadList, Shard: pushed.Shard(), Max: 1})
	require.Equal(t, testShard.Queue(), list.Queue)
	require.Nil(t, r.do(&cmq.Request{
		Kind: cmq.KindTransfer, From: pushed.Shard(), Base: list.Base, Number: list.Number,
		IDs: []cmq.MsgID{list.Messages[0].ID}, Bodies: [][]byte{list.Messages[0].Body},
	}).Err)
	got := r.receive(1)
	require.Equal(t, []string{"a"}, bodies(got))
	require.Equal(t, ids[0], got[0].ID)
	require.Nil(t, got[0].Publication)
}

// givesUp is the dead-letter policy of a subscription.
var givesUp = cmq.ShardAttributes{
	VisibilityTimeout: time.Second, MsgRetention: 2 * retains,
	DeadLetter: cmq.DeadLetterPolicy{Queue: 77, Policy: cmq.PolicyEither, MaxReceiveCount: 2, MaxTimeToLive: retains},
}

// TestWhatOutlivesItsDayGoesToTheDeadLetterQueue, never tried, tried too often, or locked when the day ends.
func TestWhatOutlivesItsDayGoesToTheDeadLetterQueue(t *testing.T) {
	r := newRig(t)
	r.do(&cmq.Request{
		Kind: cmq.KindOpenShard, Shard: pushed.Shard(), Version: 1, Attributes: givesUp, Subscriber: &cmq.Subscriber{Topic: topic.Shard(), Filter: cmq.FilterTags},
	})
	dead := func() []string {
		return bodies(r.do(&cmq.Request{Kind: cmq.KindDeadList, Shard: pushed.Shard(), Max: 16}).Messages)
	}
	r.publish(cmq.Publication{}, "tried too often", "locked", "never tried")
	for range 2 {
		require.Equal(t, []string{"tried too often"}, bodies(r.receiveFrom(pushed, 1)))
		r.pass(2 * time.Second)
	}
	require.Equal(t, []string{"tried too often"}, dead())
	r.pass(retains - 10*time.Second)
	got := r.do(&cmq.Request{Kind: cmq.KindReceive, Shard: pushed.Shard(), Max: 1, Lock: time.Minute}).Messages
	require.Equal(t, []string{"locked"}, bodies(got))
	r.pass(10 * time.Second)
	require.Equal(t, []string{"tried too often", "never tried"}, dead())
	r.do(&cmq.Request{Kind: cmq.KindRelock, Shard: pushed.Shard(), Handles: []cmq.Handle{got[0].Handle}})
	require.Equal(t, []string{"tried too often", "never tried", "locked"}, dead())
	r.pass(retains)
	require.Empty(t, dead(), "nothing is kept for ever")
}

// TestWhatStaysInAnOutboxForADayIsOverdue: it is listed as such, and for a day more.
func TestWhatStaysInAnOutboxForADayIsOverdue(t *testing.T) {
	r := newRig(t)
	r.do(&cmq.Request{
		Kind: cmq.KindOpenShard, Shard: outbox.Shard(), Version: 1, Attributes: givesUp,
		Subscriber: &cmq.Subscriber{Topic: topic.Shard(), Filter: cmq.FilterTags, Forward: true},
	})
	list := func(max int) *cmq.Reply {
		return r.do(&cmq.Request{Kind: cmq.KindDeadList, Shard: outbox.Shard(), Max: max})
	}
	r.publish(cmq.Publication{}, "one", "two")
	r.pass(time.Hour)
	r.publish(cmq.Publication{}, "three")
	require.Zero(t, list(16).Overdue)
	told := len(r.dead)
	r.pass(retains - time.Hour + 2*time.Second)
	require.Greater(t, len(r.dead), told, "the mover is told")
	require.Equal(t, cmq.QueueID(77), list(16).Queue)
	require.Len(t, list(16).Messages, 3)
	require.Equal(t, 2, list(16).Overdue)
	require.Equal(t, 1, list(1).Overdue)
	r.pass(retains)
	require.Equal(t, []string{"three"}, bodies(list(16).Messages))
}

// TestMoveWithinASet: a queue that a subscription delivers to refers to the body that is stored already.
func TestMoveWithinASet(t *testing.T) {
	r := newRig(t)
	r.open(nil)
	r.subscribe()
	body := string(make([]byte, 1000))
	ids := r.publish(cmq.Publication{Tags: []string{"a"}}, body, "two").IDs
	before := r.index
	r.pass(time.Second)
	for range 2 { // a repetition changes nothing
		reply := r.do(&cmq.Request{Kind: cmq.KindMove, From: outbox.Shard(), IDs: ids, Sizes: []uint32{1000, 3}})
		require.Nil(t, reply.Err)
		require.EqualValues(t, 2, reply.Number)
	}
	for index := before + 1; index <= r.index; index++ {
		require.Less(t, len(r.log[index]), 200, "no body is written again")
	}
	require.Empty(t, r.do(&cmq.Request{Kind: cmq.KindDeadList, Shard: outbox.Shard(), Max: 16}).Messages)
	r.do(&cmq.Request{Kind: cmq.KindDropShard, Shard: outbox.Shard()})
	r.do(&cmq.Request{Kind: cmq.KindDropShard, Shard: pushed.Shard()})
	r.restart()
	require.Len(t, r.live(), 2)
	msgs := r.receive(16)
	require.Equal(t, []string{body, "two"}, bodies(msgs))
	require.Equal(t, ids, []cmq.MsgID{msgs[0].ID, msgs[1].ID})
	require.Nil(t, msgs[0].Publication, "a queue does not tell what it was published with")
	require.Equal(t, start+1000, msgs[0].Enqueued.UnixMilli(), "it was enqueued when it arrived")
}

func TestMoveOfWhatIsElsewhereIsRefused(t *testing.T) {
	r := newRig(t)
	r.open(nil)
	r.subscribe()
	r.publish(cmq.Publication{}, "a")
	for _, req := range []*cmq.Request{
		{IDs: []cmq.MsgID{cmq.NewMsgID(4, r.index, 0)}, Sizes: []uint32{1}}, // of another set
		{IDs: []cmq.MsgID{cmq.NewMsgID(3, r.index, 0)}},                     // without its size
	} {
		req.Kind, req.From = cmq.KindMove, outbox.Shard()
		require.Equal(t, cmq.ErrParameters, r.do(req).Err)
	}
}

// TestSpread: two queues get the messages of outboxes of another set, which are stored once.
func TestSpread(t *testing.T) {
	r := newRig(t)
	other := cmq.QueueID(30).Shard(0)
	for _, shard := range []cmq.ShardID{testShard, other} {
		require.Nil(t, r.do(&cmq.Request{
			Kind: cmq.KindOpenShard, Shard: shard, Version: 1,
			Attributes: cmq.ShardAttributes{VisibilityTimeout: 30 * time.Second, MsgRetention: retains, MaxMsgHeapNum: 2, MaxInFlight: 10},
		}).Err)
	}
	body := string(make([]byte, 1000))
	ids := []cmq.MsgID{cmq.NewMsgID(9, 5, 0), cmq.NewMsgID(9, 5, 1), cmq.NewMsgID(9, 6, 0)}
	spread := &cmq.Request{
		Kind: cmq.KindSpread, IDs: ids, Bodies: [][]byte{[]byte(body), []byte("two"), []byte("three")},
		Shares: []cmq.Share{
			{Shard: testShard, From: outbox.Shard(), Base: 7, Number: 7, Places: []uint16{0, 1, 2}},
			{Shard: cmq.QueueID(31).Shard(0), From: picky.Shard(), Places: []uint16{0}},
			{Shard: other, From: pushed.Shard(), Places: []uint16{0, 2}},
		},
	}
	before := r.index
	reply := r.do(spread)
	require.Nil(t, reply.Err)
	require.Equal(t, []*cmq.Error{nil, cmq.ErrQueueNotExist, nil}, reply.Errors)
	require.Equal(t, []uint64{9, 0, 2}, reply.Numbers, "the first queue has room for two")
	require.Equal(t, before+1, r.index)
	require.Less(t, len(r.log[r.index]), 1400, "each body is written once")
	require.Equal(t, []*cmq.Error{cmq.ErrHeapFull, cmq.ErrQueueNotExist, nil}, r.do(spread).Errors, "what is there is not stored again")
	require.NotContains(t, r.m.shards, cmq.ShardID(0), "no shard, no view")
	require.NotContains(t, r.m.shards, cmq.QueueID(31).Shard(0))

	r.restart()
	got := r.receive(16)
	require.Equal(t, []string{body, "two"}, bodies(got))
	require.Equal(t, ids[:2], []cmq.MsgID{got[0].ID, got[1].ID})
	more := r.do(&cmq.Request{Kind: cmq.KindReceive, Shard: other, Max: 16}).Messages
	require.Equal(t, []string{body, "three"}, bodies(more))
	require.Equal(t, ids[2], more[1].ID)
}

func TestSpreadOfWhatIsNotThereIsRefused(t *testing.T) {
	r := newRig(t)
	r.open(nil)
	for _, req := range []*cmq.Request{
		{IDs: []cmq.MsgID{1}, Bodies: [][]byte{{}}, Shares: []cmq.Share{{Shard: testShard, Places: []uint16{1}}}},
		{Bodies: [][]byte{{}}, Shares: []cmq.Share{{Shard: testShard, Places: []uint16{0}}}},
		{IDs: make([]cmq.MsgID, cmq.MaxSlots+1), Bodies: make([][]byte, cmq.MaxSlots+1)},
	} {
		req.Kind = cmq.KindSpread
		require.Equal(t, cmq.ErrParameters, r.do(req).Err)
	}
}

// TestRetentionMakesRoomForShares: what is past its retention takes no room from what arrives.
func TestRetentionMakesRoomForShares(t *testing.T) {
	r := newRig(t)
	r.open(func(a *cmq.ShardAttributes) { a.MsgRetention, a.MaxMsgHeapNum = time.Minute, 1 })
	r.send("old")
	r.now += time.Minute.Milliseconds() + 1
	reply := r.do(&cmq.Request{
		Kind: cmq.KindSpread, IDs: []cmq.MsgID{1}, Bodies: [][]byte{[]byte("new")}, Shares: []cmq.Share{{Shard: testShard, From: outbox.Shard(), Places: []uint16{0}}},
	})
	require.Equal(t, []*cmq.Error{nil}, reply.Errors)
	require.Equal(t, []string{"new"}, bodies(r.receive(16)))
}

// TestDeadListTellsWhatItHas: up to which message, so that others who list the same can be compared; and it stays short.
func TestDeadListTellsWhatItHas(t *testing.T) {
	r := newRig(t)
	r.subscribe()
	list := func(max int) *cmq.Reply {
		return r.do(&cmq.Request{Kind: cmq.KindDeadList, Shard: outbox.Shard(), Max: max})
	}
	big := string(make([]byte, 400<<10))
	ids := r.publish(cmq.Publication{}, "a", "b").IDs
	require.Zero(t, list(1).Upto, "there is more behind")
	whole := list(2)
	require.Greater(t, whole.Upto, ids[1])
	require.Less(t, whole.Upto, r.publish(cmq.Publication{}, big, big, big).IDs[0])
	cut := list(16)
	require.Len(t, cut.Messages, 4, "a mebibyte at a time")
	require.Zero(t, cut.Upto)
	r.do(&cmq.Request{Kind: cmq.KindForget, Shard: outbox.Shard(), Number: 4})
	require.Len(t, list(16).Messages, 1)
	require.NotZero(t, list(16).Upto)
}
