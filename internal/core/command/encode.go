package command

import (
	"encoding/binary"
	"time"

	"github.com/opencmq/cmq/internal/cmq"
)

// Operations are written as numbers in the variable-length form of encoding/binary; slots are given out in
// the order of the operations and therefore not written:
//
//	every operation   kind (1 byte), shard, then
//	Send              delay, session, n
//	Receive           max, lock
//	Delete, Release   n, n × handle
//	Rewind            n, n × (lane, seq)
//	Expire            n, n × (lane, low, floor, age)
//	Open, Set         version, attributes, subscriber
//	Transfer          from, base, number, n
//	Forget            number
//	Relock            lock, n, n × handle
//	Prepare           interval, node, connection, n
//	Decide            n, n × (id, 1: commit, 0: roll back)
//	Ask               n, n × id
//	OpenSession       id of the session
//	Publish           publication, n
//	Move              from, number, n, n × (id, size)
//	Spread            n, s, s × share
//
//	session           id; unless that is 0: epoch, number, acked
//	subscriber        0: none; or 1, topic, filter, n, n × tag, n, n × binding key, 1: forward, else 0
//	publication       n, n × tag, routing key
//	share             shard, from, base, number, k, k × place among the n bodies
//	tag, key          length, bytes
func appendOp(b []byte, op *Op) []byte {
	b = append(b, byte(op.Kind))
	b = binary.AppendUvarint(b, uint64(op.Shard))
	switch op.Kind {
	case Send:
		b = appendSession(AppendInt(b, op.Delay), &op.Session)
		b = binary.AppendUvarint(b, uint64(len(op.Bodies)))
	case Receive:
		b = binary.AppendUvarint(b, uint64(max(op.Max, 0)))
		b = AppendInt(b, op.Lock)
	case Delete, Release:
		b = appendHandles(b, op.Handles)
	case Relock:
		b = appendHandles(AppendInt(b, op.Lock), op.Handles)
	case Rewind:
		b = binary.AppendUvarint(b, uint64(len(op.To)))
		for _, p := range op.To {
			b = AppendInt(b, p.Lane)
			b = binary.AppendUvarint(b, p.Seq)
		}
	case Expire:
		b = appendMarks(b, op.Marks)
	case Open, Set:
		b = binary.AppendUvarint(b, op.Version)
		b = AppendAttributes(b, &op.Attributes)
		b = AppendSubscriber(b, op.Subscriber)
	case Transfer:
		b = binary.AppendUvarint(b, uint64(op.From))
		b = binary.AppendUvarint(b, op.Base)
		b = binary.AppendUvarint(b, op.Number)
		b = binary.AppendUvarint(b, uint64(len(op.Bodies)))
	case Move:
		b = binary.AppendUvarint(b, uint64(op.From))
		b = binary.AppendUvarint(b, op.Number)
		b = binary.AppendUvarint(b, uint64(len(op.IDs)))
		for i, id := range op.IDs {
			b = binary.AppendUvarint(b, uint64(id))
			b = binary.AppendUvarint(b, uint64(op.Sizes[i]))
		}
	case Spread:
		b = appendShares(binary.AppendUvarint(b, uint64(len(op.Bodies))), op.Shares)
	case Forget:
		b = binary.AppendUvarint(b, op.Number)
	case Prepare:
		b = AppendInt(b, op.Interval)
		b = binary.AppendUvarint(b, uint64(op.Origin.Node))
		b = binary.AppendUvarint(b, op.Origin.Conn)
		b = binary.AppendUvarint(b, uint64(len(op.Bodies)))
	case OpenSession:
		b = binary.AppendUvarint(b, op.Session.ID)
	case Publish:
		b = appendPublication(b, &op.Publication)
		b = binary.AppendUvarint(b, uint64(len(op.Bodies)))
	case Decide:
		b = appendDecisions(b, op.Decisions)
	case Ask:
		b = binary.AppendUvarint(b, uint64(len(op.IDs)))
		for _, id := range op.IDs {
			b = binary.AppendUvarint(b, uint64(id))
		}
	}
	return b
}

func appendHandles(b []byte, handles []cmq.Handle) []byte {
	b = binary.AppendUvarint(b, uint64(len(handles)))
	for _, h := range handles {
		b = binary.AppendUvarint(b, uint64(h))
	}
	return b
}

