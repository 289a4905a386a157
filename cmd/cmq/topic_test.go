package main

import (
	"encoding/json"
	"errors"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/client"
	"github.com/opencmq/cmq/internal/access/accesstest"
	"github.com/opencmq/cmq/internal/access/httpapi"
	"github.com/opencmq/cmq/internal/clock"
	"github.com/opencmq/cmq/internal/cmq"
)

// oneKey is the access key that call uses.
type oneKey struct{}

func (oneKey) Key(id string) (*cmq.AccessKey, bool) {
	return &cmq.AccessKey{ID: id, Secret: "b", Owner: "me", Enabled: true}, id == "AKIDa"
}

// newDoor is the HTTP door of a service in memory, which delivers to everything but http://forbidden/.
func newDoor(t *testing.T) (url string) {
	fake := accesstest.New(clock.Real())
	srv := httptest.NewServer(httpapi.New(httpapi.Config{Backend: fake, Keys: oneKey{}, Endpoint: func(url string) error {
		if url == "http://forbidden/" {
			return errors.New("not allowed")
		}
		return nil
	}}))
	t.Cleanup(srv.Close)
	return srv.URL
}

// must runs a command line that succeeds and gives its output.
func must(t *testing.T, url string, args ...string) string {
	t.Helper()
	code, out, errs := call(t, url, "", args...)
	require.Equal(t, exitOK, code, "%v: %s", args, errs)
	return out
}

// words gives the output as words, so that tests do not depend on the width of columns.
func words(out string) string { return strings.Join(strings.Fields(out), " ") }

func TestTopicLife(t *testing.T) {
	url := newDoor(t)
	must(t, url, "queue", "create", "orders")
	require.Equal(t, "created news topic-00000002", words(must(t, url, "topic", "create", "news")))
	must(t, url, "topic", "create", "routes", "--filter", "keys", "--max-size", "2048", "--retention", "1h")
	require.Equal(t, "name id news topic-00000002 routes topic-00000003", strings.ToLower(words(must(t, url, "topic", "list"))))
	require.Equal(t, "name id routes topic-00000003", strings.ToLower(words(must(t, url, "topic", "list", "--search", "OUT"))))
	require.Contains(t, words(must(t, url, "topic", "show", "routes")), "name routes filter keys waiting 0 max size 2048 retention 1h0m0s created 2")
	require.Contains(t, words(must(t, url, "topic", "set", "routes", "--retention", "2m")), "max size 2048 retention 2m0s")
	var v topicView
	require.NoError(t, json.Unmarshal([]byte(must(t, url, "topic", "set", "news", "--max-size", "1024", "-o", "json")), &v))
	require.Equal(t, []any{"news", "tags", 1024, int64(86400)}, []any{v.Name, v.Filter, v.MaxSize, v.RetentionSeconds})

	require.Equal(t, "created all subsc-00000004", words(must(t, url, "subscription", "create", "news", "all", "--queue", "orders")))
	must(t, url, "subscription", "create", "news", "red", "--queue", "orders", "--tag", "red", "--tag", "a, b")
	must(t, url, "subscription", "create", "routes", "paid", "--queue", "orders", "--key", "order.*.paid", "--key", "#.eu")
	id := strings.TrimSpace(must(t, url, "topic", "publish", "news", "hello", "--tag", "red"))
	require.NotEmpty(t, id)
	require.Len(t, strings.Fields(must(t, url, "topic", "publish", "routes", "--key", "order.7.paid", "one", "two")), 2)
	code, out, _ := call(t, url, "three\n\nfour\n", "topic", "publish", "news", "--lines", "-o", "json")
	require.Equal(t, exitOK, code)
	require.Equal(t, 2, strings.Count(out, `{"msgId":"`))
	require.Equal(t, "hello\nhello\none\ntwo\nthree\nfour\n", must(t, url, "receive", "orders", "--max", "16", "--delete", "--body"))

	code, _, errs := call(t, url, "", "topic", "delete", "news", "--yes")
	require.Equal(t, exitFailure, code)
	require.Contains(t, errs, "cmq subscription list TOPIC")
	require.Equal(t, "deleted red", words(must(t, url, "subscription", "delete", "news", "red", "--yes")))
	code, _, errs = call(t, url, "wrong\n", "subscription", "delete", "news", "all")
	require.Equal(t, exitUsage, code)
	require.Contains(t, errs, "Type the subscription's name to delete it")
	code, _, _ = call(t, url, "all\n", "subscription", "delete", "news", "all")
	require.Equal(t, exitOK, code)
	code, _, errs = call(t, url, "", "topic", "publish", "news", "nobody")
	require.Equal(t, exitFailure, code)
	require.Contains(t, errs, "cmq subscription create TOPIC NAME --queue QUEUE")
	code, _, errs = call(t, url, "news\n", "topic", "delete", "news")
	require.Equal(t, exitOK, code, errs)
	require.Contains(t, errs, "Type the topic's name to delete it")
}

