package link

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/client/internal/wire"
)

// BenchmarkCalls is the cost of the client's half and of a server that does nothing, over loopback, with 256 calls
// under way.
func BenchmarkCalls(b *testing.B) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(b, err)
	defer l.Close()
	go func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			go echo(nc)
		}
	}()
	p := NewPool(Options{Timeout: time.Second, Credentials: func(net.Conn) wire.Credentials { return wire.Credentials{} },
		Dial: func(_ context.Context, addr string) (net.Conn, error) { return net.Dial("tcp", addr) }})
	defer p.Close()
	to := []*Target{p.Target(l.Addr().String())}
	body := strings.Repeat("x", 1024)
	b.SetParallelism(128)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		call := NewCall()
		for pb.Next() {
			c, err := p.Get(b.Context(), to, time.Second)
			if err == nil {
				call.Request = send(body)
				err = c.Do(b.Context(), call, time.Second)
			}
			if err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// echo answers every frame with its seqno, several in one write.
func echo(nc net.Conn) {
	defer nc.Close()
	frames := wire.NewReader(nc)
	var out []byte
	for {
		body, err := frames.Next()
		if err != nil {
			return
		}
		seq, _, err := wire.Head(body)
		if err != nil {
			return
		}
		out = wire.Append(out, &wire.Request{Seq: seq, Cmd: wire.Send + 100})
		if !frames.Buffered() {
			if _, err := nc.Write(out); err != nil {
				return
			}
			out = out[:0]
		}
	}
}
