package set

import (
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/opencmq/cmq/internal/store"
	"github.com/opencmq/cmq/internal/store/checkpoint"
	"github.com/opencmq/cmq/internal/vfs"
)

// The root and the first segments of a log were damaged; what is left of it begins behind the image and does not know the term
// of the entry before. Raft starts all the same.
func TestEmptyLogThatKnowsNoTermBehindItsImage(t *testing.T) {
	conf := &raftpb.ConfState{Voters: []uint64{1, 2, 3}}
	st, err := store.Create(vfs.NewDisk(newRand()).Mount(), "set", store.Options{}, store.Image{Image: checkpoint.Image{Index: 12, ConfState: mustMarshal(conf)}})
	require.NoError(t, err)
	defer st.Close()
	image, err := st.LatestImage()
	require.NoError(t, err)
	image.Term = 3
	s, err := openStorage(st, image)
	require.NoError(t, err)
	s.applied, s.startConf = 12, conf
	term, err := s.Term(12)
	require.NoError(t, err)
	require.EqualValues(t, 3, term)
	_, err = s.Term(11)
	require.ErrorIs(t, err, raft.ErrCompacted)
	_, err = raft.NewRawNode(&raft.Config{ID: 1, ElectionTick: 10, HeartbeatTick: 1, Storage: s, Applied: 12, MaxInflightMsgs: 1, AsyncStorageWrites: true, Logger: raftLogger{slog.New(slog.DiscardHandler)}})
	require.NoError(t, err)
}
