package broker

import (
	"bytes"
	"flag"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/core/command"
	"github.com/opencmq/cmq/internal/core/queue"
	"pgregory.net/rapid"
)

// historiesPerKind is how many random histories each kind of queue gets in every test run.
const historiesPerKind = 250

// TestHistoriesAgreeWithModel plays random histories to the model and to two replicas, one of which is
// restored from images on the way, and compares every answer.
func TestHistoriesAgreeWithModel(t *testing.T) {
	if err := flag.Set("rapid.checks", fmt.Sprint(historiesPerKind)); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []struct {
		name       string
		attributes []*rapid.Generator[cmq.ShardAttributes]
	}{
		{"plain", list(attributes(none))},
		{"rewind", list(attributes(rewind))},
		{"dead by receives", list(attributes(receives))},
		{"dead by age", list(attributes(age), attributes(older))},
		{"dead of either", list(attributes(either), attributes(either, rewind))},
		{"transactions", list(attributes(transactions))},
		{"sessions", list(attributes(none))},
		{"topics", list(attributes(none), attributes(receives))},
		{"dead by age with rewind", list(attributes(age, rewind))},
		{"changing", list(attributes(none), attributes(rewind), attributes(receives), attributes(age, rewind), attributes(older, rewind), attributes(either), attributes(transactions, rewind))},
	} {
		t.Run(kind.name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) { newHistory(t, rapid.OneOf(kind.attributes...)).play() })
		})
	}
}

func list[T any](v ...T) []T { return v }

func none(*cmq.ShardAttributes)     {}
func rewind(a *cmq.ShardAttributes) { a.Rewind = time.Minute }
func transactions(a *cmq.ShardAttributes) {
	a.Transaction = cmq.TransactionPolicy{On: true, FirstQueryInterval: 3 * time.Second, MaxQueryCount: 2}
}
func receives(a *cmq.ShardAttributes) {
	a.DeadLetter = cmq.DeadLetterPolicy{Queue: 8, Policy: cmq.PolicyReceives, MaxReceiveCount: 2}
}

func age(a *cmq.ShardAttributes) {
	a.DeadLetter = cmq.DeadLetterPolicy{Queue: 8, Policy: cmq.PolicyAge, MaxTimeToLive: time.Minute}
}

func either(a *cmq.ShardAttributes) {
	a.DeadLetter = cmq.DeadLetterPolicy{Queue: 8, Policy: cmq.PolicyEither, MaxReceiveCount: 2, MaxTimeToLive: time.Minute}
}

func older(a *cmq.ShardAttributes) {
	age(a)
	a.DeadLetter.MaxTimeToLive = time.Hour
}

func attributes(change ...func(*cmq.ShardAttributes)) *rapid.Generator[cmq.ShardAttributes] {
	return rapid.Custom(func(t *rapid.T) cmq.ShardAttributes {
		a := cmq.ShardAttributes{
			MaxMsgHeapNum:     rapid.SampledFrom([]int64{0, 6, 1000}).Draw(t, "heap"),
			VisibilityTimeout: rapid.SampledFrom([]time.Duration{time.Second, 5 * time.Second}).Draw(t, "lock"),
			MaxInFlight:       rapid.SampledFrom([]int{3, 1000}).Draw(t, "cap"),
		}
		for _, f := range change {
			f(&a)
		}
		return a
	})
}

// history is one random history.
type history struct {
	*rapid.T
	attributes *rapid.Generator[cmq.ShardAttributes]
	m          *model
	a, b       *Broker
	out, outB  Output
	builder    *command.Builder
	now        int64
	handles    []cmq.Handle // ever given out
	prepared   []cmq.MsgID  // ever
	epochs     []uint64     // ever
	lanes      []int64      // ever sent to
	version    uint64

	snapshot *Snapshot // of b, being made
	image    []byte    // what it must give
}

func newHistory(t *rapid.T, a *rapid.Generator[cmq.ShardAttributes]) *history {
	return &history{
		T: t, attributes: a, m: newModel(), builder: command.NewBuilder(), now: 1_000_000,
		a: New(3, Options{Replica: 2}), b: New(3, Options{Replica: 5}), lanes: []int64{0},
	}
}

