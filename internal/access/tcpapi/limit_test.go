package tcpapi

import (
	"encoding/binary"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/opencmq/cmq/internal/access"
	"github.com/opencmq/cmq/internal/cmq"
)

// TestWhatEndsAConnection: frames that cannot be answered; others are not affected.
func TestWhatEndsAConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		other := r.login()
		long := rawFrame(nil)
		for name, frame := range map[string][]byte{
			"marker":            {0, 1, 6, 0, 0, 0},
			"length under 6":    {0, 0, 5, 0, 0, 0},
			"over the cap":      binary.LittleEndian.AppendUint32([]byte{0, 0}, uint32(r.door.maxFrame)+1),
			"no seqno":          rawFrame([]byte{0x10, 0x90, 0x08}),
			"no cmd":            rawFrame([]byte{0x08, 0x01}),
			"nothing":           long,
			"group":             rawFrame([]byte{0x08, 0x01, 0x10, 0x90, 0x08, 0x1b, 0x1c}),
			"garbage":           rawFrame([]byte("GET / HTTP/1.1\r\n")),
			"HTTP":              []byte("GET / HTTP/1.1\r\n\r\n"),
			"seqno of a string": rawFrame([]byte{0x0a, 0x01, '1', 0x10, 0x90, 0x08}),
		} {
			c := r.login()
			c.write(frame)
			c.closed()
			require.Equal(t, ok, text(other.call(ask(1, cmdHeartbeat))), name)
		}
		synctest.Wait()
		require.EqualValues(t, 10, r.door.Stats().BadFrames)
		stranger := r.dial()
		stranger.write(binary.LittleEndian.AppendUint32([]byte{0, 0}, maxFrameBefore+1))
		stranger.closed()
		other.conn.Close()
	})
}

func TestLargestFrame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		c := r.login()
		m := batchSendTo(1, "jq", 0, strings.Repeat("x", r.door.maxFrame-40))
		require.Equal(t, result(cmq.ErrMsgSize), text(c.call(m)), "within the cap it is answered")
		limit := int64(1 << 20)
		_, err := r.fake.SetQueueAttributes(t.Context(), "me", "jq", cmq.QueueSettings{MaxMsgSize: &limit})
		require.NoError(t, err)
		body := strings.Repeat("body", 1<<18)
		require.Len(t, c.call(sendTo(2, "jq", body)).Msgids, 1)
		require.Equal(t, body, string(c.call(receiveFrom(3, "jq", 0)).PullRsp.MsgBody))
		c.conn.Close()
	})
}

func TestTooManyConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(c *Config) { c.MaxConns, c.MaxStrangers = 4, 2 })
		first, second := r.login(), r.login()
		oldest, young := r.dial(), r.dial()
		require.Equal(t, Stats{Conns: 4, Strangers: 2}, r.door.Stats())
		r.dial().closed()
		require.EqualValues(t, 1, r.door.Stats().Refused)
		second.conn.Close()
		synctest.Wait()
		newcomer := r.login() // who knows a key gets in; the stranger who had most time has to go
		oldest.closed()
		synctest.Wait() // the door counts it as gone a moment after it closes it
		require.Equal(t, Stats{Conns: 3, Strangers: 1, Refused: 2}, r.door.Stats())
		require.EqualValues(t, resultNotAuthorized, young.call(ask(1, cmdHeartbeat)).GetResult())
		for _, c := range []*client{first, newcomer, young} {
			c.conn.Close()
		}
		synctest.Wait()
		require.Zero(t, r.door.Stats().Conns)
		require.Empty(t, r.door.census.perIP)
		require.Zero(t, r.door.census.strangers.Len())
	})
}

