package broker

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/core/command"
)

// topicRig has a topic and makes subscriptions of it.
type topicRig struct{ *rig }

const theTopic = cmq.TopicID(50)

func newTopicRig(t *testing.T) topicRig { return topicRig{newRig(t)} }

// subscribe opens the shard of a subscription by tags.
func (r topicRig) subscribe(id cmq.SubscriptionID, change func(*cmq.Subscriber, *cmq.ShardAttributes)) cmq.ShardID {
	r.t.Helper()
	q := cmq.DefaultQueueAttributes()
	a, s := q.ShardAttributes(), cmq.Subscriber{Topic: theTopic.Shard(), Filter: cmq.FilterTags}
	if change != nil {
		change(&s, &a)
	}
	r.one(start, command.Op{Kind: command.Open, Shard: id.Shard(), Version: 1, Attributes: a, Subscriber: &s})
	return id.Shard()
}

func tagged(tags ...string) func(*cmq.Subscriber, *cmq.ShardAttributes) {
	return func(s *cmq.Subscriber, _ *cmq.ShardAttributes) { s.Tags = tags }
}

func forward(s *cmq.Subscriber, _ *cmq.ShardAttributes) { s.Forward = true }

func (r topicRig) publish(n int, tags ...string) Result {
	r.t.Helper()
	return r.one(start, command.Op{Kind: command.Publish, Shard: theTopic.Shard(), Bodies: bodies(n), Publication: cmq.Publication{Tags: tags}})
}

// published wants that the messages are placed in just these shards, which all refer to the same slots.
func (r topicRig) published(n int, tags []string, want ...cmq.ShardID) {
	r.t.Helper()
	res := r.publish(n, tags...)
	if res.Err != nil || res.N != n {
		r.t.Fatalf("publish: %+v", res)
	}
	var got []cmq.ShardID
	for _, p := range r.out.Placed {
		got = append(got, p.Shard)
		if p.Index != 0 || p.Slot != res.FirstSlot || p.N != n {
			r.t.Fatalf("placed %+v, stored %+v", p, res)
		}
	}
	if !slices.Equal(got, want) {
		r.t.Fatalf("placed in %v, want %v", got, want)
	}
}

func (r topicRig) refused(want *cmq.Error, tags ...string) {
	r.t.Helper()
	if res := r.publish(1, tags...); res.Err != want || res.N != 0 || len(r.out.Placed)+len(r.out.Touched) > 0 {
		r.t.Fatalf("%+v, placed %+v, touched %v; want %v", res, r.out.Placed, r.out.Touched, want)
	}
}

func (r topicRig) receive(id cmq.ShardID, max int) []Delivery {
	r.t.Helper()
	return r.one(start, command.Op{Kind: command.Receive, Shard: id, Max: max}).Deliveries
}

func TestPublishIsPlacedWhereItIsWanted(t *testing.T) {
	r := newTopicRig(t)
	b := r.subscribe(9, tagged("x", "y"))
	a := r.subscribe(2, tagged("x"))
	c := r.subscribe(200, tagged())
	r.published(3, []string{"y"}, b, c)
	r.published(1, []string{"x"}, a, b, c)
	r.published(2, nil, c)
	if n := len(r.receive(a, 16)); n != 1 {
		t.Errorf("%d messages for a, want 1", n)
	}
	if n := len(r.receive(c, 16)); n != 6 {
		t.Errorf("%d messages for c, want 6", n)
	}
}

func TestPublishThatNobodyWantsIsStoredNowhere(t *testing.T) {
	r := newTopicRig(t)
	r.refused(cmq.ErrNoSubscription, "x")
	r.one(start, command.Op{Kind: command.Open, Shard: theTopic.Shard() + 1, Version: 1}) // a queue beside it changes nothing
	r.refused(cmq.ErrNoSubscription, "x")
	id := r.subscribe(2, tagged("y"))
	r.refused(cmq.ErrNoMatch, "x")
	r.published(1, []string{"y"}, id)
	r.one(start, command.Op{Kind: command.Drop, Shard: id})
	r.refused(cmq.ErrNoSubscription, "y")
	r.subscribe(2, tagged("y")) // the id never comes back
	r.refused(cmq.ErrNoSubscription, "y")
}

func TestTopicsDoNotMix(t *testing.T) {
	r := newTopicRig(t)
	id := r.subscribe(2, nil)
	r.subscribe(3, func(s *cmq.Subscriber, _ *cmq.ShardAttributes) { s.Topic = cmq.TopicID(51).Shard() })
	r.published(1, nil, id)
}

func TestFullSubscriptionDoesNotKeepMessagesFromOthers(t *testing.T) {
	r := newTopicRig(t)
	full := r.subscribe(2, func(_ *cmq.Subscriber, a *cmq.ShardAttributes) { a.MaxMsgHeapNum = 1 })
	other := r.subscribe(3, nil)
	r.published(5, nil, full, other)
	r.published(1, nil, full, other)
}

