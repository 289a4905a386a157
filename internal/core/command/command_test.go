package command

import (
	"bytes"
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/opencmq/cmq/internal/cmq"
)

// everyOp is one operation of each kind with every field set to a value of its own.
func everyOp() []Op {
	attributes := cmq.ShardAttributes{
		MaxMsgHeapNum: 11, VisibilityTimeout: 12 * time.Second, MsgRetention: 13 * time.Second,
		Rewind: 14 * time.Second, MaxInFlight: 15,
		Transaction: cmq.TransactionPolicy{On: true, FirstQueryInterval: 41 * time.Second, MaxQueryCount: 42},
		DeadLetter:  cmq.DeadLetterPolicy{Queue: 16, Policy: 1, MaxReceiveCount: 17, MaxTimeToLive: 18 * time.Second},
	}
	shard := cmq.QueueID(1 << 50).Shard(5)
	return []Op{
		{Kind: Send, Shard: shard, Delay: 1 << 40, Session: cmq.Session{ID: 1 << 63, Epoch: 36, Number: 37, Acked: 38}, Bodies: [][]byte{[]byte("a"), {}, []byte("ccc")}},
		{Kind: Receive, Shard: shard, Max: 16, Lock: 30_000},
		{Kind: Delete, Shard: shard, Handles: []cmq.Handle{1, 1<<63 - 1, 300}},
		{Kind: Release, Shard: shard, Handles: []cmq.Handle{77}},
		{Kind: Rewind, Shard: shard, To: []LaneSeq{{0, 5}, {1 << 41, 6}}},
		{Kind: Clear, Shard: shard},
		{Kind: Expire, Shard: shard, Marks: []Mark{{1, 2, 3, 4}, {-5, 6, 7, 1<<64 - 1}}},
		{Kind: Open, Shard: shard, Version: 19, Attributes: attributes, Subscriber: &cmq.Subscriber{
			Topic: 45 << 7, Filter: cmq.FilterKeys, Tags: []string{"tag", "订单"}, Keys: []string{"a.*", "#"}, Forward: true,
		}},
		{Kind: Set, Shard: shard, Version: 20, Attributes: attributes},
		{Kind: Drop, Shard: shard},
		{Kind: Transfer, Shard: shard, From: 21, Base: 22, Number: 23, IDs: []cmq.MsgID{24, 25}, Sources: []cmq.Source{{Queue: 1 << 56, Enqueued: time.UnixMilli(43), DequeueCount: 44}, {}}, Bodies: [][]byte{[]byte("dd"), []byte("e")}},
		{Kind: Forget, Shard: shard, Number: 26},
		{Kind: Relock, Shard: shard, Lock: 27, Handles: []cmq.Handle{28, 1 << 60}},
		{Kind: Prepare, Shard: shard, Interval: 29, Origin: cmq.Origin{Node: 30, Conn: 1 << 63}, Bodies: [][]byte{[]byte("f")}},
		{Kind: Decide, Shard: shard, Decisions: []cmq.Decision{{ID: 1 << 62, Commit: true}, {ID: 34}}},
		{Kind: Ask, Shard: shard, IDs: []cmq.MsgID{35, 1 << 63}},
		{Kind: OpenSession, Shard: shard, Session: cmq.Session{ID: 1<<64 - 1}},
		{Kind: Publish, Shard: shard, Publication: cmq.Publication{Tags: []string{"x", "订单"}, RoutingKey: "a.b"}, Bodies: [][]byte{[]byte("gg"), {}}},
		{Kind: Move, Shard: shard, From: 46, Number: 47, IDs: []cmq.MsgID{48, 1 << 63}, Sizes: []uint32{49, 1<<32 - 1}},
		{Kind: Spread, IDs: []cmq.MsgID{50, 1 << 63}, Bodies: [][]byte{[]byte("h"), []byte("ii")}, Shares: []cmq.Share{
			{Shard: shard, From: 51, Base: 52, Number: 1 << 62, Places: []uint16{0, 1}}, {Shard: 53, From: 54, Base: 55, Number: 56, Places: []uint16{1}},
		}},
	}
}

// What the properties of everyOp's Transfer take: what there is, id, source; and those of its Publish: what there is, two
// tags, the routing key.
const (
	deadBytes        = 1 + 8 + 20
	publicationBytes = 1 + 1 + 2 + 7 + 4
)

func encode(ops []Op) []byte {
	b := NewBuilder()
	b.Reset(31, 32)
	for _, op := range ops {
		b.Add(op)
	}
	return b.Finish(33)
}

