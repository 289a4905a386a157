package loopback

import (
	"net"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestProcessesHaveAddressesOfTheirOwn(t *testing.T) {
	for pid, want := range map[int]string{1: "127.64.0.1", 0x123456: "127.82.52.86", 1<<22 - 1: "127.127.255.255"} {
		require.Equal(t, want, of(pid))
	}
	require.True(t, net.ParseIP(Host()).IsLoopback())
}

// A port that was closed stays free while others listen on every port that the kernel has to give.
func TestClosedPortIsFreeLater(t *testing.T) {
	if Host() == "127.0.0.1" {
		return // the only address: nothing is promised
	}
	l, err := Listen()
	require.NoError(t, err)
	addr := l.Addr().(*net.TCPAddr)
	conn, err := net.Dial("tcp", addr.String())
	require.NoError(t, err)
	defer conn.Close()
	require.Equal(t, "127.0.0.1", conn.LocalAddr().(*net.TCPAddr).IP.String(), "clients take no ports of it")
	require.NoError(t, l.Close())
	other, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: addr.Port})
	if err == nil { // else somebody has it already, which is the same
		defer other.Close()
	}
	again, err := net.Listen("tcp", addr.String())
	require.NoError(t, err)
	require.NoError(t, again.Close())
}
