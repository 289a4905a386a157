package client

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"
)

// LeanTransport is HTTP/1.1 over persistent connections with nothing around it: no proxy, no TLS, no redirects.
// It costs much less processor time than net/http (BenchmarkTransport compares them) and is meant for load generators
// and for services that send very many small requests to endpoints that begin with "http://".
type LeanTransport struct {
	mu   sync.Mutex
	idle map[string][]*leanConn // by host, the most recently used last
	done bool
}

// leanIdle is how long an unused connection is trusted. Servers close idle ones after a minute or more; a
// connection that they close while we write to it would make a request of unknown outcome.
const leanIdle = 30 * time.Second

// NewLeanTransport makes a transport for WithTransport.
func NewLeanTransport() *LeanTransport {
	return &LeanTransport{idle: make(map[string][]*leanConn)}
}

type leanConn struct {
	net.Conn
	r    *bufio.Reader
	out  []byte
	used time.Time
}

// RoundTrip implements Transport.
func (t *LeanTransport) RoundTrip(ctx context.Context, to Address, form, dst []byte) ([]byte, error) {
	if to.TLS {
		return dst, NotSent(errors.New("the lean transport has no TLS; use the default transport for https endpoints"))
	}
	c, err := t.take(ctx, to.Host)
	if err != nil {
		return dst, NotSent(err)
	}
	deadline, _ := ctx.Deadline()
	if err := c.SetDeadline(deadline); err != nil {
		c.Close()
		return dst, NotSent(err)
	}
	stop := context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
	out, keep, err := c.roundTrip(to, form, dst)
	if stop() && err == nil && keep {
		t.put(to.Host, c)
	} else {
		c.Close()
	}
	if err != nil && ctx.Err() != nil {
		err = ctx.Err()
	} else if errors.Is(err, os.ErrDeadlineExceeded) { // the connection noticed a moment before the context did
		err = context.DeadlineExceeded
	}
	return out, err
}

// Close closes the idle connections; those in use are closed when their answer is there.
func (t *LeanTransport) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.done = true
	for _, conns := range t.idle {
		for _, c := range conns {
			c.Close()
		}
	}
	clear(t.idle)
	return nil
}

func (t *LeanTransport) take(ctx context.Context, host string) (*leanConn, error) {
	t.mu.Lock()
	for conns := t.idle[host]; len(conns) > 0; conns = t.idle[host] {
		c := conns[len(conns)-1]
		t.idle[host] = conns[:len(conns)-1]
		if time.Since(c.used) < leanIdle {
			t.mu.Unlock()
			return c, nil
		}
		c.Close()
	}
	t.mu.Unlock()
	var d net.Dialer
	addr := host
	if _, _, err := net.SplitHostPort(host); err != nil {
		addr = net.JoinHostPort(host, "80")
	}
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return &leanConn{Conn: conn, r: bufio.NewReaderSize(conn, 16<<10)}, nil
}

func (t *LeanTransport) put(host string, c *leanConn) {
	c.used = time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.done {
		c.Close()
		return
	}
	t.idle[host] = append(t.idle[host], c)
}

func (c *leanConn) roundTrip(to Address, form, dst []byte) (answer []byte, keep bool, err error) {
	c.out = append(c.out[:0], "POST "...)
	c.out = append(append(c.out, to.Path...), " HTTP/1.1\r\nHost: "...)
	c.out = append(append(c.out, to.Host...), "\r\nContent-Type: "+formType+"\r\nContent-Length: "...)
	c.out = append(strconv.AppendInt(c.out, int64(len(form)), 10), "\r\n\r\n"...)
	c.out = append(c.out, form...)
	if _, err := c.Write(c.out); err != nil {
		return dst, false, err
	}
	if cap(c.out) > 256<<10 {
		c.out = nil
	}
	status, length, chunked, keep, err := c.head()
	if err != nil {
		return dst, false, err
	}
	switch {
	case status != http.StatusOK:
		return dst, false, fmt.Errorf("HTTP status %d; is this a CMQ endpoint?", status)
	case chunked:
		dst, err = c.chunks(dst)
	case length < 0:
		dst, err = c.toEnd(dst)
		keep = false
	default:
		dst, err = c.exactly(dst, length)
	}
	return dst, keep, err
}

// head reads status line and headers. length is -1 if there was no Content-Length.
func (c *leanConn) head() (status, length int, chunked, keep bool, err error) {
	line, err := c.line()
	if err != nil {
		return 0, 0, false, false, err
	}
	if len(line) < 12 || !bytes.HasPrefix(line, []byte("HTTP/1.")) {
		return 0, 0, false, false, fmt.Errorf("answer is not HTTP/1: %q", line)
	}
	status, err = strconv.Atoi(string(line[9:12]))
	if err != nil {
		return 0, 0, false, false, fmt.Errorf("answer is not HTTP/1: %q", line)
	}
	keep, length = line[7] == '1', -1
	for {
		line, err = c.line()
		if err != nil || len(line) == 0 {
			return status, length, chunked, keep, err
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimSpace(value)
		switch {
		case bytes.EqualFold(name, []byte("Content-Length")):
			length, err = strconv.Atoi(string(value))
			if err != nil || length < 0 || length > maxAnswer {
				return 0, 0, false, false, fmt.Errorf("answer has a wrong Content-Length: %q", value)
			}
		case bytes.EqualFold(name, []byte("Transfer-Encoding")):
			chunked = bytes.EqualFold(value, []byte("chunked"))
		case bytes.EqualFold(name, []byte("Connection")):
			keep = !bytes.EqualFold(value, []byte("close"))
		}
	}
}

// line reads one line of at most the buffer's size and returns it without its end.
func (c *leanConn) line() ([]byte, error) {
	line, err := c.r.ReadSlice('\n')
	if err != nil {
		return nil, noEOF(err)
	}
	return bytes.TrimRight(line, "\r\n"), nil
}

func (c *leanConn) exactly(dst []byte, n int) ([]byte, error) {
	start := len(dst)
	dst = append(dst, make([]byte, n)...)
	if _, err := io.ReadFull(c.r, dst[start:]); err != nil {
		return dst[:start], noEOF(err)
	}
	return dst, nil
}

func (c *leanConn) chunks(dst []byte) ([]byte, error) {
	for {
		line, err := c.line()
		if err != nil {
			return dst, err
		}
		size, _, _ := bytes.Cut(line, []byte(";"))
		n, err := strconv.ParseUint(string(bytes.TrimSpace(size)), 16, 32)
		if err != nil || len(dst)+int(n) > maxAnswer {
			return dst, fmt.Errorf("answer has a wrong chunk size: %q", size)
		}
		if dst, err = c.exactly(dst, int(n)); err != nil {
			return dst, err
		}
		if n > 0 {
			if _, err := c.line(); err != nil {
				return dst, err
			}
			continue
		}
		for { // trailers
			if line, err := c.line(); err != nil || len(line) == 0 {
				return dst, err
			}
		}
	}
}

func (c *leanConn) toEnd(dst []byte) ([]byte, error) {
	buf := bytes.NewBuffer(dst)
	_, err := buf.ReadFrom(io.LimitReader(c.r, maxAnswer))
	return buf.Bytes(), err
}

// noEOF gives the end of a connection in the middle of an answer its name.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
