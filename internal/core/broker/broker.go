package broker

import (
	"fmt"
	"slices"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/core/command"
	"github.com/opencmq/cmq/internal/core/queue"
	"github.com/opencmq/cmq/internal/mutant"
	"github.com/tidwall/btree"
)

// Options are what a replica knows of itself. They may not change the state: that is the same everywhere.
type Options struct {
	Replica uint64 // number of the replica; only the mutant ApplyOrder asks for it
}

// Broker is the replicated state of one data set.
//
// Invariant: index and time never go back; a shard id is in at most one of shards and dropped.
type Broker struct {
	set     cmq.SetID
	options Options
	index   uint64 // of the last batch
	time    int64  // cluster time of the last batch, Unix milliseconds
	sum     uint64 // of everything applied

	shards  map[cmq.ShardID]*shard        // for finding
	order   btree.Set[cmq.ShardID]        // the same, for walking
	dropped btree.Set[cmq.ShardID]        // a late Open must not bring one back
	topics  map[cmq.ShardID]subscriptions // subscriptions by topic; follows from shards
	dead    btree.Set[cmq.ShardID]        // shards with messages for a dead-letter queue or to be forwarded; follows from shards
	held    int64                         // prepared messages in all shards; follows from shards

	warm   [warmShards]cmq.ShardID // shards that keep memory to be faster; 0: none
	warmed int                     // place of the next one

	snapshot  *Snapshot  // being made; nil: none
	snapshots uint64     // how many were begun
	op        command.Op // reused
	sizes     []uint32   // reused
}

type shard struct {
	queue.Shard
	version  uint64      // of the attributes
	sub      *subscriber // nil: it is a queue's
	arrivals *[]arrival  // by from; nil: none
	touched  uint64      // index of the last batch that listed it in Output.Touched
	warm     bool        // it is in Broker.warm
	saved    uint64      // number of the last snapshot that has it; that of the newest for shards made since
}

// New makes the empty state of a set.
func New(set cmq.SetID, o Options) *Broker {
	return &Broker{set: set, options: o, shards: make(map[cmq.ShardID]*shard), topics: make(map[cmq.ShardID]subscriptions)}
}

// Index is the raft index of the last batch applied.
func (b *Broker) Index() uint64 { return b.index }

// Time is the cluster time of the last batch applied, in Unix milliseconds.
func (b *Broker) Time() int64 { return b.time }

// Apply carries out the operations of the batch at this raft index. An error means that this program cannot
// apply the log: the replica must stop, because going on without the batch would make it differ from the others.
func (b *Broker) Apply(index uint64, batch command.Batch, out *Output) error {
	if index <= b.index {
		return fmt.Errorf("BUG: batch %d applied after batch %d", index, b.index)
	}
	out.reset()
	b.index, b.time = index, max(b.time, batch.Time)
	if mutant.On(mutant.ApplyOrder) && b.options.Replica%2 == 1 {
		return b.applyBackwards(batch, out)
	}
	it := batch.Ops()
	for it.Next(&b.op) {
		if err := b.apply(&batch, &b.op, out); err != nil {
			return err
		}
	}
	b.addUp(out)
	return nil
}

// applyBackwards is the mutant ApplyOrder: the last operation comes first.
func (b *Broker) applyBackwards(batch command.Batch, out *Output) error {
	var ops []command.Op
	it := batch.Ops()
	for op := (command.Op{}); it.Next(&op); op = (command.Op{}) {
		ops = append(ops, op)
	}
	for i := len(ops) - 1; i >= 0; i-- {
		if err := b.apply(&batch, &ops[i], out); err != nil {
			return err
		}
	}
	slices.Reverse(out.Results)
	b.addUp(out)
	return nil
}

