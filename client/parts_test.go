package client_test

import (
	"fmt"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/client"
	"github.com/opencmq/cmq/client/internal/tcptest"
)

// handlesOf receives all there is and gives the handles.
func handlesOf(t *testing.T, q *client.Queue) (handles []string) {
	for {
		messages, err := q.BatchReceive(t.Context(), client.MaxWide, 0)
		if err != nil {
			require.ErrorIs(t, err, client.ErrNoMessage)
			return handles
		}
		for _, m := range messages {
			handles = append(handles, m.Handle)
		}
	}
}

// counting notes how many handles each request about handles had, or messages each receive asked for; those with more
// than most are refused.
func counting(q *tcptest.Queue, most int) *[]int {
	counts := new([]int)
	q.Refuse = func(r *tcptest.Request) *tcptest.Answer {
		n := len(r.Numbers(2))
		if r.Cmd == 1024 {
			asked, _ := r.Number(2)
			n = int(asked)
		} else if r.Cmd != 1026 && r.Cmd != 10001 {
			return nil
		}
		*counts = append(*counts, n)
		if n > most {
			return &tcptest.Answer{Result: 10370, Error: "parameter batch size is out of range"}
		}
		return nil
	}
	return counts
}

func TestManyHandlesOverTCP(t *testing.T) {
	tcpBubble(t, nil, func(t *testing.T, n *tcptest.Network, c *client.Client) {
		queue := tcptest.NewQueue()
		n.Start("a:1", queue.Handle)
		queue.Put(numbered(300)...)
		q := c.Queue("q")
		handles := handlesOf(t, q)
		require.Len(t, handles, 300)
		counts := counting(queue, 256)
		require.NoError(t, q.BatchChangeVisibility(t.Context(), handles, time.Minute))
		wrong := slices.Concat([]string{"7000"}, handles, []string{"7001"})
		var failed *client.BatchError
		require.ErrorAs(t, q.BatchDelete(t.Context(), wrong), &failed)
		require.Equal(t, []int{256, 44, 256, 46}, *counts)
		require.Equal(t, []string{"7000", "7001"}, []string{failed.Failed[0].Handle, failed.Failed[1].Handle})
		require.Len(t, failed.Failed, 2)
		require.Empty(t, queue.Bodies())

		// The last request may be about one handle only.
		require.ErrorAs(t, q.BatchChangeVisibility(t.Context(), append(make257(), "9"), 0), &failed)
		require.Len(t, failed.Failed, 258)
	})
}

func make257() (handles []string) {
	for i := range 257 {
		handles = append(handles, fmt.Sprint(100_000+i))
	}
	return handles
}

// A service that takes no more than sixteen at once gets no more, from the second request on.
func TestServiceThatTakesFewAtOnce(t *testing.T) {
	tcpBubble(t, nil, func(t *testing.T, n *tcptest.Network, c *client.Client) {
		queue := tcptest.NewQueue()
		n.Start("a:1", queue.Handle)
		queue.Put(numbered(40)...)
		q := c.Queue("q")
		handles := handlesOf(t, q)
		counts := counting(queue, client.MaxBatch)
		require.NoError(t, q.BatchDelete(t.Context(), handles))
		require.NoError(t, q.BatchDelete(t.Context(), nil))
		require.Equal(t, []int{40, 16, 16, 8, 0}, *counts)
		require.Empty(t, queue.Bodies())
	})
}

func TestManyHandlesOverHTTP(t *testing.T) {
	var counts []int
	var fail func(n int) string
	srv := service(t, func(form url.Values) string {
		n := 0
		for form.Has(fmt.Sprint("receiptHandle.", n+1)) {
			n++
		}
		if form.Has("receiptHandle") {
			n = 1
		}
		counts = append(counts, n)
		if fail != nil {
			if text := fail(len(counts)); text != "" {
				return text
			}
		}
		return `{"code":0,"message":"","requestId":"1"}`
	})
	q := newClient(t, srv.URL).Queue("q")
	require.NoError(t, q.BatchDelete(t.Context(), numbered(40)))
	require.NoError(t, q.BatchChangeVisibility(t.Context(), numbered(33), time.Second))
	require.Equal(t, []int{16, 16, 8, 16, 16, 1}, counts)

	counts = nil
	const part = `{"code":6010,"message":"(10150)delete message partially failed","requestId":"1","errorList":[{"code":4430,"message":"(10260)receipt handle is invalid","receiptHandle":"%d"}]}`
	fail = func(n int) string {
		return map[int]string{1: fmt.Sprintf(part, 1), 3: fmt.Sprintf(part, 3)}[n]
	}
	err := q.BatchDelete(t.Context(), numbered(40))
	var failed *client.BatchError
	require.ErrorAs(t, err, &failed)
	require.Len(t, failed.Failed, 2)
	require.Equal(t, "3", failed.Failed[1].Handle)
	require.ErrorIs(t, err, client.ErrHandleInvalid)

	// Another refusal ends it; what was refused before is told too.
	counts = nil
	fail = func(n int) string {
		return map[int]string{1: fmt.Sprintf(part, 1), 2: `{"code":4440,"message":"(10100)queue is not existed, or deleted","requestId":"1"}`}[n]
	}
	err = q.BatchDelete(t.Context(), numbered(40))
	require.ErrorIs(t, err, client.ErrQueueNotExist)
	require.ErrorAs(t, err, &failed)
	require.Equal(t, []int{16, 16}, counts, "the rest is not tried")
	require.Equal(t, client.Unknown, client.OutcomeOf(err))
}
