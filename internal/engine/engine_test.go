package engine

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/core/command"
	"github.com/opencmq/cmq/internal/set"
	"github.com/opencmq/cmq/internal/store"
	"github.com/opencmq/cmq/internal/vfs"
)

// rig drives one machine that leads a set of one: what is cut is applied at once, or when the test says so.
type rig struct {
	t     *testing.T
	m     *Machine
	fs    vfs.FS
	log   map[uint64][]byte
	index uint64
	term  uint64
	now   int64
	held  [][]byte // cut, not applied
	dead  []cmq.ShardID

	elsewhere []func() // waiting to be run by another goroutine
	lost      map[store.Ref]error
	peers     map[store.Ref]verdict
	fetched   int
	loads     int
	reads     []int // messages asked for at once
	wall      int64
}

// verdict is what the other replicas say of a message: it is here, nobody has it, or cannot tell.
type verdict int

const (
	here verdict = iota + 1
	nobody
)

const start = int64(1_700_000_000_000)

var testShard = cmq.QueueID(7).Shard(0)

func newRig(t *testing.T) *rig {
	r := &rig{t: t, log: make(map[uint64][]byte), index: 1, term: 2, now: start, fs: vfs.NewDisk(rand.New(rand.NewPCG(1, 2))).Mount(),
		lost: make(map[store.Ref]error), peers: make(map[store.Ref]verdict)}
	r.m = New(r.config())
	r.m.Apply(2, r.term, nil)
	r.index = 2
	r.m.Lead(r.term)
	return r
}

func (r *rig) config() Config {
	return Config{
		Set: 3, Node: 1, Logger: slog.New(slog.DiscardHandler),
		FS: r.fs, Messages: r.messages, Fetch: r.fetch,
		Go: func(work, then func()) {
			r.loads++
			r.elsewhere = append(r.elsewhere, func() { work(); then() })
		},
		Exec:   func(call func()) bool { call(); return true },
		Read:   func(done func(error)) { done(nil) },
		OnDead: func(s, _ cmq.ShardID) { r.dead = append(r.dead, s) },
		Wall:   func() int64 { return r.wall },
	}
}

// messages reads from the log, except what is lost.
func (r *rig) messages(refs []store.Ref, got func(int, store.Message, error)) {
	r.reads = append(r.reads, len(refs))
	for i, ref := range refs {
		if err := r.lost[ref]; err != nil {
			got(i, store.Message{}, err)
			continue
		}
		got(i, r.message(ref), nil)
	}
}

func (r *rig) message(ref store.Ref) store.Message {
	st, err := command.ReadSlot(bytes.NewReader(r.log[ref.Index]), ref.Slot)
	require.NoError(r.t, err)
	return store.Message{Ref: ref, Origin: st.Origin, Time: st.Time, Body: st.Body}
}

// fetch is the other replicas, which answer later.
func (r *rig) fetch(refs []store.Ref, done func([]store.Message, error)) {
	r.fetched++
	r.elsewhere = append(r.elsewhere, func() {
		var got []store.Message
		var err error
		for _, ref := range refs {
			switch r.peers[ref] {
			case here:
				got = append(got, r.message(ref))
			case nobody:
				err = cmp.Or(err, set.ErrLost)
			default:
				err = errSilent
			}
		}
		done(got, err)
	})
}

var errSilent = errors.New("a replica does not answer")

// rest lets everything end that was begun elsewhere.
func (r *rig) rest() {
	for len(r.elsewhere) > 0 {
		f := r.elsewhere[0]
		r.elsewhere = r.elsewhere[1:]
		f()
	}
}

// cut takes one entry from the machine without applying it.
func (r *rig) cut() []byte {
	data := r.m.Cut(r.now, 512<<10)
	if data != nil {
		data = slices.Clone(data)
		r.held = append(r.held, data)
	}
	return data
}

func (r *rig) applyHeld() {
	for _, data := range r.held {
		r.index++
		r.log[r.index] = data
		r.m.Apply(r.index, r.term, data)
	}
	r.held = nil
}

