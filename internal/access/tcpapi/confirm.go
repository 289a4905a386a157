package tcpapi

import (
	"github.com/opencmq/cmq/internal/access"
	"github.com/opencmq/cmq/internal/cmq"
)

// confirm carries out command 1041: what becomes of messages of transactions, of which there are none yet, so none of
// the ids is valid. The published client does not read the answer.
func (c *conn) confirm() {
	r := c.newRequest(access.SendMessage)
	var v confirmView
	refused := c.body(fieldConfirm, "transaction_confirm", &v)
	if refused == nil {
		r.name, refused = c.queue(v.queue, v.hasQueue)
	}
	if n := len(v.items); refused == nil && (n == 0 || n > c.door.config.Limits.BatchEntries) {
		refused = cmq.ErrParameterBatch("item")
	}
	if refused != nil {
		r.plain(refused)
		return
	}
	list := make([]confirmed, len(v.items))
	for i, item := range v.items {
		list[i] = confirmed{item.id, stateUnknown, cmq.ErrNotPrepared}
	}
	r.confirmed(list)
}

// confirmed answers with what became of each message.
func (r *request) confirmed(list []confirmed) {
	failed := 0
	for i := range list {
		if list[i].err != nil {
			failed++
		}
	}
	h := r.head(nil)
	switch {
	case r.oneWay:
		return
	case failed == len(list):
		h = r.head(cmq.ErrConfirm)
	case failed > 0:
		h = r.head(cmq.ErrConfirmPart)
	}
	if b := r.c.out.open(); b != nil {
		b.confirmation(h, r.name, list)
	}
	r.c.added()
}
