package set

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/store"
)

// TestAnswerToAnEarlierLifeIsNotTaken: what the process before had asked may be answered when this one has begun to ask.
func TestAnswerToAnEarlierLifeIsNotTaken(t *testing.T) {
	c := newTrio(t)
	l := c.elect(1)
	c.propose(l, "first", "second")
	c.tick(2)
	m := c.members[2]
	refs := []store.Ref{{Index: m.m.indexes[0]}, {Index: m.m.indexes[1]}}
	type sent struct {
		from cmq.NodeID
		Envelope
	}
	var late []sent
	c.lose = func(from cmq.NodeID, e Envelope) bool {
		lost := e.To == 2 && e.Answer != nil
		if lost {
			late = append(late, sent{from, e})
		}
		return lost
	}
	var found []store.Message
	fetch := func(ref store.Ref) {
		m.r.FetchMessages(c.clock(), []store.Ref{ref}, func(got []store.Message, _ error) { found = got })
		c.work()
	}
	fetch(refs[0])
	require.Len(t, late, 1)
	c.restart(2)
	c.tick(2)
	fetch(refs[1])
	require.Len(t, late, 2)
	require.Equal(t, late[0].from, late[1].from)
	for _, e := range late {
		m.r.Step(c.clock(), e.from, e.Message)
	}
	c.work()
	require.Len(t, found, 1)
	require.Equal(t, refs[1], found[0].Ref)
	require.Equal(t, "second", string(found[0].Body))
}