// settle cuts and applies until nothing waits.
func (r *rig) settle() {
	for range 100 {
		r.rest()
		if r.m.Waiting() == 0 {
			return
		}
		r.cut()
		r.applyHeld()
	}
	r.t.Fatal("the machine never comes to rest")
}

// pass lets time pass, ringing alarms in order as the driver would.
func (r *rig) pass(d time.Duration) {
	end := r.now + d.Milliseconds()
	for {
		at := r.m.Wake()
		if at == 0 || at > end {
			break
		}
		r.now = max(r.now, at)
		r.m.Due(r.now)
		r.settle()
	}
	r.now = end
}

type answer struct {
	got *Result
	err error
	n   int
}

func (r *rig) submit(req *cmq.Request) (*answer, *Call) {
	a := &answer{}
	if req.Shard == 0 {
		req.Shard = testShard
	}
	c := r.m.Submit(r.now, req, func(res *Result, err error) {
		a.got, a.err = res, err
		a.n++
		if res == nil {
			return
		}
		if r.m.Fill(res); !res.Whole() {
			a.n, a.got = a.n-1, nil
			r.m.Mend(res, func(err error) {
				a.got, a.err = res, err
				a.n++
			})
		}
	})
	return a, c
}

// do submits and settles.
func (r *rig) do(req *cmq.Request) *cmq.Reply {
	a, _ := r.submit(req)
	r.settle()
	require.Equal(r.t, 1, a.n, "answered once")
	require.NoError(r.t, a.err)
	return &a.got.Reply
}

func (r *rig) open(change func(*cmq.ShardAttributes)) {
	q := cmq.DefaultQueueAttributes()
	a := q.ShardAttributes()
	if change != nil {
		change(&a)
	}
	require.Nil(r.t, r.do(&cmq.Request{Kind: cmq.KindOpenShard, Attributes: a, Version: 1}).Err)
}

func (r *rig) send(bodies ...string) []cmq.MsgID {
	req := &cmq.Request{Kind: cmq.KindSend}
	for _, b := range bodies {
		req.Bodies = append(req.Bodies, []byte(b))
	}
	reply := r.do(req)
	require.Nil(r.t, reply.Err)
	return reply.IDs
}

func (r *rig) receive(max int) []cmq.Message {
	reply := r.do(&cmq.Request{Kind: cmq.KindReceive, Max: max})
	require.Nil(r.t, reply.Err)
	return reply.Messages
}

func (r *rig) delete(handles ...cmq.Handle) []*cmq.Error {
	return r.do(&cmq.Request{Kind: cmq.KindDelete, Handles: handles}).Errors
}

func (r *rig) status() cmq.ShardStatus { return r.do(&cmq.Request{Kind: cmq.KindStatus}).Status }

func bodies(msgs []cmq.Message) (out []string) {
	for _, m := range msgs {
		out = append(out, string(m.Body))
	}
	return out
}

func TestSendReceiveDelete(t *testing.T) {
	r := newRig(t)
	r.open(nil)
	ids := r.send("a", "b")
	msgs := r.receive(16)
	require.Equal(t, []string{"a", "b"}, bodies(msgs))
	require.Equal(t, ids, []cmq.MsgID{msgs[0].ID, msgs[1].ID})
	require.Equal(t, cmq.SetID(3), ids[0].Set())
	require.Equal(t, start, msgs[0].Enqueued.UnixMilli())
	require.Equal(t, start+30_000, msgs[0].NextVisible.UnixMilli())
	require.Equal(t, 1, msgs[0].DequeueCount)
	require.Equal(t, []*cmq.Error{nil, cmq.ErrHandleInvalid}, r.delete(msgs[0].Handle, 12345))
	st := r.status()
	require.EqualValues(t, 1, st.Inactive)
	require.EqualValues(t, 0, st.Active)
	require.Equal(t, start, st.MinMsgTime.UnixMilli())
}