var shardIDs = []cmq.ShardID{
	cmq.QueueID(1).Shard(0), cmq.QueueID(1).Shard(1), cmq.QueueID(2).Shard(0),
	cmq.SubscriptionID(3).Shard(), cmq.SubscriptionID(4).Shard(), cmq.SubscriptionID(5).Shard(),
}

// topicID has two subscriptions by tags, of which the second forwards, and otherTopic has one by keys.
const (
	topicID    = cmq.TopicID(6)
	otherTopic = cmq.TopicID(7)
)

// subscriber draws what a shard is opened or set with: nil for a queue's, and now and then for any.
func (h *history) subscriber(id cmq.ShardID) *cmq.Subscriber {
	if id.Queue() < 3 || rapid.IntRange(0, 9).Draw(h.T, "no subscriber") == 9 {
		return nil
	}
	s := &cmq.Subscriber{Topic: topicID.Shard(), Filter: cmq.FilterTags, Forward: id == shardIDs[4]}
	s.Tags = rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "c"}), 0, 2).Draw(h.T, "tags")
	if id == shardIDs[5] {
		s.Topic, s.Filter = otherTopic.Shard(), cmq.FilterKeys
		s.Keys = rapid.SliceOfN(rapid.SampledFrom([]string{"#", "a.#", "*.b", "c"}), 0, 2).Draw(h.T, "keys")
	}
	return s
}

func (h *history) play() {
	var first []command.Op
	for i, id := range shardIDs {
		if i == 2 {
			continue // opened on the way, or never
		}
		h.version++
		first = append(first, command.Op{
			Kind: command.Open, Shard: id, Version: h.version, Attributes: h.attributes.Draw(h.T, "attributes"), Subscriber: h.subscriber(id),
		})
	}
	h.step(first)
	for range rapid.IntRange(10, 60).Draw(h.T, "steps") {
		ops := make([]command.Op, rapid.IntRange(1, 4).Draw(h.T, "ops"))
		for i := range ops {
			ops[i] = h.op()
		}
		h.step(ops)
		h.compare()
		h.goOnWithSnapshot()
		if rapid.IntRange(0, 7).Draw(h.T, "restore") == 0 {
			h.restore()
		}
	}
}