func TestBatchGivesBackEveryOperation(t *testing.T) {
	ops := everyOp()
	if len(ops) != int(kinds)-1 {
		t.Fatalf("%d operations for %d kinds", len(ops), kinds-1)
	}
	b, err := Parse(encode(ops))
	if err != nil {
		t.Fatal(err)
	}
	if b.Header != (Header{31, 32, 33}) || b.Count != len(ops) || b.Slots != 10 {
		t.Fatalf("%+v", b)
	}
	it, slot := b.Ops(), 0
	for i, want := range ops {
		var got Op
		if !it.Next(&got) {
			t.Fatalf("operation %d is missing", i)
		}
		want.N, want.First = len(want.Bodies), uint16(slot)
		slot += want.N
		want.Bodies = nil
		if want.Kind == Transfer || want.Kind == Spread {
			want.IDs, want.Sources = nil, nil
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%+v, want %+v", got, want)
		}
	}
	if it.Next(&Op{}) {
		t.Error("one operation too many")
	}
}

func TestReadMessage(t *testing.T) {
	data := encode(everyOp())
	for slot, want := range []Stored{
		{0, 33, []byte("a")}, {0, 33, []byte{}}, {0, 33, []byte("ccc")}, {described, 33, []byte("dd")}, {described, 33, []byte("e")}, {0, 33, []byte("f")},
		{described, 33, []byte("gg")}, {described, 33, []byte{}}, {50, 33, []byte("h")}, {1 << 63, 33, []byte("ii")},
	} {
		got, err := ReadMessage(data, uint16(slot))
		_, body := Unseal(got.Origin, got.Body)
		if err != nil || got.Origin != want.Origin || got.Time != want.Time || !bytes.Equal(body, want.Body) {
			t.Errorf("slot %d: %+v, %v", slot, got, err)
		}
	}
	if _, err := ReadMessage(data, 10); !errors.Is(err, ErrDamaged) {
		t.Error(err)
	}
}

// counted counts the reads of a batch and how much they read.
type counted struct {
	*bytes.Reader
	reads, bytes int
}

func (c *counted) ReadAt(p []byte, off int64) (int, error) {
	c.reads++
	c.bytes += len(p)
	return c.Reader.ReadAt(p, off)
}

func TestReadSlotReadsTheMessageOnly(t *testing.T) {
	big := bytes.Repeat([]byte("0123456789"), 1000)
	data := encode([]Op{{Kind: Send, Bodies: [][]byte{big, []byte("a"), {}, big[:500]}}})
	for slot := range uint16(4) {
		p := &counted{Reader: bytes.NewReader(data)}
		got, err := ReadSlot(p, slot)
		want, _ := ReadMessage(data, slot)
		if err != nil || !reflect.DeepEqual(got, want) || p.reads > 3 || p.bytes > headerSize+slotSize+len(want.Body) {
			t.Errorf("slot %d: %d bytes at %d, %v; %d reads, %d bytes", slot, len(got.Body), got.Time, err, p.reads, p.bytes)
		}
	}
	if _, err := ReadSlot(bytes.NewReader(data), 4); !errors.Is(err, ErrDamaged) {
		t.Error(err)
	}
	if _, err := ReadSlot(bytes.NewReader(data[:len(data)-1]), 1); !errors.Is(err, ErrDamaged) {
		t.Error("a batch cut off is taken")
	}
	small := encode(everyOp())
	p := &counted{Reader: bytes.NewReader(small)}
	if got, err := ReadSlot(p, 2); err != nil || string(got.Body) != "ccc" || p.reads != 1 {
		t.Errorf("small batch: %+v, %v, %d reads", got, err, p.reads)
	}
}

// TestReadSlotFindsEveryFlippedByte in what it reads, and nothing else matters to it.
func TestReadSlotFindsEveryFlippedByte(t *testing.T) {
	data := encode([]Op{{Kind: Send, Bodies: [][]byte{bytes.Repeat([]byte("x"), wholeBatch), []byte("body")}}})
	for at := range data {
		data[at] ^= 0x10
		got, err := ReadSlot(bytes.NewReader(data), 1)
		if err == nil && string(got.Body) != "body" {
			t.Fatalf("byte %d: %q", at, got.Body)
		}
		if at < headerSize-8 && err == nil || at >= len(data)-4 && err == nil {
			t.Fatalf("byte %d overlooked", at)
		}
		data[at] ^= 0x10
	}
}

func TestBodyBytes(t *testing.T) {
	b, err := Parse(encode(everyOp()))
	if err != nil {
		t.Fatal(err)
	}
	if got := [...]uint32{b.BodyBytes(0, 3), b.BodyBytes(2, 2), b.BodyBytes(4, 2), b.BodyBytes(4, 0), b.BodyBytes(6, 1)}; got != [...]uint32{4, 5 + deadBytes, 2 + deadBytes, 0, 2 + publicationBytes} {
		t.Error(got)
	}
}

func TestBuilderCounts(t *testing.T) {
	b := NewBuilder()
	for round := range 3 {
		b.Reset(1, 2)
		for i, op := range everyOp() {
			if b.Ops() != i {
				t.Fatal(b.Ops())
			}
			b.Add(op)
		}
		if size := b.Size(); b.Slots() != 10 || len(b.Finish(3)) != size {
			t.Fatalf("round %d: %d slots, size %d", round, b.Slots(), size)
		}
	}
	if b.Reset(1, 2); b.Slots() != 0 || b.Ops() != 0 || b.Size() != headerSize {
		t.Fatal("not empty after Reset")
	}
}