func TestSetChangesWhatASubscriptionAsksFor(t *testing.T) {
	r := newTopicRig(t)
	id := r.subscribe(2, tagged("x"))
	set := func(version uint64, s *cmq.Subscriber) {
		r.one(start, command.Op{Kind: command.Set, Shard: id, Version: version, Subscriber: s})
	}
	set(2, &cmq.Subscriber{Topic: 1, Filter: cmq.FilterTags, Tags: []string{"y"}, Forward: true})
	r.refused(cmq.ErrNoMatch, "x")
	r.published(1, []string{"y"}, id)
	if n := len(r.receive(id, 1)); n != 1 {
		t.Error("it forwards now")
	}
	set(2, &cmq.Subscriber{Filter: cmq.FilterTags, Tags: []string{"z"}}) // not newer
	set(3, nil)
	r.published(1, []string{"y"}, id)
}

func TestQueueDoesNotBecomeASubscription(t *testing.T) {
	r := newTopicRig(t)
	queue := cmq.QueueID(4).Shard(0)
	r.one(start, command.Op{Kind: command.Open, Shard: queue, Version: 1})
	r.one(start, command.Op{Kind: command.Set, Shard: queue, Version: 2, Subscriber: &cmq.Subscriber{Topic: theTopic.Shard()}})
	r.refused(cmq.ErrNoSubscription)
	if r.b.Subscriber(queue) != nil || r.b.Subscriber(99) != nil {
		t.Error("it has a subscriber")
	}
}

func TestForwardWaitsForAnotherQueueFromTheStart(t *testing.T) {
	r := newTopicRig(t)
	id := r.subscribe(2, forward)
	r.published(3, nil, id)
	if got := r.receive(id, 16); len(got) > 0 {
		t.Fatalf("received %v", got)
	}
	dead := func(first uint64, want ...uint64) {
		t.Helper()
		number, at := r.b.DeadHead(id, 10)
		var got []uint64
		for _, p := range at {
			got = append(got, p.Seq)
		}
		if number != first || !slices.Equal(got, want) {
			t.Fatalf("from %d: %v, want %d: %v", number, got, first, want)
		}
	}
	dead(0, 0, 1, 2)
	r.one(start, command.Op{Kind: command.Set, Shard: id, Version: 2, Subscriber: &cmq.Subscriber{}})
	dead(0, 0, 1, 2) // without a dead-letter policy, and yet they wait
	r.published(1, nil, id)
	r.one(start, command.Op{Kind: command.Forget, Shard: id, Number: 2})
	dead(2, 2, 3)
	r.one(start, command.Op{Kind: command.Expire, Shard: id, Marks: []command.Mark{{Low: 3}}})
	dead(3, 3)
	listed := 0
	r.b.WithDead(func(cmq.ShardID) bool { listed++; return true })
	if listed != 1 {
		t.Errorf("%d shards have something to forward", listed)
	}
	st, _ := r.b.Status(id, start)
	if got := counts(st); got != [4]int64{0, 1, 0, 0} {
		t.Errorf("counters %v", got)
	}
}

