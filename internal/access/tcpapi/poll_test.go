package tcpapi

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/opencmq/cmq/internal/cmq"

	pb "github.com/opencmq/cmq/internal/access/tcpapi/tcppb"
)

func bodiesOf(a *pb.CMQProto) (list []string) {
	if m := a.GetPullRsp(); m != nil {
		list = append(list, string(m.MsgBody))
	}
	for _, m := range a.GetBatchPullRsp().GetMsgList() {
		list = append(list, string(m.MsgBody))
	}
	return list
}

// TestPollsEndOnTime: not early, and not half a second late.
func TestPollsEndOnTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		c := r.login()
		for _, seconds := range []int32{1, 5, 30} {
			for _, m := range []*pb.CMQProto{receiveFrom(1, "jq", seconds), batchReceiveFrom(2, "jq", 16, seconds)} {
				began := time.Now()
				require.Equal(t, result(cmq.ErrNoMessage), text(c.call(m)))
				took, want := time.Since(began), time.Duration(seconds)*time.Second
				require.GreaterOrEqual(t, took, want)
				require.Less(t, took, want+100*time.Millisecond)
			}
		}
		began := time.Now()
		c.call(receiveFrom(1, "jq", 30_000))
		require.InDelta(t, 30, time.Since(began).Seconds(), 0.1, "as long as possible is the limit")
		wait := int64(2)
		_, err := r.fake.SetQueueAttributes(t.Context(), "me", "jq", cmq.QueueSettings{PollingWaitSeconds: &wait})
		require.NoError(t, err)
		began = time.Now()
		m := receiveFrom(1, "jq", 0)
		m.TcpPullMsg.PollWaitSeconds = nil
		require.Equal(t, result(cmq.ErrNoMessage), text(c.call(m)))
		require.Equal(t, 2*time.Second, time.Since(began), "the queue's own")
		c.conn.Close()
	})
}

// TestPollsWaitSideBySide: the subscribe loop of the published client asks again and again, whatever is open, while other
// calls go on; answers come in the order of the messages.
func TestPollsWaitSideBySide(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		c := r.login()
		for i := range 11 {
			c.send(batchReceiveFrom(int64(100+i), "jq", 16, 10))
			<-time.After(900 * time.Millisecond)
			require.Equal(t, ok, text(c.call(ask(1, cmdHeartbeat))))
		}
		require.Equal(t, 11, r.door.config.Polls.Open())
		require.Len(t, c.call(sendTo(2, "jq", "x")).Msgids, 1)
		a := c.next()
		require.Contains(t, bodiesOf(a), "x")
		require.Equal(t, 10, r.door.config.Polls.Open())
		require.Equal(t, ok, text(c.call(deleteFrom(3, "jq", a.BatchPullRsp.MsgList[0].GetReceiptHandle()))))
		seen := map[int64]bool{}
		for range 10 {
			a := c.next()
			require.Equal(t, result(cmq.ErrNoMessage), text(a))
			require.False(t, seen[a.GetSeqno()])
			seen[a.GetSeqno()] = true
		}
		require.Zero(t, r.door.config.Polls.Open())
		c.conn.Close()
	})
}

