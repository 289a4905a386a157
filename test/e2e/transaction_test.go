package e2e

import (
	"context"
	"encoding/json"
	"os/exec"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/client"
	"github.com/opencmq/cmq/test/cluster"
)

// Prepared messages of the SDK: committed ones are received, rolled back ones are not, and about those without a decision
// the checker is asked, also that of another program when the one that sent them has ended.
func TestPreparedMessages(t *testing.T) {
	c := cluster.Start(t, cluster.Options{Binary: binary})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	_, err := c.SDK(false).CreateQueue(ctx, "tx", client.Settings{Transactional: new(true), FirstQuery: new(time.Second)})
	require.NoError(t, err)
	var asked atomic.Int32
	check := client.WithChecker("tx", func(_ context.Context, queue, id string) client.State {
		if asked.Add(1) == 1 {
			return client.Undecided // it does not know yet
		}
		return client.Commit
	})
	first, err := client.New("tcp://"+c.Nodes[0].TCP, cluster.SecretID, cluster.SecretKey, check)
	require.NoError(t, err)
	second := c.SDK(true, check)
	q := second.Queue("tx")
	ids, err := q.BatchSendPrepared(ctx, []string{"committed", "rolled back"}, time.Minute)
	require.NoError(t, err)
	_, err = q.Receive(ctx, 0)
	require.ErrorIs(t, err, client.ErrNoMessage)
	require.NoError(t, q.Confirm(ctx, client.Decision{ID: ids[0], State: client.Commit}, client.Decision{ID: ids[1], State: client.Rollback}))
	m, err := q.Receive(ctx, 5*time.Second)
	require.NoError(t, err)
	require.Equal(t, "committed", m.Body)
	require.NoError(t, q.Delete(ctx, m.Handle))
	require.ErrorIs(t, q.Confirm(ctx, client.Decision{ID: ids[0], State: client.Commit}), client.ErrNotPrepared, "it is decided")

	_, err = first.Queue("tx").SendPrepared(ctx, "of a program that ended", 0)
	require.NoError(t, err)
	require.NoError(t, first.Close())
	require.NoError(t, cluster.Eventually(time.Minute, func() error {
		m, err = q.Receive(ctx, time.Second)
		return err
	}))
	require.Equal(t, "of a program that ended", m.Body)
	require.NoError(t, q.Delete(ctx, m.Handle))
	require.GreaterOrEqual(t, asked.Load(), int32(2))
	a, err := q.Attributes(ctx)
	require.NoError(t, err)
	require.True(t, a.Transactional)
	require.Equal(t, time.Second, a.FirstQuery)
	require.Zero(t, a.PreparedMsgNum+a.ActiveMsgNum+a.InactiveMsgNum)
	plain := c.SDK(true)
	_, err = plain.CreateQueue(ctx, "plain", client.Settings{})
	require.NoError(t, err)
	_, err = plain.Queue("plain").SendPrepared(ctx, "x", 0)
	require.ErrorIs(t, err, client.ErrTransaction)
}

// What nobody decides about is listed for the operator, who decides.
func TestUndecidedMessages(t *testing.T) {
	c := cluster.Start(t, cluster.Options{Binary: binary})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	run := func(args ...string) []byte {
		t.Helper()
		args = append(args, "-o", "json", "--endpoint", "http://"+c.Nodes[1].HTTP, "--secret-id", cluster.SecretID, "--secret-key", cluster.SecretKey)
		out, err := exec.CommandContext(ctx, binary, args...).Output()
		require.NoError(t, err, "%v: %s", args, out)
		return out
	}
	run("queue", "create", "tx", "--transactional", "--first-query", "1s", "--max-queries", "1")
	q := c.SDK(true).Queue("tx") // it has no checker
	ids, err := q.BatchSendPrepared(ctx, []string{"committed", "rolled back", "waiting"}, 0)
	require.NoError(t, err)
	require.NoError(t, q.Confirm(ctx, client.Decision{ID: ids[2], State: client.Commit}))
	var list []struct {
		ID        string
		Size      int
		Prepared  time.Time
		Queries   int
		Undecided bool
		Node      int
	}
	require.NoError(t, cluster.Eventually(time.Minute, func() error {
		if err := json.Unmarshal(run("queue", "undecided", "tx"), &list); err != nil || len(list) == 2 {
			return err
		}
		return client.ErrNoMessage
	}))
	for i, m := range list {
		require.Equal(t, ids[i], m.ID)
		require.Equal(t, []int{9, 11}[i], m.Size)
		require.Equal(t, 1, m.Queries)
		require.True(t, m.Undecided)
		require.WithinDuration(t, time.Now(), m.Prepared, time.Hour)
		require.Positive(t, m.Node)
	}
	var attributes struct{ Prepared, Undecided int }
	require.NoError(t, json.Unmarshal(run("queue", "attributes", "tx"), &attributes))
	require.Equal(t, 2, attributes.Prepared)
	require.Equal(t, 2, attributes.Undecided)
	report, err := exec.CommandContext(ctx, binary, "doctor", "--all", "--admin", "http://"+c.Nodes[0].Admin).CombinedOutput()
	require.Error(t, err, "there is a finding")
	require.Contains(t, string(report), "2 messages are undecided")

	run("queue", "decide", "tx", "commit", ids[0])
	run("queue", "decide", "tx", "rollback", ids[1])
	bodies := map[string]bool{}
	for range 2 {
		m, err := q.Receive(ctx, 10*time.Second)
		require.NoError(t, err)
		require.NoError(t, q.Delete(ctx, m.Handle))
		bodies[m.Body] = true
	}
	require.Equal(t, map[string]bool{"committed": true, "waiting": true}, bodies)
	require.Equal(t, "[]\n", string(run("queue", "undecided", "tx")))
}