func TestBuilderRefusesMoreThanTheSlots(t *testing.T) {
	b := NewBuilder()
	b.Reset(1, 1)
	op := Op{Kind: Send, Bodies: make([][]byte, cmq.MaxSlots)}
	if !b.Fits(&op) {
		t.Fatal("an empty batch takes MaxSlots bodies")
	}
	b.Add(op)
	op.Bodies = op.Bodies[:1]
	if b.Fits(&op) {
		t.Fatal("one body too many")
	}
	if batch, err := Parse(b.Finish(1)); err != nil || batch.Slots != cmq.MaxSlots {
		t.Fatal(err)
	}
	defer func() {
		if recover() == nil {
			t.Fatal("Add did not refuse")
		}
	}()
	b.Add(op)
}

func TestNegativeDurationsBecomeZero(t *testing.T) {
	b, err := Parse(encode([]Op{{Kind: Open, Attributes: cmq.ShardAttributes{Rewind: -time.Hour}}}))
	if err != nil {
		t.Fatal(err)
	}
	var op Op
	if it := b.Ops(); !it.Next(&op) || op.Attributes.Rewind != 0 {
		t.Fatalf("%+v", op)
	}
}

// TestEveryFlippedBitIsFound: in the operations and the slot table by Parse, in a body by ReadMessage.
func TestEveryFlippedBitIsFound(t *testing.T) {
	data := encode(everyOp())
	bodies := 8 + 2 + 3 + 2*deadBytes + 2*publicationBytes // bytes at the end
	for at := range data {
		for bit := range 8 {
			data[at] ^= 1 << bit
			_, err := Parse(data)
			if at < len(data)-bodies && err == nil {
				t.Fatalf("Parse overlooks byte %d bit %d", at, bit)
			}
			if at >= len(data)-bodies && !anyDamaged(data) {
				t.Fatalf("ReadMessage overlooks byte %d bit %d", at, bit)
			}
			data[at] ^= 1 << bit
		}
	}
	for n := range data {
		if _, err := Parse(data[:n]); err == nil {
			t.Fatalf("Parse accepts the first %d bytes", n)
		}
	}
}

func anyDamaged(data []byte) bool {
	for slot := range uint16(10) {
		if _, err := ReadMessage(data, slot); errors.Is(err, ErrDamaged) {
			return true
		}
	}
	return false
}

func TestUnknownVersionAndKind(t *testing.T) {
	data := encode(nil)
	data[4] = 9
	if _, err := Parse(data); !errors.Is(err, ErrVersion) {
		t.Error(err)
	}
	b := NewBuilder()
	b.Reset(1, 1)
	b.ops, b.count = append(b.ops, byte(kinds), 0), 1
	if _, err := Parse(b.Finish(1)); !errors.Is(err, ErrVersion) {
		t.Error(err)
	}
}

// FuzzParse reads arbitrary bytes, once as they are and once with the checksums put right.
func FuzzParse(f *testing.F) {
	f.Add(encode(everyOp()), uint16(3))
	f.Add(encode(nil), uint16(0))
	f.Add([]byte("cmqb"), uint16(1))
	f.Fuzz(func(t *testing.T, data []byte, slot uint16) {
		for range 2 {
			if b, err := Parse(data); err == nil {
				it, n := b.Ops(), 0
				for op := (Op{}); it.Next(&op); n++ {
				}
				if n != b.Count {
					t.Fatalf("%d operations of %d", n, b.Count)
				}
			}
			m, err := ReadMessage(data, slot)
			if err == nil && len(m.Body) > len(data) {
				t.Fatal("body longer than the batch")
			}
			if s, other := ReadSlot(bytes.NewReader(data), slot); (other == nil) != (err == nil) || !bytes.Equal(s.Body, m.Body) {
				t.Fatalf("ReadMessage: %v; ReadSlot: %v", err, other)
			}
			data = repair(data)
		}
	})
}

// repair puts the checksums of a batch right, so that what they protect is looked at too.
func repair(data []byte) []byte {
	if len(data) < headerSize {
		return data
	}
	data = bytes.Clone(data)
	copy(data, magic)
	b := Builder{bodies: make([]sealed, int(data[6]))}
	b.header = Header{Proposer: 1, Number: 2, Time: 3}
	b.count = int(data[32])
	table := len(b.bodies) * slotSize
	size := min(int(data[36])|int(data[37])<<8, len(data)-headerSize)
	if headerSize+size+table > len(data) {
		return data
	}
	b.ops, b.bytes = data[headerSize:headerSize+size], len(data)-headerSize-size-table
	b.writeHeader(data[:headerSize], checksum(data[headerSize:headerSize+size+table]))
	return data
}