// TestHandleOfAnotherQueue: the first delivery of one queue does not have the handle of the first of another.
func TestHandleOfAnotherQueue(t *testing.T) {
	r := newRig(t)
	r.open(nil)
	other := cmq.QueueID(testShard.Queue() + 1).Shard(0)
	a := cmq.DefaultQueueAttributes()
	require.Nil(t, r.do(&cmq.Request{Kind: cmq.KindOpenShard, Shard: other, Version: 1, Attributes: a.ShardAttributes()}).Err)
	r.send("a")
	require.Nil(t, r.do(&cmq.Request{Kind: cmq.KindSend, Shard: other, Bodies: [][]byte{[]byte("b")}}).Err)
	here := r.receive(1)[0].Handle
	there := r.do(&cmq.Request{Kind: cmq.KindReceive, Shard: other, Max: 1}).Messages[0].Handle
	for _, kind := range []cmq.Kind{cmq.KindDelete, cmq.KindRelease, cmq.KindRelock} {
		r.do(&cmq.Request{Kind: kind, Handles: []cmq.Handle{there}})
	}
	require.EqualValues(t, 1, r.status().Inactive)
	require.Equal(t, []*cmq.Error{nil}, r.delete(here))
}

// TestLongReplyIsCut: of 20 messages of 1 MiB as many are given as fit, and the caller is told of the others.
func TestLongReplyIsCut(t *testing.T) {
	r := newRig(t)
	r.open(nil)
	for range 20 {
		r.send(strings.Repeat("x", 1<<20))
	}
	a, _ := r.submit(&cmq.Request{Kind: cmq.KindReceive, Max: 256})
	r.settle()
	require.Len(t, a.got.Reply.Messages, 16)
	require.Len(t, a.got.Surplus, 4)
	require.Len(t, a.got.Reply.Messages[15].Body, 1<<20)
	require.Nil(t, r.do(&cmq.Request{Kind: cmq.KindRelease, Handles: a.got.Surplus}).Err)
	require.Len(t, r.receive(16), 4)
	for range 300 {
		r.send("small")
	}
	require.Len(t, r.receive(256), 256)
}

// TestSessionSendIsStoredOnce: in one entry with its repetition, later, and after a restart from an image.
func TestSessionSendIsStoredOnce(t *testing.T) {
	r := newRig(t)
	r.open(nil)
	epoch := r.do(&cmq.Request{Kind: cmq.KindOpenSession, Session: cmq.Session{ID: 9}}).Number
	once := func(number uint64) *cmq.Request {
		return &cmq.Request{
			Kind: cmq.KindSend, Bodies: [][]byte{{'a' + byte(number)}, {'A' + byte(number)}},
			Session: cmq.Session{ID: 9, Epoch: epoch, Number: number},
		}
	}
	first, _ := r.submit(once(1))
	again, _ := r.submit(once(1))
	poll, _ := r.submit(&cmq.Request{Kind: cmq.KindReceive, Max: 3, Wait: time.Minute})
	r.settle()
	ids := first.got.Reply.IDs
	require.Len(t, ids, 2)
	require.Equal(t, ids, again.got.Reply.IDs)
	require.Equal(t, []string{"b", "B"}, bodies(poll.got.Reply.Messages))
	r.restart()
	require.Equal(t, ids, r.do(once(1)).IDs)
	require.Len(t, r.do(once(2)).IDs, 2)
	require.Equal(t, []string{"c", "C"}, bodies(r.receive(16)))
	require.EqualValues(t, 2, r.m.Stats().Repeated.Load(), "since the restart")
	require.EqualValues(t, 2, r.m.Stats().Sent.Load())
	require.Equal(t, cmq.ErrSession, r.do(&cmq.Request{Kind: cmq.KindSend, Bodies: [][]byte{{1}}, Session: cmq.Session{ID: 8, Epoch: 1, Number: 1}}).Err)
}

func TestEmptyReceiveIsNotProposed(t *testing.T) {
	r := newRig(t)
	r.open(nil)
	before := r.index
	require.Empty(t, r.receive(1))
	require.Equal(t, before, r.index)
}

