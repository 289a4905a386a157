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
//	+---------+---------+----------+----------+------+-------+-------+
//	| version | parts   | time i64 | wall i64 | raft | fetch | chunk |
//	| u8 = 1  | u8      |          |          |      |       |       |
//	+---------+---------+----------+----------+------+-------+-------+
//
//	raft:  type u8 | flags u8 (1 reject, 2 snapshot) | to, from, term, logTerm, index, commit, vote, rejectHint u64
//	       | entries | bytes context | bytes snapshot (protobuf, only with flag 2)
//	fetch: index, term, next, offset u64
//	chunk: fetch | first, size u64 | flags u8 (1 gone) | entries | bytes image
//
//	entries: count u32, then each: type u8 | term, index u64 | bytes data
//	bytes:   length u32, then the bytes; none and empty are the same
const messageVersion = 1

// Bits of parts.
const (
	partRaft = 1 << iota
	partFetch
	partChunk
	partWarm // no bytes: Message.Warm
	partAll  = partRaft | partFetch | partChunk | partWarm
)

// Sizes of the fixed parts above.
const (
	messageHead = 2 + 2*8
	raftHead    = 2 + 8*8 + 4 // with the count of entries
	fetchSize   = 4 * 8
	chunkHead   = fetchSize + 2*8 + 1 + 4
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

// sizes are the payload's length and how much of it the encoder copies.
func (o outgoing) sizes() (payload, copies int) {
	payload, copies = messageHead, messageHead
	fixed := func(n int) { payload, copies = payload+n, copies+n }
	variable := func(b []byte) { payload, copies = payload+len(b), copies+copied(b) }
	entries := func(list []*raftpb.Entry) {
		for _, e := range list {
			fixed(entryHead)
			variable(e.Data)
		}
	}
	if r := o.m.Raft; r != nil {
		fixed(raftHead + 4)
		entries(r.Entries)
		variable(r.Context)
		if r.Snapshot != nil {
			fixed(4)
			variable(o.snapshot)
		}
	}
	if o.m.Fetch != nil {
		fixed(fetchSize)
	}
	if c := o.m.Chunk; c != nil {
		fixed(chunkHead + 4)
		entries(c.Entries)
		variable(c.Image)
	}
	return payload, copies
}

func (e *encoder) message(o outgoing) {
	m := o.m
	e.u8(messageVersion)
	e.u8(bit(m.Raft != nil, partRaft) | bit(m.Fetch != nil, partFetch) | bit(m.Chunk != nil, partChunk) | bit(m.Warm, partWarm))
	e.u64(uint64(m.Time), uint64(m.Wall))
	if m.Raft != nil {
		e.raft(m.Raft, o.snapshot)
	}
	if m.Fetch != nil {
		e.fetch(*m.Fetch)
	}
	if m.Chunk != nil {
		e.chunk(m.Chunk)
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

func (e *encoder) fetch(f set.Fetch) { e.u64(f.Index, f.Term, f.Next, f.Offset) }

func (e *encoder) chunk(c *set.Chunk) {
	e.fetch(c.Fetch)
	e.u64(c.First, c.Size)
	e.u8(bit(c.Gone, 1))
	e.entries(c.Entries)
	e.bytes(c.Image)
}

// decodeMessage reads a message payload. Entry data, context and image alias it. Every message it accepts can
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
	if parts&partRaft != 0 {
		m.Raft = d.raft()
	}
	if parts&partFetch != 0 {
		f := d.fetch()
		m.Fetch = &f
	}
	if parts&partChunk != 0 {
		m.Chunk = d.chunk()
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

func (d *decoder) fetch() set.Fetch {
	return set.Fetch{Index: d.u64(), Term: d.u64(), Next: d.u64(), Offset: d.u64()}
}

func (d *decoder) chunk() *set.Chunk {
	c := &set.Chunk{Fetch: d.fetch(), First: d.u64(), Size: d.u64()}
	flags := d.u8()
	if flags&^1 != 0 {
		d.fail()
	}
	c.Gone = flags&1 != 0
	c.Entries = d.entries()
	c.Image = d.bytes()
	return c
}
