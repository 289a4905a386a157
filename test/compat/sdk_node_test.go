package compat

import (
	"os"
	"os/exec"
	"testing"
)

// TestNodeSDK runs the published package cmq-sdk with all its calls. It is installed as the lock file
// says, into npm/node_modules, which git does not see.
func TestNodeSDK(t *testing.T) {
	install := exec.Command("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline")
	install.Dir = "npm"
	if output, err := install.CombinedOutput(); err != nil {
		t.Fatalf("this test needs node and npm: npm ci: %v\n%s", err, output)
	}
	onBoth(t, func(t *testing.T, addresses []string) {
		for _, program := range []string{"queue.js", "topic.js"} {
			node := exec.Command("node", program)
			node.Dir = "npm"
			node.Env = append(os.Environ(), "CMQ_ADDRESS="+addresses[len(addresses)-1], "CMQ_SECRET_ID="+secretID, "CMQ_SECRET_KEY="+secretKey)
			if output, err := node.CombinedOutput(); err != nil {
				t.Fatalf("%s: %v\n%s", program, err, output)
			}
		}
	})
}