func TestParkedPollRidesBehindTheSend(t *testing.T) {
	r := newRig(t)
	r.open(nil)
	poll, _ := r.submit(&cmq.Request{Kind: cmq.KindReceive, Max: 16, Wait: 10 * time.Second})
	require.Zero(t, r.m.Waiting(), "nothing is proposed for a poll that would come back empty")
	sent, _ := r.submit(&cmq.Request{Kind: cmq.KindSend, Bodies: [][]byte{[]byte("x")}})
	before := r.index
	r.settle()
	require.Equal(t, before+1, r.index, "both in one entry")
	require.Equal(t, 1, sent.n)
	require.Equal(t, []string{"x"}, bodies(poll.got.Reply.Messages))
}

func TestPollEndsEmptyAfterItsWait(t *testing.T) {
	r := newRig(t)
	r.open(nil)
	poll, _ := r.submit(&cmq.Request{Kind: cmq.KindReceive, Max: 1, Wait: 3 * time.Second})
	r.pass(2999 * time.Millisecond)
	require.Zero(t, poll.n)
	r.pass(time.Millisecond)
	require.Equal(t, 1, poll.n)
	require.Empty(t, poll.got.Reply.Messages)
}

func TestPollWokenByLockEndAndByDelay(t *testing.T) {
	r := newRig(t)
	r.open(nil)
	r.send("locked")
	require.Len(t, r.receive(1), 1)
	poll, _ := r.submit(&cmq.Request{Kind: cmq.KindReceive, Max: 1, Wait: 60 * time.Second})
	r.pass(29_999 * time.Millisecond)
	require.Zero(t, poll.n)
	r.pass(time.Millisecond)
	require.Equal(t, []string{"locked"}, bodies(poll.got.Reply.Messages))

	r.do(&cmq.Request{Kind: cmq.KindSend, Bodies: [][]byte{[]byte("later")}, Delay: 12 * time.Second})
	require.EqualValues(t, 1, r.status().Delayed)
	poll, _ = r.submit(&cmq.Request{Kind: cmq.KindReceive, Max: 1, Wait: 20 * time.Second})
	r.pass(11_999 * time.Millisecond)
	require.Zero(t, poll.n)
	r.pass(time.Millisecond)
	require.Equal(t, []string{"later"}, bodies(poll.got.Reply.Messages))
}

func TestTwoPollsOneMessage(t *testing.T) {
	r := newRig(t)
	r.open(nil)
	first, _ := r.submit(&cmq.Request{Kind: cmq.KindReceive, Max: 16, Wait: time.Second})
	second, _ := r.submit(&cmq.Request{Kind: cmq.KindReceive, Max: 16, Wait: time.Second})
	r.send("only")
	require.Equal(t, 1, first.n)
	require.Len(t, first.got.Reply.Messages, 1)
	require.Zero(t, second.n)
	r.pass(time.Second)
	require.Equal(t, 1, second.n)
	require.Empty(t, second.got.Reply.Messages)
}

func TestCancelledPollTakesNothing(t *testing.T) {
	r := newRig(t)
	r.open(nil)
	poll, call := r.submit(&cmq.Request{Kind: cmq.KindReceive, Max: 1, Wait: 10 * time.Second})
	r.m.Cancel(call)
	require.Equal(t, 1, poll.n)
	r.send("kept")
	require.EqualValues(t, 1, r.status().Active)
	require.Equal(t, 1, r.receive(1)[0].DequeueCount)
}

func TestCancelledReceiveNotYetCutTakesNothing(t *testing.T) {
	r := newRig(t)
	r.open(nil)
	r.send("kept")
	got, call := r.submit(&cmq.Request{Kind: cmq.KindReceive, Max: 1, Wait: 10 * time.Second})
	r.m.Cancel(call)
	r.settle()
	require.Equal(t, 1, got.n)
	require.Empty(t, got.got.Reply.Messages)
	require.Equal(t, []string{"kept"}, bodies(r.receive(1)))
}

