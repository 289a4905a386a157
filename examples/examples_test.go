// Package examples has the scenario programs: what cmq is made for, each as a program that uses nothing but the public SDK
// and checks that it came out as it should. The test runs them as anybody would, against a server.
package examples

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/test/cluster"
)

func TestScenarios(t *testing.T) {
	dir := t.TempDir()
	binary, err := cluster.Build(dir)
	require.NoError(t, err)
	build := exec.Command("go", "build", "-o", dir+string(filepath.Separator), "./...")
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)
	// Endpoints of the scenarios are on this machine.
	c := cluster.Start(t, cluster.Options{Binary: binary, Nodes: 1, Config: "push: {allow: [127.0.0.0/8]}"})
	for _, name := range scenarios(t) {
		t.Run(name, func(t *testing.T) {
			program := exec.CommandContext(t.Context(), filepath.Join(dir, name))
			program.Env = append(os.Environ(), "CMQ_ENDPOINT=http://"+c.Nodes[0].HTTP, "CMQ_SECRET_ID="+cluster.SecretID, "CMQ_SECRET_KEY="+cluster.SecretKey)
			out, err := program.CombinedOutput()
			require.NoError(t, err, "%s", out)
			t.Logf("%s", out)
		})
	}
}

// scenarios are the folders with a program.
func scenarios(t *testing.T) (names []string) {
	mains, err := filepath.Glob("*/main.go")
	require.NoError(t, err)
	for _, main := range mains {
		names = append(names, filepath.Dir(main))
	}
	require.NotEmpty(t, names)
	return names
}
