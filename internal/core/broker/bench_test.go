package broker

import (
	"testing"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/core/command"
)

// BenchmarkLife is one message's whole life in apply, parsing included: sent, received, deleted, with 100,000
// others in flight. Batches hold 100 sends, 10 receives of 10 and 100 deletes, each an operation of its own.
func BenchmarkLife(b *testing.B) {
	benchmarkLife(b, 100_000)
}

// BenchmarkLifeAlone is the same with nothing else in flight.
func BenchmarkLifeAlone(b *testing.B) {
	benchmarkLife(b, 0)
}

func benchmarkLife(b *testing.B, inFlight int) {
	r := newRig(b)
	id := cmq.QueueID(1).Shard(0)
	q := cmq.DefaultQueueAttributes()
	r.one(start, command.Op{Kind: command.Open, Shard: id, Version: 1, Attributes: q.ShardAttributes()})
	for i := 0; i < inFlight; i += 1000 {
		r.apply(start, command.Op{Kind: command.Send, Shard: id, Bodies: bodies(1000)},
			command.Op{Kind: command.Receive, Shard: id, Max: 1000})
	}
	counter := uint64(1) // of the next delivery to delete
	var batches [][]byte
	refill := func() {
		for range 1000 {
			batches = append(batches, lives(r.builder, id, counter))
			counter += livesPerBatch
		}
	}
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		if len(batches) == 0 {
			b.StopTimer()
			refill()
			b.StartTimer()
		}
		batch, err := command.Parse(batches[0])
		if err != nil {
			b.Fatal(err)
		}
		batches = batches[1:]
		if err := r.b.Apply(r.b.Index()+1, batch, &r.out); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	if st, _ := r.b.Status(id, r.b.Time()); st.Active != 0 || st.Inactive != int64(inFlight) {
		b.Fatalf("%+v", st)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*livesPerBatch), "ns/message")
}

const livesPerBatch = 100

// lives makes a batch of sends, receives in tens, and deletes of the deliveries from counter on. Bodies do not
// matter to apply, so they are short.
func lives(builder *command.Builder, id cmq.ShardID, counter uint64) []byte {
	builder.Reset(1, 1)
	for range livesPerBatch {
		builder.Add(command.Op{Kind: command.Send, Shard: id, Bodies: [][]byte{{1}}})
	}
	for range livesPerBatch / 10 {
		builder.Add(command.Op{Kind: command.Receive, Shard: id, Max: 10})
	}
	for i := range uint64(livesPerBatch) {
		h := cmq.NewHandle(id.Ordinal(), counter+i)
		builder.Add(command.Op{Kind: command.Delete, Shard: id, Handles: []cmq.Handle{h}})
	}
	return builder.Finish(start + int64(counter/1000))
}

// BenchmarkBuild is the leader's side: one batch of 480 messages of 1 KiB.
func BenchmarkBuild(b *testing.B) {
	builder, body := command.NewBuilder(), [][]byte{make([]byte, 1024)}
	b.ReportAllocs()
	for b.Loop() {
		builder.Reset(1, 1)
		for range 480 {
			builder.Add(command.Op{Kind: command.Send, Shard: 1, Bodies: body})
		}
		b.SetBytes(int64(len(builder.Finish(start))))
	}
}

// BenchmarkDigest is the fingerprint of a shard with 100,000 messages in flight.
func BenchmarkDigest(b *testing.B) {
	r := newRig(b)
	id := cmq.QueueID(1).Shard(0)
	q := cmq.DefaultQueueAttributes()
	r.one(start, command.Op{Kind: command.Open, Shard: id, Version: 1, Attributes: q.ShardAttributes()})
	for range 100 {
		r.apply(start, command.Op{Kind: command.Send, Shard: id, Bodies: bodies(1000)},
			command.Op{Kind: command.Receive, Shard: id, Max: 1000})
	}
	b.ReportAllocs()
	for b.Loop() {
		r.b.Digest()
	}
}