func (r *rig) relock(lock time.Duration, handles ...cmq.Handle) []*cmq.Error {
	return r.do(&cmq.Request{Kind: cmq.KindRelock, Lock: lock, Handles: handles}).Errors
}

func TestRelockMovesTheEndOfALock(t *testing.T) {
	r := newRig(t)
	r.open(nil)
	r.send("x")
	h := r.receive(1)[0].Handle
	poll, _ := r.submit(&cmq.Request{Kind: cmq.KindReceive, Max: 1, Wait: time.Hour})
	r.pass(29 * time.Second)
	require.Equal(t, []*cmq.Error{nil, cmq.ErrHandleInvalid}, r.relock(time.Minute, h, 77))
	r.pass(59_999 * time.Millisecond)
	require.Zero(t, poll.n, "the lock was extended")
	require.Equal(t, []*cmq.Error{nil}, r.relock(5*time.Second, h))
	r.pass(4_999 * time.Millisecond)
	require.Zero(t, poll.n)
	r.pass(time.Millisecond)
	require.Equal(t, 1, poll.n, "the alarm is where the lock ends now")
	h = poll.got.Reply.Messages[0].Handle

	poll, _ = r.submit(&cmq.Request{Kind: cmq.KindReceive, Max: 1, Wait: time.Minute})
	require.Equal(t, []*cmq.Error{nil}, r.relock(0, h))
	r.settle()
	require.Equal(t, 1, poll.n, "given back at once")
	require.Equal(t, 3, poll.got.Reply.Messages[0].DequeueCount)
	require.Equal(t, []*cmq.Error{cmq.ErrHandleInvalid}, r.relock(time.Minute, h))
}

func TestReleaseUndoesTheReceive(t *testing.T) {
	r := newRig(t)
	r.open(nil)
	r.send("m")
	h := r.receive(1)[0].Handle
	require.Nil(t, r.do(&cmq.Request{Kind: cmq.KindRelease, Handles: []cmq.Handle{h}}).Err)
	again := r.receive(1)
	require.Len(t, again, 1)
	require.Equal(t, 1, again[0].DequeueCount)
	require.Equal(t, cmq.ErrHandleInvalid, r.delete(h)[0])
}

func TestLostLeadership(t *testing.T) {
	r := newRig(t)
	r.open(nil)
	cutAndKept, _ := r.submit(&cmq.Request{Kind: cmq.KindSend, Bodies: [][]byte{[]byte("kept")}})
	r.cut()
	cutAndLost, _ := r.submit(&cmq.Request{Kind: cmq.KindSend, Bodies: [][]byte{[]byte("lost")}})
	lost := r.cut()
	r.held = r.held[:1]
	notCut, _ := r.submit(&cmq.Request{Kind: cmq.KindSend, Bodies: [][]byte{[]byte("not cut")}})
	parked, _ := r.submit(&cmq.Request{Kind: cmq.KindReceive, Shard: testShard + 128, Max: 1, Wait: time.Second})
	r.m.Follow()
	var nl *cmq.NotLeaderError
	require.ErrorAs(t, notCut.err, &nl)
	require.ErrorAs(t, parked.err, &nl)
	require.Zero(t, cutAndKept.n)

	r.applyHeld() // the new leader commits the first entry of the old one
	require.Equal(t, 1, cutAndKept.n)
	require.Len(t, cutAndKept.got.Reply.IDs, 1)
	require.Zero(t, cutAndLost.n)
	r.index++
	r.m.Apply(r.index, r.term+1, nil) // and its own empty one
	require.ErrorIs(t, cutAndLost.err, cmq.ErrDropped)

	refused, _ := r.submit(&cmq.Request{Kind: cmq.KindSend, Bodies: [][]byte{[]byte("x")}})
	require.ErrorAs(t, refused.err, &nl)
	_ = lost
}

