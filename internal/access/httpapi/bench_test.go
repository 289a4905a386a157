package httpapi

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/opencmq/cmq/internal/cmq"
)

// instant is a backend that does nothing.
type instant struct{ Backend }

func (instant) StartSend(_, _ string, bodies [][]byte, _ time.Duration, done func([]cmq.MsgID, error)) cmq.Pending {
	done(make([]cmq.MsgID, len(bodies)), nil)
	return cmq.Answered{}
}

func benchDoor() *Door {
	return New(Config{Backend: instant{}, Keys: keyMap{testID: {ID: testID, Secret: testSecret, Owner: "alice", Enabled: true}}, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
}

// discard is a ResponseWriter without cost.
type discard struct{ header http.Header }

func (w discard) Header() http.Header         { return w.header }
func (w discard) WriteHeader(int)             {}
func (w discard) Write(b []byte) (int, error) { return len(b), nil }

func (discard) SetReadDeadline(time.Time) error  { return nil }
func (discard) SetWriteDeadline(time.Time) error { return nil }

func sendForm() []byte {
	return []byte(sign("POST", testHost, "/", fields("Action=SendMessage", "queueName=orders", "delaySeconds=0", "RequestClient=SDK_Python_1.3", "SignatureMethod=HmacSHA1", "msgBody="+strings.Repeat("x", 1024))).Encode())
}

// BenchmarkSend is the door's own work for a signed SendMessage of 1 KiB, without net/http.
func BenchmarkSend(b *testing.B) {
	d := benchDoor()
	form := sendForm()
	body := bytes.NewReader(form)
	request, _ := http.NewRequest("POST", "http://"+testHost+"/", body)
	request.RequestURI = "/"
	request.Body = io.NopCloser(body)
	w := discard{make(http.Header)}
	b.ReportAllocs()
	for b.Loop() {
		body.Reset(form)
		d.ServeHTTP(w, request)
	}
}

// BenchmarkHTTP is whole requests over loopback connections, client included: an empty net/http handler, and the
// door. architecture.md wants at least half the rate of the first from the second.
func BenchmarkHTTP(b *testing.B) {
	answer := []byte(success)
	empty := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Write(answer) })
	for _, c := range []struct {
		name string
		make func() *http.Server
	}{{"empty handler", func() *http.Server { return &http.Server{Handler: empty} }}, {"send", func() *http.Server { return benchDoor().NewServer() }}} {
		b.Run(c.name, func(b *testing.B) {
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			server := c.make()
			go server.Serve(listener)
			defer server.Close()
			form := sendForm()
			text := []byte(fmt.Sprintf("POST / HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n\r\n%s", testHost, len(form), form))
			b.SetParallelism(32)
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				conn, err := net.Dial("tcp", listener.Addr().String())
				if err != nil {
					b.Error(err)
					return
				}
				defer conn.Close()
				in := bufio.NewReader(conn)
				for pb.Next() {
					conn.Write(text)
					skipAnswer(b, in)
				}
			})
		})
	}
}

// skipAnswer reads one answer with little work, so that the server's is what is measured.
func skipAnswer(b *testing.B, in *bufio.Reader) {
	length := 0
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			b.Error(err)
			return
		}
		if n, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
			fmt.Sscan(string(n), &length)
		}
		if len(line) == 2 {
			in.Discard(length)
			return
		}
	}
}

// BenchmarkReply writes the answer of a batch receive of 16 messages of 1 KiB.
func BenchmarkReply(b *testing.B) {
	c := newCall(benchDoor())
	m := cmq.Message{ID: 1 << 60, Handle: 1 << 50, Body: bytes.Repeat([]byte("x你"), 256), Enqueued: time.Unix(1700000000, 0), DequeueCount: 1}
	b.ReportAllocs()
	for b.Loop() {
		c.envelope(nil)
		for range 16 {
			c.appendMessage(&m)
		}
	}
}