// op draws one operation.
func (h *history) op() command.Op {
	op := command.Op{Shard: rapid.SampledFrom([]cmq.ShardID{
		shardIDs[0], shardIDs[0], shardIDs[0], shardIDs[0], shardIDs[1], shardIDs[2], shardIDs[3], shardIDs[3], shardIDs[4], shardIDs[5],
	}).Draw(h.T, "shard")}
	op.Kind = rapid.SampledFrom([]command.Kind{
		command.Send, command.Send, command.Send, command.Receive, command.Receive, command.Receive, command.Receive,
		command.Delete, command.Delete, command.Delete, command.Release, command.Rewind, command.Clear, command.Expire,
		command.Expire, command.Open, command.Set, command.Drop, command.Transfer, command.Forget,
		command.Relock, command.Prepare, command.Prepare, command.Decide, command.Ask,
		command.OpenSession, command.Publish, command.Publish, command.Publish, command.Move, command.Move,
		command.Spread, command.Spread,
	}).Draw(h.T, "kind")
	number := func(name string) uint64 { return rapid.Uint64Range(0, 25).Draw(h.T, name) }
	switch op.Kind {
	case command.Send:
		op.Bodies = bodies(rapid.IntRange(0, 4).Draw(h.T, "n"))
		op.Session = h.session()
		op.Delay = rapid.SampledFrom([]int64{0, 0, -5, 1, 2000, 3000, 61_000, 3_700_000}).Draw(h.T, "delay")
	case command.Receive:
		op.Max = rapid.IntRange(0, 6).Draw(h.T, "max")
		op.Lock = rapid.SampledFrom([]int64{0, 0, 1, 700, 9000}).Draw(h.T, "lock")
	case command.Delete, command.Release:
		op.Handles = h.someHandles()
	case command.OpenSession:
		op.Session.ID = rapid.Uint64Range(1, 3).Draw(h.T, "session")
	case command.Prepare:
		op.Bodies = bodies(rapid.IntRange(0, 4).Draw(h.T, "n"))
		op.Interval = rapid.SampledFrom([]int64{0, 0, 1, 5000}).Draw(h.T, "interval")
		op.Origin = cmq.Origin{Node: 4, Conn: number("conn")}
	case command.Decide:
		for _, id := range h.someIDs() {
			op.Decisions = append(op.Decisions, cmq.Decision{ID: id, Commit: rapid.Bool().Draw(h.T, "commit")})
		}
	case command.Ask:
		op.IDs = h.someIDs()
	case command.Relock:
		op.Handles = h.someHandles()
		op.Lock = rapid.SampledFrom([]int64{-7, 0, 1, 900, 5000, 70_000}).Draw(h.T, "relock")
	case command.Rewind:
		for range rapid.IntRange(0, 2).Draw(h.T, "lanes") {
			op.To = append(op.To, command.LaneSeq{Lane: h.lane(), Seq: number("to")})
		}
	case command.Expire:
		for range rapid.IntRange(0, 2).Draw(h.T, "marks") {
			op.Marks = append(op.Marks, command.Mark{Lane: h.lane(), Low: number("low") / 2, Floor: number("floor"), Age: number("age")})
		}
	case command.Open, command.Set:
		h.version++
		op.Version = h.version - rapid.SampledFrom([]uint64{0, 0, 0, 1}).Draw(h.T, "stale")
		op.Attributes = h.attributes.Draw(h.T, "attributes")
		op.Subscriber = h.subscriber(op.Shard)
	case command.Publish:
		op.Shard = rapid.SampledFrom([]cmq.TopicID{topicID, topicID, otherTopic, 8}).Draw(h.T, "topic").Shard()
		op.Bodies = bodies(rapid.IntRange(0, 3).Draw(h.T, "n"))
		op.Publication.Tags = rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "d"}), 0, 2).Draw(h.T, "message tags")
		op.Publication.RoutingKey = rapid.SampledFrom([]string{"", "a", "a.b", ".b", "c", "d"}).Draw(h.T, "routing key")
	case command.Drop, command.Clear: // rare, or nothing else would ever be seen
		if rapid.IntRange(0, 3).Draw(h.T, "really") > 0 {
			op.Kind = command.Expire
		}
	case command.Transfer:
		op.From = rapid.SampledFrom([]cmq.ShardID{50, 40}).Draw(h.T, "from")
		op.Number = number("number") / 3
		op.Base = number("base") / 6
		op.Bodies = bodies(rapid.IntRange(0, 3).Draw(h.T, "n"))
		op.IDs = make([]cmq.MsgID, len(op.Bodies))
	case command.Spread:
		op.Shard = 0
		op.Bodies = bodies(rapid.IntRange(1, 4).Draw(h.T, "n"))
		op.IDs = make([]cmq.MsgID, len(op.Bodies))
		for range rapid.IntRange(0, 4).Draw(h.T, "shares") {
			op.Shares = append(op.Shares, h.share(len(op.Bodies)))
		}
	case command.Move:
		op.From = rapid.SampledFrom([]cmq.ShardID{shardIDs[4], shardIDs[4], shardIDs[4], shardIDs[3], 99}).Draw(h.T, "from")
		op.Number, _ = h.a.DeadHead(op.From, 1)
		op.Number += rapid.SampledFrom([]uint64{0, 0, 0, 1, 1<<64 - 1}).Draw(h.T, "off")
		for i := range rapid.Uint64Range(0, 4).Draw(h.T, "n") {
			op.IDs, op.Sizes = append(op.IDs, cmq.NewMsgID(3, number("index"), uint16(i))), append(op.Sizes, uint32(number("size")))
		}
	case command.Forget:
		op.Number = number("number")
	}
	return op
}

// share draws one of n messages, mostly numbered as the shard wants it.
func (h *history) share(n int) cmq.Share {
	s := cmq.Share{
		Shard: rapid.SampledFrom(append([]cmq.ShardID{99}, shardIDs...)).Draw(h.T, "of"),
		From:  rapid.SampledFrom([]cmq.ShardID{50, 40}).Draw(h.T, "from"),
		Base:  rapid.Uint64Range(0, 4).Draw(h.T, "base"),
	}
	if to := h.m.shards[s.Shard]; to != nil {
		s.Number = to.arrived[s.From] + rapid.SampledFrom([]uint64{0, 0, 0, 1, 1<<64 - 1}).Draw(h.T, "off")
	}
	for range rapid.IntRange(0, 4).Draw(h.T, "places") {
		s.Places = append(s.Places, uint16(rapid.IntRange(0, n-1).Draw(h.T, "place")))
	}
	return s
}