func appendSession(b []byte, s *cmq.Session) []byte {
	b = binary.AppendUvarint(b, s.ID)
	if s.ID == 0 {
		return b
	}
	b = binary.AppendUvarint(b, s.Epoch)
	b = binary.AppendUvarint(b, s.Number)
	return binary.AppendUvarint(b, s.Acked)
}

func appendDecisions(b []byte, decisions []cmq.Decision) []byte {
	b = binary.AppendUvarint(b, uint64(len(decisions)))
	for _, d := range decisions {
		b = binary.AppendUvarint(b, uint64(d.ID))
		b = AppendBool(b, d.Commit)
	}
	return b
}

func appendShares(b []byte, shares []cmq.Share) []byte {
	b = binary.AppendUvarint(b, uint64(len(shares)))
	for i := range shares {
		s := &shares[i]
		for _, v := range []uint64{uint64(s.Shard), uint64(s.From), s.Base, s.Number, uint64(len(s.Places))} {
			b = binary.AppendUvarint(b, v)
		}
		for _, p := range s.Places {
			b = binary.AppendUvarint(b, uint64(p))
		}
	}
	return b
}

func appendMarks(b []byte, marks []Mark) []byte {
	b = binary.AppendUvarint(b, uint64(len(marks)))
	for _, m := range marks {
		b = AppendInt(b, m.Lane)
		b = binary.AppendUvarint(b, m.Low)
		b = binary.AppendUvarint(b, m.Floor)
		b = binary.AppendUvarint(b, m.Age)
	}
	return b
}

// AppendAttributes writes a shard's attributes; durations in milliseconds, negative ones as 0.
func AppendAttributes(b []byte, a *cmq.ShardAttributes) []byte {
	b = AppendInt(b, a.MaxMsgHeapNum)
	b = AppendInt(b, max(a.VisibilityTimeout.Milliseconds(), 0))
	b = AppendInt(b, max(a.MsgRetention.Milliseconds(), 0))
	b = AppendInt(b, max(a.Rewind.Milliseconds(), 0))
	b = binary.AppendUvarint(b, uint64(a.DeadLetter.Queue))
	b = AppendInt(b, int64(a.DeadLetter.Policy))
	b = AppendInt(b, int64(a.DeadLetter.MaxReceiveCount))
	b = AppendInt(b, max(a.DeadLetter.MaxTimeToLive.Milliseconds(), 0))
	b = AppendInt(b, int64(a.MaxInFlight))
	b = AppendBool(b, a.Transaction.On)
	b = AppendInt(b, max(a.Transaction.FirstQueryInterval.Milliseconds(), 0))
	return AppendInt(b, int64(a.Transaction.MaxQueryCount))
}

// ReadAttributes reads what AppendAttributes wrote.
func ReadAttributes(r *Reader) cmq.ShardAttributes {
	return cmq.ShardAttributes{
		MaxMsgHeapNum:     r.Int(),
		VisibilityTimeout: readDuration(r),
		MsgRetention:      readDuration(r),
		Rewind:            readDuration(r),
		DeadLetter: cmq.DeadLetterPolicy{
			Queue:           cmq.QueueID(r.Uvarint()),
			Policy:          int(r.Int()),
			MaxReceiveCount: int(r.Int()),
			MaxTimeToLive:   readDuration(r),
		},
		MaxInFlight: int(r.Int()),
		Transaction: cmq.TransactionPolicy{
			On: r.Bool(), FirstQueryInterval: readDuration(r), MaxQueryCount: int(r.Int()),
		},
	}
}

// maxDuration is the longest duration an attribute can have: the 292 years of a time.Duration.
const maxDuration = int64(1<<63-1) / int64(time.Millisecond)

func readDuration(r *Reader) time.Duration {
	ms := r.Int()
	if ms < 0 || ms > maxDuration {
		r.Fail()
		return 0
	}
	return time.Duration(ms) * time.Millisecond
}

