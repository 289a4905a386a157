package client

import "time"

// Message is one delivery of a message. It is locked for other consumers until NextVisible.
type Message struct {
	ID           string
	Handle       string // receipt handle: proof of this delivery, wanted by Delete
	Body         string
	Enqueued     time.Time // when it was sent
	FirstDequeue time.Time // when it was received for the first time
	NextVisible  time.Time // when the lock ends
	DequeueCount int       // receives so far, this one included
	Origin       *Origin   // of a dead letter: where it died; else nil
}

// Origin is where a dead letter was before: the queue in which it died.
type Origin struct {
	QueueID      string
	Enqueued     time.Time // when it was sent to that queue, to the second
	DequeueCount int       // receives there
}

// reply is the union of the answers of all message actions.
type reply struct {
	code      int
	message   string
	requestID string
	ids       []string  // msgId, msgList
	messages  []Message // the message of ReceiveMessage, msgInfoList
	failed    []HandleError
}

// decode reads the answer of a message action.
func (r *reply) decode(action string, data []byte) error {
	s := scanner{b: data}
	var single Message
	s.members(func(key []byte) {
		switch string(key) {
		case "code":
			r.code = int(s.num())
		case "message":
			r.message = s.str()
		case "requestId":
			r.requestID = s.str()
		case "msgList":
			s.elements(func() {
				s.members(func(key []byte) {
					if string(key) == "msgId" {
						r.ids = append(r.ids, s.str())
					} else {
						s.skip()
					}
				})
			})
		case "msgInfoList":
			s.elements(func() {
				var m Message
				s.members(func(key []byte) { m.member(&s, key) })
				r.messages = append(r.messages, m)
			})
		case "errorList":
			s.elements(func() { r.failed = append(r.failed, decodeHandleError(action, &s)) })
		default:
			single.member(&s, key)
		}
	})
	if s.err == nil && s.peek() != 0 {
		s.fail("more than one value")
	}
	if single.Handle != "" {
		r.messages = append(r.messages, single)
	} else if single.ID != "" {
		r.ids = append(r.ids, single.ID)
	}
	return s.err
}

func (m *Message) member(s *scanner, key []byte) {
	switch string(key) {
	case "msgBody":
		m.Body = s.str()
	case "msgId":
		m.ID = s.str()
	case "receiptHandle":
		m.Handle = s.str()
	case "enqueueTime":
		m.Enqueued = time.Unix(s.num(), 0)
	case "firstDequeueTime":
		m.FirstDequeue = time.Unix(s.num(), 0)
	case "nextVisibleTime":
		m.NextVisible = time.Unix(s.num(), 0)
	case "dequeueCount":
		m.DequeueCount = int(s.num())
	case "originalQueueId":
		m.origin().QueueID = s.str()
	case "originalEnqueueTime":
		m.origin().Enqueued = time.Unix(s.num(), 0)
	case "originalDequeueCount":
		m.origin().DequeueCount = int(s.num())
	default:
		s.skip()
	}
}

func (m *Message) origin() *Origin {
	if m.Origin == nil {
		m.Origin = new(Origin)
	}
	return m.Origin
}

func decodeHandleError(action string, s *scanner) HandleError {
	var (
		h    HandleError
		code int
		text string
	)
	s.members(func(key []byte) {
		switch string(key) {
		case "code":
			code = int(s.num())
		case "message":
			text = s.str()
		case "receiptHandle", "msgId":
			h.Handle = s.str()
		default:
			s.skip()
		}
	})
	h.Err = newError(action, code, text, "")
	return h
}
