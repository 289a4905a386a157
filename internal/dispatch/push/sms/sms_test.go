package sms

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/dispatch/push"
	"github.com/opencmq/cmq/internal/dispatch/push/guard"
	"github.com/opencmq/cmq/internal/dispatch/push/web"
)

// call is what reached the gateway.
type call struct{ method, uri, kind, auth, body string }

func gateway(t *testing.T, status int) (string, chan call) {
	calls := make(chan call, 1)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		calls <- call{r.Method, r.URL.RequestURI(), r.Header.Get("Content-Type"), r.Header.Get("Authorization"), string(body)}
		w.WriteHeader(status)
	}))
	t.Cleanup(s.Close)
	return s.URL, calls
}

func client(t *testing.T) *web.Client {
	allow, err := guard.ParseAllowed([]string{"127.0.0.0/8"})
	require.NoError(t, err)
	c := web.NewClient(guard.New(guard.Config{Allow: allow}), 0)
	t.Cleanup(c.Close)
	return c
}

func delivery(to string) *push.Delivery {
	return &push.Delivery{Topic: &cmq.Topic{Name: "paid"}, Subscription: &cmq.Subscription{Protocol: cmq.ProtocolSMS, Endpoint: to},
		Message: &cmq.Message{ID: 7, Body: []byte("a \"b\" & {to} é")}}
}

func TestCallsByTemplate(t *testing.T) {
	url, calls := gateway(t, 200)
	for name, row := range map[string]struct {
		gateway Gateway
		want    call
	}{
		"URL": {Gateway{URL: url + "/send?to={to}&text={text}&ref={id}"},
			call{"GET", "/send?to=%2B4917012345&text=a+%22b%22+%26+%7Bto%7D+%C3%A9&ref=7", "", "", ""}},
		"JSON": {Gateway{URL: url + "/v1", Body: `{"to":"{to}","text":"{text}"}`, ContentType: "application/json; charset=utf-8", Authorization: "Bearer x"},
			call{"POST", "/v1", "application/json; charset=utf-8", "Bearer x", `{"to":"+4917012345","text":"a \"b\" \u0026 {to} é"}`}},
		"form": {Gateway{URL: url + "/v1", Body: "n={to}&m={text}", ContentType: "application/x-www-form-urlencoded"},
			call{"POST", "/v1", "application/x-www-form-urlencoded", "", "n=%2B4917012345&m=a+%22b%22+%26+%7Bto%7D+%C3%A9"}},
		"text": {Gateway{URL: url + "/v1", Body: "{to} {text}", ContentType: "text/plain"},
			call{"POST", "/v1", "text/plain", "", "+4917012345 a \"b\" & {to} é"}},
	} {
		target, err := New(row.gateway, client(t))
		require.NoError(t, err, name)
		require.NoError(t, target.Deliver(t.Context(), delivery("+4917012345")), name)
		require.Equal(t, row.want, <-calls, name)
	}
}

func TestGatewayThatRefuses(t *testing.T) {
	url, _ := gateway(t, 402)
	target, err := New(Gateway{URL: url + "?{to}{text}"}, client(t))
	require.NoError(t, err)
	var f *push.Failure
	require.ErrorAs(t, target.Deliver(t.Context(), delivery("110110")), &f)
	require.Equal(t, 402, f.Status)
}

func TestEndpointsThatAreNoNumber(t *testing.T) {
	target, err := New(Gateway{URL: "http://gateway.example/?{to}{text}"}, client(t))
	require.NoError(t, err)
	for _, to := range []string{"", "+", "12", "+49 170", "0170-1234", "+4917012345678901234567", "１２３４", "110&to=112"} {
		var f *push.Failure
		require.ErrorAs(t, target.Deliver(t.Context(), delivery(to)), &f, to)
		require.Equal(t, push.Invalid, f.Reason, to)
	}
}

func TestTemplatesThatAreWrong(t *testing.T) {
	for want, g := range map[string]Gateway{
		"{to} and {text}": {URL: "http://gateway.example/?{to}"},
		"before its host": {URL: "http://{to}@gateway.example/?{text}"},
		"scheme":          {URL: "ftp://gateway.example/?{to}{text}"},
	} {
		_, err := New(g, client(t))
		require.ErrorContains(t, err, want)
	}
}
