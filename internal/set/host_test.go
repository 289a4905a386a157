package set

import (
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/opencmq/cmq/internal/clock"
	"github.com/opencmq/cmq/internal/store"
	"github.com/opencmq/cmq/internal/store/segment"
	"github.com/opencmq/cmq/internal/vfs"
)

func TestHostMakesImagesAndChecksFilesInTheBackground(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var h *Host
		opt := store.Options{
			Options: segment.Options{Cluster: 9, Set: 4, Replica: 1, SegmentSize: 16 << 10}, Message: wholeEntry,
			Serial: func(f func() error) error { return h.Serial(f) },
		}
		st, err := store.Create(vfs.NewDisk(newRand()).Mount(), "set", opt, bootImage(&raftpb.ConfState{Voters: []uint64{1}}))
		require.NoError(t, err)
		m := &list{}
		r, err := NewReplica(Config{Set: 4, Node: 1, Machine: m, Store: st, Logger: slog.New(slog.DiscardHandler)})
		require.NoError(t, err)
		h = NewHost(r, HostConfig{Clock: clock.Real(), Send: func(Envelope) {}, Failed: func(err error) { t.Error(err) }})
		h.Exec(func(Now) { r.Campaign() })
		for range 100 {
			<-time.After(TickInterval)
			h.Exec(func(Now) { m.queue = append(m.queue, "dead "+string(make([]byte, 1000))) })
		}
		<-time.After(2 * time.Minute)
		status := h.Status()
		require.True(t, status.Leading)
		require.Greater(t, status.ImageIndex, uint64(50))
		require.Greater(t, status.First, uint64(20), "the log's beginning went with the images")
		require.NotZero(t, status.Scrub.Passes)

		broken := errors.New("it does not work")
		require.ErrorIs(t, h.Serial(func() error { return broken }), broken)
		h.Stop(t.Context())
		require.True(t, m.closed)
		require.NoError(t, st.Close())
	})
}