func (h *history) lane() int64 {
	if rapid.Bool().Draw(h.T, "main") {
		return 0
	}
	return rapid.SampledFrom(h.lanes).Draw(h.T, "lane")
}

func (h *history) someHandles() []cmq.Handle {
	list := []cmq.Handle{0, 1 << 63, cmq.NewHandle(1, 1)}
	list = append(list, h.handles...)
	if len(h.handles) > 3 { // mostly recent ones
		list = append(list, h.handles[len(h.handles)-3:]...)
		list = append(list, h.handles[len(h.handles)-3:]...)
	}
	return rapid.SliceOfN(rapid.SampledFrom(list), 0, 4).Draw(h.T, "handles")
}

// session draws what makes a send one of a session, half of the time.
func (h *history) session() (s cmq.Session) {
	if len(h.epochs) == 0 || rapid.Bool().Draw(h.T, "alone") {
		return s
	}
	numbers := rapid.SampledFrom([]uint64{0, 1, 1, 2, 2, 3, 4, 5, 1023, 1024, 1025, 1026, 3000, 1<<64 - 1})
	return cmq.Session{
		ID: rapid.Uint64Range(1, 3).Draw(h.T, "session"), Epoch: rapid.SampledFrom(h.epochs).Draw(h.T, "epoch"),
		Number: numbers.Draw(h.T, "number"), Acked: rapid.SampledFrom([]uint64{0, 0, 1, 2, 4, 1025}).Draw(h.T, "acked"),
	}
}

func (h *history) someIDs() []cmq.MsgID {
	list := append([]cmq.MsgID{0, 1 << 63}, h.prepared...)
	list = append(list, h.prepared[max(0, len(h.prepared)-4):]...) // mostly recent ones
	return rapid.SliceOfN(rapid.SampledFrom(list), 0, 4).Draw(h.T, "ids")
}

// step applies one batch to all and compares what it gave.
func (h *history) step(ops []command.Op) {
	h.now += rapid.SampledFrom([]int64{0, 0, 1, 100, 999, 1000, 1001, 5000, -400, 60_000, 4_000_000}).Draw(h.T, "later")
	h.builder.Reset(1, h.a.Index()+1)
	var want []Result
	var placed []Placed
	h.m.index = h.a.Index() + 1
	for _, op := range ops {
		first := h.builder.Add(op)
		r, p := h.m.apply(h.now, op, first)
		want, placed = append(want, r), append(placed, p...)
	}
	data := h.builder.Finish(h.now)
	h.applyTo(h.a, data, &h.out)
	h.applyTo(h.b, data, &h.outB)
	h.same("results (-model +broker)", want, h.out.Results)
	h.same("placed (-model +broker)", placed, h.out.Placed)
	h.same("results (-replica +other)", h.out.Results, h.outB.Results)
	h.same("placed (-replica +other)", h.out.Placed, h.outB.Placed)
	for _, r := range h.out.Results {
		if r.Kind == command.OpenSession && r.Err == nil {
			h.epochs = append(h.epochs, r.Number)
		}
		for i := range r.N {
			if r.Kind == command.Prepare {
				h.prepared = append(h.prepared, cmq.NewMsgID(3, h.a.Index(), r.FirstSlot+uint16(i)))
			}
		}
		for _, d := range r.Deliveries {
			h.handles = append(h.handles, d.Handle)
		}
	}
	for _, p := range h.out.Placed {
		h.lanes = append(h.lanes, p.Lane)
	}
}

// same compares lists by their printed form, which is quick, and shows the difference properly.
func (h *history) same(what string, want, got any) {
	if fmt.Sprint(want) != fmt.Sprint(got) {
		h.Fatalf("%s:\n%s", what, cmp.Diff(want, got, cmpopts.EquateEmpty()))
	}
}

func (h *history) applyTo(b *Broker, data []byte, out *Output) {
	batch, err := command.Parse(data)
	if err != nil {
		h.Fatal(err)
	}
	if err := b.Apply(b.Index()+1, batch, out); err != nil {
		h.Fatal(err)
	}
}

