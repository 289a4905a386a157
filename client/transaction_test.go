package client_test

import (
	"context"
	"fmt"
	"net/url"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/opencmq/cmq/client"
	"github.com/opencmq/cmq/client/internal/tcptest"
)

// item reads a confirmation item: id and state.
func item(t *testing.T, data string) (id, state uint64) {
	b := []byte(data)
	for len(b) > 0 {
		number, _, n := protowire.ConsumeTag(b)
		require.Positive(t, n)
		v, m := protowire.ConsumeVarint(b[n:])
		require.Positive(t, m)
		b = b[n+m:]
		if number == 1 {
			id = v
		} else {
			state = v
		}
	}
	return id, state
}

// undecided is an answer to a confirmation with one message that could not be confirmed.
func undecided(id uint64) tcptest.Answer {
	one := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), id)
	one = protowire.AppendVarint(protowire.AppendTag(one, 2, protowire.VarintType), 3)
	one = protowire.AppendVarint(protowire.AppendTag(one, 3, protowire.VarintType), 10770)
	one = protowire.AppendString(protowire.AppendTag(one, 4, protowire.BytesType), "message id is invalid")
	body := protowire.AppendBytes(protowire.AppendTag(nil, 2, protowire.BytesType), one)
	return tcptest.Answer{Result: 10760, Error: "transaction confirmation partially failed", Raw: protowire.AppendBytes(protowire.AppendTag(nil, 222, protowire.BytesType), body)}
}

func TestPreparedMessages(t *testing.T) {
	tcpBubble(t, nil, func(t *testing.T, n *tcptest.Network, c *client.Client) {
		var last tcptest.Request
		next := tcptest.Answer{IDs: []uint64{7}}
		n.Start("a:1", answering(&last, &next))
		q, ctx := c.Queue("orders"), t.Context()
		id, err := q.SendPrepared(ctx, "x", 5*time.Second)
		require.NoError(t, err)
		require.Equal(t, "7", id)
		require.EqualValues(t, 1021, last.Cmd)
		require.Equal(t, []uint64{1, 5}, append(last.Numbers(4), last.Numbers(5)...))
		_, err = q.SendPrepared(ctx, "x", time.Hour)
		require.NoError(t, err)
		require.Equal(t, []uint64{3_600_000}, last.Numbers(5))
		next.IDs = []uint64{7, 8}
		_, err = q.BatchSendPrepared(ctx, []string{"x", "y"}, 0)
		require.NoError(t, err)
		require.Equal(t, []uint64{1}, append(last.Numbers(4), last.Numbers(5)...), "the queue's own interval")

		next = tcptest.Answer{}
		require.NoError(t, q.Confirm(ctx, client.Decision{ID: "7", State: client.Commit}, client.Decision{ID: "8", State: client.Rollback}, client.Decision{ID: "9"}))
		require.EqualValues(t, 1041, last.Cmd)
		require.Equal(t, "orders", last.Text(1))
		items := last.Texts(2)
		require.Len(t, items, 2, "what is undecided is left out")
		id7, state7 := item(t, items[0])
		id8, state8 := item(t, items[1])
		require.Equal(t, []uint64{7, 1, 8, 2}, []uint64{id7, state7, id8, state8})
		last = tcptest.Request{}
		require.NoError(t, q.Confirm(ctx, client.Decision{ID: "9"}))
		require.Zero(t, last.Cmd, "nothing to say")

		next = undecided(8)
		err = q.Confirm(ctx, client.Decision{ID: "7", State: client.Commit}, client.Decision{ID: "8", State: client.Rollback})
		var failed *client.ConfirmError
		require.ErrorAs(t, err, &failed)
		require.Equal(t, "8", failed.Failed[0].ID)
		require.ErrorContains(t, err, "message id is invalid")
		next = tcptest.Answer{Result: 10790, Error: "transaction message is not supported"}
		require.ErrorContains(t, q.Confirm(ctx, client.Decision{ID: "7", State: client.Commit}), "not supported")
		require.ErrorContains(t, q.Confirm(ctx, client.Decision{ID: "x"}), "not a number")
	})
}

// The server asks what became of messages; the checker of the queue answers, or not at all.
func TestCheckers(t *testing.T) {
	check := func(ctx context.Context, queue, id string) client.State {
		switch id {
		case "1":
			return client.Commit
		case "2":
			return client.Rollback
		case "3":
			return client.Undecided
		}
		panic("no such message")
	}
	tcpBubble(t, []client.Option{client.WithChecker("orders", check)}, func(t *testing.T, n *tcptest.Network, c *client.Client) {
		confirmed := make(map[uint64]uint64)
		n.Start("a:1", func(s *tcptest.Session, r *tcptest.Request) {
			switch r.Cmd {
			case 1021:
				for id := range uint64(4) {
					s.Write(tcptest.Query("orders", id+1))
				}
				s.Write(tcptest.Query("nobody's", 1))
				s.Answer(r, tcptest.Answer{IDs: []uint64{1}})
			case 1041:
				id, state := item(t, r.Text(2))
				confirmed[id] = state
				s.Answer(r, tcptest.Answer{})
			}
		})
		_, err := c.Queue("orders").SendPrepared(t.Context(), "x", 0)
		require.NoError(t, err)
		synctest.Wait()
		require.Equal(t, map[uint64]uint64{1: 1, 2: 2}, confirmed)
	})
}

