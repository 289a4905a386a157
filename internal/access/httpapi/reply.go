package httpapi

import (
	"net/http"
	"strconv"
	"time"

	"github.com/opencmq/cmq/internal/cmq"
)

// An answer is one JSON object, written from left to right:
//
//	{"code":0,"message":"","requestId":"123"[,"clientRequestId":7] …fields of the action… }
//
// envelope begins it; handlers append ",\"name\":value" with the methods below; send closes and writes it.

// envelope begins the answer anew. A nil refusal is success.
func (c *call) envelope(refusal *cmq.Error) {
	out := c.out[:0]
	if refusal == nil {
		out = append(out, `{"code":0,"message":"","requestId":`...)
	} else {
		out = append(out, `{"code":`...)
		out = strconv.AppendInt(out, int64(refusal.Code), 10)
		out = append(out, `,"message":`...)
		out = appendString(out, refusal.Error())
		out = append(out, `,"requestId":`...)
	}
	out = appendQuotedUint(out, c.id)
	if c.hasClientID {
		out = append(out, `,"clientRequestId":`...)
		out = strconv.AppendUint(out, c.clientID, 10)
	}
	c.out = out
}

func (c *call) key(name string) {
	c.out = append(append(append(c.out, `,"`...), name...), `":`...)
}

func (c *call) number(name string, value int64) {
	c.key(name)
	c.out = strconv.AppendInt(c.out, value, 10)
}

func (c *call) text(name, value string) {
	c.key(name)
	c.out = appendString(c.out, value)
}

// texts writes a list, "[]" if there is nothing in it: one client fails on null.
func (c *call) texts(name string, values []string) {
	c.key(name)
	c.out = append(c.out, '[')
	for i, value := range values {
		if i > 0 {
			c.out = append(c.out, ',')
		}
		c.out = appendString(c.out, value)
	}
	c.out = append(c.out, ']')
}

// set writes a switch that is on; one that is off is left out.
func (c *call) set(name string, on bool) {
	if on {
		c.key(name)
		c.out = append(c.out, "true"...)
	}
}

// truth writes a switch, on or off.
func (c *call) truth(name string, on bool) {
	c.key(name)
	c.out = strconv.AppendBool(c.out, on)
}

func (c *call) seconds(name string, d time.Duration) { c.number(name, int64(d/time.Second)) }

// unix writes a time as Unix seconds. One client fails on negative times, and the zero time is far before 1970.
func (c *call) unix(name string, t time.Time) { c.number(name, max(0, t.Unix())) }

// replyTimeout is how long a client may take to read an answer. What a long one is allowed beyond it is as for bodies.
const replyTimeout = 10 * time.Second

// readTime is how long a client may take to read so many bytes.
func readTime(size int) time.Duration {
	return replyTimeout + time.Duration(size/bodyMinRate)*time.Second
}

// bufferedAnswer is up to how many bytes net/http keeps of an answer until the handler returns. It counts these itself.
const bufferedAnswer = 2048

// send closes the answer's object and writes it. With flush it returns only when the answer is on its way, so
// that a connection known to be broken is an error.
func (c *call) send(flush bool) error {
	c.sent = true
	c.out = append(c.out, '}')
	header := c.w.Header()
	header["Content-Type"] = c.door.contentType
	header["Date"] = nil // net/http would add one; no client reads it
	if flush || len(c.out) > bufferedAnswer {
		header["Content-Length"] = []string{strconv.Itoa(len(c.out))}
	}
	control := http.NewResponseController(c.w)
	control.SetWriteDeadline(time.Now().Add(readTime(len(c.out)))) // not supported by recorders in tests
	_, err := c.w.Write(c.out)
	if err == nil && flush {
		err = control.Flush()
	}
	return err
}
