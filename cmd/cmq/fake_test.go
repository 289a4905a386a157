package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"sync"
	"testing"
)

// fakeService is a small CMQ in memory: queues, send, receive, delete. Signatures are not looked at; package client tests those.
type fakeService struct {
	mu     sync.Mutex
	next   int
	queues map[string]*fakeQueue
}

type fakeQueue struct {
	ready  []fakeMessage
	locked map[string]fakeMessage // by handle
}

type fakeMessage struct {
	ID   string `json:"msgId"`
	Body string `json:"msgBody"`
}

func newFakeService(t testing.TB) (*fakeService, string) {
	f := &fakeService{queues: make(map[string]*fakeQueue)}
	srv := httptest.NewServer(f)
	t.Cleanup(srv.Close)
	return f, srv.URL
}

func (f *fakeService) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	data, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	form, err := url.ParseQuery(string(data))
	if err != nil {
		return
	}
	f.mu.Lock()
	answer := f.do(form)
	f.mu.Unlock()
	if _, refused := answer["code"]; !refused {
		answer["code"], answer["message"] = 0, ""
	}
	answer["requestId"] = "1"
	json.NewEncoder(w).Encode(answer)
}

type object = map[string]any

func refuse(code, module int, text string) object {
	return object{"code": code, "message": fmt.Sprintf("(%d)%s", module, text)}
}

func (f *fakeService) id() string {
	f.next++
	return strconv.Itoa(f.next)
}

func list(form url.Values, name string) (values []string) {
	for i := 1; form.Has(name + "." + strconv.Itoa(i)); i++ {
		values = append(values, form.Get(name+"."+strconv.Itoa(i)))
	}
	return values
}

func (f *fakeService) do(form url.Values) object {
	name := form.Get("queueName")
	q := f.queues[name]
	switch action := form.Get("Action"); {
	case action == "ListQueue":
		all := []object{}
		for name := range f.queues {
			all = append(all, object{"queueId": "queue-1", "queueName": name})
		}
		return object{"totalCount": len(all), "queueList": all}
	case action == "CreateQueue" && q != nil:
		return refuse(4460, 10210, "queue is already existed")
	case action == "CreateQueue":
		f.queues[name] = &fakeQueue{locked: make(map[string]fakeMessage)}
		return object{"queueId": "queue-1"}
	case q == nil:
		return refuse(4440, 10100, "queue is not existed, or deleted")
	case action == "DeleteQueue":
		delete(f.queues, name)
		return object{}
	case action == "GetQueueAttributes":
		return object{"activeMsgNum": len(q.ready), "inactiveMsgNum": len(q.locked), "visibilityTimeout": 30}
	}
	return f.message(q, form)
}

func (f *fakeService) message(q *fakeQueue, form url.Values) object {
	switch form.Get("Action") {
	case "SendMessage":
		m := fakeMessage{f.id(), form.Get("msgBody")}
		q.ready = append(q.ready, m)
		return object{"msgId": m.ID}
	case "BatchSendMessage":
		var ids []object
		for _, body := range list(form, "msgBody") {
			m := fakeMessage{f.id(), body}
			q.ready = append(q.ready, m)
			ids = append(ids, object{"msgId": m.ID})
		}
		return object{"msgList": ids}
	case "BatchReceiveMessage":
		n, _ := strconv.Atoi(form.Get("numOfMsg"))
		var out []object
		for n = min(n, len(q.ready)); n > 0; n-- {
			out = append(out, f.deliver(q))
		}
		if out == nil {
			return refuse(7000, 10200, "no message")
		}
		return object{"msgInfoList": out}
	case "ReceiveMessage":
		if len(q.ready) == 0 {
			return refuse(7000, 10200, "no message")
		}
		return f.deliver(q)
	case "DeleteMessage", "BatchDeleteMessage":
		for _, h := range append(list(form, "receiptHandle"), form.Get("receiptHandle")) {
			if _, ok := q.locked[h]; !ok && h != "" {
				return refuse(4430, 10260, "receipt handle is invalid")
			}
			delete(q.locked, h)
		}
		return object{}
	}
	return refuse(4000, 10430, "action name "+form.Get("Action")+" is not existed")
}

func (f *fakeService) deliver(q *fakeQueue) object {
	m, handle := q.ready[0], "h"+f.id()
	q.ready = q.ready[1:]
	q.locked[handle] = m
	return object{"msgId": m.ID, "msgBody": m.Body, "receiptHandle": handle, "enqueueTime": 1700000000, "firstDequeueTime": 1700000001, "nextVisibleTime": 1700000031, "dequeueCount": 1}
}

// fakeNode is a process that does nothing until it is told to.
type fakeNode struct {
	options nodeOptions
	failed  chan struct{}
	stop    func(context.Context) error
}

func (n *fakeNode) Ready(context.Context) error { return nil }
func (n *fakeNode) Failed() <-chan struct{}     { return n.failed }
func (n *fakeNode) Err() error                  { return fmt.Errorf("disk on fire") }
func (n *fakeNode) Stop(ctx context.Context) error {
	n.options.listeners.close()
	if n.stop != nil {
		return n.stop(ctx)
	}
	return nil
}