// Checkers that hang do not take all goroutines, and Close does not wait for them for ever.
func TestCheckersAreBounded(t *testing.T) {
	var running atomic.Int32
	check := func(ctx context.Context, queue, id string) client.State {
		running.Add(1)
		<-ctx.Done()
		return client.Undecided
	}
	tcpBubble(t, []client.Option{client.WithChecker("orders", check)}, func(t *testing.T, n *tcptest.Network, c *client.Client) {
		n.Start("a:1", func(s *tcptest.Session, r *tcptest.Request) {
			for id := range uint64(1000) {
				s.Write(tcptest.Query("orders", id))
			}
			s.Answer(r, tcptest.Answer{IDs: []uint64{1}})
		})
		_, err := c.Queue("orders").Send(t.Context(), "x")
		require.NoError(t, err, "calls go on meanwhile")
		synctest.Wait()
		require.EqualValues(t, 64, running.Load())
	})
	require.Equal(t, "commit rollback undecided", fmt.Sprint(client.Commit, " ", client.Rollback, " ", client.Undecided))
}

// TestConfirmOverHTTP: commits first, each state in requests of its own, and what failed is put together.
func TestConfirmOverHTTP(t *testing.T) {
	var asked []string
	srv := service(t, func(form url.Values) string {
		ids := 0
		for form.Has(fmt.Sprint("msgId.", ids+1)) {
			ids++
		}
		asked = append(asked, fmt.Sprint(form.Get("Action"), " ", form.Get("queueName"), " ", form.Get("state"), " ", ids, " from ", form.Get("msgId.1")))
		if form.Get("state") == "2" {
			return `{"code":6040,"message":"(10750)transaction confirmation failed","requestId":"1","errorList":[{"code":4490,"message":"(10770)message id is invalid","msgId":"7"}]}`
		}
		return `{"code":0,"message":"","requestId":"1"}`
	})
	q := newClient(t, srv.URL).Queue("orders")
	decisions := []client.Decision{{ID: "7", State: client.Rollback}, {ID: "8"}}
	for i := range 17 {
		decisions = append(decisions, client.Decision{ID: strconv.Itoa(100 + i), State: client.Commit})
	}
	err := q.Confirm(t.Context(), decisions...)
	var failed *client.ConfirmError
	require.ErrorAs(t, err, &failed)
	require.Len(t, failed.Failed, 1)
	require.Equal(t, "7", failed.Failed[0].ID)
	require.ErrorIs(t, err, client.ErrNotPrepared)
	require.Equal(t, []string{"ConfirmTransaction orders 1 16 from 100", "ConfirmTransaction orders 1 1 from 116", "ConfirmTransaction orders 2 1 from 7"}, asked)
	require.NoError(t, q.Confirm(t.Context(), client.Decision{ID: "8"}), "nothing is decided, nothing is asked")
	require.Len(t, asked, 3)
}

func TestListOfPreparedMessages(t *testing.T) {
	var last url.Values
	srv := service(t, func(form url.Values) string {
		last = form
		return `{"code":0,"message":"","requestId":"1","messageList":[` +
			`{"msgId":"5","msgSize":3,"prepareTime":1700000000,"queryCount":15,"nextQueryTime":0,"undecided":1,"producerNode":2,"producerAddress":"10.0.0.1:5"},` +
			`{"msgId":"6","msgSize":4,"prepareTime":0,"queryCount":1,"nextQueryTime":1700000009,"undecided":0,"producerNode":3}]}`
	})
	list, err := newClient(t, srv.URL).Queue("orders").PreparedMessages(t.Context(), client.PreparedOptions{Undecided: true, After: "4", Limit: 2})
	require.NoError(t, err)
	require.Equal(t, []client.PreparedMessage{
		{ID: "5", Size: 3, Prepared: time.Unix(1700000000, 0), Queries: 15, Undecided: true, Node: 2, Producer: "10.0.0.1:5"},
		{ID: "6", Size: 4, Queries: 1, NextQuery: time.Unix(1700000009, 0), Node: 3},
	}, list)
	require.Equal(t, []string{"ListPreparedMessages", "orders", "1", "4", "2"},
		[]string{last.Get("Action"), last.Get("queueName"), last.Get("undecided"), last.Get("afterMsgId"), last.Get("limit")})
}
