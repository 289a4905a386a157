package main

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestAgentUsage: what is wrong is said at once, and nothing begins.
func TestAgentUsage(t *testing.T) {
	url := newDoor(t)
	for name, row := range map[string]struct {
		args []string
		code int
		says string
	}{
		"no name":         {[]string{"agent", "--push-allow", "10.0.0.0/8"}, exitUsage, "name is missing"},
		"a wrong name":    {[]string{"agent", "--name", "a.b", "--push-allow", "10.0.0.0/8"}, exitUsage, `name "a.b" is no name`},
		"nothing allowed": {[]string{"agent", "--name", "plant"}, exitUsage, "push.allow is empty"},
		"only TCP":        {[]string{"agent", "--name", "plant", "--push-allow", "10.0.0.0/8", "--endpoint", "tcp://127.0.0.1:1"}, exitUsage, "an agent speaks HTTP"},
		"a wrong URL":     {[]string{"agent", "--name", "plant", "--push-allow", "10.0.0.0/8", "--endpoint", "ftp://127.0.0.1:1"}, exitUsage, "is not of the form"},
		"an argument":     {[]string{"agent", "plant"}, exitUsage, `unexpected argument "plant"`},
		"unknown flag":    {[]string{"agent", "--alow", "x"}, exitUsage, "unknown flag"},
		"a wrong key":     {[]string{"agent", "--name", "plant", "--push-allow", "10.0.0.0/8", "--secret-key", "wrong"}, exitFailure, "the secret key does not belong to the secret id"},
		"an unknown key":  {[]string{"agent", "--name", "plant", "--push-allow", "10.0.0.0/8", "--secret-id", "AKIDwrong"}, exitFailure, "the secret id is not one of this cluster's"},
		"for a queue":     {[]string{"subscription", "create", "news", "s", "--queue", "q", "--agent", "plant"}, exitUsage, "queues are the cluster's own"},
		"a subscription":  {[]string{"subscription", "create", "news", "s", "--http", "http://10.0.0.7/", "--agent", "a b"}, exitFailure, "agent"},
	} {
		t.Run(name, func(t *testing.T) {
			code, _, errs := call(t, url, "", row.args...)
			require.Equal(t, row.code, code, errs)
			require.Contains(t, errs, row.says)
		})
	}
	require.Equal(t, "configuration is valid\n", must(t, url, "agent", "--name", "plant", "--push-allow", "10.0.0.0/8", "--check-config"))
}

// lines takes what several goroutines write, as standard error does.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// TestAgentDelivers: from subscription to signal.
func TestAgentDelivers(t *testing.T) {
	url := newDoor(t)
	got := make(chan string, 1)
	endpoint := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got <- string(body)
	}))
	defer endpoint.Close()
	must(t, url, "topic", "create", "news")
	must(t, url, "subscription", "create", "news", "s", "--http", endpoint.URL, "--agent", "plant", "--format", "simplified")
	require.Contains(t, words(must(t, url, "subscription", "show", "news", "s")), "agent plant (none is connected: messages wait)")
	must(t, url, "topic", "publish", "news", "hello")

	var out, errs lines
	a := &app{stdout: &out, stderr: &errs, exit: func(int) { t.Error("ended at once") },
		environ: []string{"HOME=" + t.TempDir(), "CMQ_ENDPOINT=" + url, "CMQ_SECRET_ID=AKIDa", "CMQ_SECRET_KEY=b", "CMQ_PUSH_ALLOW=127.0.0.1", "CMQ_AGENT_NAME=plant"}}
	code := make(chan int)
	go func() { code <- a.run([]string{"agent", "--log-format", "json"}) }()
	require.Equal(t, "hello", <-got)
	require.Contains(t, words(must(t, url, "subscription", "show", "news", "s")), "agent plant (1 connected)")
	self, err := os.FindProcess(os.Getpid())
	require.NoError(t, err)
	require.NoError(t, self.Signal(syscall.SIGTERM))
	require.Equal(t, exitOK, <-code)
	require.Contains(t, errs.String(), `"msg":"stopped","agent":"plant","delivered":1,"failed":0`)
	require.Contains(t, words(must(t, url, "subscription", "show", "news", "s")), "waiting 0")
	require.Contains(t, must(t, url, "subscription", "show", "news", "s", "-o", "json"), `"agents": 0`)
}

func TestDoorsOf(t *testing.T) {
	require.Equal(t, []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:7670"), netip.MustParseAddrPort("10.0.0.1:80"), netip.MustParseAddrPort("[fd00::1]:443")},
		doorsOf([]string{"http://127.0.0.1:7670", "http://cmq.example.com:7670", "http://10.0.0.1/path", "https://[fd00::1]", "\x00"}))
}
