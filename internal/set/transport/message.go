package transport

import (
	"errors"
	"fmt"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/set"
)

// Payload of a message frame, little endian. Parts follow each other in this order, as far as present:
//
//	+---------+---------+----------+----------+-------+----------+------+-----+--------+--------+
//	| version | parts   | time i64 | wall i64 | space | sync u32 | raft | ask | answer | digest |
//	| u8 = 2  | u8      |          |          | u8    |          |      |     |        |        |
//	+---------+---------+----------+----------+-------+----------+------+-----+--------+--------+
//
//	raft:   type u8 | flags u8 (1 reject, 2 snapshot) | to, from, term, logTerm, index, commit, vote, rejectHint u64
//	        | entries | bytes context | bytes snapshot (protobuf, only with flag 2)
//	digest: index, sum u64
//	ask, answer: see question.go
//
//	entries: count u32, then each: type u8 | term, index u64 | bytes data
//	bytes:   length u32, then the bytes; none and empty are the same
const messageVersion = 2

// Bits of parts.
const (
	partRaft = 1 << iota
	partAsk
	partAnswer
	partDigest
	partWarm // no bytes: Message.Warm
	partAll  = partRaft | partAsk | partAnswer | partDigest | partWarm
)

// Sizes of the fixed parts above.
const (
	messageHead = 2 + 2*8 + 1 + 4
	raftHead    = 2 + 8*8 + 4 // with the count of entries
	digestSize  = 2 * 8
	entryHead   = 1 + 2*8 + 4
)

// maxTerm bounds what a term can be: a new term every 10 ms for 300 years stays below it. A message beyond
// it is forged or damaged and would otherwise end all elections for ever.
const maxTerm = 1 << 40

var errMessage = errors.New("message does not parse")

// copied is how many bytes of b the encoder takes into its own buffer.
func copied(b []byte) int {
	if len(b) < aliasSize {
		return len(b)
	}
	return 0
}

// outgoing is a set.Message with what its encoding needs beforehand.
type outgoing struct {
	m        *set.Message
	snapshot []byte
}

func newOutgoing(m *set.Message) (outgoing, error) {
	o := outgoing{m: m}
	if m.Raft == nil || m.Raft.Snapshot == nil {
		return o, nil
	}
	var err error
	o.snapshot, err = proto.Marshal(m.Raft.Snapshot)
	return o, err
}

// measure counts a payload's length and how much of it the encoder copies.
type measure struct{ payload, copies int }

func (n *measure) fixed(size int) { n.payload, n.copies = n.payload+size, n.copies+size }

// bytes is a length and the bytes.
func (n *measure) bytes(b []byte) {
	n.fixed(4)
	n.payload, n.copies = n.payload+len(b), n.copies+copied(b)
}

func (n *measure) entries(list []*raftpb.Entry) {
	n.fixed(4)
	for _, e := range list {
		n.fixed(entryHead - 4)
		n.bytes(e.Data)
	}
}

// sizes are the payload's length and how much of it the encoder copies.
func (o outgoing) sizes() (payload, copies int) {
	var n measure
	n.fixed(messageHead)
	if r := o.m.Raft; r != nil {
		n.fixed(raftHead - 4)
		n.entries(r.Entries)
		n.bytes(r.Context)
		if r.Snapshot != nil {
			n.bytes(o.snapshot)
		}
	}
	if o.m.Ask != nil {
		n.ask(o.m.Ask)
	}
	if o.m.Answer != nil {
		n.answer(o.m.Answer)
	}
	if o.m.Digest != nil {
		n.fixed(digestSize)
	}
	return n.payload, n.copies
}

func (e *encoder) message(o outgoing) {
	m := o.m
	e.u8(messageVersion)
	e.u8(bit(m.Raft != nil, partRaft) | bit(m.Ask != nil, partAsk) | bit(m.Answer != nil, partAnswer) |
		bit(m.Digest != nil, partDigest) | bit(m.Warm, partWarm))
	e.u64(uint64(m.Time), uint64(m.Wall))
	e.u8(uint8(m.Space))
	e.u32(m.Sync)
	if m.Raft != nil {
		e.raft(m.Raft, o.snapshot)
	}
	if m.Ask != nil {
		e.ask(m.Ask)
	}
	if m.Answer != nil {
		e.answer(m.Answer)
	}
	if m.Digest != nil {
		e.u64(m.Digest.Index, m.Digest.Sum)
	}
}

func bit(set bool, b uint8) uint8 {
	if set {
		return b
	}
	return 0
}

func (e *encoder) raft(r *raftpb.Message, snapshot []byte) {
	e.u8(uint8(r.GetType()))
	e.u8(bit(r.GetReject(), 1) | bit(r.Snapshot != nil, 2))
	e.u64(r.GetTo(), r.GetFrom(), r.GetTerm(), r.GetLogTerm(), r.GetIndex(), r.GetCommit(), r.GetVote(), r.GetRejectHint())
	e.entries(r.Entries)
	e.bytes(r.Context)
	if r.Snapshot != nil {
		e.bytes(snapshot)
	}
}

