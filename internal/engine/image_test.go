package engine

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/set"
	"github.com/opencmq/cmq/internal/store"
	"github.com/opencmq/cmq/internal/store/reflog"
)

// take makes the image of the machine in steps, and leaves the last part to the caller.
func (r *rig) take() set.ImageJob {
	r.m.StartImage()
	for !r.m.StepImage(1000) {
	}
	return r.m.TakeImage()
}

// image is the whole image of the machine, which is installed.
func (r *rig) image() ([]byte, []reflog.File) {
	job := r.take()
	parts, files, _, err := job.Run(nil)
	require.NoError(r.t, err)
	job.Done(nil)
	return bytes.Join(parts, nil), files
}

// live lists the messages an image made now would need.
func (r *rig) live() []string {
	job := r.take()
	_, _, live, err := job.Run(nil)
	require.NoError(r.t, err)
	defer job.Done(nil)
	return r.alive(live, 0, 1<<62)
}

func (r *rig) alive(live store.Live, lo, hi uint64) (messages []string) {
	require.NoError(r.t, live.Each(lo, hi, func(run store.Run) error {
		for i := range run.N {
			messages = append(messages, string(r.message(store.Ref{Index: run.Index, Slot: run.Slot + i}).Body))
		}
		return nil
	}))
	return messages
}

// restart replaces the machine by one that is restored from an image made now.
func (r *rig) restart() {
	image, files := r.image()
	r.m.Close()
	r.m = New(r.config())
	require.NoError(r.t, r.m.Restore(r.index, image, files))
	r.term++
	r.index++
	r.m.Apply(r.index, r.term, nil)
	r.m.Lead(r.term)
}

func TestImageIsOfTheMomentItWasStarted(t *testing.T) {
	r := newRig(t)
	r.open(nil)
	r.send("a", "b")
	want := r.m.Broker().Encode()
	r.m.StartImage()
	r.send("c")
	require.Nil(t, r.delete(r.receive(1)[0].Handle)[0])
	for !r.m.StepImage(1) {
		r.send("d")
	}
	job := r.m.TakeImage()
	parts, files, live, err := job.Run(nil)
	require.NoError(t, err)
	require.Equal(t, []string{"a", "b"}, r.alive(live, 0, 1<<62))
	image := bytes.Join(parts, nil)
	require.Equal(t, want, image[imageHeader:imageHeader+len(want)])

	staged, err := r.m.Live(image, files)
	require.NoError(t, err)
	require.Equal(t, []string{"a", "b"}, r.alive(staged, 0, 1<<62))
	job.Done(nil)
	require.Equal(t, []string{"b", "c"}, bodies(r.receive(2)))

	other := New(r.config())
	require.NoError(t, other.Restore(r.index, image, files))
	require.Equal(t, want, other.Broker().Encode())
}

func TestLiveIsWhatCanStillBeAskedFor(t *testing.T) {
	r := newRig(t)
	r.open(func(a *cmq.ShardAttributes) { a.VisibilityTimeout = time.Hour })
	for i := range 10 {
		r.send(fmt.Sprint(i))
	}
	r.do(&cmq.Request{Kind: cmq.KindSend, Bodies: [][]byte{[]byte("later")}, Delay: time.Hour})
	for i, msg := range r.receive(6) {
		if i%2 == 0 {
			require.Nil(t, r.delete(msg.Handle)[0])
		}
	}
	job := r.take()
	_, _, live, err := job.Run(nil)
	require.NoError(t, err)
	require.Equal(t, []string{"1", "3", "5", "6", "7", "8", "9", "later"}, r.alive(live, 0, 1<<62))
	first := r.index - 13 // the opening was applied before it
	require.Less(t, len(r.alive(live, first+5, first+8)), 8)
	var bytes uint64
	require.NoError(t, live.Weigh(func(lo, hi, n uint64) {
		require.Less(t, lo, hi)
		bytes += n
	}))
	require.GreaterOrEqual(t, bytes, uint64(7+len("later")))
	job.Done(nil)
}