// compare asks model and broker everything that can be asked, for a moment now or later.
func (h *history) compare() {
	if h.a.Digest() != h.b.Digest() {
		h.Fatal("digests of the replicas differ")
	}
	if h.a.Sum() != h.b.Sum() {
		h.Fatal("sums of the replicas differ")
	}
	asked := []*Broker{h.a, h.b}[rapid.IntRange(0, 1).Draw(h.T, "asked")]
	now := h.m.time + rapid.SampledFrom([]int64{0, 0, 500, 1000, 10_000, 100_000}).Draw(h.T, "ahead")
	for _, id := range shardIDs {
		s := h.m.shards[id]
		if s == nil != !asked.Has(id) {
			h.Fatalf("shard %d: there in one, not in the other", id)
		}
		if s == nil {
			continue
		}
		st, _ := asked.Status(id, now)
		want := s.status(now)
		if counts(st) != want {
			h.Fatalf("counters %v, model %v", counts(st), want)
		}
		if got := asked.Ready(id, now); got != want[0] {
			h.Fatalf("ready %d, model %d", got, want[0])
		}
		if got := asked.NextWake(id, now); got != s.wake(now) {
			h.Fatalf("wake %d, model %d", got, s.wake(now))
		}
		if got := asked.Dying(id, now); got != s.dying(now) {
			h.Fatalf("dying %v", got)
		}
		h.compareDead(asked, id, s)
		h.compareLanes(asked, id, s)
		h.compareLive(asked, id, s)
		h.compareHeld(asked, id, s)
		h.comparePrepared(asked, id, s, now)
		if got := asked.Subscriber(id); !cmp.Equal(got, s.sub, cmpopts.EquateEmpty()) {
			h.Fatalf("subscriber %+v, model %+v", got, s.sub)
		}
	}
	held := 0
	for _, s := range h.m.shards {
		held += len(s.prepared)
	}
	if asked.Held() != int64(held) {
		h.Fatalf("%d prepared in all, model %d", asked.Held(), held)
	}
}

// compareLive checks that exactly those positions are live of which the model has a message, and that those needed
// begin with the first.
func (h *history) compareLive(asked *Broker, id cmq.ShardID, s *modelShard) {
	type span struct {
		lane   int64
		lo, hi uint64
	}
	var want, got []span
	s.each(func(m *message) {
		if n := len(want) - 1; n >= 0 && want[n].lane == m.lane && want[n].hi == m.seq {
			want[n].hi++
		} else {
			want = append(want, span{m.lane, m.seq, m.seq + 1})
		}
	})
	first := map[int64]uint64{}
	asked.shards[id].Live(func(lane int64, lo, hi uint64) bool {
		got = append(got, span{lane, lo, hi})
		if _, ok := first[lane]; !ok {
			first[lane] = lo
		}
		return true
	})
	h.same("live (-model +broker)", want, got)
	asked.shards[id].Needed(func(lane int64, from uint64) bool {
		if lo, ok := first[lane]; ok && lo < from {
			h.Fatalf("needed from %d, but %d of lane %d is live", from, lo, lane)
		}
		delete(first, lane)
		return true
	})
	if len(first) > 0 {
		h.Fatalf("lanes with live messages are not needed: %v", first)
	}
}

func (h *history) comparePrepared(asked *Broker, id cmq.ShardID, s *modelShard, now int64) {
	var after cmq.MsgID
	if n := len(s.prepared); n > 0 {
		after = s.prepared[rapid.IntRange(0, n-1).Draw(h.T, "after")].id - cmq.MsgID(rapid.IntRange(0, 1).Draw(h.T, "from it"))
	}
	limit, only := rapid.IntRange(1, 5).Draw(h.T, "listed"), rapid.Bool().Draw(h.T, "only undecided")
	h.same("list (-model +broker)", s.list(now, after, only, limit), asked.ListPrepared(id, now, after, only, limit))
	all, undecided := asked.Prepared(id, now)
	if all != int64(len(s.prepared)) || undecided != s.undecided(now) {
		h.Fatalf("%d prepared, %d undecided, model %d, %d", all, undecided, len(s.prepared), s.undecided(now))
	}
	var due []cmq.MsgID
	asked.Asks(id, now, func(id cmq.MsgID, _ cmq.Origin) bool {
		due = append(due, id)
		return true
	})
	h.same("due for a query (-model +broker)", s.due(now), due)
	if at, want := asked.NextAsk(id), s.next(false, 0); at != want {
		h.Fatalf("next query at %d, model %d", at, want)
	}
	if at, want := asked.NextUndecided(id, now), s.next(true, now); at != want {
		h.Fatalf("next end of waiting at %d, model %d", at, want)
	}
	var held, want []cmq.MsgID
	asked.shards[id].Held(func(id cmq.MsgID, bytes uint32) bool {
		held = append(held, id, cmq.MsgID(bytes))
		return true
	})
	for _, m := range s.prepared {
		want = append(want, m.id, cmq.MsgID(m.bytes))
	}
	h.same("held (-model +broker)", want, held)
}

