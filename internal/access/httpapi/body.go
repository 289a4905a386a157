package httpapi

import (
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/opencmq/cmq/internal/cmq"
)

// How long a body may take: a start for slow networks, then at least so many bytes a second. The server's ReadTimeout is the
// deadline of what fits the start (server.go); here it is moved for what is longer.
const (
	bodyTimeout = 10 * time.Second
	bodyMinRate = 64 << 10 // bytes a second
)

// smallBody is how much memory a request may take before bytes have arrived, and without being counted.
const smallBody = 64 << 10

// errBodyMemory: all memory for large bodies is in use.
var errBodyMemory = errors.New("too many large requests at once")

// readBody reads the request's body into c.body.
func (c *call) readBody() error {
	limit := c.door.config.Limits.RequestBytes
	size := c.r.ContentLength
	switch {
	case size > int64(limit):
		return c.refuseBody(cmq.ErrUnparsable("body"))
	case size == 0:
		return nil
	}
	switch err := c.readAll(limit); {
	case err == errBodyMemory:
		return c.refuseBody(cmq.ErrThrottled)
	case err != nil:
		c.abandonBody()
		return err
	case len(c.body) > limit:
		return c.refuseBody(cmq.ErrUnparsable("body"))
	}
	if len(c.r.Header["Content-Encoding"]) > 0 {
		return cmq.ErrUnparsable("body") // no client compresses, and the signature is over the parameters
	}
	return nil
}

// readAll reads to the end of the body, or one byte more than limit, while the client keeps up the rate. At the end net/http
// takes the deadline away, to watch for the client's going away with a read of its own.
func (c *call) readAll(limit int) error {
	control := http.NewResponseController(c.w)
	begin := time.Now()
	if want := int(c.r.ContentLength); cap(c.body) < min(want+1, smallBody) {
		c.body = make([]byte, 0, min(want+1, smallBody)) // one more, so that the end is seen without growing
	}
	extendAt := smallBody
	for len(c.body) <= limit {
		if len(c.body) == cap(c.body) {
			if err := c.growBody(limit); err != nil {
				return err
			}
		}
		n, err := c.r.Body.Read(c.body[len(c.body):cap(c.body)])
		c.body = c.body[:len(c.body)+n]
		if err == io.EOF {
			break
		}
		if err != nil {
			return cmq.ErrUnparsable("body")
		}
		if len(c.body) >= extendAt {
			extendAt = len(c.body) + smallBody
			control.SetReadDeadline(begin.Add(bodyTimeout + time.Duration(len(c.body)/bodyMinRate)*time.Second))
		}
	}
	return nil
}

// abandonBody is for a body that ended wrongly or too late. net/http reads some of what follows away, for which
// it has no deadline of its own; the connection is closed.
func (c *call) abandonBody() {
	c.w.Header().Set("Connection", "close")
	http.NewResponseController(c.w).SetReadDeadline(time.Now())
}

// growBody doubles the buffer. What it takes beyond smallBody is counted against the door's bound.
func (c *call) growBody(limit int) error {
	size := min(max(2*cap(c.body), 4096), limit+1)
	if size > smallBody {
		more := int64(size) - c.counted
		if c.door.bodyMemory.Add(more) > c.door.config.MaxBodyMemory {
			c.door.bodyMemory.Add(-more)
			return errBodyMemory
		}
		c.counted += more
	}
	grown := make([]byte, len(c.body), size)
	copy(grown, c.body)
	c.body = grown
	return nil
}

// How much of a refused body is read away, so that clients which send first and read afterwards get the answer.
const (
	drainBytes   = 128 << 20
	drainTimeout = 5 * time.Second
)

// refuseBody answers before the body has been read, then reads some of it and closes the connection.
func (c *call) refuseBody(refusal *cmq.Error) error {
	control := http.NewResponseController(c.w)
	control.EnableFullDuplex()
	c.w.Header().Set("Connection", "close")
	c.envelope(refusal)
	if c.send(true) == nil {
		control.SetReadDeadline(time.Now().Add(drainTimeout))
		io.CopyN(io.Discard, c.r.Body, drainBytes)
	}
	return errSent
}

// errSent: the answer is out already.
var errSent = errors.New("answered")
