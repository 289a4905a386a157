package cmq_test

import (
	"os"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
)

// Every metric and every action of the code has a line in its page.
func TestPagesNameWhatTheCodeHas(t *testing.T) {
	for _, row := range []struct{ code, page, pattern string }{
		{"internal/node/metrics.go", "docs/metrics.md", `"(cmq_\w+)"`},
		{"internal/access/action.go", "docs/api.md", `return "([A-Z]\w+)"`},
	} {
		code, err := os.ReadFile(row.code)
		require.NoError(t, err)
		page, err := os.ReadFile(row.page)
		require.NoError(t, err)
		names := regexp.MustCompile(row.pattern).FindAllSubmatch(code, -1)
		require.NotEmpty(t, names, row.code)
		for _, n := range names {
			require.Regexp(t, `\b`+string(n[1])+`\b`, string(page), row.page)
		}
	}
}