// TestNothingWaitsForAClient: who does not read its answers is not read from, then closed; its messages are released.
func TestNothingWaitsForAClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		limit := int64(1 << 20)
		_, err := r.fake.SetQueueAttributes(t.Context(), "me", "jq", cmq.QueueSettings{MaxMsgSize: &limit})
		require.NoError(t, err)
		big := strings.Repeat("x", 1<<20)
		for range 16 {
			r.send(big)
		}
		c := r.login()
		began := time.Now()
		frame := frameOf(t, receiveFrom(1, "jq", 0))
		for err == nil {
			_, err = c.conn.Write(frame)
		}
		require.InDelta(t, writeTimeout.Seconds(), time.Since(began).Seconds(), 3)
		synctest.Wait()
		_, status, err := r.fake.QueueAttributes(t.Context(), "me", "jq")
		require.NoError(t, err)
		require.EqualValues(t, 16, status.Active, "all are released")
	})
}

func TestTooMuchUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hung := &silent{}
		r := newRig(t, func(c *Config) { c.Backend, c.MaxMemory = hung, 3<<20 })
		c := r.login()
		mb := strings.Repeat("x", 1<<20)
		for i := range 2 {
			c.send(sendTo(int64(i), "jq", mb))
		}
		c.send(publishTo(2, "jt", mb))
		require.Equal(t, result(cmq.ErrThrottled), text(c.call(sendTo(9, "jq", mb))))
		require.Equal(t, result(cmq.ErrThrottled), text(c.call(publishTo(9, "jt", mb))))
		for range 3 {
			require.Equal(t, result(cmq.ErrSendFailed), text(c.next()))
		}
		require.Zero(t, r.door.memory.Load())
		c.conn.Close()
	})
}

// TestReaderWaitsForRoom: a connection with too many requests is not read from until some are answered.
func TestReaderWaitsForRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hung := &silent{}
		r := newRig(t, func(c *Config) { c.Backend = hung })
		c := r.login()
		m := sendTo(1, "jq", "x")
		m.IsOneway = proto.Int32(1)
		frame := frameOf(t, m)
		began := time.Now()
		for range maxCalls {
			c.write(frame)
		}
		require.Zero(t, time.Since(began))
		c.write(frame) // is read with what was there, or waits
		c.write(frame)
		c.write(frame)
		require.Equal(t, 8*time.Second, time.Since(began), "until the first were given up")
		c.conn.Close()
	})
}

func TestTooManyPolls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(c *Config) { c.Polls = access.NewPolls(2) })
		c := r.login()
		c.send(receiveFrom(1, "jq", 30))
		c.send(batchReceiveFrom(2, "jq", 16, 30))
		require.Equal(t, result(cmq.ErrThrottled), text(c.call(receiveFrom(3, "jq", 30))))
		require.Equal(t, result(cmq.ErrNoMessage), text(c.call(receiveFrom(4, "jq", 0))), "one that does not wait needs no place")
		c.conn.Close()
		synctest.Wait()
		require.Zero(t, r.door.config.Polls.Open())
	})
}

// TestWaitingConnectionsHoldNoBuffers: be they clients that wait, or strangers who have sent half a frame.
func TestWaitingConnectionsHoldNoBuffers(t *testing.T) {
	if !readsSockets {
		t.Log("sockets are not read directly here")
		return
	}
	r := newRig(t, nil)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	served := make(chan error, 1)
	go func() { served <- r.door.Serve(l) }()
	login := frameOf(t, authFrame(0, goldenID, goldenSecret))
	poll := frameOf(t, receiveFrom(1, "none", 0))
	for i := range 500 {
		conn, err := net.Dial("tcp", l.Addr().String())
		require.NoError(t, err)
		defer conn.Close()
		c := &client{t, conn}
		if i%2 == 0 {
			c.write(append(login, poll...)) // two frames at once
			require.Zero(t, c.next().GetResult())
			require.Equal(t, result(cmq.ErrQueueNotExist), text(c.next()))
		} else {
			c.write(login[:20])
		}
	}
	require.Eventually(t, func() bool { return r.door.chunks.held.Load() == 0 }, 20*time.Second, time.Millisecond)
	l.Close()
	require.ErrorIs(t, <-served, ErrClosed)
}
