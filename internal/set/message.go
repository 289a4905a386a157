package set

import (
	"go.etcd.io/raft/v3/raftpb"

	"github.com/opencmq/cmq/internal/cmq"
)

// Message is what one replica sends to another replica of the same set: a raft message and, beside it, what
// the cluster-time rule needs (reliability.md, note T), or a part of a snapshot on its way.
type Message struct {
	// Raft is nil when the message carries only Fetch or Chunk.
	Raft *raftpb.Message

	// Time is the sender's estimate of cluster time in Unix milliseconds, 0 when it has none.
	Time int64
	// Warm tells that Time was heard or kept in this process's lifetime, not read from the log at start.
	Warm bool
	// Wall is the sender's wall clock in Unix milliseconds.
	Wall int64

	// Fetch asks the receiver for a part of its snapshot; Chunk is the answer.
	Fetch *Fetch
	Chunk *Chunk
}

// Fetch asks for the part of a snapshot that begins at Offset. Without an Index it says that the sender has lost its log
// and the receiver, which remembers what was acknowledged, should let another lead: that one asks how far it is. A snapshot is the live part of the log and the
// image of the state machine at Index; it is fetched by the replica that needs it, part by part.
type Fetch struct {
	Index  uint64 // raft index of the image
	Term   uint64 // raft term of that index
	Next   uint64 // first log index wanted; above Index: the image is wanted
	Offset uint64 // offset within the image
}

// Chunk is a part of a snapshot: log entries while Next <= Index, then bytes of the image.
type Chunk struct {
	Fetch          // the question
	First   uint64 // first index of the log the snapshot consists of
	Before  uint64 // term of the entry before First
	Entries []*raftpb.Entry
	Image   []byte
	Size    uint64 // bytes of the whole image
	Gone    bool   // the sender has no such snapshot any more
}

// Envelope is a message with its destination.
type Envelope struct {
	To cmq.NodeID
	Message
}
