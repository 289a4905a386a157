package dispatch

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/internal/clock"
	"github.com/opencmq/cmq/internal/cmq"
)

func attend(a *Attendance, group string, member uint64, stay time.Duration) *cmq.Reply {
	return a.Attend(&cmq.Request{Kind: cmq.KindAttend, Payload: []byte(group), Number: member, Lock: stay})
}

func TestAttendance(t *testing.T) {
	c := clock.NewManual(time.Unix(1_700_000_000, 0))
	a := NewAttendance(c)
	require.Equal(t, &cmq.Reply{Number: 1}, attend(a, "1/plant", 7, 10*time.Second), "a new leader knows of one, and not that there is no other")
	require.Equal(t, &cmq.Reply{Number: 2}, attend(a, "1/plant", 8, time.Hour), "nobody stays longer than MaxStay without saying so again")
	require.EqualValues(t, 1, attend(a, "2/plant", 7, MaxStay).Number, "another account's")
	require.Equal(t, 3, a.Members())
	c.Advance(10 * time.Second)
	require.EqualValues(t, 1, attend(a, "1/plant", 0, 0).Number, "7 has not said anything for 10 s")
	require.EqualValues(t, 2, attend(a, "1/plant", 9, 10*time.Second).Number)
	c.Advance(5 * time.Second)
	require.Equal(t, &cmq.Reply{Number: 1, Base: 1}, attend(a, "1/plant", 0, 0), "8 is over too; now everybody has been heard")
	n, known := a.Count("3/none")
	require.Zero(t, n)
	require.True(t, known)
	require.EqualValues(t, 0, attend(a, "1/plant", 9, 0).Number, "it leaves")
	require.Zero(t, attend(a, "1/plant", 9, 0).Number, "and once more")

	attend(a, "1/plant", 9, MaxStay)
	a.Begin()
	require.Equal(t, &cmq.Reply{}, attend(a, "1/plant", 0, 0), "a leader that was not one in between may have missed that somebody left")
	require.Empty(t, a.groups)
}

func TestAttendanceIsBounded(t *testing.T) {
	c := clock.NewManual(time.Unix(1_700_000_000, 0))
	a := NewAttendance(c)
	for i := range uint64(mostMembers) {
		attend(a, "1/"+string(rune('a'+i%20)), i+1, MaxStay)
	}
	require.EqualValues(t, 0, attend(a, "2/x", 1, MaxStay).Number)
	require.Equal(t, mostMembers, a.Members())
	require.EqualValues(t, mostMembers/20, attend(a, "1/a", 1, MaxStay).Number, "who is known stays known")
	c.Advance(MaxStay)
	require.EqualValues(t, 1, attend(a, "2/x", 1, MaxStay).Number)
	require.Equal(t, 1, a.Members())
	require.Len(t, a.groups, 1, "nothing is kept of who has gone")
}
