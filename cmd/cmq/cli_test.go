package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// call runs one command line against endpoint and gives exit code and output.
func call(t *testing.T, endpoint, stdin string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	a := &app{stdin: strings.NewReader(stdin), stdout: &out, stderr: &errs,
		environ: []string{"HOME=" + t.TempDir(), "CMQ_ENDPOINT=" + endpoint, "CMQ_SECRET_ID=AKIDa", "CMQ_SECRET_KEY=b"}}
	code = a.run(args)
	return code, out.String(), errs.String()
}

func TestSendReceiveDelete(t *testing.T) {
	_, url := newFakeService(t)
	code, _, errs := call(t, url, "", "send", "q", "x")
	require.Equal(t, exitFailure, code)
	require.Contains(t, errs, "cmq queue create NAME")

	code, out, _ := call(t, url, "", "queue", "create", "q")
	require.Equal(t, exitOK, code)
	require.Contains(t, out, "queue-1")
	code, out, _ = call(t, url, "", "send", "q", "one", "two\n")
	require.Equal(t, exitOK, code)
	require.Equal(t, "1\n2\n", out)
	code, out, _ = call(t, url, "three\n", "send", "q", "-o", "json")
	require.Equal(t, exitOK, code)
	require.Equal(t, "{\"msgId\":\"3\"}\n", out)
	code, out, _ = call(t, url, "four\n\nfive\n", "send", "q", "--lines")
	require.Equal(t, exitOK, code)
	require.Equal(t, "4\n5\n", out)

	_, out, _ = call(t, url, "", "receive", "q", "--max", "2", "--body")
	require.Equal(t, "one\ntwo\n\n", out)
	code, out, _ = call(t, url, "", "receive", "q", "-o", "json")
	require.Equal(t, exitOK, code)
	var m messageView
	require.NoError(t, json.Unmarshal([]byte(out), &m))
	require.Equal(t, "three\n", m.Body)
	require.Equal(t, "2023-11-14T22:13:20Z", m.Enqueued.Format(time.RFC3339))
	code, out, _ = call(t, url, "", "delete", "q", m.Handle)
	require.Equal(t, exitOK, code)
	require.Equal(t, "deleted  1\n", out)
	code, _, errs = call(t, url, "", "delete", "q", m.Handle)
	require.Equal(t, exitFailure, code)
	require.Contains(t, errs, "the lock has ended")
	code, out, _ = call(t, url, "", "receive", "q", "--max", "20", "--delete")
	require.Equal(t, exitOK, code)
	require.Contains(t, out, "five")
	code, out, _ = call(t, url, "", "receive", "q", "-o", "json")
	require.Equal(t, exitNoMessage, code)
	require.JSONEq(t, `{"error":{"exit":3,"message":"BatchReceiveMessage: no message (code 7000, module 10200, request 1)","code":7000,"module":10200,"requestId":"1"}}`, out)
}

func TestDestructiveCommandsAsk(t *testing.T) {
	f, url := newFakeService(t)
	call(t, url, "", "queue", "create", "q")
	for _, answer := range []string{"", "\n", "p\n", "yes\n"} {
		code, _, errs := call(t, url, answer, "queue", "delete", "q")
		require.Equal(t, exitUsage, code)
		require.Contains(t, errs, "nothing was done")
	}
	require.Len(t, f.queues, 1)
	code, _, _ := call(t, url, "q\n", "queue", "delete", "q")
	require.Equal(t, exitOK, code)
	require.Empty(t, f.queues)
	call(t, url, "", "queue", "create", "q")
	code, _, _ = call(t, url, "", "queue", "delete", "q", "--yes")
	require.Equal(t, exitOK, code)
}

