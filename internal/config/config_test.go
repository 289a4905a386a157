package config_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/internal/config"
)

var update = flag.Bool("update", false, "write docs/configuration.md anew")

// load runs Load with a file of this content ("-": no file).
func load(t *testing.T, content string, environ []string, args ...string) (config.Config, error) {
	t.Helper()
	src := config.Sources{Environ: environ, Flags: pflag.NewFlagSet("test", pflag.ContinueOnError)}
	config.Flags(src.Flags)
	require.NoError(t, src.Flags.Parse(args))
	if content != "-" {
		t.Chdir(t.TempDir())
		src.File = "cmq.yaml"
		require.NoError(t, os.WriteFile(src.File, []byte(content), 0o600))
	}
	return config.Load(src)
}

var keyEnv = []string{"CMQ_SECRET_ID=AKIDa", "CMQ_SECRET_KEY=b"}

func TestLayers(t *testing.T) {
	file := "\xef\xbb\xbf# comment\r\nnode:\r\n  id: 2\r\ndata_dir: /from/file\r\nlog: {level: debug}\r\nshutdown:\r\n  deadline: 5s\r\n"
	env := append([]string{"CMQ_DATA_DIR=/from/env", "CMQ_NODE_ID=3", "CMQ_HTTP_ADDR=:80", "CMQ_SERVICE_HOST=10.0.0.1", "PATH=x"}, keyEnv...)
	got, err := load(t, file, env, "--node-id=4", "--limits-queues-per-owner", "7", "--auth-host-aliases=a,b:80", "--cluster-nodes", "4=a:1,5=b:2")
	require.NoError(t, err)

	want := config.Default()
	want.DataDir = "/from/env"
	want.Node.ID = 4
	want.Log.Level = "debug"
	want.Shutdown.Deadline = 5 * time.Second
	want.HTTP.Addr = ":80"
	want.Limits.QueuesPerOwner = 7
	want.Auth.SecretID, want.Auth.SecretKey = "AKIDa", "b"
	want.Auth.HostAliases = []string{"a", "b:80"}
	want.Cluster.Nodes = []config.Peer{{ID: 4, Addr: "a:1"}, {ID: 5, Addr: "b:2"}}
	require.Empty(t, cmp.Diff(want, got))
}

func TestEveryKeyCanBeSetEverywhere(t *testing.T) {
	for _, k := range config.Keys() {
		if strings.HasSuffix(k.Name, "_file") || k.Name == "auth.secret_key" {
			continue // files must exist: TestSecretsFromFiles
		}
		env := keyEnv
		if k.Name == "auth.secret_id" {
			env = keyEnv[1:]
		}
		if k.Name == "cluster.join" {
			env = append([]string{"CMQ_CLUSTER_NODES=1=a:1,2=b:2"}, env...)
		}
		value := map[string]string{"node.id": "7", "cluster.join": "true", "cluster.nodes": "1=a:1", "log.level": "error", "log.format": "json",
			"push.allow": "10.0.0.0/8", "push.smtp_tls": "off", "push.host_connections": "9", "limits.queues_per_owner": "9", "limits.topics_per_owner": "9", "limits.subscriptions_per_topic": "9", "limits.request_bytes": "70000", "shutdown.deadline": "9s", "auth.clock_skew": "9s", "storage.scrub_pause": "9s",
			"limits.tcp_connections": "9", "limits.tcp_strangers": "9", "limits.tcp_auth_timeout": "9s", "limits.tcp_idle_timeout": "9s"}[k.Name]
		if value == "" && strings.HasPrefix(k.Name, "storage.") {
			value = "1048577"
		}
		if value == "" {
			value = "host:1"
		}
		section, last, nested := strings.Cut(k.Name, ".")
		file := section + ": \"" + value + "\"\n"
		if nested {
			file = section + ": {" + last + ": \"" + value + "\"}\n"
		}
		fromFile, err := load(t, file, env)
		require.NoError(t, err, k.Name)
		fromEnv, err := load(t, "-", append([]string{k.Env + "=" + value}, env...))
		require.NoError(t, err, k.Name)
		fromFlag, err := load(t, "-", env, "--"+k.Flag+"="+value)
		require.NoError(t, err, k.Name)
		require.Empty(t, cmp.Diff(fromFile, fromEnv), k.Name)
		require.Empty(t, cmp.Diff(fromFile, fromFlag), k.Name)
		base, err := load(t, "-", keyEnv)
		require.NoError(t, err)
		require.NotEmpty(t, cmp.Diff(base, fromFile), k.Name)
	}
}