func (e *encoder) entries(list []*raftpb.Entry) {
	e.u32(uint32(len(list)))
	for _, entry := range list {
		e.u8(uint8(entry.GetType()))
		e.u64(entry.GetTerm(), entry.GetIndex())
		e.bytes(entry.Data)
	}
}

// decodeMessage reads a message payload. Entry data, context, bodies and
// parts of files alias it. Every message it accepts can
// be given to raft: it is of a kind that comes over the network and its numbers are within what can occur.
func decodeMessage(payload []byte) (set.Message, error) {
	d := decoder{b: payload}
	var m set.Message
	if v := d.u8(); d.ok() && v != messageVersion {
		return m, fmt.Errorf("%w: version %d, this program knows %d", errMessage, v, messageVersion)
	}
	parts := d.u8()
	if parts&^partAll != 0 {
		d.fail()
	}
	m.Warm = parts&partWarm != 0
	m.Time, m.Wall = int64(d.u64()), int64(d.u64())
	if m.Space = set.Space(d.u8()); m.Space > set.SpaceHard {
		d.fail()
	}
	m.Sync = d.u32()
	if parts&partRaft != 0 {
		m.Raft = d.raft()
	}
	if parts&partAsk != 0 {
		m.Ask = d.ask()
	}
	if parts&partAnswer != 0 {
		m.Answer = d.answer()
	}
	if parts&partDigest != 0 {
		m.Digest = &set.Digest{Index: d.bounded(cmq.MaxIndex), Sum: d.u64()}
	}
	if !d.ok() || len(d.b) != 0 {
		return set.Message{}, errMessage
	}
	return m, nil
}

// raftFields is one allocation for a raft message and everything it points to.
type raftFields struct {
	msg                                                      raftpb.Message
	typ                                                      raftpb.MessageType
	to, from, term, logTerm, index, commit, vote, rejectHint uint64
	reject                                                   bool
}

func (d *decoder) raft() *raftpb.Message {
	f := new(raftFields)
	f.typ = raftpb.MessageType(d.u8())
	flags := d.u8()
	if flags&^3 != 0 || !comesOverNetwork(f.typ) {
		d.fail()
	}
	f.to, f.from = d.u64(), d.u64()
	f.term, f.logTerm = d.bounded(maxTerm), d.bounded(maxTerm)
	f.index, f.commit = d.bounded(cmq.MaxIndex), d.bounded(cmq.MaxIndex)
	f.vote, f.rejectHint = d.u64(), d.bounded(cmq.MaxIndex)
	f.reject = flags&1 != 0
	m := &f.msg
	m.Type, m.To, m.From, m.Term, m.LogTerm = &f.typ, &f.to, &f.from, &f.term, &f.logTerm
	m.Index, m.Commit, m.Vote, m.Reject, m.RejectHint = &f.index, &f.commit, &f.vote, &f.reject, &f.rejectHint
	m.Entries = d.entries()
	m.Context = d.bytes()
	if flags&2 != 0 {
		m.Snapshot = d.snapshot()
	}
	return m
}

// comesOverNetwork is false for what raft sends to itself or to its storage; a peer that sends such a message
// is not one of ours.
func comesOverNetwork(t raftpb.MessageType) bool {
	switch t {
	case raftpb.MsgApp, raftpb.MsgAppResp, raftpb.MsgVote, raftpb.MsgVoteResp, raftpb.MsgSnap,
		raftpb.MsgHeartbeat, raftpb.MsgHeartbeatResp, raftpb.MsgTransferLeader, raftpb.MsgTimeoutNow,
		raftpb.MsgReadIndex, raftpb.MsgReadIndexResp, raftpb.MsgPreVote, raftpb.MsgPreVoteResp:
		return true
	}
	return false
}

func (d *decoder) snapshot() *raftpb.Snapshot {
	s := new(raftpb.Snapshot)
	if proto.Unmarshal(d.bytes(), s) != nil {
		d.fail()
	}
	return s
}

// entryFields is one allocation for an entry and everything it points to.
type entryFields struct {
	entry       raftpb.Entry
	typ         raftpb.EntryType
	term, index uint64
}

func (d *decoder) entries() []*raftpb.Entry {
	n := int(d.u32())
	if n == 0 || n > len(d.b)/entryHead {
		if n != 0 {
			d.fail()
		}
		return nil
	}
	fields := make([]entryFields, n)
	list := make([]*raftpb.Entry, n)
	for i := range fields {
		f := &fields[i]
		f.typ = raftpb.EntryType(d.u8())
		if f.typ > raftpb.EntryConfChangeV2 {
			d.fail()
		}
		f.term, f.index = d.bounded(maxTerm), d.bounded(cmq.MaxIndex)
		f.entry.Type, f.entry.Term, f.entry.Index = &f.typ, &f.term, &f.index
		f.entry.Data = d.bytes()
		list[i] = &f.entry
	}
	return list
}