// apply carries out one operation and appends its result.
func (b *Broker) apply(batch *command.Batch, op *command.Op, out *Output) error {
	out.Results = append(out.Results, Result{Kind: op.Kind, Shard: op.Shard})
	r := &out.Results[len(out.Results)-1]
	switch op.Kind {
	case command.Open:
		b.open(op)
	case command.Drop:
		b.drop(op.Shard, out)
		return nil
	case command.Publish:
		b.publish(op, r, out)
		return nil
	case command.Spread:
		b.spread(op, r, out)
		return nil
	}
	s := b.shards[op.Shard]
	if s == nil {
		r.Err = cmq.ErrQueueNotExist
		return nil
	}
	known := true
	b.touch(op.Shard, s, out, func() { known = b.change(s, batch, op, r, out) })
	if !known {
		return fmt.Errorf("BUG: batch %d has an operation of unknown kind %d", b.index, op.Kind)
	}
	return nil
}

// touch lets change change the shard, with all that has to come before and after.
func (b *Broker) touch(id cmq.ShardID, s *shard, out *Output, change func()) {
	b.save(id, s)
	hadDead := s.Dead() > 0
	if s.touched != b.index {
		s.touched = b.index
		out.Touched = append(out.Touched, id)
		s.Settle(b.time)
	}
	held := s.HeldCount()
	change()
	if hasDead := s.Dead() > 0; hasDead != hadDead {
		b.list(id, hasDead)
	}
	b.held += s.HeldCount() - held
}

// warmShards is how many shards keep the memory of their last use. A shard that is used again and again must not
// allocate anew each time its last message is deleted; a hundred thousand idle ones must not hold anything.
const warmShards = 64

// warmUp lets the shard keep its memory, and the one that has done so for longest not.
func (b *Broker) warmUp(id cmq.ShardID, s *shard) {
	if s.warm || !s.Warm() {
		return
	}
	if old := b.shards[b.warm[b.warmed]]; old != nil {
		old.warm = false
		old.Rest()
	}
	b.warm[b.warmed], s.warm = id, true
	b.warmed = (b.warmed + 1) % warmShards
}

// list keeps the set of shards with dead messages.
func (b *Broker) list(id cmq.ShardID, dead bool) {
	if dead {
		b.dead.Insert(id)
	} else {
		b.dead.Delete(id)
	}
}

// change carries out an operation on a shard that is there; false if the kind is not known.
func (b *Broker) change(s *shard, batch *command.Batch, op *command.Op, r *Result, out *Output) bool {
	switch op.Kind {
	case command.Open: // done
	case command.Send:
		b.send(s, op, r, out)
	case command.Receive:
		at := len(out.deliveries)
		out.deliveries, r.Err = s.Receive(b.time, op.Max, op.Lock, out.deliveries)
		r.Deliveries = out.deliveries[at:len(out.deliveries):len(out.deliveries)]
	case command.Delete, command.Release, command.Relock:
		b.settle(s, op, r, out)
	case command.Rewind:
		r.Err = s.Rewind(op.To)
	case command.Clear:
		s.Clear()
		out.Cleared = append(out.Cleared, op.Shard)
	case command.Expire:
		s.Expire(op.Marks)
	case command.Set:
		if op.Version > s.version {
			s.version = op.Version
			s.adjust(op)
		}
	case command.Transfer:
		b.transfer(s, op, r, out)
	case command.Move:
		b.move(s, op, r, out)
	case command.Forget:
		s.Forget(op.Number)
	case command.OpenSession:
		r.Number = s.OpenSession(op.Session.ID)
	case command.Prepare:
		b.prepare(s, batch, op, r)
	case command.Decide:
		b.decide(s, op, r, out)
	case command.Ask:
		at := len(out.queries)
		out.queries = s.Ask(b.time, op.IDs, out.queries)
		r.Queries = out.queries[at:len(out.queries):len(out.queries)]
	default:
		return false
	}
	return true
}

