package engine

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/set"
)

func TestWhatAFullDiskRefuses(t *testing.T) {
	other := cmq.QueueID(9).Shard(0)
	requests := map[string]*cmq.Request{
		"send":     {Kind: cmq.KindSend, Bodies: [][]byte{[]byte("x")}},
		"receive":  {Kind: cmq.KindReceive, Max: 1},
		"transfer": {Kind: cmq.KindTransfer, From: other, Bodies: [][]byte{[]byte("x")}, IDs: []cmq.MsgID{1}},
		"rewind":   {Kind: cmq.KindRewind, Time: time.UnixMilli(start)},
		"delete":   {Kind: cmq.KindDelete, Handles: []cmq.Handle{5}},
		"release":  {Kind: cmq.KindRelease, Handles: []cmq.Handle{5}},
		"clear":    {Kind: cmq.KindClear},
		"status":   {Kind: cmq.KindStatus},
		"forget":   {Kind: cmq.KindForget},
	}
	for level, refused := range map[set.Space][]string{
		set.SpaceOK: nil, set.SpaceSoft: {"send"}, set.SpaceHard: {"send", "receive", "transfer", "rewind"},
	} {
		for name, req := range requests {
			r := newRig(t)
			r.open(func(a *cmq.ShardAttributes) { a.Rewind = time.Hour })
			r.m.SetSpace(level)
			copied := *req
			if err := r.do(&copied).Err; slices.Contains(refused, name) {
				require.Equal(t, cmq.ErrDiskFull, err, "%s at level %d", name, level)
			} else {
				require.Nil(t, err, "%s at level %d", name, level)
			}
		}
	}
}

func TestPollsEndWhenTheDiskIsFullAndGoOnWhenItIsNot(t *testing.T) {
	r := newRig(t)
	r.open(nil)
	r.send("locked")
	require.Len(t, r.receive(1), 1)
	poll, _ := r.submit(&cmq.Request{Kind: cmq.KindReceive, Max: 1, Wait: 30 * time.Second})
	r.m.SetSpace(set.SpaceHard)
	require.Equal(t, cmq.ErrDiskFull, poll.got.Reply.Err)
	r.m.SetSpace(set.SpaceSoft)
	poll, _ = r.submit(&cmq.Request{Kind: cmq.KindReceive, Max: 1, Wait: 30 * time.Second})
	r.pass(30 * time.Second)
	require.Equal(t, []string{"locked"}, bodies(poll.got.Reply.Messages))
	r.m.SetSpace(set.SpaceOK)
	r.send("again")
}
