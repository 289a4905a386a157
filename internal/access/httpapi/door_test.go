package httpapi

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/opencmq/cmq/internal/access/accesstest"
	"github.com/opencmq/cmq/internal/auth"
	"github.com/opencmq/cmq/internal/clock"
	"github.com/opencmq/cmq/internal/cmq"
)

const (
	testID     = "AKIDtest"
	testSecret = "secret"
	testHost   = "127.0.0.1:7670"
)

// keyMap is a fixed set of keys.
type keyMap map[string]*cmq.AccessKey

func (m keyMap) Key(id string) (*cmq.AccessKey, bool) {
	k, ok := m[id]
	return k, ok
}

// rig is a door before a fake backend, on a clock that stands at 1700000000.
type rig struct {
	t     testing.TB
	clock *clock.Manual
	fake  *accesstest.Fake
	door  *Door
}

func newRig(t testing.TB, change ...func(*Config)) *rig {
	c := clock.NewManual(time.Unix(1700000000, 0))
	r := &rig{t: t, clock: c, fake: accesstest.New(c)}
	config := Config{
		Backend: r.fake,
		Keys: keyMap{
			testID:    {ID: testID, Secret: testSecret, Owner: "alice", Enabled: true},
			"AKIDbob": {ID: "AKIDbob", Secret: testSecret, Owner: "bob", Enabled: true},
			"AKIDoff": {ID: "AKIDoff", Secret: testSecret, Owner: "carol"},
		},
		Protocols: []cmq.Protocol{cmq.ProtocolQueue, cmq.ProtocolHTTP, cmq.ProtocolMail, cmq.ProtocolSMS, cmq.ProtocolFunction},
		Clock:     c.Now,
		Window:    auth.DefaultWindow,
		Logger:    slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
	for _, f := range change {
		f(&config)
	}
	r.door = New(config)
	return r
}

// fields are the parameters of one request; adding one again replaces it, an empty item is passed over.
func fields(items ...string) url.Values {
	v := make(url.Values)
	for _, item := range items {
		if name, value, _ := strings.Cut(item, "="); name != "" {
			v.Set(name, value)
		}
	}
	return v
}

// sign adds what makes the request one of the test key, where it is not given.
func sign(method, host, path string, v url.Values) url.Values {
	for name, value := range map[string]string{"Timestamp": "1700000000", "Nonce": "1", "SecretId": testID} {
		if !v.Has(name) {
			v.Set(name, value)
		}
	}
	r := &auth.Request{Method: method, Host: host, Path: path}
	for name := range v {
		r.Params = append(r.Params, auth.Param{Name: []byte(name), Value: []byte(v.Get(name))})
	}
	auth.Sort(r.Params)
	v.Set("Signature", auth.Sign(r, testSecret, v.Get("SignatureMethod") == "HmacSHA256"))
	return v
}

var requestID = regexp.MustCompile(`"requestId":"[0-9]+"`)

// serve gives the answer's body with the request id replaced by 1, after checking what holds for every answer.
func (r *rig) serve(request *http.Request) string {
	r.t.Helper()
	recorder := httptest.NewRecorder()
	r.door.ServeHTTP(recorder, request)
	if recorder.Code != 200 || recorder.Header().Get("Content-Type") != "application/json; charset=utf-8" {
		r.t.Errorf("status %d, header %v", recorder.Code, recorder.Header())
	}
	return requestID.ReplaceAllString(recorder.Body.String(), `"requestId":"1"`)
}

// do sends a signed POST of the items, the first of which is the action.
func (r *rig) do(action string, items ...string) string {
	r.t.Helper()
	return r.post(sign("POST", testHost, "/", fields(append([]string{"Action=" + action}, items...)...)).Encode())
}

func (r *rig) post(body string) string {
	r.t.Helper()
	request := httptest.NewRequest("POST", "/", strings.NewReader(body))
	request.Host = testHost
	return r.serve(request)
}

func (r *rig) want(got, want string) {
	r.t.Helper()
	if got != want {
		r.t.Errorf("\n got %s\nwant %s", got, want)
	}
}

// ok does an action of which only success matters.
func (r *rig) ok(action string, items ...string) string {
	r.t.Helper()
	answer := r.do(action, items...)
	if !strings.HasPrefix(answer, `{"code":0,`) {
		r.t.Fatalf("%s %v: %s", action, items, answer)
	}
	return answer
}

// refusal is the answer with an error.
func refusal(code, message string) string {
	return `{"code":` + code + `,"message":"` + message + `","requestId":"1"}`
}

const success = `{"code":0,"message":"","requestId":"1"}`

// field cuts the string value of a member out of an answer.
func field(t testing.TB, answer, name string) string {
	t.Helper()
	_, after, found := strings.Cut(answer, `"`+name+`":"`)
	value, _, closed := strings.Cut(after, `"`)
	if !found || !closed {
		t.Fatalf("no %s in %s", name, answer)
	}
	return value
}
