package set

import (
	"go.etcd.io/raft/v3/raftpb"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/store"
	"github.com/opencmq/cmq/internal/store/reflog"
)

// Message is what one replica sends to another replica of the same set: a raft message, a question, an answer or a
// digest, and beside it what everybody should know of the sender: its clocks (reliability.md, note T) and its disk.
type Message struct {
	// Raft is nil when the message carries only one of the other parts.
	Raft *raftpb.Message

	// Time is the sender's estimate of cluster time in Unix milliseconds, 0 when it has none.
	Time int64
	// Warm tells that Time was heard or kept in this process's lifetime, not read from the log at start.
	Warm bool
	// Wall is the sender's wall clock in Unix milliseconds.
	Wall int64

	// Space is how full the sender's disk is.
	Space Space
	// Sync is how long the sender's disk takes for a synced write: the median of the latest, in microseconds, 0 when it
	// is not known.
	Sync uint32

	Ask    *Ask
	Answer *Answer
	Digest *Digest
}

// Space is how full a disk is.
type Space uint8

// Levels of Space.
const (
	SpaceOK   Space = iota
	SpaceSoft       // no more messages are taken in
	SpaceHard       // nothing that makes the log longer but what makes room
)

// Digest is the sum over a machine's state after the entry at Index.
type Digest struct {
	Index uint64
	Sum   uint64
}

// AskKind says what a question is about.
type AskKind uint8

// Kinds of questions. Things are named by what they are, never by where a replica keeps them: all replicas lay out their
// files as they like.
const (
	// AskEntries asks for log entries of [Lo, Hi). With an Anchor, only a replica whose log has AnchorTerm at Anchor
	// answers: by log matching it has exactly the entries that the asking replica had. Without one, only committed
	// entries are given.
	AskEntries AskKind = iota + 1
	// AskEnd asks the leader for the last index of its log and its term, once a quorum has confirmed that it leads.
	AskEnd
	// AskMessages asks for the messages Refs.
	AskMessages
	// AskRefs asks for the references of positions [Lo, Hi) of the lane (Shard, Lane), from who has applied the entry Anchor.
	AskRefs
	// AskManifest asks which image the receiver has, of index Lo or later, and to keep it for the asking replica.
	AskManifest
	// AskImage asks for the part of the image at Index that begins at Offset.
	AskImage
	// AskFile asks for the part of the reference file Name that begins at Offset.
	AskFile
	// AskState asks for nothing but what every answer tells.
	AskState
	// AskSuccessor says that the sender has lost its log and the receiver, which remembers what was acknowledged, should
	// let another lead: that one asks how far it is. There is no answer.
	AskSuccessor
)

// Ask is a question to another replica.
type Ask struct {
	ID   uint64 // given back in the answer
	Kind AskKind

	Lo, Hi     uint64
	Anchor     uint64
	AnchorTerm uint64 // 0: no anchor
	Index      uint64
	Offset     uint64
	Name       string
	Shard      uint64
	Lane       int64
	Refs       []store.Ref
}

// Verdict is the short form of an answer.
type Verdict uint8

// Verdicts.
const (
	Here  Verdict = iota + 1 // the answer has it, or a part of it
	Never                    // this replica is whole and does not have it
	Later                    // this replica cannot tell now: ask again
)

// Answer is the answer to an Ask, of about chunkBytes at most.
type Answer struct {
	ID      uint64
	Kind    AskKind
	Verdict Verdict

	// What the answering replica knows of itself, always filled: whether it has everything it should have, and its log.
	// Voted is its term; 0 when it is in doubt itself.
	Whole                      bool
	First, Last, Commit, Voted uint64

	Index, Term uint64 // AskManifest: of the image; AskEnd: of the log's last entry
	Conf        []byte // AskManifest: membership, as raft encodes it
	Size        uint64 // AskManifest, AskImage, AskFile: bytes of the whole
	Sum         uint32 // AskManifest: store.ImageSum of the image
	Files       []reflog.File
	Entries     []*raftpb.Entry
	Seen        uint32 // AskMessages: how many of Refs were looked for; those missing among them are not here
	Messages    []store.Message
	Runs        []reflog.Run
	Data        []byte // AskImage, AskFile; AskRefs: what is left of references that cannot be read, and Runs are those that can
}

// Envelope is a message with its destination.
type Envelope struct {
	To cmq.NodeID
	Message
}
