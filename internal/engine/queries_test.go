package engine

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/set"
)

func transactional(a *cmq.ShardAttributes) {
	a.Transaction = cmq.TransactionPolicy{On: true, FirstQueryInterval: 10 * time.Second, MaxQueryCount: 2}
}

func (r *rig) prepare(node cmq.NodeID, texts ...string) []cmq.MsgID {
	req := &cmq.Request{Kind: cmq.KindPrepare, Origin: cmq.Origin{Node: node, Conn: 5}}
	for _, b := range texts {
		req.Bodies = append(req.Bodies, []byte(b))
	}
	reply := r.do(req)
	require.Nil(r.t, reply.Err)
	return reply.IDs
}

func (r *rig) decide(commit bool, ids ...cmq.MsgID) []*cmq.Error {
	req := &cmq.Request{Kind: cmq.KindDecide}
	for _, id := range ids {
		req.Decisions = append(req.Decisions, cmq.Decision{ID: id, Commit: commit})
	}
	return r.do(req).Errors
}

// carrier parks a call for queries of a node.
func (r *rig) carrier(node cmq.NodeID, wait time.Duration) (*answer, *Call) {
	a, c := r.submit(&cmq.Request{Kind: cmq.KindQueries, Max: 10, Wait: wait, Origin: cmq.Origin{Node: node}})
	r.settle()
	return a, c
}

func asked(a *answer) (ids []cmq.MsgID) {
	for _, q := range a.got.Reply.Queries {
		ids = append(ids, q.ID)
	}
	return ids
}

func TestCommitWakesAPollInTheSameEntry(t *testing.T) {
	r := newRig(t)
	r.open(transactional)
	ids := r.prepare(1, "first", "second", "third")
	poll, _ := r.submit(&cmq.Request{Kind: cmq.KindReceive, Max: 16, Wait: time.Minute})
	r.settle()
	require.Zero(t, poll.n, "what is prepared is not delivered")
	require.EqualValues(t, 3, r.status().Prepared)
	require.EqualValues(t, 0, r.status().Active)
	r.pass(time.Second)
	before := r.index
	require.Equal(t, []*cmq.Error{nil}, r.decide(true, ids[1]))
	require.Equal(t, before+1, r.index)
	require.Equal(t, []string{"second"}, bodies(poll.got.Reply.Messages))
	msg := poll.got.Reply.Messages[0]
	require.Equal(t, ids[1], msg.ID)
	require.Equal(t, r.now, msg.Enqueued.UnixMilli(), "it counts as sent when it was committed")
	require.Equal(t, []*cmq.Error{nil, cmq.ErrNotPrepared, cmq.ErrNotPrepared}, r.decide(false, ids[2], ids[1], 77))
	require.EqualValues(t, 1, r.status().Prepared)
	require.EqualValues(t, 1, r.m.Stats().Prepared.Load())
}

func TestQueryGoesToTheProducersNode(t *testing.T) {
	r := newRig(t)
	r.open(transactional)
	one, two := r.prepare(1, "a"), r.prepare(2, "b", "c")
	three := r.prepare(3, "d")
	first, _ := r.carrier(1, time.Minute)
	second, _ := r.carrier(2, time.Minute)
	r.pass(9_999 * time.Millisecond)
	require.Zero(t, first.n+second.n)
	r.pass(time.Millisecond)
	require.Equal(t, append(one, three...), asked(first), "nobody asks at node 3")
	require.Equal(t, two, asked(second))
	require.Equal(t, cmq.Query{ID: two[0], Count: 1, Origin: cmq.Origin{Node: 2, Conn: 5}}, second.got.Reply.Queries[0])
}

func TestNothingIsAskedWhileNobodyCarriesIt(t *testing.T) {
	r := newRig(t)
	r.open(transactional)
	ids := r.prepare(1, "a")
	before := r.index
	r.pass(time.Hour)
	require.Equal(t, before, r.index, "no entry is made for it")
	require.EqualValues(t, 0, r.status().Undecided)
	late, _ := r.carrier(2, 0)
	require.Equal(t, ids, asked(late))
	require.Equal(t, 1, late.got.Reply.Queries[0].Count)
	none, _ := r.carrier(2, 0)
	require.Empty(t, none.got.Reply.Queries)
}

