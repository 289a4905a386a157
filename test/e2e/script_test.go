package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/opencmq/cmq/test/cluster"
)

// binary is where TestMain has built cmq.
var binary string

func TestMain(m *testing.M) {
	os.Exit(buildAndRun(m))
}

func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "cmq-e2e")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if binary, err = cluster.Build(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// TestScripts runs testdata/script. Besides testscript's own commands there are
//
//	ports DIR           wait until DIR/ports.json is there; sets HTTP1, TCP1, HTTP2, … to the addresses
//	paste FILE PATTERN  send the form of the first curl line in FILE that matches, print the answer
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			e.Setenv("PATH", filepath.Dir(binary)+string(os.PathListSeparator)+e.Getenv("PATH"))
			e.Setenv("HOME", filepath.Join(e.WorkDir, "home"))
			e.Setenv("FREE", "--http-addr=127.0.0.1:0 --tcp-addr=127.0.0.1:0 --peer-addr=127.0.0.1:0 --admin-addr=127.0.0.1:0")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"ports": waitPorts, "paste": paste},
	})
}

func waitPorts(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: ports DIR")
	}
	var ports []struct{ HTTP, TCP string }
	err := cluster.Eventually(60*time.Second, func() error {
		data, err := os.ReadFile(filepath.Join(ts.MkAbs(args[0]), "ports.json"))
		if err != nil {
			return err
		}
		return json.Unmarshal(data, &ports)
	})
	ts.Check(err)
	for i, p := range ports {
		ts.Setenv(fmt.Sprintf("HTTP%d", i+1), "http://"+p.HTTP)
		ts.Setenv(fmt.Sprintf("TCP%d", i+1), p.TCP)
	}
}

var curlLine = regexp.MustCompile(`curl (\S+) -d '([^']*)'`)

func paste(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: paste FILE PATTERN")
	}
	for line := range strings.Lines(ts.ReadFile(args[0])) {
		m := curlLine.FindStringSubmatch(line)
		if m == nil || !strings.Contains(line, args[1]) {
			continue
		}
		resp, err := http.Post(m[1], "application/x-www-form-urlencoded", strings.NewReader(m[2]))
		ts.Check(err)
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		ts.Check(err)
		fmt.Fprintln(ts.Stdout(), string(body))
		return
	}
	ts.Fatalf("no curl line with %s in %s", args[1], args[0])
}