// TestBatchGathers: what belongs together comes together, but only a batch that has been woken waits for it.
func TestBatchGathers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		sender, c := r.login(), r.login()
		began := time.Now()
		for i := range 3 {
			m := sendTo(int64(i), "jq", fmt.Sprint(i))
			m.TcpSendMsg.DelaySeconds = proto.Uint32(5)
			sender.call(m)
			<-time.After(15 * time.Millisecond)
		}
		r.wakeAfter(5 * time.Second)
		a := c.call(batchReceiveFrom(1, "jq", 10, 10))
		require.Equal(t, []string{"0", "1", "2"}, bodiesOf(a))
		require.InDelta(t, 5.1, time.Since(began).Seconds(), 0.15)

		for i := range 3 { // each send takes long
			time.AfterFunc(time.Second+time.Duration(i)*70*time.Millisecond, func() { r.send(fmt.Sprint(i)) })
		}
		began = time.Now()
		require.Equal(t, []string{"0", "1", "2"}, bodiesOf(c.call(batchReceiveFrom(1, "jq", 10, 10))))
		require.Equal(t, time.Second+2*gatherTime, time.Since(began))

		for i := range 10 { // it never ends
			time.AfterFunc(time.Second+time.Duration(i)*70*time.Millisecond, func() { r.send(fmt.Sprint(i)) })
		}
		began = time.Now()
		require.Equal(t, []string{"0", "1", "2"}, bodiesOf(c.call(batchReceiveFrom(1, "jq", 10, 10))))
		require.Equal(t, time.Second+2*gatherTime, time.Since(began))
		<-time.After(time.Second)
		require.Len(t, bodiesOf(c.call(batchReceiveFrom(1, "jq", 10, 10))), 7)

		sender.call(batchSendTo(4, "jq", 0, "a", "b"))
		began = time.Now()
		require.Equal(t, []string{"a", "b"}, bodiesOf(c.call(batchReceiveFrom(2, "jq", 10, 10))))
		require.Zero(t, time.Since(began), "it was there at once")

		time.AfterFunc(3*time.Second, func() { r.send("c", "d") })
		began = time.Now()
		require.Equal(t, []string{"c", "d"}, bodiesOf(c.call(batchReceiveFrom(3, "jq", 2, 10))))
		require.Equal(t, 3*time.Second, time.Since(began), "it has all it wants")

		time.AfterFunc(3*time.Second, func() { r.send("e") })
		began = time.Now()
		require.Equal(t, []string{"e"}, bodiesOf(c.call(receiveFrom(3, "jq", 10))))
		require.Equal(t, 3*time.Second, time.Since(began), "one is no batch")

		time.AfterFunc(2980*time.Millisecond, func() { r.send("f") })
		began = time.Now()
		require.Equal(t, []string{"f"}, bodiesOf(c.call(batchReceiveFrom(3, "jq", 10, 3))))
		require.Less(t, time.Since(began), 3100*time.Millisecond, "its time is up")

		for _, c := range []*client{sender, c} {
			c.conn.Close()
		}
	})
}

func (r *rig) send(bodies ...string) {
	var list [][]byte
	for _, b := range bodies {
		list = append(list, []byte(b))
	}
	_, err := r.fake.Send(context.Background(), "me", "jq", list, 0)
	require.NoError(r.t, err)
}

// wakeAfter has the fake look for messages that have fallen due by then: it has no alarms of its own.
func (r *rig) wakeAfter(d time.Duration) {
	for i := range 4 {
		time.AfterFunc(d+time.Duration(i)*15*time.Millisecond, func() { r.fake.Release(context.Background(), "me", "jq", nil) })
	}
}