func TestTimeOfAnEarlierLeadershipIsForgotten(t *testing.T) {
	r := newRig(t)
	r.open(nil)
	r.m.Due(start + 5000) // nothing was stored at that time
	r.m.Follow()
	r.index++
	r.m.Apply(r.index, 3, nil)
	r.term = 4
	r.m.Lead(4)
	r.now = start + 100
	r.send("m")
	require.Equal(t, start+100, r.m.Time())
}

func TestCloseLeavesOutcomesUnknown(t *testing.T) {
	r := newRig(t)
	r.open(nil)
	a, _ := r.submit(&cmq.Request{Kind: cmq.KindSend, Bodies: [][]byte{[]byte("x")}})
	r.cut()
	r.m.Close()
	require.ErrorIs(t, a.err, cmq.ErrUnknownOutcome)
}

// An image may contain the entry a call waits for. "Dropped" would make the caller send again what is stored already.
func TestRestoreLeavesOutcomesUnknown(t *testing.T) {
	r := newRig(t)
	r.open(nil)
	before, files := r.image()
	a, _ := r.submit(&cmq.Request{Kind: cmq.KindSend, Shard: testShard, Bodies: [][]byte{[]byte("a")}})
	r.cut()
	r.m.Follow()
	require.NoError(t, r.m.Restore(r.index+10, before, files))
	r.m.Apply(r.index+11, r.term+1, nil)
	require.ErrorIs(t, a.err, cmq.ErrUnknownOutcome)
}

func TestRetention(t *testing.T) {
	r := newRig(t)
	r.open(func(a *cmq.ShardAttributes) { a.MsgRetention = 60 * time.Second })
	r.send("old")
	r.pass(10 * time.Second)
	r.send("young")
	r.pass(49_999 * time.Millisecond)
	require.EqualValues(t, 2, r.status().Active)
	r.pass(time.Millisecond)
	require.EqualValues(t, 1, r.status().Active)
	require.Equal(t, []string{"young"}, bodies(r.receive(16)))
	// Also a locked message goes, and nobody has to ask for that.
	r.pass(20 * time.Second)
	require.Empty(t, r.live())
}

// TestRetentionIsJudgedByClusterTime, not by the clock of the machine that happens to lead.
func TestRetentionIsJudgedByClusterTime(t *testing.T) {
	for _, off := range []time.Duration{-10 * 24 * time.Hour, 10 * 24 * time.Hour} {
		r := newRig(t)
		r.wall = r.now + off.Milliseconds()
		r.open(func(a *cmq.ShardAttributes) { a.MsgRetention = time.Minute })
		r.send("m")
		r.pass(59 * time.Second)
		require.EqualValues(t, 1, r.status().Active)
		r.pass(time.Second)
		require.EqualValues(t, 0, r.status().Active)
	}
}

func TestRewindByTime(t *testing.T) {
	r := newRig(t)
	r.open(func(a *cmq.ShardAttributes) { a.Rewind = time.Hour })
	var sent []time.Time
	for i := range 5 {
		sent = append(sent, time.UnixMilli(r.now))
		r.send(fmt.Sprint(i))
		r.pass(10 * time.Second)
	}
	for _, m := range r.receive(16) {
		require.Nil(t, r.delete(m.Handle)[0])
	}
	require.Empty(t, r.receive(16))
	require.EqualValues(t, 5, r.status().Rewindable)
	require.Nil(t, r.do(&cmq.Request{Kind: cmq.KindRewind, Time: sent[2]}).Err)
	require.Equal(t, []string{"2", "3", "4"}, bodies(r.receive(16)))
	require.Equal(t, cmq.ErrRewindTime, r.do(&cmq.Request{Kind: cmq.KindRewind, Time: sent[4]}).Err, "later than the oldest message not deleted")
	require.Equal(t, cmq.ErrRewindTime, r.do(&cmq.Request{Kind: cmq.KindRewind, Time: sent[0].Add(-2 * time.Hour)}).Err)
	r.pass(time.Hour)
	require.EqualValues(t, 0, r.status().Rewindable)
}

