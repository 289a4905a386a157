package node

import (
	"encoding/json"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/internal/access/adminapi"
	"github.com/opencmq/cmq/internal/cmq"
)

func readState(t *testing.T, c *cluster, i int) (s adminapi.State) {
	t.Helper()
	resp, err := http.Get("http://" + c.opts[i].Admin.Addr().String() + adminapi.StatePath)
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, http.StatusOK, resp.StatusCode)
	require.Equal(t, "application/json", resp.Header.Get("Content-Type"))
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&s))
	return s
}

// The admin door tells what the node does, with every field that an operator's tools judge it by.
func TestState(t *testing.T) {
	c := startCluster(t, 3, func(o *Options) { o.Version = "v9 test" })
	ctx := timeout(t)
	c.ready(ctx)
	var states []adminapi.State
	for ; !settled(states); c.nodes[0].pause(nil, 10*time.Millisecond) {
		require.NoError(t, ctx.Err())
		states = nil
		for i := range c.nodes {
			states = append(states, readState(t, c, i))
		}
	}
	for i, s := range states {
		require.Equal(t, "v9 test", s.Version)
		require.Equal(t, cmq.NodeID(i+1), s.Node)
		require.Equal(t, "test", s.Cluster)
		require.False(t, s.Stopping)
		require.False(t, s.Started.After(s.Now))
		require.Len(t, s.Nodes, 3)
		require.Positive(t, s.Process.Memory)
		require.Positive(t, s.Process.Goroutines)
		require.Positive(t, s.Process.Limit)
		require.Positive(t, s.Process.Need)
		require.Empty(t, s.Disk.Error)
		require.Greater(t, s.Disk.Total, s.Disk.Free)
		require.Greater(t, s.Disk.Soft, s.Disk.Hard)
		require.Positive(t, s.Disk.Hard)
		require.Equal(t, len(c.nodes[i].setIDs), len(s.Sets))
		for _, set := range s.Sets {
			require.Equal(t, []cmq.NodeID{1, 2, 3}, set.Voters)
			require.NotZero(t, set.Leader)
			require.Equal(t, set.Leader == s.Node, set.Leading)
			require.Nil(t, set.Repair)
			require.Empty(t, set.Damage)
			require.False(t, set.Hangs)
			require.Len(t, set.Replicas, 2)
			for _, r := range set.Replicas {
				require.NotEqual(t, s.Node, r.Node)
				if set.Leading {
					require.NotNil(t, r.Heard)
					require.NotEmpty(t, r.State)
				}
			}
			if set.Leading {
				require.NotNil(t, set.ClockOffset)
			}
		}
	}
}

// settled reports that all nodes name the same leader of each set, and it has heard from its followers and knows the time of most.
func settled(states []adminapi.State) bool {
	leaders := map[cmq.SetID]cmq.NodeID{}
	for _, s := range states {
		for _, set := range s.Sets {
			if known, ok := leaders[set.Set]; set.Leader == 0 || ok && known != set.Leader || set.Leading && !warm(&set) {
				return false
			}
			leaders[set.Set] = set.Leader
		}
	}
	return len(states) > 0
}

func warm(set *adminapi.Set) bool {
	return set.ClockOffset != nil && !slices.ContainsFunc(set.Replicas, func(r adminapi.Replica) bool { return r.Heard == nil })
}
