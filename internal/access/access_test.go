package access

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/opencmq/cmq/internal/cmq"
)

func TestParseAction(t *testing.T) {
	for a := CreateQueue; a < ActionEnd; a++ {
		for _, name := range []string{a.String(), strings.ToUpper(a.String()), strings.ToLower(a.String())} {
			if got, ok := ParseAction([]byte(name)); !ok || got != a {
				t.Errorf("%s is %v, %v", name, got, ok)
			}
		}
	}
	for _, name := range []string{"", "SendMessages", "SendMessag", "SendMeſsage", "ſendMessage", "unknown action", "Send\x00essage", "[endMessage"} {
		if a, ok := ParseAction([]byte(name)); ok {
			t.Errorf("%q is %v", name, a)
		}
	}
	if n := testing.AllocsPerRun(100, func() { ParseAction([]byte("BatchDeleteMessage")) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestRefusal(t *testing.T) {
	broken := errors.New("disk on fire")
	for action, want := range map[Action]*cmq.Error{
		CreateQueue: cmq.ErrInternal, ListQueue: cmq.ErrListQueue, GetQueueAttributes: cmq.ErrGetQueue, SetQueueAttributes: cmq.ErrSetQueue,
		DeleteQueue: cmq.ErrDeleteQueue, RewindQueue: cmq.ErrInternal, ClearQueue: cmq.ErrInternal, ListDeadLetterSourceQueues: cmq.ErrListQueue,
		UnbindDeadLetterQueue: cmq.ErrSetQueue, QueryQueueRoute: cmq.ErrInternal, SendMessage: cmq.ErrSendFailed, BatchSendMessage: cmq.ErrSendFailed,
		ReceiveMessage: cmq.ErrReceive, BatchReceiveMessage: cmq.ErrReceive, DeleteMessage: cmq.ErrDelete, BatchDeleteMessage: cmq.ErrDelete,
		ChangeMessageVisibility: cmq.ErrRelock, BatchChangeMessageVisibility: cmq.ErrRelock,
		CreateTopic: cmq.ErrInternal, PublishMessage: cmq.ErrSendFailed, BatchPublishMessage: cmq.ErrSendFailed, Subscribe: cmq.ErrInternal, Unsubscribe: cmq.ErrInternal,
	} {
		if got, internal := Refusal(action, broken); got != want || !internal {
			t.Errorf("%v: %v, %v", action, got, internal)
		}
		if got, internal := Refusal(action, fmt.Errorf("route: %w", cmq.ErrHeapFull)); got != cmq.ErrHeapFull || internal {
			t.Errorf("%v: %v, %v", action, got, internal)
		}
		if got, internal := Refusal(action, fmt.Errorf("route: %w", cmq.ErrBusy)); got != cmq.ErrThrottled || internal {
			t.Errorf("%v: %v, %v", action, got, internal)
		}
	}
}

func TestPolls(t *testing.T) {
	p := NewPolls(2)
	for i, want := range []bool{true, true, false, false} {
		if p.Enter() != want {
			t.Errorf("place %d of 2: not %v", i+1, want)
		}
	}
	p.Leave()
	if again := p.Enter(); !again || p.Open() != 2 {
		t.Errorf("a place given back is taken again: %v; %d open", again, p.Open())
	}
	for unbounded := NewPolls(0); unbounded.Open() < 10; {
		if !unbounded.Enter() {
			t.Fatal("0 is a bound")
		}
	}
}

func TestClampWait(t *testing.T) {
	for seconds, want := range map[int64]time.Duration{0: 0, 1: time.Second, 30: 30 * time.Second, 31: 30 * time.Second, 30000: 30 * time.Second, 1 << 62: 30 * time.Second} {
		if got := ClampWait(seconds, 30); got != want {
			t.Errorf("%d: %v", seconds, got)
		}
	}
}

func TestRequestIDs(t *testing.T) {
	a, b := NewRequestIDs(), NewRequestIDs()
	if a.Next() == b.Next() {
		t.Error("two start alike")
	}
	a.last.Store(1<<63 - 2)
	if first, second := a.Next(), a.Next(); first != 1<<63-1 || second != 0 {
		t.Errorf("%d, %d", first, second)
	}
}