func TestSecondRewindBringsBackWhatWasDeletedSinceTheFirst(t *testing.T) {
	r := newRig(t)
	r.open(func(a *cmq.ShardAttributes) { a.Rewind = time.Hour })
	first := time.UnixMilli(r.now)
	for i := range 4 {
		r.send(fmt.Sprint(i))
		r.pass(time.Second)
	}
	got := r.receive(4)
	for _, m := range got[:3] {
		require.Nil(t, r.delete(m.Handle)[0])
	}
	// The last one is still held: the first rewind passes it over, wherever the cursor is. Then it is deleted.
	require.Nil(t, r.do(&cmq.Request{Kind: cmq.KindRewind, Time: first}).Err)
	require.Nil(t, r.delete(got[3].Handle)[0])
	require.Nil(t, r.do(&cmq.Request{Kind: cmq.KindRewind, Time: first}).Err)
	require.Equal(t, []string{"0", "1", "2", "3"}, bodies(r.receive(16)))
}

func TestRewindNeedsTheAttribute(t *testing.T) {
	r := newRig(t)
	r.open(nil)
	require.Equal(t, cmq.ErrNotRewindable, r.do(&cmq.Request{Kind: cmq.KindRewind, Time: time.UnixMilli(r.now)}).Err)
}

func TestDeadLettersAreAnnouncedWithoutTraffic(t *testing.T) {
	r := newRig(t)
	r.open(func(a *cmq.ShardAttributes) {
		a.DeadLetter = cmq.DeadLetterPolicy{Queue: 9, Policy: cmq.PolicyReceives, MaxReceiveCount: 1}
	})
	sent := time.UnixMilli(r.now)
	ids := r.send("poison")
	require.Len(t, r.receive(1), 1)
	r.pass(31 * time.Second)
	require.Contains(t, r.dead, testShard)
	reply := r.do(&cmq.Request{Kind: cmq.KindDeadList, Max: 10})
	require.Equal(t, []string{"poison"}, bodies(reply.Messages))
	require.Equal(t, ids[0], reply.Messages[0].ID)
	require.EqualValues(t, 9, reply.Queue)
	source := cmq.Source{Queue: testShard.Queue(), Enqueued: reply.Messages[0].Enqueued, DequeueCount: reply.Messages[0].DequeueCount}
	require.Equal(t, cmq.Source{Queue: testShard.Queue(), Enqueued: sent, DequeueCount: 1}, source)

	other := cmq.QueueID(9).Shard(0)
	q := cmq.DefaultQueueAttributes()
	require.Nil(t, r.do(&cmq.Request{Kind: cmq.KindOpenShard, Shard: other, Attributes: q.ShardAttributes(), Version: 1}).Err)
	for range 2 { // a repeated transfer changes nothing
		tr := r.do(&cmq.Request{Kind: cmq.KindTransfer, Shard: other, From: testShard, Base: reply.Base, Number: reply.Number,
			IDs: []cmq.MsgID{reply.Messages[0].ID}, Sources: []cmq.Source{source}, Bodies: [][]byte{reply.Messages[0].Body}})
		require.Nil(t, tr.Err)
		require.Equal(t, reply.Number+1, tr.Number)
	}
	require.Nil(t, r.do(&cmq.Request{Kind: cmq.KindForget, Number: reply.Number + 1}).Err)
	require.Empty(t, r.do(&cmq.Request{Kind: cmq.KindDeadList, Max: 10}).Messages)
	r.restart()
	got := r.do(&cmq.Request{Kind: cmq.KindReceive, Shard: other, Max: 16}).Messages
	require.Len(t, got, 1)
	require.Equal(t, ids[0], got[0].ID, "a message keeps its id")
	require.Equal(t, "poison", string(got[0].Body))
	require.Equal(t, 1, got[0].DequeueCount)
	require.Equal(t, &source, got[0].Source)
}

