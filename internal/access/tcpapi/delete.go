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
	var v deleteView
	refused := c.body(fieldDelete, "tcp_delete_msg", &v)
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
	switch {
	case !r.end():
	case err != nil:
		r.refuse(err)
	default:
		r.plain(errs[0])
	}
}

// batchDelete deletes what it can.
func (c *conn) batchDelete() {
	r := c.newRequest(access.BatchDeleteMessage)
	v := deleteView{batch: true}
	refused := c.body(fieldBatchDelete, "tcp_batch_delete_msg", &v)
	if refused == nil {
		r.name, refused = c.queue(v.queue, v.hasQueue)
	}
	if n := len(v.handles); refused == nil && (n == 0 || n > c.door.config.Limits.BatchEntries) {
		refused = cmq.ErrParameterBatch("receipt_handle_list")
	}
	if refused != nil {
		r.plain(refused)
		return
	}
	handles := make([]cmq.Handle, len(v.handles))
	for i, h := range v.handles {
		handles[i] = cmq.Handle(h)
	}
	if c.begin(r) {
		r.keep(c.door.config.Backend.StartDelete(r.owner, r.name, handles, func(errs []*cmq.Error, err error) { r.batchDeleted(handles, errs, err) }))
	}
}

// batchDeleted answers 0 if everything is deleted, 10290 if nothing, 10150 otherwise, with those that failed.
func (r *request) batchDeleted(handles []cmq.Handle, errs []*cmq.Error, err error) {
	if !r.end() {
		return
	}
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
		h = r.head(cmq.ErrDeleteBatch)
	case len(failed) > 0:
		h = r.head(cmq.ErrDeletePart)
	}
	if b := r.c.out.open(); b != nil {
		b.failures(h, failed)
	}
	r.c.added()
}