func TestUsageErrors(t *testing.T) {
	for line, want := range map[string]string{
		"sned":                               `unknown command "sned" for "cmq"; did you mean "send"?`,
		"queue crate":                        `unknown command "crate" for "cmq queue"; did you mean "create"?`,
		"zzzzz":                              `unknown command "zzzzz" for "cmq"; see: cmq --help`,
		"send --dealy 1s q":                  `unknown flag: --dealy; did you mean --delay?`,
		"send --delay 5 q":                   `invalid argument "5" for "--delay"`,
		"send":                               `QUEUE is missing; usage: cmq send QUEUE`,
		"receive q extra":                    `unexpected argument "extra"`,
		"receive q --max 0":                  `--max is at least 1`,
		"receive q --wait 31s":               `--wait is from 0s to 30s`,
		"receive q -o yaml":                  `unknown output form "yaml"`,
		"receive q --context nowhere":        `there is no context "nowhere"`,
		"queue create":                       `NAME is missing`,
		"queue create q --dead-letter d":     `--dead-letter NAME goes with`,
		"queue set q":                        `nothing to change`,
		"queue decide q commit":              `ID is missing`,
		"queue decide q keep 1":              `"keep" is no decision; it is commit or rollback`,
		"queue rewind q --to yesterday":      `"yesterday" is no time`,
		"bench --mode sideways":              `--mode is`,
		"bench --mode receive --rate 5":      `--rate is 0 or more, and goes with sending`,
		"bench --connections 0":              `--connections is from 1 to 1024`,
		"bench --endpoint tcp://127.0.0.1:1": `add --endpoint http://HOST:PORT, or name existing ones with --queue`,
		"queue list --endpoint tcp://a:1":    `ListQueue goes over HTTP; add --endpoint http://HOST:PORT`,
		"send q x --endpoint tcp://a":        `is not of the form tcp://HOST:PORT`,
		"dev --nodes 0":                      `--nodes is from 1 to 9`,
		"server --node-id x --log-level wrn": `did you mean "warn"?`,
		"send q x --endpoint nonsense":       `is not of the form http://HOST:PORT`,
	} {
		code, _, errs := call(t, "http://127.0.0.1:1", "", strings.Fields(line)...)
		require.Equal(t, exitUsage, code, line)
		require.Contains(t, errs, want, line)
	}
}

func TestFlagOverEnvironmentOverContext(t *testing.T) {
	a := &app{environ: []string{"XDG_CONFIG_HOME=" + t.TempDir()}}
	_, err := a.resolve()
	require.ErrorContains(t, err, "no endpoint")
	require.NoError(t, a.saveContexts(savedContexts{Current: "one", Contexts: map[string]savedContext{
		"one": {"http://one", "i1", "k1"}, "two": {"http://two", "i2", "k2"}}}))

	check := func(endpoint, id, key string) {
		t.Helper()
		got, err := a.resolve()
		require.NoError(t, err)
		require.Equal(t, []string{endpoint, id, key}, []string{strings.Join(got.endpoints, ","), got.secretID, got.secretKey})
	}
	check("http://one", "i1", "k1")
	a.environ = append(a.environ, "CMQ_CONTEXT=two")
	check("http://two", "i2", "k2")
	a.environ = append(a.environ, "CMQ_ENDPOINT=http://env", "CMQ_SECRET_ID=ie", "CMQ_SECRET_KEY=ke")
	check("http://env", "ie", "ke")
	a.target.context = "one"
	check("http://one", "i1", "k1")
	a.target.endpoints = []string{"http://flag", "http://flag2"}
	check("http://flag,http://flag2", "i1", "k1")
}

func TestBenchAgainstAService(t *testing.T) {
	for _, args := range []string{"--mode send --batch 1", "--mode both --queues 2 --rate 2000", "--mode receive --prefill 100 --size 70000 --outstanding 8 --duration 60s"} {
		f, url := newFakeService(t)
		code, out, errs := call(t, url, "", append(strings.Fields("bench -o json --duration 200ms --warmup 0s --outstanding 4 --pid 1"), strings.Fields(args)...)...)
		require.Equal(t, exitOK, code, errs)
		var r benchResult
		require.NoError(t, json.Unmarshal([]byte(out), &r))
		require.Empty(t, r.Errors)
		require.Positive(t, r.Sent+r.Received)
		require.Empty(t, f.queues, "the queues are deleted")
		switch r.Mode {
		case "send":
			require.Zero(t, r.Received)
			require.Positive(t, r.SendLatency.P50)
		case "both":
			require.Positive(t, r.EndToEnd.Count)
			require.LessOrEqual(t, r.Sent, int64(2000))
		case "receive":
			require.EqualValues(t, 100, r.Received)
		}
	}
}

func TestSmallParts(t *testing.T) {
	d, ok := cpuOfStat("12 (a) b) c) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20")
	require.True(t, ok)
	require.Equal(t, 3*time.Second, d)
	_, ok = cpuOfStat("12 (a")
	require.False(t, ok)

	now := time.Unix(1_700_000_000, 0)
	for s, want := range map[string]int64{"90s": 1_699_999_910, "1699999999": 1_699_999_999, "2023-11-14T22:13:20Z": 1_700_000_000} {
		at, err := parseMoment(s, now)
		require.NoError(t, err)
		require.Equal(t, want, at.Unix())
	}
	require.Equal(t, `'it'\''s'`, quote("it's"))
	require.Equal(t, `a\nb\x00…`, oneLine("a\nb\x00cd", 4))
	require.Equal(t, 1, batchLen([]string{strings.Repeat("x", 70_000), "y"}))
	require.Equal(t, 16, batchLen(make([]string, 20)))
}