// Each secret may be in a file, which is told of as any other key; beside the secret itself it is refused.
func TestSecretsFromFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(path, []byte("in the-file\n"), 0o600))
	empty := filepath.Join(t.TempDir(), "empty")
	require.NoError(t, os.WriteFile(empty, []byte(" \n"), 0o600))
	rows := map[string]func(c *config.Config) string{
		"push.smtp_password":     func(c *config.Config) string { return c.Push.SMTPPassword },
		"push.sms_authorization": func(c *config.Config) string { return c.Push.SMSAuthorization },
	}
	secrets := 0
	for _, k := range config.Keys() {
		if !k.Secret {
			continue
		}
		secrets++
		get := rows[k.Name]
		if k.Name == "auth.secret_key" { // has no blanks, and a short name of its own
			continue
		}
		require.NotNil(t, get, "%s has no row", k.Name)
		fromEnv, err := load(t, "-", append([]string{k.Env + "_FILE=" + path}, keyEnv...))
		require.NoError(t, err)
		require.Equal(t, "in the-file", get(&fromEnv))
		fromFlag, err := load(t, "-", keyEnv, "--"+k.Flag+"-file", path)
		require.NoError(t, err)
		require.Equal(t, fromEnv, fromFlag)
		var printed strings.Builder
		require.NoError(t, fromEnv.Print(&printed))
		require.NotContains(t, printed.String(), "in the-file")

		_, err = load(t, "-", keyEnv, "--"+k.Flag+"-file", path, "--"+k.Flag, "x")
		require.EqualError(t, err, "configuration: --"+k.Flag+"-file: "+k.Name+"_file and "+k.Name+" are both given; keep one")
		_, err = load(t, "-", keyEnv, "--"+k.Flag+"-file", empty)
		require.EqualError(t, err, "configuration: --"+k.Flag+"-file: "+k.Name+"_file "+empty+" is empty")
	}
	require.Equal(t, len(rows)+1, secrets)
}

func TestProblems(t *testing.T) {
	rows := map[string]struct {
		file string
		env  []string
		args []string
		want string
	}{
		"unknown key": {file: "node:\n  id: 1\n\ndata-dir: x\n", env: keyEnv,
			want: `configuration: cmq.yaml:4: unknown key "data-dir"; did you mean "data_dir"?`},
		"unknown key in a section": {file: "auth:\n  secretid: x\n", env: keyEnv,
			want: `configuration: cmq.yaml:2: unknown key "auth.secretid"; did you mean "auth.secret_id"?`},
		"nothing near": {file: "zzzzzzzz: x\n", env: keyEnv, want: `configuration: cmq.yaml:1: unknown key "zzzzzzzz"`},
		"twice": {file: "data_dir: a\nnode: {id: 1}\ndata_dir: b\n", env: keyEnv,
			want: `configuration: cmq.yaml:3: data_dir is given twice; the first is in line 1`},
		"section as value": {file: "http: 127.0.0.1:1\n", env: keyEnv, want: `configuration: cmq.yaml:1: http is a section; its keys belong indented below it`},
		"value as section": {file: "data_dir:\n  a: b\n", env: keyEnv, want: `configuration: cmq.yaml:1: data_dir wants one value, not a list or section`},
		"no value":         {file: "data_dir:\n", env: keyEnv, want: `configuration: cmq.yaml:1: data_dir has no value`},
		"not YAML":         {file: "a: [\n", env: keyEnv, want: `configuration: cmq.yaml: line 1: did not find expected node content`},
		"list":             {file: "- a\n", env: keyEnv, want: `configuration: cmq.yaml: is not a list of "key: value" lines`},
		"neither true nor false": {file: "cluster: {join: maybe}\n", env: keyEnv,
			want: `configuration: cmq.yaml:1: cluster.join "maybe" is neither true nor false`},
		"join without a node to join": {file: "cluster: {join: true}\n", env: keyEnv,
			want: `configuration: cmq.yaml:1: cluster.join is true, but cluster.nodes does not name a node of the cluster to join, and this one`},
		"unit": {file: "shutdown: {deadline: 5}\n", env: keyEnv,
			want: `configuration: cmq.yaml:1: shutdown.deadline "5" is not a duration with its unit, such as 500ms, 45s or 2h`},
		"misspelt variable": {file: "-", env: append([]string{"CMQ_DATADIR=x"}, keyEnv...), want: `configuration: CMQ_DATADIR: unknown variable; did you mean "CMQ_DATA_DIR"?`},
		"peers": {file: "cluster:\n  nodes: [{id: 1, pear: \"a:1\"}]\n", env: keyEnv,
			want: `configuration: cmq.yaml:2: cluster.nodes wants a list of {id: 1, peer: "host:port"}, or "1=host:port,2=host:port"; entry 1: unknown key "pear"; did you mean "peer"?`},
		"range of addresses": {file: "push: {allow: [10.0.0.0/8, localhost]}\n", env: keyEnv,
			want: `configuration: cmq.yaml:1: push.allow has "localhost", which is neither a range of addresses, such as 10.0.0.0/8 or fd00::/8, nor an address`},
		"secret file": {file: "-", env: []string{"CMQ_SECRET_ID=a"}, args: []string{"--auth-secret-key-file", "/does/not/exist"},
			want: `configuration: --auth-secret-key-file: auth.secret_key_file /does/not/exist: cannot be opened: no such file or directory`},
		"both secrets": {file: "-", env: append([]string{"CMQ_SECRET_KEY_FILE=x"}, keyEnv...),
			want: `configuration: CMQ_SECRET_KEY_FILE: auth.secret_key_file and auth.secret_key are both given; keep one`},
		"no connections": {env: keyEnv, args: []string{"--push-host-connections=-1"},
			want: `configuration: --push-host-connections: push.host_connections is -1; at least 1, or 0 for any number`},
		"no topics": {env: keyEnv, args: []string{"--limits-topics-per-owner=0", "--limits-subscriptions-per-topic=-1"},
			want: strings.Join([]string{`configuration has 2 problems:`,
				`  --limits-topics-per-owner: limits.topics_per_owner is 0; at least 1`,
				`  --limits-subscriptions-per-topic: limits.subscriptions_per_topic is -1; at least 1`}, "\n")},
		"everything at once": {
			file: "node: {id: x}\nhttp: {addr: \"a:1\"}\ntcp: {addr: \"a:1\"}\nlog: {level: wran}\ncluster:\n  nodes:\n  - {id: 1, peer: \"a:1\"}\n  - {id: 1, peer: \"a\"}\n",
			env:  []string{"CMQ_SHUTDOWN_DEADLINE=1ms"}, args: []string{"--limits-request-bytes=1"},
			want: strings.Join([]string{`configuration has 9 problems:`,
				`  cmq.yaml:1: node.id "x" is not a whole number of 0 or more`,
				`  cmq.yaml:6: cluster.nodes has node 1 twice`,
				`  cmq.yaml:6: cluster.nodes has a wrong peer address for node 1: "a" is not host:port`,
				`  cmq.yaml:3: tcp.addr a:1 is also http.addr; each listener needs its own port`,
				`  auth.secret_id is missing; choose one, for example AKID and some letters, and give it to the clients`,
				`  auth.secret_key is missing; make one with: openssl rand -hex 16`,
				`  --limits-request-bytes: limits.request_bytes is 1; from 65536 to 67108864`,
				`  CMQ_SHUTDOWN_DEADLINE: shutdown.deadline is 1ms; from 1s to 1h`,
				`  cmq.yaml:4: log.level is "wran"; one of debug, info, warn, error; did you mean "warn"?`}, "\n"),
		},
	}
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			if row.file == "" {
				row.file = "-"
			}
			_, err := load(t, row.file, row.env, row.args...)
			require.EqualError(t, err, row.want)
		})
	}
}