func TestUndecidedIsParkedAndSaidSo(t *testing.T) {
	var log bytes.Buffer
	r := newRig(t)
	r.m.cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
	r.open(transactional)
	ids := r.prepare(1, "a")
	for i := range 2 {
		c, _ := r.carrier(1, time.Minute)
		r.pass(10 * time.Second)
		require.Equal(t, i+1, c.got.Reply.Queries[0].Count)
	}
	last, _ := r.carrier(1, time.Hour)
	r.pass(9_999 * time.Millisecond)
	require.EqualValues(t, 0, r.m.Stats().Undecided.Load())
	r.pass(time.Millisecond)
	require.EqualValues(t, 1, r.m.Stats().Undecided.Load())
	require.EqualValues(t, 1, r.status().Undecided)
	require.Equal(t, 1, strings.Count(log.String(), "undecided=1"), log.String())
	r.pass(time.Hour)
	require.Equal(t, 1, last.n)
	require.Empty(t, last.got.Reply.Queries)
	require.Equal(t, []*cmq.Error{nil}, r.decide(true, ids[0]))
	require.EqualValues(t, 0, r.m.Stats().Undecided.Load())
	require.Equal(t, []string{"a"}, bodies(r.receive(1)))
}

func TestCarriersThatGo(t *testing.T) {
	r := newRig(t)
	r.open(transactional)
	ids := r.prepare(1, "a")
	gone, call := r.carrier(1, time.Minute)
	r.m.Cancel(call)
	require.Equal(t, 1, gone.n)
	// This one goes when its query is queued but in no entry: it must not be counted.
	queued, call := r.carrier(1, time.Minute)
	r.now += 10_000
	r.m.Due(r.now)
	require.NotZero(t, r.m.Waiting())
	r.m.Cancel(call)
	other, _ := r.carrier(2, time.Minute)
	require.Empty(t, queued.got.Reply.Queries)
	require.Equal(t, ids, asked(other))
	require.Equal(t, 1, other.got.Reply.Queries[0].Count)
}

func TestQueryCrossesADecision(t *testing.T) {
	r := newRig(t)
	r.open(transactional)
	ids := r.prepare(1, "a")
	c, _ := r.carrier(1, 15*time.Second)
	r.now += 10_000
	// The decision is in the entry before the query that is queued already.
	d, _ := r.submit(&cmq.Request{Kind: cmq.KindDecide, Decisions: []cmq.Decision{{ID: ids[0]}}})
	r.m.Due(r.now)
	r.settle()
	require.Equal(t, []*cmq.Error{nil}, d.got.Reply.Errors)
	require.Zero(t, c.n, "it waits on")
	r.pass(5 * time.Second)
	require.Equal(t, 1, c.n)
	require.Empty(t, c.got.Reply.Queries)
}

func TestPreparedOutlivesRestartsAndRewriting(t *testing.T) {
	r := newRig(t)
	r.open(func(a *cmq.ShardAttributes) { transactional(a); a.MsgRetention = time.Minute })
	r.send("old")
	ids := r.prepare(1, "a", "b", "c")
	r.pass(2 * time.Minute)
	require.Empty(t, r.receive(9), "the retention is over for what was sent")
	require.Equal(t, []string{"a", "b", "c"}, r.live())
	first := ids[0].Index()
	job := r.take()
	_, _, live, err := job.Run(nil)
	require.NoError(t, err)
	require.Empty(t, r.alive(live, 0, first))
	require.Len(t, r.alive(live, first, first+1), 3)
	var weight uint64
	require.NoError(t, live.Weigh(func(lo, hi, n uint64) {
		require.Equal(t, [2]uint64{first, first + 1}, [2]uint64{lo, hi})
		weight += n
	}))
	require.EqualValues(t, 3, weight)
	job.Done(nil)
	r.restart()
	require.EqualValues(t, 3, r.status().Prepared)
	require.Equal(t, []*cmq.Error{nil, nil}, r.decide(true, ids[1], ids[0]))
	require.Equal(t, []*cmq.Error{nil}, r.decide(false, ids[2]))
	r.send("new")
	r.restart()
	require.Equal(t, []string{"b", "a", "new"}, r.live())
	r.pass(30 * time.Second)
	msgs := r.receive(9)
	require.Equal(t, []string{"b", "a", "new"}, bodies(msgs))
	require.Equal(t, []cmq.MsgID{ids[1], ids[0]}, []cmq.MsgID{msgs[0].ID, msgs[1].ID})
	r.pass(31 * time.Second)
	require.Empty(t, r.live(), "the retention began with the commit")
}

