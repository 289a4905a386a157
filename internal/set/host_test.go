package set

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/opencmq/cmq/internal/clock"
	"github.com/opencmq/cmq/internal/cmq"
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

// TestStoppingLeaderAsksAnother: the follower that it asks first to take over has just gone without a word. It takes an
// election timeout until that is given up; then the other one is asked.
func TestStoppingLeaderAsksAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hosts, gone := map[cmq.NodeID]*Host{}, cmq.NodeID(0)
		var mu sync.Mutex // of gone
		for _, id := range []cmq.NodeID{1, 2, 3} {
			opt := store.Options{
				Options: segment.Options{Cluster: 9, Set: 4, Replica: uint64(id), SegmentSize: 16 << 10}, Message: wholeEntry,
				Serial: func(f func() error) error { return hosts[id].Serial(f) },
			}
			st, err := store.Create(vfs.NewDisk(newRand()).Mount(), "set", opt, bootImage(&raftpb.ConfState{Voters: []uint64{1, 2, 3}}))
			require.NoError(t, err)
			defer st.Close()
			r, err := NewReplica(Config{Set: 4, Node: id, Machine: &list{}, Store: st, Logger: slog.New(slog.DiscardHandler)})
			require.NoError(t, err)
			send := func(e Envelope) {
				mu.Lock()
				defer mu.Unlock()
				if e.To != gone && id != gone {
					hosts[e.To].Deliver(id, e.Message)
				}
			}
			mu.Lock()
			hosts[id] = NewHost(r, HostConfig{Clock: clock.Real(), Send: send, Failed: func(err error) { t.Error(err) }})
			mu.Unlock()
		}
		hosts[2].Exec(func(Now) { hosts[2].r.Campaign() })
		<-time.After(time.Second)
		require.True(t, hosts[2].Status().Leading)

		mu.Lock()
		gone = 1
		mu.Unlock()
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		hosts[2].Stop(ctx)
		require.Less(t, time.Since(began), 3*time.Second)
		synctest.Wait()
		require.EqualValues(t, 3, hosts[3].Leader())
		hosts[3].Stop(ctx)
		require.Less(t, time.Since(began), 5*time.Second, "nobody is left to take over")
		hosts[1].Stop(ctx)
	})
}
