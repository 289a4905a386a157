package httpapi

import (
	"strconv"

	"github.com/opencmq/cmq/internal/cmq"
)

func (c *call) deleteMessage() error {
	name, err := c.queue("queueName")
	if err != nil {
		return err
	}
	return c.onHandle(func(handles []cmq.Handle) ([]*cmq.Error, error) { return c.delete(name, handles) })
}

func (c *call) batchDeleteMessage() error {
	name, err := c.queue("queueName")
	if err != nil {
		return err
	}
	return c.onHandles(cmq.ErrDeletePart, cmq.ErrDeleteBatch, func(handles []cmq.Handle) ([]*cmq.Error, error) { return c.delete(name, handles) })
}

func (c *call) delete(name string, handles []cmq.Handle) ([]*cmq.Error, error) {
	return await(c, c.ends(), func(done func([]*cmq.Error, error)) cmq.Pending {
		return c.backend().StartDelete(c.owner, name, handles, done)
	})
}

// onHandle does something with the one handle of the request.
func (c *call) onHandle(do func([]cmq.Handle) ([]*cmq.Error, error)) error {
	text, err := c.required("receiptHandle")
	if err != nil {
		return err
	}
	handle, refusal := parseHandle(text)
	if refusal != nil {
		return refusal
	}
	errs, err := do([]cmq.Handle{handle})
	if err != nil {
		return err
	}
	if errs[0] != nil {
		return errs[0]
	}
	c.envelope(nil)
	return nil
}

// onHandles does with the listed handles what it can: a malformed one fails like an invalid one, without the others.
func (c *call) onHandles(some, all *cmq.Error, do func([]cmq.Handle) ([]*cmq.Error, error)) error {
	texts, err := c.list("receiptHandle")
	if err != nil {
		return err
	}
	refusals := make([]*cmq.Error, len(texts))
	places := make([]int, 0, len(texts)) // of the handles that are well-formed, in texts
	handles := make([]cmq.Handle, 0, len(texts))
	for i, text := range texts {
		handle, refusal := parseHandle(text)
		if refusals[i] = refusal; refusal == nil {
			places = append(places, i)
			handles = append(handles, handle)
		}
	}
	errs, err := do(handles)
	if err != nil {
		return err
	}
	for i, refusal := range errs {
		refusals[places[i]] = refusal
	}
	c.partialReply("receiptHandle", texts, refusals, some, all)
	return nil
}

// partialReply answers 0 if all went well, otherwise that some or all failed, with the list of failures: what the request
// named so, each with its refusal.
func (c *call) partialReply(name string, texts [][]byte, refusals []*cmq.Error, some, all *cmq.Error) {
	failed := 0
	for _, refusal := range refusals {
		if refusal != nil {
			failed++
		}
	}
	switch failed {
	case 0:
		c.envelope(nil)
		return
	case len(refusals):
		c.envelope(all)
	default:
		c.envelope(some)
	}
	c.key("errorList")
	separator := byte('[')
	for i, refusal := range refusals {
		if refusal == nil {
			continue
		}
		c.out = append(c.out, separator)
		separator = ','
		c.out = strconv.AppendInt(append(c.out, `{"code":`...), int64(refusal.Code), 10)
		c.out = appendString(append(c.out, `,"message":`...), refusal.Error())
		c.key(name)
		c.out = appendBytes(c.out, texts[i])
		c.out = append(c.out, '}')
	}
	c.out = append(c.out, ']')
}

// maxHandleDigits is the length of the largest 64-bit number.
const maxHandleDigits = 20

// parseHandle reads a receipt handle: a number as this server writes it. Everything else cannot be a handle of
// any message and is malformed; a number nobody was given is for the Backend to find invalid.
func parseHandle(text []byte) (cmq.Handle, *cmq.Error) {
	if len(text) == 0 || len(text) > maxHandleDigits || text[0] == '0' && len(text) > 1 {
		return 0, cmq.ErrHandleFormat
	}
	for _, c := range text {
		if c < '0' || c > '9' {
			return 0, cmq.ErrHandleFormat
		}
	}
	n, err := strconv.ParseUint(string(text), 10, 64)
	if err != nil {
		return 0, cmq.ErrHandleFormat
	}
	return cmq.Handle(n), nil
}