func TestDeadByAgeIsAnnouncedWithoutTraffic(t *testing.T) {
	r := newRig(t)
	r.open(func(a *cmq.ShardAttributes) {
		a.DeadLetter = cmq.DeadLetterPolicy{Queue: 9, Policy: cmq.PolicyAge, MaxTimeToLive: 300 * time.Second}
	})
	r.send("a", "b")
	r.pass(299_999 * time.Millisecond)
	require.Empty(t, r.dead)
	r.pass(time.Millisecond)
	require.Contains(t, r.dead, testShard)
}

func TestUnknownShard(t *testing.T) {
	r := newRig(t)
	require.Equal(t, cmq.ErrQueueNotExist, r.do(&cmq.Request{Kind: cmq.KindSend, Bodies: [][]byte{[]byte("x")}}).Err)
	require.Equal(t, cmq.ErrQueueNotExist, r.do(&cmq.Request{Kind: cmq.KindReceive, Max: 1, Wait: time.Second}).Err)
	require.Equal(t, cmq.ErrQueueNotExist, r.do(&cmq.Request{Kind: cmq.KindStatus}).Err)
}

func TestDropEndsParkedPolls(t *testing.T) {
	r := newRig(t)
	r.open(nil)
	poll, _ := r.submit(&cmq.Request{Kind: cmq.KindReceive, Max: 1, Wait: 10 * time.Second})
	r.do(&cmq.Request{Kind: cmq.KindDropShard})
	require.Equal(t, cmq.ErrQueueNotExist, poll.got.Reply.Err)
}

func TestImageRoundTrip(t *testing.T) {
	r := newRig(t)
	r.open(nil)
	r.send("a", "b", "c")
	msgs := r.receive(2)
	r.delete(msgs[0].Handle)
	image, files := r.image()
	restored := New(r.config())
	require.NoError(t, restored.Restore(r.index, image, files))
	require.Equal(t, r.m.Broker().Digest(), restored.Broker().Digest())
	require.Equal(t, r.m.Digest(), restored.Digest())
	require.Equal(t, r.m.Time(), restored.Time())
	r.m = restored
	r.m.Lead(r.term)
	require.Equal(t, []string{"c"}, bodies(r.receive(16)))
	require.Error(t, restored.Restore(5, image[:len(image)/2], files))
	require.Error(t, restored.Restore(5, []byte{99}, nil))
	require.NoError(t, restored.Restore(5, nil, nil))
	require.Zero(t, restored.Time())
}

func TestEntriesStaySmall(t *testing.T) {
	r := newRig(t)
	r.open(nil)
	body := make([]byte, 64<<10)
	for range 20 {
		r.submit(&cmq.Request{Kind: cmq.KindSend, Bodies: [][]byte{body}})
	}
	n := 0
	for r.m.Waiting() > 0 {
		require.LessOrEqual(t, len(r.cut()), 512<<10)
		r.applyHeld()
		n++
	}
	require.Equal(t, 3, n)
	require.EqualValues(t, 20, r.status().Active)
}

// TestManyEndedLocksAreCarriedOut: once a shard is touched, the leader goes on by itself until no ended lock is left in the
// in-flight table, with more entries than one.
func TestManyEndedLocksAreCarriedOut(t *testing.T) {
	const n = 10_000
	r := newRig(t)
	r.open(nil)
	batch := make([]string, 1000)
	for range n / len(batch) {
		r.send(batch...)
	}
	for range n / len(batch) {
		require.Len(t, r.receive(len(batch)), len(batch))
	}
	r.pass(30 * time.Second)
	require.False(t, r.m.b.Landing(testShard), "nobody has asked yet")
	r.send("one more")
	require.True(t, r.m.b.Landing(testShard), "it was too much for one entry")
	before := r.index
	r.pass(100 * time.Millisecond)
	require.False(t, r.m.b.Landing(testShard))
	require.EqualValues(t, 2, r.index-before, "10,000 locks in turns of 4,096, the first of which went with the send")
	require.EqualValues(t, n+1, r.status().Active)
	require.EqualValues(t, start+(4*24*time.Hour).Milliseconds(), r.m.Wake(), "nothing more is to be done before retention")
}
