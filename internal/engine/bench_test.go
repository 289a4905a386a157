package engine

import (
	"log/slog"
	"math/rand/v2"
	"testing"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/core/command"
	"github.com/opencmq/cmq/internal/set"
	"github.com/opencmq/cmq/internal/store"
	"github.com/opencmq/cmq/internal/store/segment"
	"github.com/opencmq/cmq/internal/vfs"
)

// mill is a Service whose loop runs everything at once, and whose entries are applied when the benchmark says so.
type mill struct {
	m     *Machine
	s     *Service
	index uint64
	log   map[uint64][]byte
}

func newMill() *mill {
	w := &mill{index: 2, log: make(map[uint64][]byte)}
	w.m = New(Config{
		Set: 3, Node: 1, Logger: slog.New(slog.DiscardHandler), FS: vfs.NewDisk(rand.New(rand.NewPCG(1, 2))).Mount(),
		Messages: func(refs []store.Ref, got func(int, store.Message, error)) {
			for i, ref := range refs {
				st, err := command.ReadSlot(segment.Data(w.log[ref.Index]), ref.Slot)
				got(i, store.Message{Ref: ref, Time: st.Time, Body: st.Body}, err)
			}
		},
	})
	w.m.Apply(2, 2, nil)
	w.m.Lead(2)
	w.s = &Service{Machine: w.m, Loop: w, Go: func(f func()) { f() }}
	a := cmq.DefaultQueueAttributes()
	w.m.Submit(start, &cmq.Request{Kind: cmq.KindOpenShard, Shard: testShard, Attributes: a.ShardAttributes()}, nil)
	w.turn()
	return w
}

func (w *mill) Exec(call set.Timed) bool             { call.Run(start); return true }
func (w *mill) ExecForNextEntry(call set.Timed) bool { return w.Exec(call) }

// turn makes an entry of what waits and applies it.
func (w *mill) turn() {
	if data := w.m.Cut(start, 512<<10); data != nil {
		w.index++
		w.log[w.index] = append([]byte(nil), data...) // as raft does
		delete(w.log, w.index-64)
		w.m.Apply(w.index, 2, w.log[w.index])
	}
}

// BenchmarkLife is a send, a receive and a delete of one message of 1 KB on the leader, 64 of each in an entry, without the
// door, raft and the disk.
func BenchmarkLife(b *testing.B) {
	const together = 64
	w := newMill()
	bodies := [][]byte{make([]byte, 1024)}
	var handles [together][1]cmq.Handle
	do := func(req *cmq.Request, n int, done func(i int, reply *cmq.Reply)) {
		for i := range n {
			one := *req
			if req.Kind == cmq.KindDelete {
				one.Handles = handles[i][:]
			}
			w.s.Start(&one, func(reply *cmq.Reply, err error) {
				if err != nil || reply.Err != nil {
					b.Fatal(err, reply)
				}
				done(i, reply)
			})
		}
		w.turn()
	}
	b.ReportAllocs()
	for left := b.N; left > 0; left -= together {
		n := min(left, together)
		do(&cmq.Request{Kind: cmq.KindSend, Shard: testShard, Bodies: bodies}, n, func(int, *cmq.Reply) {})
		do(&cmq.Request{Kind: cmq.KindReceive, Shard: testShard, Max: 1}, n, func(i int, reply *cmq.Reply) { handles[i][0] = reply.Messages[0].Handle })
		do(&cmq.Request{Kind: cmq.KindDelete, Shard: testShard}, n, func(_ int, reply *cmq.Reply) {
			if reply.Errors[0] != nil {
				b.Fatal(reply.Errors[0])
			}
		})
	}
}
