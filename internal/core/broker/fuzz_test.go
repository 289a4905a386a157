package broker

import (
	"bytes"
	"encoding/binary"
	"testing"
	"time"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/core/command"
)

// dice makes operations out of bytes, with numbers small and extreme.
type dice struct{ data []byte }

func (d *dice) roll(n int) int {
	if len(d.data) == 0 {
		return 0
	}
	v := int(d.data[0]) % n
	d.data = d.data[1:]
	return v
}

func (d *dice) number() uint64 {
	switch v := d.roll(256); {
	case v < 200:
		return uint64(v % 32)
	case v < 220:
		return uint64(start) + uint64(v-200)*1000
	case v < 240 && len(d.data) >= 8:
		v := binary.LittleEndian.Uint64(d.data)
		d.data = d.data[8:]
		return v
	default:
		return 1<<63 - 5 + uint64(v-240)
	}
}

func (d *dice) op() command.Op {
	op := command.Op{
		Kind: command.Kind(1 + d.roll(20)), Shard: cmq.ShardID(d.roll(5)),
		Version: d.number(), Number: d.number(), From: cmq.ShardID(d.roll(2)), Base: d.number(),
		Delay: int64(d.number()), Lock: int64(d.number()), Max: int(d.number()), Interval: int64(d.number()),
		Session: cmq.Session{ID: uint64(d.roll(3)), Epoch: d.number(), Number: d.number(), Acked: d.number()},
	}
	for range d.roll(4) {
		op.Bodies = append(op.Bodies, []byte{1})
		op.Handles = append(op.Handles, cmq.Handle(d.number()))
		op.To = append(op.To, command.LaneSeq{Lane: int64(d.number()), Seq: d.number()})
		op.IDs = append(op.IDs, cmq.NewMsgID(1, d.number(), uint16(d.roll(3))))
		op.Sizes = append(op.Sizes, uint32(d.number()))
		op.Decisions = append(op.Decisions, cmq.Decision{ID: cmq.NewMsgID(1, d.number(), uint16(d.roll(3))), Commit: d.roll(2) == 0})
		op.Marks = append(op.Marks, command.Mark{Lane: int64(d.number()), Low: d.number(), Floor: d.number(), Age: d.number()})
	}
	op.Attributes = cmq.ShardAttributes{
		MaxMsgHeapNum: int64(d.number()), VisibilityTimeout: time.Duration(d.number()), Rewind: time.Duration(d.number()),
		MaxInFlight: d.roll(20) - 3,
		Transaction: cmq.TransactionPolicy{On: d.roll(4) > 0, FirstQueryInterval: time.Duration(d.number()), MaxQueryCount: d.roll(5) - 1},
		DeadLetter: cmq.DeadLetterPolicy{
			Queue: cmq.QueueID(d.roll(2)), Policy: d.roll(3), MaxReceiveCount: d.roll(4), MaxTimeToLive: time.Duration(d.number()),
		},
	}
	if op.Publication = (cmq.Publication{Tags: d.tags(), RoutingKey: d.key()}); d.roll(3) == 2 {
		op.Subscriber = &cmq.Subscriber{
			Topic: cmq.ShardID(d.roll(5)), Filter: cmq.FilterType(d.roll(4)), Tags: d.tags(), Keys: []string{d.key()}, Forward: d.roll(2) == 1,
		}
	}
	if op.Kind == command.Spread && len(op.Bodies) > 0 {
		for range d.roll(4) {
			share := cmq.Share{Shard: cmq.ShardID(d.roll(5)), From: cmq.ShardID(d.roll(2)), Base: d.number(), Number: d.number()}
			for range d.roll(4) {
				share.Places = append(share.Places, uint16(d.roll(len(op.Bodies))))
			}
			op.Shares = append(op.Shares, share)
		}
	}
	return op
}

func (d *dice) tags() (tags []string) {
	for range d.roll(3) {
		tags = append(tags, string(rune('a'+d.roll(3))))
	}
	return tags
}

func (d *dice) key() string { return []string{"", "#", "a", "a.b", "*.b", "#.b.#"}[d.roll(6)] }

// ask asks everything and fails on counters that cannot be.
func ask(t *testing.T, b *Broker) {
	b.Shards(func(id cmq.ShardID) bool {
		for _, now := range []int64{0, b.Time(), b.Time() + 30_000, 1<<63 - 1} {
			st, _ := b.Status(id, now)
			for _, n := range counts(st) {
				if n < 0 {
					t.Fatalf("%+v", st)
				}
			}
			b.Ready(id, now)
			b.NextWake(id, now)
			b.Dying(id, now)
			b.NextUndecided(id, now)
			if all, undecided := b.Prepared(id, now); undecided > all {
				t.Fatalf("%d of %d undecided", undecided, all)
			}
		}
		b.Lanes(id, func(l LaneInfo) bool {
			if l.Low > l.Floor || l.Floor > l.Cursor || l.Cursor > l.Tail || l.Needed > l.Oldest || l.Needed < l.Low {
				t.Fatalf("%+v", l)
			}
			b.Lane(id, l.Lane)
			return true
		})
		b.DeadHead(id, 10)
		return true
	})
}

func play(t *testing.T, b *Broker, d *dice, steps int) {
	builder := command.NewBuilder()
	var out Output
	now := b.Time()
	for i := 0; i < steps && len(d.data) > 0; i++ {
		builder.Reset(1, 1)
		for range 1 + d.roll(3) {
			builder.Add(d.op())
		}
		if now += int64(d.roll(40) * 300); d.roll(50) == 49 {
			now = int64(d.number())
		}
		batch, err := command.Parse(builder.Finish(now))
		if err != nil {
			return // attributes no door lets through
		}
		if err := b.Apply(b.Index()+1, batch, &out); err != nil {
			t.Fatal(err)
		}
	}
}

// FuzzApply plays arbitrary operations: nothing may panic, and the image must round-trip.
func FuzzApply(f *testing.F) {
	for i := range 20 {
		seed := make([]byte, 900)
		for k := range seed {
			seed[k] = byte((k*k*7 + i*31 + k*(i+3)) >> (i % 3))
		}
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		b := New(1, Options{})
		d := &dice{data}
		for len(d.data) > 0 {
			play(t, b, d, 5)
			ask(t, b)
			image := b.Encode()
			restored, err := Decode(1, image, Options{})
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(restored.Encode(), image) {
				t.Fatal("the image changed")
			}
			b = restored
		}
	})
}

// FuzzDecode reads arbitrary images: what is accepted must be usable.
func FuzzDecode(f *testing.F) {
	for i := range 8 {
		seed := make([]byte, 2000)
		for k := range seed {
			seed[k] = byte((k*k*5 + i*77 + k*(i+1)) >> (i % 3))
		}
		b := New(1, Options{})
		play(&testing.T{}, b, &dice{seed}, 30)
		f.Add(b.Encode(), seed)
	}
	f.Fuzz(func(t *testing.T, image, ops []byte) {
		b, err := Decode(1, image, Options{})
		if err != nil {
			return
		}
		ask(t, b)
		again, err := Decode(1, b.Encode(), Options{})
		if err != nil || again.Digest() != b.Digest() {
			t.Fatalf("not the same after a second round: %v", err)
		}
		play(t, b, &dice{ops}, 20)
		ask(t, b)
	})
}