func TestFullDiskTakesDecisions(t *testing.T) {
	r := newRig(t)
	r.open(transactional)
	ids := r.prepare(1, "a", "b")
	c, _ := r.carrier(1, time.Hour)
	r.m.SetSpace(set.SpaceSoft)
	require.Equal(t, cmq.ErrDiskFull, r.do(&cmq.Request{Kind: cmq.KindPrepare, Bodies: [][]byte{{1}}}).Err)
	r.m.SetSpace(set.SpaceHard)
	require.Equal(t, []*cmq.Error{nil}, r.decide(false, ids[0]))
	r.pass(20 * time.Second)
	require.Zero(t, c.n, "a query makes the log longer")
	r.m.SetSpace(set.SpaceOK)
	r.settle()
	require.Equal(t, ids[1:], asked(c))
}

func TestNewLeaderAsksOn(t *testing.T) {
	r := newRig(t)
	r.open(transactional)
	ids := r.prepare(1, "a")
	c, _ := r.carrier(1, time.Minute)
	r.pass(10 * time.Second)
	require.Equal(t, ids, asked(c))
	waiting, _ := r.carrier(1, time.Minute)
	r.m.Follow()
	require.Equal(t, 1, waiting.n)
	var not *cmq.NotLeaderError
	require.ErrorAs(t, waiting.err, &not)
	r.term++
	r.index++
	r.m.Apply(r.index, r.term, nil)
	r.m.Lead(r.term)
	again, _ := r.carrier(1, time.Minute)
	r.pass(9 * time.Second)
	require.Zero(t, again.n)
	r.pass(time.Second)
	require.Equal(t, ids, asked(again))
	require.Equal(t, 2, again.got.Reply.Queries[0].Count)
}

func TestPreparedMessagesAreListed(t *testing.T) {
	r := newRig(t)
	r.open(func(a *cmq.ShardAttributes) {
		a.Transaction = cmq.TransactionPolicy{On: true, FirstQueryInterval: 10 * time.Second, MaxQueryCount: 1}
	})
	sent := time.UnixMilli(r.now)
	ids := r.prepare(7, "a", "bb", "ccc")
	list := func(after cmq.MsgID, undecided bool, most int) []cmq.Prepared {
		return r.do(&cmq.Request{Kind: cmq.KindPrepared, Number: uint64(after), Undecided: undecided, Max: most}).Prepared
	}
	want := func(i, queries int, next time.Time) cmq.Prepared {
		return cmq.Prepared{ID: ids[i], Bytes: i + 1, Sent: sent, Queries: queries, Next: next, Origin: cmq.Origin{Node: 7, Conn: 5}}
	}
	first := sent.Add(10 * time.Second)
	require.Equal(t, []cmq.Prepared{want(0, 0, first), want(1, 0, first), want(2, 0, first)}, list(0, false, 1000))
	require.Equal(t, []cmq.Prepared{want(1, 0, first)}, list(ids[0], false, 1))
	require.Empty(t, list(0, true, 1000))
	require.Empty(t, list(1<<64-1, false, 1000))

	asked, _ := r.carrier(7, time.Minute)
	r.pass(10 * time.Second)
	require.Len(t, asked.got.Reply.Queries, 3)
	require.Nil(t, r.decide(true, ids[1])[0])
	require.Empty(t, r.m.Undecided(10), "an answer is waited for")
	second := sent.Add(20 * time.Second)
	require.Equal(t, []cmq.Prepared{want(0, 1, second), want(2, 1, second)}, list(0, false, 1000))
	r.pass(11 * time.Second)
	require.Equal(t, []cmq.Prepared{want(2, 1, time.Time{})}, list(ids[0], true, 1000))
	require.Equal(t, []Undecided{{testShard, 2}}, r.m.Undecided(10))
	require.Empty(t, r.m.Undecided(0))

	// What cannot be read here is listed without its time.
	r.damage(ids[0], nobody)
	damaged := want(0, 1, time.Time{})
	damaged.Sent = time.Time{}
	require.Equal(t, []cmq.Prepared{damaged}, list(0, true, 1))
	require.Equal(t, cmq.ErrQueueNotExist, r.do(&cmq.Request{Kind: cmq.KindPrepared, Shard: testShard + 1, Max: 1}).Err)
}
