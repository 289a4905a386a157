package broker

import (
	"bytes"
	"testing"
	"time"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/core/command"
	"github.com/opencmq/cmq/internal/core/queue"
)

// busy is a rig with two shards that list thousands of things and a few small ones.
func busy(t *testing.T) *rig {
	r := newRig(t)
	now := int64(1_000_000)
	for q := range cmq.QueueID(20) {
		a := cmq.ShardAttributes{VisibilityTimeout: time.Minute, Rewind: time.Hour}
		r.one(now, command.Op{Kind: command.Open, Shard: (q + 1).Shard(0), Version: 1, Attributes: a})
		r.one(now, command.Op{Kind: command.Send, Shard: (q + 1).Shard(0), Bodies: bodies(100)})
	}
	for i := range int64(3 * heavy) {
		r.one(now, command.Op{Kind: command.Send, Shard: heavyShards[0], Bodies: bodies(2), Delay: 1 + i})
		r.one(now, command.Op{Kind: command.Send, Shard: heavyShards[1], Bodies: bodies(1)})
		r.one(now, command.Op{Kind: command.Receive, Shard: heavyShards[1], Max: 1})
	}
	return r
}

var heavyShards = []cmq.ShardID{cmq.QueueID(3).Shard(0), cmq.QueueID(9).Shard(0)}

// churn changes all shards in many ways, and time passes.
func churn(r *rig, rounds int64) {
	var handles []cmq.Handle
	for i := range rounds {
		now := r.b.Time() + 100
		for q := range cmq.QueueID(20) {
			r.apply(now,
				command.Op{Kind: command.Send, Shard: (q + 1).Shard(0), Bodies: bodies(3), Delay: i % 5 * 700},
				command.Op{Kind: command.Delete, Shard: (q + 1).Shard(0), Handles: handles},
				command.Op{Kind: command.Receive, Shard: (q + 1).Shard(0), Max: 5})
			handles = handles[:0]
			for _, d := range r.out.Results[2].Deliveries {
				handles = append(handles, d.Handle)
			}
		}
	}
	r.one(r.b.Time(), command.Op{Kind: command.Drop, Shard: heavyShards[0]})
	r.one(r.b.Time(), command.Op{Kind: command.Open, Shard: cmq.QueueID(100).Shard(0)})
	r.one(r.b.Time(), command.Op{Kind: command.Clear, Shard: heavyShards[1]})
}

func TestSnapshotIsWrittenBesideApply(t *testing.T) {
	r := busy(t)
	for _, before := range []bool{false, true} { // Parts while shards change that were frozen in their turn, or before it
		want := r.b.Encode()
		s := r.b.Snapshot()
		if before {
			churn(r, 3)
		}
		for steps := 0; !s.Step(1 << 10); steps++ {
			if steps > 1000 {
				t.Fatal("the snapshot is never done")
			}
		}
		parts := make(chan [][]byte)
		go func() { parts <- s.Parts() }()
		churn(r, 30)
		if got := bytes.Join(<-parts, nil); !bytes.Equal(got, want) {
			t.Fatal("the image is not that of the moment of the snapshot")
		}
	}
}

func TestWalkImageFindsDamage(t *testing.T) {
	r := busy(t)
	s := r.b.Snapshot()
	s.Step(1 << 30)
	parts := s.Parts()
	visit := func(cmq.ShardID, *queue.Shard) error { return nil }
	if err := WalkImage(7, parts, visit); err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string][][]byte{
		"nothing":         nil,
		"part missing":    parts[:len(parts)-1],
		"part twice":      append(parts[:len(parts):len(parts)], parts[len(parts)-1]),
		"part cut off":    append(parts[:1:1], parts[1][:len(parts[1])/2]),
		"byte at the end": append(parts[:len(parts)-1:len(parts)-1], append(bytes.Clone(parts[len(parts)-1]), 0)),
	} {
		if err := WalkImage(7, bad, visit); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if err := WalkImage(8, parts, visit); err == nil {
		t.Error("the image of another set is taken")
	}
}

// TestSumTellsHistoriesApart: what differs in an answer only, or in the state only, shows.
func TestSumTellsHistoriesApart(t *testing.T) {
	id := heavyShards[0]
	sums := map[uint64]string{}
	for name, op := range map[string]command.Op{
		"nothing":     {Kind: command.Expire, Shard: id},
		"other queue": {Kind: command.Expire, Shard: heavyShards[1]},
		"received":    {Kind: command.Receive, Shard: id, Max: 1},
		"longer lock": {Kind: command.Receive, Shard: id, Max: 1, Lock: 7},
		"sent":        {Kind: command.Send, Shard: id, Bodies: bodies(1)},
		"delayed":     {Kind: command.Send, Shard: id, Bodies: bodies(1), Delay: 5},
		"refused":     {Kind: command.Delete, Shard: id, Handles: []cmq.Handle{1}},
		"cleared":     {Kind: command.Clear, Shard: id},
		"expired":     {Kind: command.Expire, Shard: id, Marks: []command.Mark{{Low: 1}}},
	} {
		r := newRig(t)
		r.one(1000, command.Op{Kind: command.Open, Shard: id})
		r.one(1000, command.Op{Kind: command.Send, Shard: id, Bodies: bodies(2)})
		r.one(1000, op)
		restored, err := Decode(7, r.b.Encode(), Options{})
		if err != nil || restored.Sum() != r.b.Sum() {
			t.Fatalf("%s: the sum is not restored: %v", name, err)
		}
		if other, ok := sums[r.b.Sum()]; ok {
			t.Errorf("%s and %s have the same sum", name, other)
		}
		sums[r.b.Sum()] = name
	}
}