func TestSubscriptionsSurviveAnImage(t *testing.T) {
	r := newTopicRig(t)
	a, b := r.subscribe(2, tagged("x")), r.subscribe(3, forward)
	gone := r.subscribe(4, nil)
	r.one(start, command.Op{Kind: command.Drop, Shard: gone})
	restored, err := Decode(7, r.b.Encode(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	r.b = restored
	r.published(1, []string{"x"}, a, b)
	if got := *r.b.Subscriber(a); got.Topic != theTopic.Shard() || got.Filter != cmq.FilterTags || !slices.Equal(got.Tags, []string{"x"}) || got.Forward {
		t.Errorf("%+v", got)
	}
	if _, at := r.b.DeadHead(b, 1); len(at) != 1 {
		t.Error("it does not forward any more")
	}
}

// TestPublishTouchesEverySubscription: locks that ended by then are carried out, and a snapshot has what was before.
func TestPublishTouchesEverySubscription(t *testing.T) {
	r := newTopicRig(t)
	a, b := r.subscribe(2, nil), r.subscribe(3, forward)
	r.published(1, nil, a, b)
	before := r.b.Encode()
	snapshot := r.b.Snapshot()
	r.published(1, nil, a, b)
	if !slices.Equal(r.out.Touched, []cmq.ShardID{a, b}) {
		t.Errorf("touched %v", r.out.Touched)
	}
	for !snapshot.Step(1) {
	}
	if got := slices.Concat(snapshot.Parts()...); !slices.Equal(got, before) {
		t.Error("the snapshot has what came later")
	}
}

// outboxRig has an outbox with three messages, the queue they go to, and where they lie.
func outboxRig(t *testing.T, heap int64) (r topicRig, queue, outbox cmq.ShardID, ids []cmq.MsgID) {
	r = newTopicRig(t)
	queue = cmq.QueueID(8).Shard(0)
	r.one(start, command.Op{Kind: command.Open, Shard: queue, Version: 1, Attributes: cmq.ShardAttributes{MaxMsgHeapNum: heap}})
	outbox = r.subscribe(2, forward)
	r.published(3, nil, outbox)
	for slot := range uint16(3) {
		ids = append(ids, cmq.NewMsgID(7, r.b.Index(), slot))
	}
	return r, queue, outbox, ids
}

func (r topicRig) move(to, from cmq.ShardID, number uint64, ids ...cmq.MsgID) Result {
	r.t.Helper()
	return r.one(start, command.Op{Kind: command.Move, Shard: to, From: from, Number: number, IDs: ids, Sizes: make([]uint32, len(ids))})
}

func TestMoveRefersToWhatIsStored(t *testing.T) {
	r, queue, outbox, ids := outboxRig(t, 0)
	stored := r.b.Index()
	for range 2 { // whether once or twice
		if res := r.move(queue, outbox, 0, ids...); res.Err != nil || res.Number != 3 {
			t.Fatalf("%+v", res)
		}
		for i, p := range r.out.Placed {
			if p.Shard != queue || p.Index != stored || p.Slot != uint16(i) || p.N != 1 {
				t.Errorf("placed %+v", p)
			}
		}
	}
	if n := len(r.receive(queue, 16)); n != 3 {
		t.Errorf("%d messages in the queue, want 3", n)
	}
	if _, at := r.b.DeadHead(outbox, 10); len(at) > 0 {
		t.Errorf("%v is still in the outbox", at)
	}
}

func TestMoveStopsWhereTheQueueIsFull(t *testing.T) {
	r, queue, outbox, ids := outboxRig(t, 2)
	if res := r.move(queue, outbox, 0, ids...); res.Err != nil || res.Number != 2 || res.N != 2 {
		t.Fatalf("%+v", res)
	}
	if res := r.move(queue, outbox, 2, ids[2]); res.Err != cmq.ErrHeapFull || res.Number != 2 || len(r.out.Placed) > 0 {
		t.Fatalf("%+v", res)
	}
	if number, at := r.b.DeadHead(outbox, 10); number != 2 || len(at) != 1 {
		t.Errorf("from %d: %v", number, at)
	}
}

// TestMoveOfWhatHasExpired: nobody keeps the bodies any more, so nothing may refer to them.
func TestMoveOfWhatHasExpired(t *testing.T) {
	r, queue, outbox, ids := outboxRig(t, 0)
	r.one(start, command.Op{Kind: command.Expire, Shard: outbox, Marks: []command.Mark{{Low: 2}}})
	if res := r.move(queue, outbox, 0, ids...); res.Err != nil || res.N != 1 || res.Number != 3 || r.out.Placed[0].Slot != 2 {
		t.Fatalf("%+v, placed %+v", res, r.out.Placed)
	}
}

// TestMoveLeavesWhatIsTooOld: it is the dead-letter queue's.
func TestMoveLeavesWhatIsTooOld(t *testing.T) {
	r, queue, outbox, ids := outboxRig(t, 0)
	a, _, _ := r.b.Attributes(outbox)
	a.DeadLetter = cmq.DeadLetterPolicy{Queue: 8, Policy: cmq.PolicyEither, MaxReceiveCount: 4, MaxTimeToLive: time.Minute}
	r.one(start, command.Op{Kind: command.Set, Shard: outbox, Version: 99, Attributes: a})
	r.one(start, command.Op{Kind: command.Expire, Shard: outbox, Marks: []command.Mark{{Age: 2}}})
	if res := r.move(queue, outbox, 0, ids...); res.Err != nil || res.N != 0 || res.Number != 0 {
		t.Fatalf("%+v", res)
	}
	r.one(start, command.Op{Kind: command.Forget, Shard: outbox, Number: 2})
	if res := r.move(queue, outbox, 2, ids[2]); res.Err != nil || res.N != 1 {
		t.Fatalf("%+v", res)
	}
}

func TestMoveIsRefused(t *testing.T) {
	r, queue, outbox, ids := outboxRig(t, 0)
	other := r.subscribe(3, nil)
	for name, res := range map[string]Result{
		"with a gap":              r.move(queue, outbox, 1, ids[1]),
		"from a queue":            r.move(outbox, queue, 0, ids[0]),
		"from no outbox":          r.move(queue, other, 0, ids[0]),
		"from what is not there":  r.move(queue, 12345, 0, ids[0]),
		"from itself":             r.move(outbox, outbox, 0, ids[0]),
		"from nothing to nothing": r.move(queue, queue, 0),
	} {
		if res.Err != cmq.ErrParameters || res.N > 0 {
			t.Errorf("%s: %+v", name, res)
		}
	}
	if res := r.move(12345, outbox, 0, ids[0]); res.Err != cmq.ErrQueueNotExist {
		t.Errorf("to no queue: %+v", res)
	}
	if _, at := r.b.DeadHead(outbox, 10); len(at) != 3 {
		t.Errorf("%v is in the outbox", at)
	}
}

// spread gives shares of n messages.
func (r topicRig) spread(n int, shares ...cmq.Share) Result {
	r.t.Helper()
	return r.one(start, command.Op{Kind: command.Spread, Bodies: bodies(n), IDs: make([]cmq.MsgID, n), Shares: shares})
}

func TestSharesReferToOneMessage(t *testing.T) {
	r, queue, _, _ := outboxRig(t, 0)
	other := cmq.QueueID(78).Shard(0)
	r.one(start, command.Op{Kind: command.Open, Shard: other, Version: 1, Attributes: cmq.ShardAttributes{VisibilityTimeout: time.Minute, MaxInFlight: 10}})
	res := r.spread(3,
		cmq.Share{Shard: queue, From: 98, Places: []uint16{0, 1, 2}},
		cmq.Share{Shard: other, From: 99, Base: 5, Number: 5, Places: []uint16{0, 2}})
	if fmt.Sprint(res.Errors, res.Numbers) != "[<nil> <nil>] [3 7]" {
		t.Fatalf("%+v", res)
	}
	want := []Placed{{Shard: queue, Slot: 0, N: 3}, {Shard: other, Slot: 0, N: 1}, {Shard: other, Seq: 1, Slot: 2, N: 1}}
	if !slices.Equal(r.out.Placed, want) {
		t.Errorf("placed %+v, want %+v", r.out.Placed, want)
	}
	if a, b := len(r.receive(queue, 16)), len(r.receive(other, 16)); a != 3 || b != 2 {
		t.Errorf("%d and %d messages", a, b)
	}
}

// TestShareIsTakenByItself: one that is repeated, has a gap, finds no room or no queue changes nothing for the others.
func TestShareIsTakenByItself(t *testing.T) {
	r, full, _, _ := outboxRig(t, 2)
	queue := cmq.QueueID(78).Shard(0)
	r.one(start, command.Op{Kind: command.Open, Shard: queue, Version: 1, Attributes: cmq.ShardAttributes{VisibilityTimeout: time.Minute, MaxInFlight: 10}})
	three := []uint16{0, 1, 2}
	for _, step := range []struct {
		name   string
		number uint64
		shares []cmq.Share
		want   string
	}{
		{"room for two", 0, []cmq.Share{{Shard: full, From: 98, Places: three}, {Shard: queue, From: 99, Places: three}}, "[<nil> <nil>] [2 3]"},
		{"no room", 0, []cmq.Share{{Shard: full, From: 98, Number: 2, Places: three[2:]}, {Shard: queue, From: 99, Number: 3, Places: three[:1]}}, "[heap <nil>] [2 4]"},
		{"repeated", 0, []cmq.Share{{Shard: full, From: 98, Places: three[:2]}, {Shard: queue, From: 99, Number: 2, Places: three}}, "[<nil> <nil>] [2 5]"},
		{"a gap and no queue", 0, []cmq.Share{{Shard: queue, From: 99, Number: 6, Places: three}, {Shard: 12345, From: 98, Places: three}, {Shard: queue, From: 97, Places: three}}, "[gap none <nil>] [5 0 3]"},
	} {
		res := r.spread(3, step.shares...)
		names := map[*cmq.Error]string{nil: "<nil>", cmq.ErrHeapFull: "heap", cmq.ErrParameters: "gap", cmq.ErrQueueNotExist: "none"}
		got := []string{}
		for _, err := range res.Errors {
			got = append(got, names[err])
		}
		if s := fmt.Sprint(got, res.Numbers); s != step.want {
			t.Errorf("%s: %s, want %s", step.name, s, step.want)
		}
	}
	if a, b := len(r.receive(full, 16)), len(r.receive(queue, 16)); a != 2 || b != 8 {
		t.Errorf("%d and %d messages", a, b)
	}
}

func TestDeadLettersComeWhetherThereIsRoomOrNot(t *testing.T) {
	r, queue, _, _ := outboxRig(t, 2)
	if res := r.one(start, command.Op{Kind: command.Transfer, Shard: queue, From: 99, Bodies: bodies(3)}); res.Err != nil || res.N != 3 || res.Number != 3 {
		t.Fatalf("%+v", res)
	}
}