// readOp reads one operation into op, whose slices are reused; of the other fields only those are set that
// belong to the kind, because clearing them all takes longer than the rest. Slots are the caller's business.
func readOp(r *Reader, op *Op) {
	op.Kind, op.Shard, op.N = Kind(r.Byte()), cmq.ShardID(r.Uvarint()), 0
	op.Handles, op.To, op.Marks = op.Handles[:0], op.To[:0], op.Marks[:0]
	op.Decisions, op.IDs, op.Sizes, op.Shares = op.Decisions[:0], op.IDs[:0], op.Sizes[:0], op.Shares[:0]
	switch op.Kind {
	case Send:
		op.Delay = r.Int()
		op.Session = readSession(r)
		op.N = readBodies(r)
	case Receive:
		op.Max = int(min(r.Uvarint(), cmq.MaxSlots))
		op.Lock = r.Int()
	case Delete, Release:
		readHandles(r, op)
	case Relock:
		op.Lock = r.Int()
		readHandles(r, op)
	case Rewind:
		for n := r.Count(2); n > 0; n-- {
			op.To = append(op.To, LaneSeq{Lane: r.Int(), Seq: r.Uvarint()})
		}
	case Expire:
		for n := r.Count(4); n > 0; n-- {
			op.Marks = append(op.Marks, Mark{Lane: r.Int(), Low: r.Uvarint(), Floor: r.Uvarint(), Age: r.Uvarint()})
		}
	case Open, Set:
		op.Version = r.Uvarint()
		op.Attributes = ReadAttributes(r)
		op.Subscriber = ReadSubscriber(r)
	case Transfer:
		op.From = cmq.ShardID(r.Uvarint())
		op.Base = r.Uvarint()
		op.Number = r.Uvarint()
		op.N = readBodies(r)
	case Move:
		op.From = cmq.ShardID(r.Uvarint())
		op.Number = r.Uvarint()
		for n := r.Count(2); n > 0; n-- {
			op.IDs = append(op.IDs, cmq.MsgID(r.Uvarint()))
			op.Sizes = append(op.Sizes, uint32(r.Uvarint()))
		}
	case Spread:
		op.N = readBodies(r)
		readShares(r, op)
	case Forget:
		op.Number = r.Uvarint()
	case Prepare:
		op.Interval = r.Int()
		op.Origin = cmq.Origin{Node: cmq.NodeID(r.Uvarint()), Conn: r.Uvarint()}
		op.N = readBodies(r)
	case Decide:
		for n := r.Count(2); n > 0; n-- {
			op.Decisions = append(op.Decisions, cmq.Decision{ID: cmq.MsgID(r.Uvarint()), Commit: r.Bool()})
		}
	case Ask:
		for n := r.Count(1); n > 0; n-- {
			op.IDs = append(op.IDs, cmq.MsgID(r.Uvarint()))
		}
	case OpenSession:
		op.Session = cmq.Session{ID: r.Uvarint()}
	case Publish:
		op.Publication = readPublication(r)
		op.N = readBodies(r)
	case Clear, Drop:
	default:
		r.Fail()
	}
}

func readHandles(r *Reader, op *Op) {
	for n := r.Count(1); n > 0; n-- {
		op.Handles = append(op.Handles, cmq.Handle(r.Uvarint()))
	}
}

func readShares(r *Reader, op *Op) {
	for n := r.Count(5); n > 0; n-- {
		s := cmq.Share{Shard: cmq.ShardID(r.Uvarint()), From: cmq.ShardID(r.Uvarint()), Base: r.Uvarint(), Number: r.Uvarint()}
		k := r.Count(1)
		s.Places = make([]uint16, k)
		for i := range s.Places {
			s.Places[i] = readPlace(r, op.N)
		}
		op.Shares = append(op.Shares, s)
	}
}

// readPlace reads the place of one of n bodies.
func readPlace(r *Reader, n int) uint16 {
	p := r.Uvarint()
	if p >= uint64(n) {
		r.Fail()
		return 0
	}
	return uint16(p)
}

func readSession(r *Reader) cmq.Session {
	s := cmq.Session{ID: r.Uvarint()}
	if s.ID != 0 {
		s.Epoch, s.Number, s.Acked = r.Uvarint(), r.Uvarint(), r.Uvarint()
	}
	return s
}

func readBodies(r *Reader) int {
	n := r.Uvarint()
	if n > cmq.MaxSlots {
		r.Fail()
		return 0
	}
	return int(n)
}
