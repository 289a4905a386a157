package config_test

import (
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/internal/config"
)

// loadAgent is load for an agent.
func loadAgent(t *testing.T, content string, environ []string, args ...string) (config.Agent, error) {
	t.Helper()
	src := config.Sources{Environ: environ, Flags: pflag.NewFlagSet("test", pflag.ContinueOnError)}
	config.AgentFlags(src.Flags)
	require.NoError(t, src.Flags.Parse(args))
	if content != "" {
		t.Chdir(t.TempDir())
		src.File = "agent.yaml"
		require.NoError(t, os.WriteFile(src.File, []byte(content), 0o600))
	}
	return config.LoadAgent(src)
}

func TestAgentLayers(t *testing.T) {
	file := "name: plant\nendpoint: [\"http://a:1\"]\nsecret_key: x\npush:\n  allow: [10.0.0.0/8]\nlog: {level: debug}\n"
	got, err := loadAgent(t, file, []string{"CMQ_AGENT_NAME=office", "CMQ_ENDPOINT=http://b:1, http://c:1", "CMQ_SECRET_ID=AKIDa", "CMQ_SHUTDOWN_DEADLINE=5s", "CMQ_CONTEXT=here"},
		"--name=lab", "--push-allow", "10.1.0.0/16", "--push-allow=10.2.0.7,fd00::/8")
	require.NoError(t, err)
	want := config.DefaultAgent()
	want.Name, want.Endpoint, want.SecretID, want.SecretKey = "lab", []string{"http://b:1", "http://c:1"}, "AKIDa", "x"
	want.Push.Allow, want.Log.Level, want.Shutdown.Deadline = []string{"10.1.0.0/16", "10.2.0.7", "fd00::/8"}, "debug", 5*time.Second
	require.Empty(t, cmp.Diff(want, got))
}

// TestRepeatedFlagsOfLists: the later does not silently replace the earlier, of servers neither.
func TestRepeatedFlagsOfLists(t *testing.T) {
	got, err := load(t, "-", keyEnv, "--push-allow=10.0.0.0/8", "--push-allow=fd00::/8", "--cluster-nodes=1=a:1", "--cluster-nodes=2=b:2")
	require.NoError(t, err)
	require.Equal(t, []string{"10.0.0.0/8", "fd00::/8"}, got.Push.Allow)
	require.Equal(t, []config.Peer{{ID: 1, Addr: "a:1"}, {ID: 2, Addr: "b:2"}}, got.Cluster.Nodes)
}

func TestAgentProblems(t *testing.T) {
	for name, row := range map[string]struct {
		file string
		env  []string
		args []string
		want string
	}{
		"nothing": {want: "configuration has 2 problems:\n" +
			"  name is missing; it is what subscriptions say: cmq subscription create TOPIC NAME --http URL --agent AGENT\n" +
			"  push.allow is empty, so nothing could be delivered; name the addresses of the endpoints, for example 10.20.0.0/16"},
		"a name that is none": {args: []string{"--name=a b", "--push-allow=10.0.0.0/8"},
			want: `configuration: --name: name "a b" is no name: up to 64 letters, digits, '-' and '_', and a letter first`},
		"a range that is none": {args: []string{"--name=a", "--push-allow=10.0.0"},
			want: `configuration: --push-allow: push.allow has "10.0.0", which is neither a range of addresses, such as 10.0.0.0/8 or fd00::/8, nor an address`},
		"a key of servers": {file: "name: a\npush: {allow: [10.0.0.0/8]}\nhttp: {addr: \"a:1\"}\n", want: `configuration: agent.yaml:3: unknown key "http"`},
		"both secrets": {env: []string{"CMQ_SECRET_KEY=x"}, args: []string{"--name=a", "--push-allow=10.0.0.0/8", "--secret-key-file=f"},
			want: `configuration: --secret-key-file: secret_key_file and secret_key are both given; keep one`},
		"the rest": {args: []string{"--name=a", "--push-allow=10.0.0.0/8", "--log-level=loud", "--secret-id=a b", "--shutdown-deadline=1ms"},
			want: "configuration has 3 problems:\n  --secret-id: secret_id has blanks or characters outside ASCII\n" +
				"  --shutdown-deadline: shutdown.deadline is 1ms; from 1s to 1h\n  --log-level: log.level is \"loud\"; one of debug, info, warn, error"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := loadAgent(t, row.file, row.env, row.args...)
			require.EqualError(t, err, row.want)
		})
	}
}

func TestAgentSecretFromFile(t *testing.T) {
	file := t.TempDir() + "/secret"
	require.NoError(t, os.WriteFile(file, []byte(" abc\n"), 0o600))
	got, err := loadAgent(t, "", []string{"CMQ_SECRET_KEY_FILE=" + file}, "--name=a", "--push-allow=10.0.0.0/8")
	require.NoError(t, err)
	require.Equal(t, "abc", got.SecretKey)
}