// TestGoneClientsTakeNothing: wherever the poll is when its client goes, the message is the next one's, and its first
// receive does not count.
func TestGoneClientsTakeNothing(t *testing.T) {
	for name, goes := range map[string]func(r *rig, c *client){
		"it waits": func(r *rig, c *client) {
			c.send(receiveFrom(1, "jq", 30))
			synctest.Wait()
			c.conn.Close()
			synctest.Wait()
			r.send("x")
		},
		"the answer is being written": func(r *rig, c *client) {
			r.send("x")
			c.send(receiveFrom(1, "jq", 30))
			synctest.Wait()
			c.conn.Close()
		},
		"the answer is half written": func(r *rig, c *client) {
			r.send("x")
			c.send(batchReceiveFrom(1, "jq", 16, 30))
			require.Len(r.t, readSome(c, 20), 20)
			c.conn.Close()
		},
		"the answer waits behind another": func(r *rig, c *client) {
			c.send(ask(1, cmdHeartbeat))
			synctest.Wait()
			r.send("x")
			c.send(receiveFrom(2, "jq", 30))
			synctest.Wait()
			c.conn.Close()
		},
		"a batch gathers": func(r *rig, c *client) {
			c.send(batchReceiveFrom(1, "jq", 16, 30))
			<-time.After(time.Second)
			r.send("x")
			<-time.After(gatherTime / 2)
			c.conn.Close()
		},
		"it received in the same moment": func(r *rig, c *client) {
			r.fake.Received = func() { c.conn.Close(); <-time.After(time.Second) }
			c.send(receiveFrom(1, "jq", 30))
			synctest.Wait()
			r.send("x")
			<-time.After(2 * time.Second)
			r.fake.Received = nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, nil)
				c := r.login()
				goes(r, c)
				synctest.Wait()
				next := r.login()
				a := next.call(receiveFrom(1, "jq", 0))
				require.Equal(t, []string{"x"}, bodiesOf(a))
				require.EqualValues(t, 1, a.PullRsp.GetDequeueCount())
				require.Zero(t, r.door.config.Polls.Open())
				next.conn.Close()
			})
		})
	}
}

func readSome(c *client, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		_, err := c.conn.Read(b[i : i+1])
		require.NoError(c.t, err)
	}
	return b
}

// TestBackendThatDoesNotAnswer: requests end all the same, and what comes later is released.
func TestBackendThatDoesNotAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hung := &silent{}
		r := newRig(t, func(c *Config) { c.Backend = hung })
		c := r.login()
		for _, row := range []struct {
			ask  *pb.CMQProto
			want *cmq.Error
			took time.Duration
		}{
			{sendTo(1, "jq", "a"), cmq.ErrSendFailed, 8 * time.Second},
			{deleteFrom(1, "jq", 1), cmq.ErrDelete, 8 * time.Second},
			{receiveFrom(1, "jq", 0), cmq.ErrReceive, 8 * time.Second},
			{receiveFrom(1, "jq", 1), cmq.ErrNoMessage, time.Second + pollGrace},
			{batchReceiveFrom(1, "jq", 4, 30), cmq.ErrNoMessage, 30*time.Second + pollGrace},
		} {
			began := time.Now()
			require.Equal(t, result(row.want), text(c.call(row.ask)))
			require.InDelta(t, row.took.Seconds(), time.Since(began).Seconds(), 0.1)
		}
		require.Equal(t, 5, hung.cancelled)
		require.Zero(t, r.door.memory.Load())
		hung.receives[0]([]cmq.Message{{Handle: 77}}, nil)
		require.Equal(t, []cmq.Handle{77}, hung.released)
		c.conn.Close()
	})
}

// silent is a Backend that never answers by itself.
type silent struct {
	mu        sync.Mutex
	cancelled int
	receives  []func([]cmq.Message, error)
	released  []cmq.Handle
}

// Cancel breaks the rule that a cancelled request is answered, as a Backend in trouble may be late.
func (s *silent) Cancel() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cancelled++
}

func (s *silent) StartSend(string, string, [][]byte, time.Duration, func([]cmq.MsgID, error)) cmq.Pending {
	return s
}

func (s *silent) StartPublish(string, string, [][]byte, cmq.Publication, func([]cmq.MsgID, error)) cmq.Pending {
	return s
}

func (s *silent) StartOpenSession(string, string, uint64, func(uint64, error)) cmq.Pending { return s }

func (s *silent) StartSendOnce(string, string, [][]byte, time.Duration, cmq.Session, func([]cmq.MsgID, error)) cmq.Pending {
	return s
}

func (s *silent) StartReceive(_, _ string, _ int, _ *time.Duration, _ time.Duration, done func([]cmq.Message, error)) cmq.Pending {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.receives = append(s.receives, done)
	return s
}

