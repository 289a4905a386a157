// Package loopback gives a test process an address of its own on this machine, so that a server can be stopped and started
// again under the same port. On 127.0.0.1 a port that was closed is anybody's: tests of other packages run at the same
// time, and each server they start asks the kernel for a free one.
package loopback

import (
	"fmt"
	"net"
	"os"
	"sync"
)

// Host is the process's own address. Its ports are given to nobody who listens on 127.0.0.1, and connections are made from
// 127.0.0.1. It is 127.0.0.1 itself where a system knows no other address of its loopback network.
var Host = sync.OnceValue(func() string {
	own := of(os.Getpid())
	l, err := net.Listen("tcp", net.JoinHostPort(own, "0"))
	if err != nil {
		return "127.0.0.1"
	}
	l.Close()
	return own
})

// of spreads processes over 127.64.0.0 to 127.127.255.255: there are as many addresses as Linux has process ids.
func of(pid int) string {
	return fmt.Sprintf("127.%d.%d.%d", 64|pid>>16&63, pid>>8&255, pid&255)
}

// Listen listens on a free port of Host.
func Listen() (net.Listener, error) { return net.Listen("tcp", net.JoinHostPort(Host(), "0")) }
