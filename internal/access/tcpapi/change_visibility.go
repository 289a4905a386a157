package tcpapi

import (
	"time"

	"github.com/opencmq/cmq/internal/access"
	"github.com/opencmq/cmq/internal/cmq"
)

// changeVisibility carries out command 10001, an extension: locks end visible_timeout from now, at once if it is 0.
func (c *conn) changeVisibility() {
	r := c.newRequest(access.BatchChangeMessageVisibility)
	var v relockView
	refused := c.body(fieldChangeVisibility, "change_visibility", &v)
	if refused == nil {
		r.name, refused = c.queue(v.queue, v.hasQueue)
	}
	if refused == nil {
		refused = c.countHandles(v.handles)
	}
	switch {
	case refused != nil:
	case !v.hasLock:
		refused = cmq.ErrParameterMissing("visible_timeout")
	case int64(v.lock) > c.door.config.Limits.VisibilityTimeout.Max:
		refused = cmq.ErrParameterRange("visible_timeout")
	}
	if refused != nil {
		r.plain(refused)
		return
	}
	handles, lock := handlesFrom(v.handles), time.Duration(v.lock)*time.Second
	if c.begin(r) {
		r.keep(c.door.config.Backend.StartRelock(r.owner, r.name, handles, lock, func(errs []*cmq.Error, err error) {
			r.settled(handles, errs, err, cmq.ErrRelockPart, cmq.ErrRelockBatch)
		}))
	}
}
