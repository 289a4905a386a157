package transport

import (
	"errors"
	"fmt"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestQueueBounds(t *testing.T) {
	q := newQueue(3, 1000)
	require.Equal(t, pushOK, q.push(item{id: 1}, 5000), "one item of any size")
	require.Equal(t, pushFull, q.push(item{id: 2}, 1))
	require.Len(t, q.take(nil), 1)
	for range 3 {
		require.Equal(t, pushOK, q.push(item{}, 0))
	}
	require.Equal(t, pushFull, q.push(item{}, 0), "three items")
	q.pushAlways(item{id: 9})
	require.Equal(t, 4, q.close())
	require.Equal(t, pushShut, q.push(item{}, 0))
	q.pushAlways(item{})
	require.Empty(t, q.take(nil))
	q.open()
	require.Equal(t, pushOK, q.push(item{}, 0))
}

func TestRoomIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(1, 1000)
		q.waitForRoom()
		require.True(t, q.pushBeyond(item{id: 1}, 0))
		require.True(t, q.pushBeyond(item{id: 2}, 5000), "whoever has a reply does not wait")
		waited := make(chan struct{}, 2)
		go func() { q.waitForRoom(); waited <- struct{}{} }()
		synctest.Wait()
		require.Empty(t, waited)
		require.Len(t, q.take(nil), 2)
		<-waited
		q.pushBeyond(item{id: 3}, 0)
		go func() { q.waitForRoom(); waited <- struct{}{} }()
		synctest.Wait()
		require.Empty(t, waited)
		q.close()
		<-waited
		require.False(t, q.pushBeyond(item{id: 4}, 0), "nobody will write it")
	})
}

func TestWakeIsNotLost(t *testing.T) {
	q := newQueue(100, 1000)
	for range 3 {
		q.push(item{}, 0)
		<-q.wake
		require.Len(t, q.take(nil), 1)
	}
	q.push(item{}, 0)
	q.push(item{}, 0)
	require.Len(t, q.wake, 1)
}

func TestRefusalsAreLoggedOncePerSourceAndMinute(t *testing.T) {
	r := refusals{last: map[string]time.Time{}}
	now := time.Unix(1_700_000_000, 0)
	require.True(t, r.due("a", now))
	require.False(t, r.due("a", now.Add(59*time.Second)))
	require.True(t, r.due("b", now))
	require.True(t, r.due("a", now.Add(time.Minute)))

	for i := range 10 * maxRefusals {
		r.due(fmt.Sprint(i), now.Add(time.Minute))
	}
	require.LessOrEqual(t, len(r.last), maxRefusals+1, "an attacker with many addresses gets one line")
	require.False(t, r.due("another", now.Add(time.Minute)))
	require.True(t, r.due("another", now.Add(3*time.Minute)))
	require.LessOrEqual(t, len(r.last), 2)
}

func TestHost(t *testing.T) {
	require.Equal(t, "10.0.0.1", host(&net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 77}))
	require.Equal(t, "/run/x", host(&net.UnixAddr{Name: "/run/x"}))
	require.Equal(t, otherSources, host(nil))
}

func TestBackoffGrowsAndIsBounded(t *testing.T) {
	for failures := 1; failures < 100; failures++ {
		d := backoff(failures)
		require.GreaterOrEqual(t, d, min(backoffMin<<min(failures-1, 10), backoffMax)/2)
		require.Less(t, d, min(backoffMin<<min(failures-1, 10), backoffMax))
	}
}

func TestHelloRoundTrip(t *testing.T) {
	want := hello{version: 3, kind: bulk, cluster: 4, from: 5, to: 6}
	b := want.encode()
	require.Len(t, b, helloSize)
	got, err := parseHello(b)
	require.NoError(t, err)
	require.Equal(t, want, got)
	for n := range b {
		_, err := parseHello(b[:n])
		require.True(t, errors.Is(err, errNotHello))
	}
}

func FuzzParseHello(f *testing.F) {
	f.Add(hello{kind: call, from: 1, to: 2}.encode())
	f.Fuzz(func(t *testing.T, data []byte) {
		if h, err := parseHello(data); err == nil {
			again, err := parseHello(h.encode())
			require.NoError(t, err)
			require.Equal(t, h, again)
		}
	})
}
