package push

import (
	"context"
	"errors"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/internal/cmq"
)

// says is a target that fails with a reason, and notes what it was to deliver.
type says struct{ failure *Failure }

func (s says) Deliver(_ context.Context, d *Delivery) error {
	d.Record.Sent = string(d.Message.Body)
	if s.failure == nil {
		d.Record.Status = 204
		return nil
	}
	d.Record.Status = s.failure.Status
	return s.failure
}

// Each reason has its own advice, and nothing of what is for the operator is told.
func TestTrials(t *testing.T) {
	trial := func(p cmq.Protocol, f *Failure) *cmq.Trial {
		d := New(Config{Targets: map[cmq.Protocol]Target{p: says{f}}, Logger: slog.New(slog.DiscardHandler)})
		defer d.Close(t.Context())
		got := d.Trial(t.Context(), Outlet{Topic: &cmq.Topic{}, Subscription: &cmq.Subscription{Protocol: p, Push: cmq.PushAttributes{Paused: true}}}, []byte("hello"))
		require.Zero(t, d.Stats().Delivered.Load()+d.Stats().Failed.Load())
		return got
	}
	good := trial(cmq.ProtocolHTTP, nil)
	good.Took = 0
	require.Equal(t, &cmq.Trial{Taken: true, Sent: "hello", Status: 204}, good)

	seen := map[string]bool{}
	secret := errors.New("10.1.2.3: secret")
	for _, reason := range []Reason{Invalid, Refused, Unresolved, Unreachable, Certificate, TimedOut} {
		got := trial(cmq.ProtocolHTTP, &Failure{Reason: reason, Err: secret})
		require.Equal(t, string(reason), got.Reason)
		require.NotContains(t, got.Advice, "secret")
		require.False(t, got.Taken)
		require.False(t, seen[got.Advice], "%s has the advice of another reason", reason)
		seen[got.Advice] = true
	}
	for status, want := range map[int]string{302: "Redirects are not followed", 308: "Redirects", 401: "credentials", 403: "credentials", 404: "path", 410: "path",
		405: "POST", 413: "body this long", 415: "content type", 429: "rateLimit", 503: "rateLimit", 500: "Its own log", 204 - 3: "2xx", 101: "2xx"} {
		got := trial(cmq.ProtocolFunction, &Failure{Reason: Answered, Status: status})
		require.Equal(t, []any{"status", status}, []any{got.Reason, got.Status})
		require.Contains(t, got.Advice, want, "status %d", status)
	}
	for _, p := range []cmq.Protocol{cmq.ProtocolMail, cmq.ProtocolSMS} {
		require.Contains(t, trial(p, &Failure{Reason: Unreachable, Err: secret}).Advice, "Tell the operator")
		require.Contains(t, trial(p, &Failure{Reason: Invalid}).Advice, "spelling")
	}
	require.Equal(t, string(Invalid), New(Config{}).Trial(t.Context(), Outlet{Subscription: &cmq.Subscription{Protocol: "pigeon"}}, nil).Reason)
}
