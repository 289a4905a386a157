package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/test/cluster"
)

// doctorSays runs cmq doctor on a node and gives its exit code and all that it found, one line each.
func doctorSays(t *testing.T, n *cluster.Node) (code int, found []string) {
	t.Helper()
	out, err := exec.Command(binary, "doctor", "--admin", n.Admin, "-o", "json").Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		code = exit.ExitCode()
	} else {
		require.NoError(t, err)
	}
	var reports []struct {
		Findings []struct{ Level, Subject, What string }
	}
	require.NoError(t, json.Unmarshal(out, &reports), string(out))
	for _, f := range reports[0].Findings {
		found = append(found, f.Level+": "+f.Subject+": "+f.What)
	}
	return code, found
}

// The doctor finds three nodes healthy, one of them gone, and then two.
func TestDoctorOfARunningCluster(t *testing.T) {
	c := cluster.Start(t, cluster.Options{Binary: binary})
	until := func(node int, code int, part string) {
		t.Helper()
		require.NoError(t, cluster.Eventually(60*time.Second, func() error {
			got, found := doctorSays(t, c.Nodes[node])
			if text := strings.Join(found, "\n"); got != code || !strings.Contains(text, part) {
				return fmt.Errorf("exit %d:\n%s", got, text)
			}
			return nil
		}))
	}
	for i := range c.Nodes {
		until(i, 0, "")
	}
	c.Kill(c.Nodes[2])
	until(0, 1, "the replica on node 3 does not answer")
	c.Kill(c.Nodes[1])
	until(0, 1, "the set has no leader")
}
