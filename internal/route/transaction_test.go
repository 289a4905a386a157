package route_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/internal/cmq"
)

// withTransactions is withQueue for a transactional queue.
func withTransactions(t *testing.T, shards int) *cluster {
	c, _ := withQueue(t, shards)
	_, err := c.alter("me", "q", func(q *cmq.Queue) { q.Attributes.Transaction.On = true })
	require.NoError(t, err)
	return c
}

func TestDecisionsFindTheirShards(t *testing.T) {
	c := withTransactions(t, 4) // two in each set
	r := c.router(3)
	var ids []cmq.MsgID
	for range 6 {
		got, err := r.Prepare(t.Context(), "me", "q", bodies("a", "b"), time.Second, 9)
		require.NoError(t, err)
		ids = append(ids, got...)
	}
	none, err := r.Receive(t.Context(), "me", "q", 16, nil, 0)
	require.NoError(t, err)
	require.Empty(t, none)
	decisions := []cmq.Decision{{ID: 1}, {ID: cmq.NewMsgID(2, 1<<30, 0), Commit: true}}
	for i, id := range ids {
		decisions = append(decisions, cmq.Decision{ID: id, Commit: i%3 > 0})
	}
	errs, err := r.Confirm(t.Context(), "me", "q", decisions)
	require.NoError(t, err)
	require.Equal(t, append([]*cmq.Error{cmq.ErrNotPrepared, cmq.ErrNotPrepared}, make([]*cmq.Error, len(ids))...), errs)
	committed := 0
	for range 4 {
		got, err := r.Receive(t.Context(), "me", "q", 16, nil, 0)
		require.NoError(t, err)
		committed += len(got)
	}
	require.Equal(t, 8, committed)
	errs, err = r.Confirm(t.Context(), "me", "q", decisions[2:4])
	require.NoError(t, err)
	require.Equal(t, []*cmq.Error{cmq.ErrNotPrepared, cmq.ErrNotPrepared}, errs)
}

func TestOrdinaryQueueHasNothingToDecide(t *testing.T) {
	c, _ := withQueue(t, 1)
	errs, err := c.router(1).Confirm(t.Context(), "me", "q", []cmq.Decision{{ID: cmq.NewMsgID(1, 5, 0), Commit: true}, {ID: 7}})
	require.NoError(t, err)
	require.Equal(t, []*cmq.Error{cmq.ErrTransaction, cmq.ErrTransaction}, errs)
}

func TestDecisionRepeatedAfterALostAnswer(t *testing.T) {
	c := withTransactions(t, 1)
	r := c.router(1)
	ids, err := r.Prepare(t.Context(), "me", "q", bodies("a"), 0, 9)
	require.NoError(t, err)
	lost := 0
	c.after = func(_ cmq.NodeID, req *cmq.Request) error {
		if lost++; lost == 1 {
			return cmq.ErrUnknownOutcome
		}
		return nil
	}
	_, err = r.Confirm(t.Context(), "me", "q", []cmq.Decision{{ID: ids[0], Commit: true}})
	require.ErrorIs(t, err, cmq.ErrUnknownOutcome, "it may have been this very decision")
	require.Equal(t, 2, lost)

	lost = 0
	_, err = r.Prepare(t.Context(), "me", "q", bodies("b"), 0, 9)
	require.ErrorIs(t, err, cmq.ErrUnknownOutcome)
	require.Equal(t, 1, lost, "it would be stored twice")
}

func TestQueriesReachEveryNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := withTransactions(t, 2)
		r := c.router(3)
		got, err := r.Queries(t.Context(), "me", "q", 10, time.Second)
		require.NoError(t, err)
		require.Empty(t, got)

		came := make(chan []cmq.Query)
		go func() {
			got, err := r.Queries(t.Context(), "me", "q", 10, time.Minute)
			if err != nil {
				t.Error(err)
			}
			came <- got
		}()
		synctest.Wait()
		c.lead(1, 2) // the wait moves to the new leader
		<-time.After(time.Second)
		ids, err := c.router(2).Prepare(t.Context(), "me", "q", bodies("a"), 0, 77)
		require.NoError(t, err)
		require.Equal(t, []cmq.Query{{ID: ids[0], Count: 1, Origin: cmq.Origin{Node: 2, Conn: 77}}}, <-came)

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = r.Queries(ctx, "me", "q", 10, time.Minute)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		_, err = r.Queries(t.Context(), "me", "none", 10, time.Minute)
		require.ErrorIs(t, err, cmq.ErrQueueNotExist)
	})
}