func TestFilesThatAreNone(t *testing.T) {
	dir := t.TempDir()
	big := filepath.Join(dir, "big")
	require.NoError(t, os.WriteFile(big, bytes.Repeat([]byte("# comment\n"), 200_000), 0o600))
	for path, want := range map[string]string{
		dir:                          "is not a file",
		filepath.Join(dir, "absent"): "no such file",
		big:                          "larger than",
	} {
		_, err := config.Load(config.Sources{File: path, Environ: keyEnv})
		require.ErrorContains(t, err, want)
	}
	empty := filepath.Join(dir, "empty")
	require.NoError(t, os.WriteFile(empty, nil, 0o600))
	_, err := config.Load(config.Sources{File: empty, Environ: keyEnv})
	require.NoError(t, err)
}

func TestSecretFromFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(path, []byte("s3cret\n"), 0o600))
	c, err := config.Load(config.Sources{Environ: []string{"CMQ_SECRET_ID=a", "CMQ_AUTH_SECRET_KEY_FILE=" + path}})
	require.NoError(t, err)
	require.Equal(t, "s3cret", c.Auth.SecretKey)
}

// What Print writes is a valid file that gives the same configuration, and never shows the secret.
func TestPrintRoundTrip(t *testing.T) {
	want, err := load(t, "cluster: {nodes: [{id: 1, peer: \"a:1\"}, {id: 2, peer: \"b:1\"}]}\nauth: {host_aliases: [x, y]}\n", keyEnv)
	require.NoError(t, err)
	var out bytes.Buffer
	require.NoError(t, want.Print(&out))
	require.NotContains(t, out.String(), `secret_key: "b"`)
	got, err := load(t, out.String(), []string{"CMQ_SECRET_KEY=b"})
	require.NoError(t, err)
	require.Empty(t, cmp.Diff(want, got))
}

func TestAdvertised(t *testing.T) {
	host, err := os.Hostname()
	require.NoError(t, err)
	require.Equal(t, host+":80", config.Listener{}.Advertised("0.0.0.0:80"))
	require.Equal(t, host+":80", config.Listener{}.Advertised("[::]:80"))
	require.Equal(t, "10.0.0.1:80", config.Listener{}.Advertised("10.0.0.1:80"))
	require.Equal(t, "me:1", config.Listener{Advertise: "me:1"}.Advertised("10.0.0.1:80"))
}

func TestNearest(t *testing.T) {
	words := []string{"receive", "send", "delete"}
	require.Equal(t, "receive", config.Nearest("recieve", words))
	require.Equal(t, "send", config.Nearest("sned", words))
	require.Empty(t, config.Nearest("bench", words))
}

func TestReferenceIsCurrent(t *testing.T) {
	const path = "../../docs/configuration.md"
	var want bytes.Buffer
	require.NoError(t, config.Reference(&want))
	if *update {
		require.NoError(t, os.WriteFile(path, want.Bytes(), 0o644))
	}
	got, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, want.String(), string(got), "run: go test ./internal/config -update")
}
