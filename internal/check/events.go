package check

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"time"
)

// A history on paper is one JSON object a line, in the order of time: an "invoke" with the question, later an
// "ok", "fail" or "info" with the same number and the answer, and "jump" for a Jump.
//
//	{"type":"invoke","at":1200,"op":{"op":7,"client":2,"kind":"send","queue":"q1","call":1200,"bodies":["c2.3"]}}
//	{"type":"ok","at":5100,"op":{"op":7,"client":2,"kind":"send","queue":"q1","call":1200,"bodies":["c2.3"],"ids":[…]}}
type event struct {
	Type  string        `json:"type"`
	At    time.Duration `json:"at"`
	Op    *Op           `json:"op,omitempty"`
	Ahead time.Duration `json:"ahead,omitempty"`
}

const (
	typeInvoke = "invoke"
	typeJump   = "jump"
)

// Write writes the history as JSON lines.
func (h *History) Write(w io.Writer) error {
	events := make([]event, 0, 2*len(h.Ops)+len(h.Jumps))
	for _, op := range h.Ops {
		question := *op
		question.IDs, question.Messages, question.Done, question.Counts, question.Refused, question.Heard = nil, nil, nil, nil, "", 0
		events = append(events, event{Type: typeInvoke, At: op.Call, Op: &question})
		if op.Outcome != Info {
			events = append(events, event{Type: string(op.Outcome), At: op.Return, Op: op})
		}
	}
	for _, j := range h.Jumps {
		events = append(events, event{Type: typeJump, At: j.At, Ahead: j.Ahead})
	}
	slices.SortStableFunc(events, func(a, b event) int { return int(a.At - b.At) })
	enc := json.NewEncoder(w)
	for i := range events {
		if err := enc.Encode(&events[i]); err != nil {
			return err
		}
	}
	return nil
}

// Read reads a history written by Write or by anybody who keeps to the same form. An operation that never
// returned is an Info.
func Read(r io.Reader) (*History, error) {
	h := &History{}
	open := map[int]int{} // number → place in h.Ops
	dec := json.NewDecoder(bufio.NewReader(r))
	for {
		var e event
		err := dec.Decode(&e)
		if err == io.EOF {
			return h, nil
		}
		if err != nil {
			return nil, fmt.Errorf("after %d operations: %w", len(h.Ops), err)
		}
		if err := h.read(&e, open); err != nil {
			return nil, err
		}
	}
}

func (h *History) read(e *event, open map[int]int) error {
	if e.Type == typeJump {
		h.Jumps = append(h.Jumps, Jump{At: e.At, Ahead: e.Ahead})
		return nil
	}
	if e.Op == nil {
		return fmt.Errorf("an event of type %q without an operation", e.Type)
	}
	place, known := open[e.Op.ID]
	switch {
	case e.Type == typeInvoke && !known:
		open[e.Op.ID] = len(h.Ops)
		e.Op.Return, e.Op.Outcome = Never, Info
		h.Ops = append(h.Ops, e.Op)
	case known && (e.Type == string(OK) || e.Type == string(Fail) || e.Type == string(Info)):
		e.Op.Return = Never
		e.Op.Finish(e.At, Outcome(e.Type))
		h.Ops[place] = e.Op
	default:
		return fmt.Errorf("operation %d: event of type %q out of place", e.Op.ID, e.Type)
	}
	return nil
}
