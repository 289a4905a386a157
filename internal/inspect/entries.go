package inspect

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/core/command"
	"github.com/opencmq/cmq/internal/core/meta"
	"github.com/opencmq/cmq/internal/store/archive"
	"github.com/opencmq/cmq/internal/store/segment"
)

// Entry is a raft entry as it lies in a segment file.
type Entry struct {
	Index    uint64      `json:"index"`
	Term     uint64      `json:"term"`
	File     string      `json:"file"`
	Offset   int64       `json:"offset"`
	Bytes    int         `json:"bytes"` // of its data
	Kind     string      `json:"kind"`  // operations, metadata, empty, membership, lost, or messages only
	Time     int64       `json:"time,omitempty"`
	Proposer cmq.NodeID  `json:"proposer,omitempty"` // node that made it
	Replaced bool        `json:"replaced,omitempty"` // a later entry has taken its place
	Summary  string      `json:"summary"`
	Ops      []Operation `json:"operations,omitempty"`
	Problem  *Problem    `json:"problem,omitempty"`
}

// Operation is one operation of a data set's entry.
type Operation struct {
	Kind   string      `json:"kind"`
	Shard  cmq.ShardID `json:"shard"`
	Queue  string      `json:"queue"` // its name, or else its id
	Count  int         `json:"count"` // messages, handles or positions
	Delay  int64       `json:"delayMilliseconds,omitempty"`
	Bodies []Body      `json:"bodies,omitempty"`
}

// Body is one message of an entry.
type Body struct {
	Slot   int    `json:"slot"`
	Length int    `json:"length"`
	OK     bool   `json:"ok"` // its checksum is right
	ID     string `json:"id"`
	Died   string `json:"diedIn,omitempty"` // of a dead letter: the queue it came from
	// Of a published message.
	Tags       []string `json:"tags,omitempty"`
	RoutingKey string   `json:"routingKey,omitempty"`
	// Only if they were asked for: the body, as it is if it is text, else in base64.
	Text  string `json:"body,omitempty"`
	Bytes []byte `json:"bodyBase64,omitempty"`
}

// Range says which entries to show.
type Range struct {
	From  uint64 // lowest index; 0: from the first there is
	Count int    // at most so many
	Body  bool   // with the bodies of messages
}

var errEnough = errors.New("enough")

// Entries shows entries as they lie in the segment files, in the order of their indexes, replaced ones included. name gives the name
// of a shard's queue.
func (s *Set) Entries(r Range, name func(cmq.ShardID) string) ([]Entry, error) {
	segs, err := s.listSegments()
	if err != nil {
		return nil, err
	}
	if r.From == 0 {
		r.From = lowest(segs)
	}
	e := &entries{s: s, Range: r, name: name, to: r.From + uint64(max(r.Count, 0)), at: map[uint64][]Entry{}}
	for i := range segs {
		if seg := &segs[i]; seg.head != nil && seg.head.Begun && seg.head.First < e.to && !e.before(segs[i:]) {
			s.readSegment(seg, false, func(rec segment.Record) error { return e.see(seg, rec) })
		}
	}
	return e.list(segs), nil
}

// lowest is the lowest index with which a segment begins.
func lowest(segs []Segment) uint64 {
	low := uint64(0)
	for i := range segs {
		if h := segs[i].head; h != nil && h.Begun && (low == 0 || h.First < low) {
			low = h.First
		}
	}
	return max(low, 1)
}

// entries collects the entries of a range.
type entries struct {
	s *Set
	Range
	name func(cmq.ShardID) string
	to   uint64
	at   map[uint64][]Entry
}

// before tells whether the first of the segments ends before the range.
func (e *entries) before(segs []Segment) bool {
	if len(segs) < 2 || segs[1].head == nil || !segs[1].head.Begun {
		return false
	}
	return segs[1].Number == segs[0].Number+1 && segs[1].head.First <= e.From
}

func (e *entries) see(seg *Segment, rec segment.Record) error {
	if rec.Kind != segment.EntryRecord {
		return nil
	}
	if rec.Index < e.From || rec.Index >= e.to {
		return nil
	}
	e.at[rec.Index] = append(e.at[rec.Index], e.read(seg, rec))
	return nil
}

// list puts them in order, with those that are lost.
func (e *entries) list(segs []Segment) []Entry {
	var list []Entry
	end := uint64(0)
	for i := range segs {
		end = max(end, segs[i].Last+1)
	}
	for i := e.From; i < min(e.to, end); i++ {
		found := e.at[i]
		for k := range found {
			found[k].Replaced = k < len(found)-1
		}
		if len(found) == 0 {
			found = e.absent(i, segs)
		}
		list = append(list, found...)
	}
	return list
}