func TestFailedImageLosesNothing(t *testing.T) {
	r := newRig(t)
	r.open(nil)
	r.send("a")
	full := fmt.Errorf("no space")
	job := r.take()
	job.Done(full)
	r.send("b")
	r.restart()
	require.Equal(t, []string{"a", "b"}, bodies(r.receive(16)))
}

func TestRestoreEndsAnImage(t *testing.T) {
	r := newRig(t)
	r.open(nil)
	r.send("a")
	image, files := r.image()
	job := r.take()
	r.m.Follow()
	require.NoError(t, r.m.Restore(r.index, image, files))
	_, _, _, err := job.Run(nil)
	require.NoError(t, err)
	job.Done(nil)
	r.m.Lead(r.term)
	require.Equal(t, []string{"a"}, bodies(r.receive(16)))
}

// TestRetentionAfterRestart: what tells how far retention has come is on the disk then, and a receive waits for it.
func TestRetentionAfterRestart(t *testing.T) {
	r := newRig(t)
	r.open(func(a *cmq.ShardAttributes) { a.MsgRetention = time.Minute; a.Rewind = time.Minute })
	for i := range 3000 {
		r.submit(&cmq.Request{Kind: cmq.KindSend, Bodies: [][]byte{fmt.Appendf(nil, "%d", i)}})
		r.settle()
		r.now += 10
	}
	sent := r.now
	r.restart()
	r.now = sent + 45_000 // all that was sent up to 15 s before is too old
	r.loads = 0
	require.Equal(t, []string{"1501"}, bodies(r.receive(1)))
	require.Positive(t, r.loads, "references are read elsewhere")
	require.Equal(t, sent-14_990, r.status().MinMsgTime.UnixMilli())
}

func TestRewindAfterRestart(t *testing.T) {
	r := newRig(t)
	r.open(func(a *cmq.ShardAttributes) { a.Rewind = time.Hour })
	for i := range 2000 {
		r.send(fmt.Sprint(i))
		r.now += 10
		require.Nil(t, r.delete(r.receive(1)[0].Handle)[0])
	}
	r.restart()
	require.Nil(t, r.do(&cmq.Request{Kind: cmq.KindRewind, Time: time.UnixMilli(start + 1234*10)}).Err)
	require.Equal(t, []string{"1234", "1235"}, bodies(r.receive(2)))
}

func TestCallsWaitingForReferencesEndWithLeadership(t *testing.T) {
	r := newRig(t)
	r.open(func(a *cmq.ShardAttributes) { a.Rewind = time.Hour })
	for i := range 2000 {
		r.send(fmt.Sprint(i))
		r.now += 10
		if i < 700 {
			require.Nil(t, r.delete(r.receive(1)[0].Handle)[0])
		}
	}
	r.restart()
	rewind, _ := r.submit(&cmq.Request{Kind: cmq.KindRewind, Time: time.UnixMilli(start + 500)})
	status, _ := r.submit(&cmq.Request{Kind: cmq.KindStatus})
	r.cut()
	r.applyHeld()
	require.Zero(t, rewind.n+status.n)
	r.m.Follow()
	r.rest()
	var nl *cmq.NotLeaderError
	require.ErrorAs(t, rewind.err, &nl)
	require.ErrorAs(t, status.err, &nl)
}

// TestRetentionOfThousandsOfDelayedLanes: they are looked at some at a time, and each gets its turn.
func TestRetentionOfThousandsOfDelayedLanes(t *testing.T) {
	r := newRig(t)
	r.open(func(a *cmq.ShardAttributes) { a.MsgRetention = time.Minute })
	const lanes = firstLanes + 2*nextLanes + 100
	for i := range time.Duration(lanes) {
		r.submit(&cmq.Request{Kind: cmq.KindSend, Bodies: [][]byte{[]byte("x")}, Delay: time.Hour + i*time.Second})
	}
	r.settle()
	require.EqualValues(t, lanes, r.status().Delayed)
	r.restart()
	r.pass(59 * time.Second)
	require.EqualValues(t, lanes, r.status().Delayed)
	r.pass(10 * time.Second)
	require.Zero(t, r.status().Delayed)
	require.Empty(t, r.live())
}