func (b *Broker) send(s *shard, op *command.Op, r *Result, out *Output) {
	if op.Session.ID != 0 && b.repeated(s, op, r) {
		return
	}
	lane, seq, err := s.Send(b.time, op.Delay, op.N)
	if err != nil {
		r.Err = err
		return
	}
	if op.Session.ID != 0 {
		s.Answer(op.Session, queue.Sent{Index: b.index, Slot: op.First, N: op.N})
	}
	r.FirstSlot, r.N = op.First, op.N
	out.place(op.Shard, lane, seq, op.First, op.N)
}

// repeated answers a send of a session that was carried out before, or of which that is not known.
func (b *Broker) repeated(s *shard, op *command.Op, r *Result) bool {
	answer, known, err := s.Answered(op.Session)
	r.Err = err
	r.Index, r.FirstSlot, r.N = answer.Index, answer.Slot, answer.N
	return known || err != nil
}

// settle carries out Delete, Release and Relock: each handle has its own answer.
func (b *Broker) settle(s *shard, op *command.Op, r *Result, out *Output) {
	at := len(out.errors)
	for _, h := range op.Handles {
		err := (*cmq.Error)(nil)
		switch op.Kind {
		case command.Delete:
			err = s.Delete(h)
		case command.Release:
			err = s.Release(h)
		default:
			err = s.Relock(b.time, op.Lock, h)
		}
		out.errors = append(out.errors, err)
	}
	r.Errors = out.errors[at:len(out.errors):len(out.errors)]
}

// prepare stores messages that are not sent yet. Their bodies are those of a send; what a decision needs of them is kept
// in the state, because they have no positions.
func (b *Broker) prepare(s *shard, batch *command.Batch, op *command.Op, r *Result) {
	b.sizes = b.sizes[:0]
	for i := range op.N {
		b.sizes = append(b.sizes, batch.BodyBytes(op.First+uint16(i), 1))
	}
	if r.Err = s.Prepare(b.time, cmq.NewMsgID(b.set, b.index, op.First), b.sizes, op.Interval, op.Origin); r.Err == nil {
		r.FirstSlot, r.N = op.First, op.N
	}
}

// decide commits and rolls back: each message has its own answer, and a committed one is placed where it was stored.
func (b *Broker) decide(s *shard, op *command.Op, r *Result, out *Output) {
	at := len(out.errors)
	for _, d := range op.Decisions {
		seq, bytes, err := s.Decide(d.ID, d.Commit)
		if err == nil && d.Commit {
			out.Placed = append(out.Placed, Placed{
				Shard: op.Shard, Seq: seq, Index: d.ID.Index(), Slot: d.ID.Slot(), N: 1, Bytes: bytes,
			})
		}
		out.errors = append(out.errors, err)
	}
	r.Errors = out.errors[at:len(out.errors):len(out.errors)]
}

// open makes a shard, unless it is there or has been.
func (b *Broker) open(op *command.Op) {
	if b.shards[op.Shard] != nil || b.dropped.Contains(op.Shard) {
		return
	}
	b.insert(op.Shard, &shard{
		Shard: queue.New(op.Shard.Ordinal(), op.Attributes), version: op.Version, sub: newSubscriber(op.Subscriber), saved: b.snapshots,
	})
}

// insert puts a shard where it can be found.
func (b *Broker) insert(id cmq.ShardID, s *shard) {
	b.shards[id] = s
	b.order.Insert(id)
	b.subscribe(id, s)
}

// adjust changes the attributes, and what a subscription asks for.
func (s *shard) adjust(op *command.Op) {
	s.change(op.Subscriber)
	if s.forwards() {
		s.Adjust(op.Attributes)
	} else {
		s.Set(op.Attributes)
	}
}

// drop ends a shard, and the id for good, even if the shard never was.
func (b *Broker) drop(id cmq.ShardID, out *Output) {
	b.dropped.Insert(id)
	s := b.shards[id]
	if s == nil {
		return
	}
	b.save(id, s)
	b.held -= s.HeldCount()
	delete(b.shards, id)
	b.unsubscribe(id, s)
	b.order.Delete(id)
	b.dead.Delete(id)
	out.Dropped = append(out.Dropped, id)
}
