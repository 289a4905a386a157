package set

import (
	"errors"
	"fmt"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/opencmq/cmq/internal/store"
	"github.com/opencmq/cmq/internal/store/segment"
)

// storage shows a store to raft (raft.Storage). It is used only by the goroutine that drives the Replica.
type storage struct {
	store *store.Store
	image store.Image       // newest image; its Parts are not kept; Index 0 if there is none
	conf  *raftpb.ConfState // of the image

	// With what raft starts: the image's, or after a repair what the machine had applied.
	applied   uint64
	startConf *raftpb.ConfState
}

func openStorage(s *store.Store, image store.Image) (*storage, error) {
	conf := new(raftpb.ConfState)
	if err := proto.Unmarshal(image.ConfState, conf); err != nil {
		return nil, fmt.Errorf("image at index %d: membership cannot be read: %w", image.Index, err)
	}
	image.Parts = nil
	return &storage{store: s, image: image, conf: conf}, nil
}

func (s *storage) log() *segment.Log { return s.store.Log() }

// behind is about how many bytes of log there are from an entry on.
func (s *storage) behind(index uint64) int64 {
	log := s.log()
	if index > log.LastIndex() {
		return 0
	}
	if index < log.FirstIndex() {
		return 1<<63 - 1
	}
	var bytes int64
	for _, info := range log.Sealed() {
		if info.Last >= index {
			bytes += info.End
		}
	}
	return bytes
}

// segmentWith is the number of the sealed segment with an entry, 0 if it is in the active one.
func (s *storage) segmentWith(index uint64) uint64 {
	for _, info := range s.log().Sealed() {
		if info.First <= index && index <= info.Last {
			return info.Number
		}
	}
	return 0
}

// InitialState implements raft.Storage.
func (s *storage) InitialState() (*raftpb.HardState, *raftpb.ConfState, error) {
	hs := s.store.Log().HardState()
	// The commit index on disk may be behind the image, because it is not synced on its own. It is never ahead of the log: it is in the
	// same batch as the entries before it, and a log that has lost such entries has holes, with which no raft is started.
	commit := max(hs.Commit, s.applied)
	term := max(hs.Term, s.image.Term)
	return &raftpb.HardState{Term: &term, Vote: &hs.Vote, Commit: &commit}, s.startConf, nil
}

// Entries implements raft.Storage.
func (s *storage) Entries(lo, hi, maxSize uint64) ([]*raftpb.Entry, error) {
	entries, err := s.store.Log().Entries(lo, hi, maxSize)
	if err != nil {
		return nil, raftError(err)
	}
	return toRaft(entries), nil
}

// Term implements raft.Storage. A log whose beginning was lost may not know the term of the entry before it, which raft must be
// told if that is the last one; the image of that entry knows it.
func (s *storage) Term(i uint64) (uint64, error) {
	t, err := s.store.Log().Term(i)
	if errors.Is(err, segment.ErrCompacted) && i == s.image.Index && i > 0 {
		return s.image.Term, nil
	}
	return t, raftError(err)
}

// FirstIndex implements raft.Storage.
func (s *storage) FirstIndex() (uint64, error) { return s.store.Log().FirstIndex(), nil }

// LastIndex implements raft.Storage.
func (s *storage) LastIndex() (uint64, error) { return s.store.Log().LastIndex(), nil }

// Snapshot implements raft.Storage. The snapshot carries no data: whoever gets it fetches the parts.
func (s *storage) Snapshot() (*raftpb.Snapshot, error) {
	index, term := s.image.Index, s.image.Term
	return &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{ConfState: s.conf, Index: &index, Term: &term}}, nil
}

func raftError(err error) error {
	switch {
	case errors.Is(err, segment.ErrCompacted):
		return raft.ErrCompacted
	case errors.Is(err, segment.ErrUnavailable):
		return raft.ErrUnavailable
	default:
		return err
	}
}

func toRaft(entries []segment.Entry) []*raftpb.Entry {
	out := make([]*raftpb.Entry, len(entries))
	for i := range entries {
		e := &entries[i]
		typ := raftpb.EntryType(e.Type)
		out[i] = &raftpb.Entry{Type: &typ, Index: &e.Index, Term: &e.Term, Data: e.Data}
	}
	return out
}

func fromRaft(entries []*raftpb.Entry) []segment.Entry {
	out := make([]segment.Entry, len(entries))
	for i, e := range entries {
		out[i] = segment.Entry{Index: e.GetIndex(), Term: e.GetTerm(), Type: uint8(e.GetType()), Data: e.GetData()}
	}
	return out
}