func (s *silent) StartDelete(string, string, []cmq.Handle, func([]*cmq.Error, error)) cmq.Pending {
	return s
}

func (s *silent) StartRelock(string, string, []cmq.Handle, time.Duration, func([]*cmq.Error, error)) cmq.Pending {
	return s
}

func (s *silent) StartPrepare(string, string, [][]byte, time.Duration, uint64, func([]cmq.MsgID, error)) cmq.Pending {
	return s
}

func (s *silent) StartConfirm(string, string, []cmq.Decision, func([]*cmq.Error, error)) cmq.Pending {
	return s
}

func (s *silent) StartRelease(_, _ string, handles []cmq.Handle, _ func(error)) cmq.Pending {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.released = append(s.released, handles...)
	return s
}

func stopWaiting(seqno, poll int64) *pb.CMQProto {
	m := ask(seqno, cmdStopWaiting)
	m.StopWaiting = &pb.StopWaiting{Seqno: &poll}
	return m
}

// TestStopWaiting: a poll is taken back, and what it has been given already is delivered.
func TestStopWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		c := r.login()
		c.send(receiveFrom(1, "jq", 30))
		c.send(batchReceiveFrom(2, "jq", 16, 30))
		synctest.Wait()
		for _, poll := range []int64{2, 1} {
			began := time.Now()
			c.send(stopWaiting(9, poll))
			a := c.next()
			require.Equal(t, poll, a.GetSeqno())
			require.Equal(t, result(cmq.ErrNoMessage), text(a))
			require.Zero(t, time.Since(began))
		}
		require.Zero(t, r.door.config.Polls.Open())
		r.send("later")
		require.Equal(t, []string{"later"}, bodiesOf(c.call(receiveFrom(3, "jq", 0))), "nobody waits for it any more")

		c.send(batchReceiveFrom(4, "jq", 16, 30))
		synctest.Wait()
		r.send("given")
		synctest.Wait() // it gathers
		c.send(stopWaiting(9, 4))
		require.Equal(t, []string{"given"}, bodiesOf(c.next()))

		for _, m := range []*pb.CMQProto{stopWaiting(9, 4), stopWaiting(9, 77)} { // answered before; not there
			c.send(m)
			synctest.Wait()
			c.silent()
		}
		c.conn.Close()
	})
}

// TestBatchOfMoreThanSixteen: what one receive may bring over this protocol.
func TestBatchOfMoreThanSixteen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		c := r.login()
		for range 20 {
			r.send(make([]string, 16)...)
		}
		require.Len(t, bodiesOf(c.call(batchReceiveFrom(1, "jq", 40, 0))), 40)
		require.Len(t, bodiesOf(c.call(batchReceiveFrom(2, "jq", 1000, 0))), 256)
		c.conn.Close()
	})
}

// TestShutdown: what is under way is answered, polls are over, nothing more is read.
func TestShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		poller, sender, stranger := r.login(), r.login(), r.dial()
		poller.send(receiveFrom(1, "jq", 30))
		synctest.Wait()
		ended := make(chan error, 1)
		go func() { ended <- r.door.Shutdown(context.Background()) }()
		require.Equal(t, result(cmq.ErrNoMessage), text(poller.next()))
		poller.closed()
		sender.closed()
		stranger.closed()
		require.NoError(t, <-ended)
		late := r.dial()
		late.closed()
		require.Zero(t, r.door.Stats().Conns)
	})
}

// TestShutdownOutOfPatience: whoever does not read its answer is cut off, and its message is released.
func TestShutdownOutOfPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		c := r.login()
		r.send("x")
		c.send(receiveFrom(1, "jq", 30))
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, r.door.Shutdown(ctx), context.DeadlineExceeded)
		synctest.Wait()
		got, err := r.fake.Receive(t.Context(), "me", "jq", 1, new(time.Duration), 0)
		require.NoError(t, err)
		require.Equal(t, 1, got[0].DequeueCount)
	})
}