// absent says why there is no entry of an index.
func (e *entries) absent(index uint64, segs []Segment) []Entry {
	out := Entry{Index: index, Kind: "lost", Summary: "no segment has it"}
	for i := range segs {
		seg := &segs[i]
		if seg.Place != "unused" && len(seg.Problems) > 0 && (seg.head == nil || seg.First <= index && index <= max(seg.Last, seg.First)) {
			p := seg.Problems[0]
			out.File, out.Offset, out.Problem = seg.File, p.Offset, &p
			out.Summary = "it cannot be read: " + p.What
			return []Entry{out}
		}
	}
	for _, info := range e.s.Contents.Files {
		if info.Lo <= index && index < info.Hi {
			if n := e.messagesIn(info, index); n > 0 {
				out.Kind, out.File = "messages only", info.Name()
				out.Summary = fmt.Sprintf("the entry has left the log; %d of its messages are kept", n)
				return []Entry{out}
			}
		}
	}
	if index < e.s.logBegin(segs) {
		return nil // it left the log long ago, and nothing of it is needed
	}
	return []Entry{out}
}

func (e *entries) messagesIn(info archive.Info, index uint64) (n int) {
	f := archive.Open(e.s.fs, e.s.Dir, e.s.archiveID(), info)
	defer f.Close()
	err := f.Each(func(r archive.Ref) error {
		if r.Index == index {
			n++
		}
		if r.Index > index {
			return errEnough
		}
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return 0 // the file's own row says what is wrong with it
	}
	return n
}

func (s *Set) archiveID() archive.ID {
	return archive.ID{Cluster: s.Owner.Cluster, Set: s.Owner.Set, Replica: s.Owner.Replica}
}

// logBegin is the first index of the log's first segment.
func (s *Set) logBegin(segs []Segment) uint64 {
	for i := range segs {
		if segs[i].Place == "log" && segs[i].head != nil {
			return segs[i].head.First
		}
	}
	return 0
}

// read shows one entry.
func (e *entries) read(seg *Segment, rec segment.Record) Entry {
	out := Entry{Index: rec.Index, Term: rec.Term, File: seg.File, Offset: rec.Offset, Bytes: len(rec.Data)}
	var err error
	switch typ := raftpb.EntryType(rec.Type); {
	case typ != raftpb.EntryNormal:
		out.Kind = "membership"
		out.Summary, err = membership(typ, rec.Data)
	case len(rec.Data) == 0:
		out.Kind, out.Summary = "empty", "a leader began its term"
	case e.s.ID == cmq.ControllerSet:
		out.Kind = "metadata"
		err = out.readMeta(rec.Data)
	default:
		out.Kind = "operations"
		err = e.readOps(&out, rec.Data)
	}
	if err != nil {
		out.Problem = &Problem{File: e.s.path(seg.File), Offset: rec.Offset, What: err.Error(), Kind: Damaged}
		out.Summary = err.Error()
	}
	return out
}

func membership(typ raftpb.EntryType, data []byte) (string, error) {
	if typ == raftpb.EntryConfChange {
		cc := new(raftpb.ConfChange)
		err := proto.Unmarshal(data, cc)
		return fmt.Sprintf("%v of replica %d", cc.GetType(), cc.GetNodeId()), err
	}
	cc := new(raftpb.ConfChangeV2)
	err := proto.Unmarshal(data, cc)
	var parts []string
	for _, c := range cc.GetChanges() {
		parts = append(parts, fmt.Sprintf("%v of replica %d", c.GetType(), c.GetNodeId()))
	}
	return strings.Join(parts, ", "), err
}

// readMeta shows commands of the controller. What they say is not shown: keys are among it.
func (out *Entry) readMeta(data []byte) error {
	b, err := meta.ParseBatch(data)
	if err != nil {
		return err
	}
	out.Time, out.Proposer = b.Time, cmq.NodeID(b.Proposer)
	var parts []string
	for _, c := range b.Commands {
		parts = append(parts, describe(c))
	}
	out.Summary = strings.Join(parts, ", ")
	if len(parts) == 0 {
		out.Summary = "no command"
	}
	return nil
}

func describe(c meta.Command) string {
	switch c := c.(type) {
	case *meta.Bootstrap:
		return fmt.Sprintf("bootstrap with %d nodes and %d sets", len(c.Nodes), len(c.Sets))
	case *meta.PutNode:
		return fmt.Sprintf("node %d", c.Node.ID)
	case *meta.CreateQueue:
		return "create queue " + c.Name
	case *meta.SetQueue:
		return "set queue " + c.Name
	case *meta.DeleteQueue:
		return "delete queue " + c.Name
	case *meta.Unbind:
		return "unbind queue " + c.Name
	case *meta.Done:
		return fmt.Sprintf("shard %d is done", c.Shard)
	case *meta.PutKey:
		return "put access key " + c.Key.ID
	case *meta.DeleteKey:
		return "delete access key " + c.ID
	case *meta.CreateTopic:
		return "create topic " + c.Name
	case *meta.SetTopic:
		return "set topic " + c.Name
	case *meta.DeleteTopic:
		return "delete topic " + c.Name
	case *meta.Subscribe:
		return "subscribe " + c.Topic + "/" + c.Name
	case *meta.SetSubscription:
		return "set subscription " + c.Topic + "/" + c.Name
	case *meta.Unsubscribe:
		return "unsubscribe " + c.Topic + "/" + c.Name
	}
	return fmt.Sprintf("%T", c)
}

// readOps shows the operations of a data set's entry.
func (e *entries) readOps(out *Entry, data []byte) error {
	b, err := command.Parse(data)
	if err != nil {
		return err
	}
	out.Time, out.Proposer = b.Time, cmq.NodeID(b.Proposer)
	var op command.Op
	var parts []string
	for ops := b.Ops(); ops.Next(&op); {
		o := Operation{Kind: kindName(op.Kind), Shard: op.Shard, Queue: e.name(op.Shard), Count: countOf(&op)}
		if op.Kind == command.Send {
			o.Delay = op.Delay
		}
		for i := range op.N {
			o.Bodies = append(o.Bodies, e.body(data, out.Index, op.First+uint16(i), &b))
		}
		out.Ops = append(out.Ops, o)
		parts = append(parts, o.text())
	}
	out.Summary = strings.Join(parts, ", ")
	for _, o := range out.Ops {
		for _, body := range o.Bodies {
			if !body.OK {
				return fmt.Errorf("the checksum of the message in slot %d is wrong", body.Slot)
			}
		}
	}
	return nil
}

func (e *entries) body(data []byte, index uint64, slot uint16, b *command.Batch) Body {
	m, err := command.ReadMessage(data, slot)
	body := Body{Slot: int(slot), Length: int(b.BodyBytes(slot, 1)), OK: err == nil, ID: cmq.NewMsgID(e.s.ID, index, slot).String()}
	if err != nil {
		return body
	}
	properties, sent := command.Unseal(m.Origin, m.Body)
	if body.Length = len(sent); properties.ID != 0 {
		body.ID = properties.ID.String()
	}
	if properties.Source != nil {
		body.Died = e.name(properties.Source.Queue.Shard(0))
	}
	if p := properties.Publication; p != nil {
		body.Tags, body.RoutingKey = p.Tags, p.RoutingKey
	}
	switch {
	case !e.Body:
	case utf8.Valid(sent):
		body.Text = string(sent)
	default:
		body.Bytes = sent
	}
	return body
}

func (o *Operation) text() string {
	bytes := 0
	for _, b := range o.Bodies {
		bytes += b.Length
	}
	switch {
	case len(o.Bodies) > 0:
		return fmt.Sprintf("%s %d × %d B to %s", o.Kind, len(o.Bodies), bytes/len(o.Bodies), o.Queue)
	case o.Count > 0:
		return fmt.Sprintf("%s %d of %s", o.Kind, o.Count, o.Queue)
	}
	return o.Kind + " " + o.Queue
}

var kindNames = map[command.Kind]string{
	command.Send: "send", command.Receive: "receive", command.Delete: "delete", command.Release: "release", command.Rewind: "rewind",
	command.Clear: "clear", command.Expire: "expire", command.Open: "open", command.Set: "set", command.Drop: "drop",
	command.Transfer: "transfer", command.Forget: "forget", command.Relock: "relock", command.Prepare: "prepare",
	command.Decide: "decide", command.Ask: "ask", command.OpenSession: "open session", command.Publish: "publish", command.Move: "move",
}

func kindName(k command.Kind) string {
	if name, ok := kindNames[k]; ok {
		return name
	}
	return fmt.Sprintf("operation %d", k)
}

// countOf is how many things an operation is about, 0 if that says nothing.
func countOf(op *command.Op) int {
	switch op.Kind {
	case command.Send, command.Transfer, command.Prepare, command.Publish:
		return op.N
	case command.Receive:
		return op.Max
	case command.Delete, command.Release, command.Relock:
		return len(op.Handles)
	case command.Decide:
		return len(op.Decisions)
	case command.Ask, command.Move:
		return len(op.IDs)
	case command.Rewind:
		return len(op.To)
	case command.Expire:
		return len(op.Marks)
	}
	return 0
}
