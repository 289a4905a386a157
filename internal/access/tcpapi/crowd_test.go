package tcpapi

import (
	"net"
	"os"
	"runtime"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// crowd is how many strangers come at once.
const crowd = 10_000

// roundTrip is one message of a client that does its work whatever others do.
func (c *client) roundTrip(body string) {
	c.t.Helper()
	require.Len(c.t, c.call(sendTo(1, "jq", body)).GetMsgids(), 1)
	m := c.call(receiveFrom(2, "jq", 0)).GetPullRsp()
	require.Equal(c.t, body, string(m.GetMsgBody()))
	require.Equal(c.t, ok, text(c.call(deleteFrom(3, "jq", m.GetReceiptHandle()))))
}

// TestCrowdOfStrangers: ten thousand connections that do not say who they are, silent, in the middle of a frame or at one
// byte a second, take no more places than there are for them, are closed when their time is up, and delay nobody.
func TestCrowdOfStrangers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		worker := r.login()
		began := time.Now()
		login := frameOf(t, authFrame(0, goldenID, goldenSecret))
		strangers := make([]*client, crowd)
		for i := range strangers {
			strangers[i] = r.dial()
			if i%3 == 1 {
				strangers[i].write(login[:len(login)/2])
			}
			if i%1000 == 0 {
				worker.roundTrip("while they come")
			}
		}
		synctest.Wait()
		most := r.door.config.MaxStrangers
		require.Equal(t, Stats{Conns: most + 1, Strangers: most, Refused: crowd - uint64(most)}, r.door.Stats())
		for _, c := range strangers[:crowd-most] {
			c.closed() // the oldest had to make room
		}
		strangers = strangers[crowd-most:]
		for i := range 9 {
			<-time.After(time.Second)
			for j := 2; j < most; j += 3 {
				strangers[j].write(login[i : i+1])
			}
			worker.roundTrip("while they wait")
		}
		require.Equal(t, most, r.door.Stats().Strangers)
		for _, c := range strangers {
			c.closed()
		}
		require.Equal(t, r.door.config.AuthTimeout, time.Since(began), "all at once, and none before")
		synctest.Wait()
		require.Equal(t, 1, r.door.Stats().Conns)
		worker.roundTrip("when they have gone")
		worker.conn.Close()
	})
}

// crowdMemory is what a stranger may take of memory, this test's own end of the connection included: two stacks that were
// used once, two sockets, and no buffer.
const crowdMemory = 16 << 10

// TestCrowdTakesLittleMemory: strangers who may all stay, over real sockets. CMQ_CROWD is how many; 1,000 if it is not set.
// Each takes two descriptors of the process.
func TestCrowdTakesLittleMemory(t *testing.T) {
	n := 1000
	if text := os.Getenv("CMQ_CROWD"); text != "" {
		var err error
		n, err = strconv.Atoi(text)
		require.NoError(t, err)
	}
	r := newRig(t, func(c *Config) { c.MaxStrangers, c.AuthTimeout = n, time.Hour })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	served := make(chan error, 1)
	go func() { served <- r.door.Serve(l) }()
	dial := func() *client {
		conn, err := net.Dial("tcp", l.Addr().String())
		require.NoError(t, err)
		t.Cleanup(func() { conn.Close() })
		return &client{t, conn}
	}
	login := frameOf(t, authFrame(0, goldenID, goldenSecret))
	worker := dial()
	worker.write(login)
	require.Zero(t, worker.next().GetResult())
	worker.roundTrip("before")

	before := memoryInUse()
	strangers := make([]*client, n)
	for i := range strangers {
		strangers[i] = dial()
		strangers[i].write(login[:i%len(login)])
	}
	require.Eventually(t, func() bool { return r.door.Stats().Strangers == n && r.door.chunks.held.Load() == 0 }, time.Minute, 10*time.Millisecond)
	each := (memoryInUse() - before) / int64(n)
	t.Logf("%d strangers take %d bytes each", n, each)
	require.Less(t, each, int64(crowdMemory))
	worker.roundTrip("meanwhile")

	// One more has a place, and takes it from the oldest.
	dial()
	_, err = strangers[0].conn.Read(make([]byte, 1))
	require.Error(t, err)
	require.Equal(t, n, r.door.Stats().Strangers)
	// Those who say who they are are let in, whatever of it they have said before.
	last := strangers[n-1]
	last.write(login[(n-1)%len(login):])
	require.Zero(t, last.next().GetResult())
	last.roundTrip("a stranger no more")
	l.Close()
	require.ErrorIs(t, <-served, ErrClosed)
}

// memoryInUse is what the process holds in objects and stacks. What others have left in pools goes with the third round.
func memoryInUse() int64 {
	for range 3 {
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// TestHalfFrames: a connection that ends anywhere in a frame takes nothing along, and a frame that comes one byte a second
// is answered like any other if it is whole in time.
func TestHalfFrames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		frame := frameOf(t, sendTo(1, "jq", "half"))
		for cut := range len(frame) {
			c := r.login()
			c.write(frame[:cut])
			c.conn.Close()
		}
		synctest.Wait()
		require.Equal(t, Stats{}, r.door.Stats(), "an end is no bad frame")
		_, status, err := r.fake.QueueAttributes(t.Context(), "me", "jq")
		require.NoError(t, err)
		require.Zero(t, status.Active, "half a message is none")

		c := r.login()
		answer := make(chan []byte, 1)
		go func() { answer <- c.raw() }()
		for i := range frame {
			<-time.After(time.Second)
			c.write(frame[i : i+1])
		}
		require.Contains(t, string(<-answer), "\xe8\x01", "msgids")
		c.conn.Close()
	})
}
