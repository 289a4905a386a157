package e2e

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/client"
	"github.com/opencmq/cmq/test/cluster"
)

// What is published reaches a queue of every subscription that wants it, on whatever set the queue is, exactly once, although
// the node that leads the topic's set is killed meanwhile: what was not delivered by then is found again in the log.
func TestPublishThroughALeaderKill(t *testing.T) {
	const queues, batches, batch = 9, 60, 4
	c := cluster.Start(t, cluster.Options{Binary: binary})
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	admin := c.SDK(false)
	for i := range queues { // before the topic, whose set would get none beside all the subscriptions
		c.CreateQueue(ctx, fmt.Sprint("q", i))
	}
	_, err := admin.CreateTopic(ctx, "news", client.TopicSettings{})
	require.NoError(t, err)
	for i := range queues {
		name := fmt.Sprint("q", i)
		s := client.Subscription{Protocol: client.ToQueue, Endpoint: name}
		if rare(i) {
			s.FilterTags = []string{"rare"}
		}
		_, err := admin.Topic("news").Subscribe(ctx, "to-"+name, s)
		require.NoError(t, err)
	}

	confirmed, unclear := map[string]bool{}, 0 // whether it is rare
	topic := c.Client(0, true).Topic("news")
	var killed *cluster.Node
	for n := range batches {
		var bodies []string
		o, kind := client.PublishOptions{}, "often"
		if n%3 == 0 {
			o.Tags, kind = []string{"rare"}, "rare"
		}
		for i := range batch {
			bodies = append(bodies, fmt.Sprintf("%s %d.%d", kind, n, i))
		}
		ids, err := topic.BatchPublish(ctx, bodies, o)
		if err != nil { // perhaps stored, perhaps not
			unclear++
			cluster.Pause(ctx)
			continue
		}
		for _, body := range bodies {
			confirmed[body] = kind == "rare"
		}
		if n >= batches/3 && killed == nil {
			killed = c.Leader(cluster.SetOf(t, ids[0]))
			c.Kill(killed)
		}
	}
	require.NotNil(t, killed)
	require.Greater(t, len(confirmed), batches*batch/2, "%d publishes without an answer", unclear)
	c.Start(killed)
	c.WaitReady(killed)

	sets := map[uint64]bool{}
	for i := range queues {
		name := fmt.Sprint("q", i)
		id, err := c.Client(0, true).Queue(name).Send(ctx, "own")
		require.NoError(t, err)
		sets[cluster.SetOf(t, id)] = true
		missing := map[string]bool{"own": true}
		for body, isRare := range confirmed {
			if isRare || !rare(i) {
				missing[body] = true
			}
		}
		require.NoError(t, drain(ctx, c.Client(1, true).Queue(name), missing, rare(i)), name)
	}
	require.Len(t, sets, 3, "queues are on all sets")
	t.Logf("%d confirmed, %d publishes without an answer", len(confirmed), unclear)
}

// rare says which queues want rare messages only.
func rare(queue int) bool { return queue%3 == 2 }

// drain receives until nothing is missing and nothing comes any more. The error says what came twice, or unasked.
func drain(ctx context.Context, q *client.Queue, missing map[string]bool, onlyRare bool) error {
	seen := map[string]bool{}
	return cluster.Eventually(time.Minute, func() error {
		messages, err := q.BatchReceive(ctx, 16, time.Second)
		switch {
		case errors.Is(err, client.ErrNoMessage) && len(missing) == 0:
			return nil
		case err != nil:
			return fmt.Errorf("%d are missing: %w", len(missing), err)
		}
		var handles []string
		for _, m := range messages {
			if seen[m.Body] {
				return cluster.Final(fmt.Errorf("%q came twice", m.Body))
			}
			if onlyRare && strings.HasPrefix(m.Body, "often") {
				return cluster.Final(fmt.Errorf("%q was not asked for", m.Body))
			}
			seen[m.Body] = true
			delete(missing, m.Body)
			handles = append(handles, m.Handle)
		}
		if err := q.BatchDelete(ctx, handles); err != nil {
			return cluster.Final(err)
		}
		return fmt.Errorf("%d are missing", len(missing))
	})
}