func (h *history) compareHeld(asked *Broker, id cmq.ShardID, s *modelShard) {
	held := map[cmq.Handle]bool{}
	s.each(func(m *message) { held[m.handle] = held[m.handle] || m.state == locked })
	for _, handle := range h.handles {
		if got := asked.Holds(id, handle); got != held[handle] {
			h.Fatalf("handle %d held: %v", handle, got)
		}
	}
}

// goOnWithSnapshot begins a snapshot now and then, and takes steps of it between the batches.
func (h *history) goOnWithSnapshot() {
	if h.snapshot == nil {
		if rapid.IntRange(0, 3).Draw(h.T, "snapshot") > 0 {
			return
		}
		h.snapshot, h.image = h.b.Snapshot(), h.b.Encode()
		h.snapshot.heavy = rapid.SampledFrom([]int{-1, 3, heavy}).Draw(h.T, "heavy")
	}
	if h.snapshot.Step(rapid.SampledFrom([]int{0, 0, 1, 1 << 20}).Draw(h.T, "limit")) {
		h.compareSnapshot()
		h.snapshot = nil
	}
}

func (h *history) compareSnapshot() {
	parts := h.snapshot.Parts()
	if !bytes.Equal(bytes.Join(parts, nil), h.image) {
		h.Fatal("the snapshot is not the image of the moment it was begun")
	}
	want, err := Decode(3, h.image, Options{})
	if err != nil {
		h.Fatal(err)
	}
	var last cmq.ShardID
	n := 0
	err = WalkImage(3, parts, func(id cmq.ShardID, s *queue.Shard) error {
		if id <= last || !bytes.Equal(s.AppendImage(nil), want.shards[id].AppendImage(nil)) {
			return fmt.Errorf("shard %d", id)
		}
		last = id
		n++
		return nil
	})
	if err != nil || n != len(want.shards) {
		h.Fatalf("walked over %d shards of %d: %v", n, len(want.shards), err)
	}
}

func (h *history) compareDead(asked *Broker, id cmq.ShardID, s *modelShard) {
	limit := rapid.IntRange(1, 5).Draw(h.T, "limit")
	number, at := asked.DeadHead(id, limit)
	wantNumber, want := s.deadHead(limit)
	if h.same("dead (-model +broker)", want, at); number != wantNumber {
		h.Fatalf("dead from %d, model %d", number, wantNumber)
	}
	listed := false
	asked.WithDead(func(with cmq.ShardID) bool {
		listed = listed || with == id
		return true
	})
	if listed != (len(at) > 0) {
		h.Fatalf("shard %d among those with dead messages: %v", id, listed)
	}
}

func (h *history) compareLanes(asked *Broker, id cmq.ShardID, s *modelShard) {
	seen := map[int64]bool{}
	last := int64(-1)
	asked.Lanes(id, func(l LaneInfo) bool {
		if seen[l.Lane] = true; l.Lane <= last || !s.inUse(l.Lane) {
			h.Fatalf("lane %d after %d", l.Lane, last)
		}
		last = l.Lane
		oldest, needed := s.extent(l.Lane)
		if l.Oldest != oldest || l.Needed != needed || l.Cursor != s.cursor(l.Lane) || l.Tail != s.lanes[l.Lane].tail {
			h.Fatalf("%+v, model %+v, oldest %d, needed %d", l, s.lanes[l.Lane], oldest, needed)
		}
		return true
	})
	for lane := range s.lanes {
		if s.inUse(lane) != seen[lane] {
			h.Fatalf("lane %d seen: %v", lane, seen[lane])
		}
	}
}

// restore replaces one replica by its image.
func (h *history) restore() {
	image := h.b.Encode()
	b, err := Decode(3, image, Options{Replica: 7})
	if err != nil {
		h.Fatal(err)
	}
	if !bytes.Equal(b.Encode(), image) {
		h.Fatal("the image changes by decoding and encoding")
	}
	h.b, h.snapshot = b, nil
}
