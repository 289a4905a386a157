package client

import (
	"context"
	"errors"
	"strconv"
	"time"
)

// PreparedMessage is a message that is neither committed nor rolled back.
type PreparedMessage struct {
	ID        string
	Size      int       // of its body, bytes
	Prepared  time.Time // when it was sent, to the second; zero: the service does not know at this moment
	Queries   int       // how often its producer was asked
	NextQuery time.Time // when it is asked next, or until when an answer is waited for; zero if Undecided
	Undecided bool      // its producer was asked as often as the queue allows: nobody is asked any more
	Node      int       // number of the node at which its producer sent it
	Producer  string    // address of its producer, if that is still connected to the node that answered; else empty
}

// PreparedOptions choose what PreparedMessages lists. The zero value is the first page of all.
type PreparedOptions struct {
	Undecided bool   // only messages nobody is asked about any more
	After     string // id of the last message of the page before; empty: the first page
	Limit     int    // at most 50; 0: the service's default, 20
}

// PreparedMessages lists one page of the queue's prepared messages, in the order of their ids: what a producer that crashed
// has left, for a program or a person that decides with Confirm. A page with fewer messages than Limit is the last.
//
// It is an extension of cmq, over HTTP. Other services refuse it: see Unsupported.
func (q *Queue) PreparedMessages(ctx context.Context, o PreparedOptions) ([]PreparedMessage, error) {
	params := []Param{{"queueName", q.name}}
	if o.Undecided {
		params = append(params, Param{"undecided", "1"})
	}
	if o.After != "" {
		params = append(params, Param{"afterMsgId", o.After})
	}
	if o.Limit != 0 {
		params = append(params, Param{"limit", strconv.Itoa(o.Limit)})
	}
	var out struct {
		List []wirePrepared `json:"messageList"`
	}
	if err := q.c.call(ctx, "ListPreparedMessages", params, always, &out); err != nil {
		return nil, err
	}
	list := make([]PreparedMessage, len(out.List))
	for i := range list {
		list[i] = out.List[i].message()
	}
	return list, nil
}

type wirePrepared struct {
	MsgID           string `json:"msgId"`
	MsgSize         int    `json:"msgSize"`
	PrepareTime     int64  `json:"prepareTime"`
	QueryCount      int    `json:"queryCount"`
	NextQueryTime   int64  `json:"nextQueryTime"`
	Undecided       int    `json:"undecided"`
	ProducerNode    int    `json:"producerNode"`
	ProducerAddress string `json:"producerAddress"`
}

func (w *wirePrepared) message() PreparedMessage {
	return PreparedMessage{
		ID: w.MsgID, Size: w.MsgSize, Prepared: unixOrZero(w.PrepareTime), Queries: w.QueryCount,
		NextQuery: unixOrZero(w.NextQueryTime), Undecided: w.Undecided == 1, Node: w.ProducerNode, Producer: w.ProducerAddress,
	}
}

func unixOrZero(seconds int64) time.Time {
	if seconds == 0 {
		return time.Time{}
	}
	return time.Unix(seconds, 0)
}

// confirm puts the decisions, which over HTTP have one state for a whole request.
func (h httpCarrier) confirm(ctx context.Context, queue string, decisions []Decision) error {
	failed := &ConfirmError{}
	for _, state := range []State{Commit, Rollback} {
		var ids []string
		for _, d := range decisions {
			if d.State == state {
				ids = append(ids, d.ID)
			}
		}
		for rest := ids; len(rest) > 0; rest = rest[min(len(rest), MaxBatch):] {
			if err := h.confirmSome(ctx, queue, state, rest[:min(len(rest), MaxBatch)], failed); err != nil {
				return err
			}
		}
	}
	if len(failed.Failed) > 0 {
		return failed
	}
	return nil
}

// confirmSome adds the messages that could not be confirmed to failed.
func (h httpCarrier) confirmSome(ctx context.Context, queue string, state State, ids []string, failed *ConfirmError) error {
	number, _ := state.wire()
	params := []Param{{"queueName", queue}, {"state", strconv.Itoa(int(number))}}
	r, err := h.c.message(ctx, "ConfirmTransaction", withList(params, "msgId", ids), 0)
	var refused *Error
	if !errors.As(err, &refused) || len(r.failed) == 0 {
		return err
	}
	for _, f := range r.failed {
		failed.Failed = append(failed.Failed, UnconfirmedMessage{f.Handle, f.Err})
	}
	return nil
}
