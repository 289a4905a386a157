package tcpapi

import (
	"github.com/opencmq/cmq/internal/access"
	"github.com/opencmq/cmq/internal/cmq"
)

// openSession carries out command 10003, an extension: it begins a producer session, or takes over the one with this id.
func (c *conn) openSession() {
	r := c.newRequest(access.SendMessage)
	var v openView
	refused := c.body(fieldOpenSession, "open_session", &v)
	if refused == nil {
		r.name, refused = c.queue(v.queue, v.hasQueue)
	}
	switch {
	case refused != nil:
	case !v.hasID:
		refused = cmq.ErrParameterMissing("session_id")
	case v.id == 0:
		refused = cmq.ErrParameterRange("session_id")
	}
	if refused != nil {
		r.plain(refused)
		return
	}
	if c.begin(r) {
		r.keep(c.door.config.Backend.StartOpenSession(r.owner, r.name, v.id, r.opened))
	}
}

// opened answers with the session's epoch.
func (r *request) opened(epoch uint64, err error) {
	if !r.end() {
		return
	}
	defer r.answered()
	switch {
	case err != nil:
		r.refuse(err)
	case !r.oneWay:
		if b := r.c.out.open(); b != nil {
			b.epoch(r.head(nil), epoch)
		}
		r.c.added()
	}
}

// check refuses what is not a request of a session.
func (v *sessionView) check() *cmq.Error {
	switch {
	case !v.hasID:
		return cmq.ErrParameterMissing("id")
	case !v.hasEpoch:
		return cmq.ErrParameterMissing("epoch")
	case !v.hasNumber:
		return cmq.ErrParameterMissing("number")
	case v.id == 0:
		return cmq.ErrParameterRange("id")
	case v.number == 0:
		return cmq.ErrParameterRange("number")
	}
	return nil
}

func (v *sessionView) session() cmq.Session {
	return cmq.Session{ID: v.id, Epoch: v.epoch, Number: v.number, Acked: v.acked}
}
