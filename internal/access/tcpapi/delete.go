package tcpapi

import (
	"github.com/opencmq/cmq/internal/access"
	"github.com/opencmq/cmq/internal/cmq"
)

// delete carries out commands 1025 and 1026.
func (c *conn) delete() {
	if c.envelope.cmd == cmdBatchDelete {
		c.batchDelete()
		return
	}
	r := c.newRequest(access.DeleteMessage)
	v := c.views.deletes(false)
	refused := c.body(fieldDelete, "tcp_delete_msg", v)
	if refused == nil {
		r.name, refused = c.queue(v.queue, v.hasQueue)
	}
	if refused == nil && len(v.handles) == 0 {
		refused = cmq.ErrParameterMissing("receipt_handle")
	}
	if refused != nil {
		r.plain(refused)
		return
	}
	r.handle[0] = cmq.Handle(v.handles[0])
	if c.begin(r) {
		r.keep(c.door.config.Backend.StartDelete(r.owner, r.name, r.handle[:], r.deleted))
	}
}

// deleted answers for one message.
func (r *request) deleted(errs []*cmq.Error, err error) {
	if !r.end() {
		return
	}
	defer r.answered()
	if err != nil {
		r.refuse(err)
		return
	}
	r.plain(errs[0])
}

// batchDelete deletes what it can.
func (c *conn) batchDelete() {
	r := c.newRequest(access.BatchDeleteMessage)
	v := c.views.deletes(true)
	refused := c.body(fieldBatchDelete, "tcp_batch_delete_msg", v)
	if refused == nil {
		r.name, refused = c.queue(v.queue, v.hasQueue)
	}
	if refused == nil {
		refused = c.countHandles(v.handles)
	}
	if refused != nil {
		r.plain(refused)
		return
	}
	handles := handlesFrom(v.handles)
	if c.begin(r) {
		r.keep(c.door.config.Backend.StartDelete(r.owner, r.name, handles, func(errs []*cmq.Error, err error) {
			r.settled(handles, errs, err, cmq.ErrDeletePart, cmq.ErrDeleteBatch)
		}))
	}
}

// countHandles refuses a batch of none and one of too many. The published documents allow for 16, but nothing in the
// protocol does, and what one receive brings can be deleted at once.
func (c *conn) countHandles(handles []uint64) *cmq.Error {
	if n := len(handles); n == 0 || n > c.door.config.Limits.ReceiveEntries {
		return cmq.ErrParameterBatch("receipt_handle_list")
	}
	return nil
}

func handlesFrom(numbers []uint64) []cmq.Handle {
	handles := make([]cmq.Handle, len(numbers))
	for i, h := range numbers {
		handles[i] = cmq.Handle(h)
	}
	return handles
}

// settled answers 0 if everything was done, else that some or all failed, with those that did.
func (r *request) settled(handles []cmq.Handle, errs []*cmq.Error, err error, some, all *cmq.Error) {
	if !r.end() {
		return
	}
	defer r.answered()
	if err != nil {
		r.refuse(err)
		return
	}
	var failed []deleteFailure
	for i, e := range errs {
		if e != nil {
			failed = append(failed, deleteFailure{handles[i], e})
		}
	}
	h := r.head(nil)
	switch {
	case r.oneWay:
		return
	case len(failed) == len(handles):
		h = r.head(all)
	case len(failed) > 0:
		h = r.head(some)
	}
	if b := r.c.out.open(); b != nil {
		b.failures(h, failed)
	}
	r.c.added()
}
