package web

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/dispatch/push"
	"github.com/opencmq/cmq/internal/dispatch/push/guard"
)

// What is shown of a request is what came there, but for credentials and the end of a long body.
func TestRequestsAsTheyAreShown(t *testing.T) {
	var came http.Header
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		came = r.Header
		w.WriteHeader(http.StatusAccepted)
	}))
	t.Cleanup(s.Close)
	host := strings.TrimPrefix(s.URL, "http://")
	d := delivery("http://shop:hunter2@"+host+"/cgi?x=1", cmq.FormatSimplified)
	d.Subscription.Push.Secret = "0123456789abcdef"
	d.Record = &push.Record{}
	require.NoError(t, NewEndpoints(loopback(t, 0)).Deliver(t.Context(), d))
	require.Equal(t, http.StatusAccepted, d.Record.Status)
	require.Equal(t, lines("POST /cgi?x=1 HTTP/1.1", "Host: "+host, "Authorization: (not shown)", "Content-Type: text/plain",
		"User-Agent: Qcloud Notification Service Agent", "x-cmq-message-id: 6942316962", "x-cmq-message-tag: a, b",
		"x-cmq-push-nonce: "+came.Get("x-cmq-push-nonce"), "x-cmq-push-signature: "+came.Get("x-cmq-push-signature"),
		"x-cmq-push-timestamp: "+came.Get("x-cmq-push-timestamp"), "x-cmq-request-id: 2394928734", "Content-Length: 5", "", "hello"),
		strings.ReplaceAll(d.Record.Sent, "\n", "\r\n"))

	d.Message.Body = []byte("\xff" + strings.Repeat("x", mostShown))
	require.NoError(t, NewFunctions(loopback(t, 0)).Deliver(t.Context(), d))
	require.True(t, strings.HasSuffix(d.Record.Sent, "xx\n(1 bytes more)"))
	require.Contains(t, d.Record.Sent, "\n\n\ufffdxx")
	require.NotContains(t, d.Record.Sent, "hunter2")
}

// Nothing is shown as sent that was not, and a name without address has a reason of its own.
func TestWhatCouldNotBeSent(t *testing.T) {
	d := delivery("http://127.1/", cmq.FormatSimplified)
	d.Record = &push.Record{}
	require.Error(t, NewEndpoints(loopback(t, 0)).Deliver(t.Context(), d))
	require.Empty(t, d.Record.Sent)

	dead := &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("no network") }}
	c := NewClient(guard.New(guard.Config{Resolver: dead}), 0)
	t.Cleanup(c.Close)
	require.Equal(t, push.Unresolved, failureOf(t, c, "http://no-such-host.invalid/").Reason)
}
