package httpapi

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/opencmq/cmq/internal/access"
	"github.com/opencmq/cmq/internal/cmq"
)

// silent is a backend that answers only who takes a request back.
type silent struct {
	Backend
	started chan struct{}                             // each request, once it has been started
	cancel  func(done func([]cmq.Message, error))     // answers a receive that is taken back
	sent    func(done func(ids []cmq.MsgID, _ error)) // answers a send that is taken back
}

type pending func()

func (p pending) Cancel() { p() }

func (s silent) StartSend(_, _ string, _ [][]byte, _ time.Duration, done func([]cmq.MsgID, error)) cmq.Pending {
	return pending(func() { s.sent(done) })
}

func (s silent) StartReceive(_, _ string, _ int, _ *time.Duration, _ time.Duration, done func([]cmq.Message, error)) cmq.Pending {
	close(s.started)
	return pending(func() { s.cancel(done) })
}

// TestSendTakesTooLong: a send that is not answered in time has failed, unless the answer comes just when it is given up.
// The call is as new afterwards.
func TestSendTakesTooLong(t *testing.T) {
	r := newRig(t, func(c *Config) { c.CallTimeout = time.Millisecond })
	r.ok("CreateQueue", "queueName=q")
	for _, row := range []struct {
		name   string
		sent   func(done func([]cmq.MsgID, error))
		answer string
	}{
		{"no answer", func(done func([]cmq.MsgID, error)) { done(nil, context.Canceled) }, refusal("6000", "(10090)send message failed")},
		{"too late", func(done func([]cmq.MsgID, error)) { go done([]cmq.MsgID{7}, nil) }, `{"code":0,"message":"","requestId":"1","msgId":"7"}`},
		{"refused too late", func(done func([]cmq.MsgID, error)) { done(nil, cmq.ErrHeapFull) }, refusal("4410", "(10240)reach maximum retention number of message")},
	} {
		r.door.config.Backend = silent{Backend: r.fake, sent: row.sent}
		for range 3 {
			if got := r.do("SendMessage", "queueName=q", "msgBody=x"); got != row.answer {
				t.Errorf("%s: %s", row.name, got)
			}
		}
		r.door.config.Backend = r.fake
		r.door.config.CallTimeout = time.Minute
		r.ok("SendMessage", "queueName=q", "msgBody=x")
		r.door.config.CallTimeout = time.Millisecond
	}
}

// TestPollsEndWithTheServer: a server that stops answers its polls as if their time were over, at once; one that got its
// messages at that moment has them.
func TestPollsEndWithTheServer(t *testing.T) {
	for _, row := range []struct {
		name   string
		cancel func(done func([]cmq.Message, error))
		answer string
	}{
		{"nothing there", func(done func([]cmq.Message, error)) { done(nil, context.Canceled) }, "(10200)no message"},
		{"a message at the last moment", func(done func([]cmq.Message, error)) { done([]cmq.Message{{Body: []byte("x")}}, nil) }, `"msgBody":"x"`},
	} {
		polls := access.NewPolls(0)
		r := newRig(t, func(c *Config) { c.Polls = polls })
		started := make(chan struct{})
		r.door.config.Backend = silent{Backend: r.fake, started: started, cancel: row.cancel}
		go func() {
			<-started
			polls.End()
		}()
		if got := r.do("ReceiveMessage", "queueName=q", "pollingWaitSeconds=30"); !strings.Contains(got, row.answer) {
			t.Errorf("%s: %s", row.name, got)
		}
		r.door.config.Backend = broken{r.fake} // is not asked any more
		r.want(r.do("ReceiveMessage", "queueName=q"), refusal("7000", "(10200)no message"))
	}
}