func TestSubscriptionSettings(t *testing.T) {
	url := newDoor(t)
	must(t, url, "queue", "create", "failed")
	must(t, url, "topic", "create", "news")
	must(t, url, "subscription", "create", "news", "hook", "--http", "https://example.com/hook", "--strategy", "backoff", "--format", "cloudevents",
		"--push-secret", "0123456789abcdef", "--rate", "20", "--concurrency", "4", "--ordered", "--dead-letter", "failed")
	must(t, url, "subscription", "create", "news", "web", "--http", "http://example.com")
	require.Contains(t, words(must(t, url, "subscription", "list", "news")), "hook http https://example.com/hook subsc-00000003 web http http://example.com subsc-00000004")
	require.Contains(t, words(must(t, url, "subscription", "show", "news", "hook")), "topic news name hook protocol http endpoint https://example.com/hook tags keys waiting 0 "+
		"strategy BACKOFF_RETRY format CLOUDEVENTS signed yes rate 20 a second concurrency 4 ordered yes dead letter failed created 2")
	require.NotContains(t, must(t, url, "subscription", "show", "news", "hook", "-o", "json"), "0123456789abcdef")

	require.Equal(t, "paused hook", words(must(t, url, "subscription", "pause", "news", "hook")))
	must(t, url, "topic", "publish", "news", "waits")
	require.Contains(t, words(must(t, url, "subscription", "show", "news", "hook")), "waiting 1 strategy BACKOFF_RETRY format CLOUDEVENTS paused yes")
	require.Equal(t, "resumed hook", words(must(t, url, "subscription", "resume", "news", "hook")))
	out := must(t, url, "subscription", "set", "news", "hook", "--tag", "red", "--format", "json", "--strategy", "exponential", "--push-secret", "", "--rate", "0", "--concurrency", "0",
		"--ordered=false", "--dead-letter", "", "--ca-file", "")
	require.Contains(t, words(out), "tags red keys waiting 1 strategy EXPONENTIAL_DECAY_RETRY format JSON created")
	require.Equal(t, "cleared hook", words(must(t, url, "subscription", "clear-tags", "news", "hook")))
	var v subscriptionView
	require.NoError(t, json.Unmarshal([]byte(must(t, url, "subscription", "show", "news", "hook", "-o", "json")), &v))
	require.Equal(t, []any{[]string{}, []string{}, false, "", "JSON", int64(1)}, []any{v.Tags, v.Keys, v.Paused, v.DeadLetter, v.Format, v.Waiting})
}

func TestSubscriptionTest(t *testing.T) {
	url := newDoor(t)
	must(t, url, "topic", "create", "news")
	must(t, url, "subscription", "create", "news", "hook", "--http", "https://example.com/hook")
	must(t, url, "subscription", "create", "news", "moved", "--http", "https://bad.example.com/hook")
	require.Equal(t, "subscription hook result taken status 200 time 3ms POST / HTTP/1.1 hi", words(must(t, url, "subscription", "test", "news", "hook", "--body", "hi")))
	code, out, errs := call(t, url, "", "subscription", "test", "news", "moved")
	require.Equal(t, exitFailure, code)
	require.Empty(t, errs)
	require.Contains(t, words(out), "result not taken status 302 time 3ms what to do Redirects are not followed. POST / HTTP/1.1 This is a test")
	code, out, _ = call(t, url, "", "subscription", "test", "news", "moved", "-o", "json")
	require.Equal(t, exitFailure, code)
	var v trialView
	require.NoError(t, json.Unmarshal([]byte(out), &v))
	require.Equal(t, []any{false, "status", 302, int64(3)}, []any{v.Taken, v.Reason, v.Status, v.TookMS})
	code, _, _ = call(t, url, "", "subscription", "test", "news", "nobody")
	require.Equal(t, exitFailure, code)
}

func TestTopicHints(t *testing.T) {
	url := newDoor(t)
	must(t, url, "topic", "create", "news")
	must(t, url, "topic", "create", "other")
	must(t, url, "subscription", "create", "news", "s", "--queue", "q", "--tag", "red")
	large := filepath.Join(t.TempDir(), "large")
	require.NoError(t, os.WriteFile(large, make([]byte, maxCA+1), 0o600))
	for line, want := range map[string]string{
		"topic show none":                                     "cmq topic create NAME",
		"topic create NEWS":                                   "cmq topic set NAME",
		"topic publish news x":                                "cmq subscription show TOPIC NAME",
		"subscription create news S --queue q":                "cmq subscription set TOPIC NAME",
		"subscription show news none":                         "cmq subscription list TOPIC",
		"subscription create other n --http http://a":         "",
		"subscription create news m --http ftp://a":           "endpoint format error",
		"subscription create news m --http http://forbidden/": "push.allow",
		"topic publish news x --tag 01234567890123456":        "parameter msgTag value or length is out of range",
		"topic publish news x --key a.b.c.d --tag red":        "",
		"topic create n --max-size 1":                         "parameter maxMsgSize",
		"topic create n --filter both":                        "--filter \"both\" is neither tags nor keys",
		"topic set news":                                      "nothing to change; see: cmq topic set --help",
		"topic pubish news":                                   `did you mean "publish"?`,
		"topic publish news x --lines":                        "--lines reads standard input",
		"subscription set news s":                             "nothing to change; see: cmq subscription set --help",
		"subscription create news m":                          "say where the messages go: --queue QUEUE",
		"subscription create news m --queue q --http x":       "--http and --queue exclude each other",
		"subscription create news":                            "NAME is missing; usage: cmq subscription create TOPIC NAME --queue QUEUE",
		"subscription set news s --strategy often":            `--strategy "often" is none of: backoff, exponential`,
		"subscription set news s --format xml":                `--format "xml" is none of: cloudevents, json, simplified`,
		"subscription set news s --ca-file /none/there":       "--ca-file: ",
		"subscription set news s --ca-file " + large:          "certificates have less",
	} {
		code, _, errs := call(t, url, "", strings.Fields(line)...)
		switch {
		case want == "":
			require.Equal(t, exitOK, code, "%s: %s", line, errs)
		default:
			require.NotEqual(t, exitOK, code, line)
			require.Contains(t, errs, want, line)
		}
	}
	require.Equal(t, "3", filterName(client.Filter(3)))
}
