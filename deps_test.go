package cmq_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "github.com/opencmq/cmq/"

// mayImport is the table of who knows whom. A package may import, of ours, only what its line lists; "dir/..."
// stands for dir and everything below it. A package without a line is a finding: decide where it belongs.
var mayImport = map[string][]string{
	"internal/cmq":    {},
	"internal/clock":  {},
	"internal/mutant": {},
	"internal/vfs":    {"internal/mutant"},

	"internal/core/command": {"internal/cmq", "internal/mutant"},
	"internal/core/delay":   {"internal/cmq", "internal/mutant"},
	"internal/core/queue":   {"internal/cmq", "internal/mutant", "internal/core/command", "internal/core/delay"},
	"internal/core/topic":   {"internal/cmq"},
	"internal/core/broker":  {"internal/cmq", "internal/mutant", "internal/core/command", "internal/core/delay", "internal/core/queue", "internal/core/topic"},
	"internal/core/meta":    {"internal/cmq", "internal/mutant"},

	"internal/store":            {"internal/vfs", "internal/mutant", "internal/store/..."},
	"internal/store/segment":    {"internal/vfs", "internal/mutant"},
	"internal/store/checkpoint": {"internal/vfs", "internal/mutant", "internal/store/segment"},
	"internal/store/archive":    {"internal/vfs", "internal/mutant", "internal/store/segment"},
	"internal/store/reflog":     {"internal/vfs", "internal/mutant"},

	"internal/set":           {"internal/cmq", "internal/store/...", "internal/clock", "internal/mutant"},
	"internal/set/transport": {"internal/cmq", "internal/set", "internal/clock", "internal/store", "internal/store/reflog"},
	"internal/engine":        {"internal/cmq", "internal/core/...", "internal/set", "internal/store/...", "internal/vfs", "internal/clock", "internal/mutant"},
	"internal/controller":    {"internal/cmq", "internal/clock", "internal/core/meta", "internal/set", "internal/store", "internal/store/reflog"},

	"internal/auth":                 {"internal/cmq", "internal/clock"},
	"internal/route":                {"internal/cmq", "internal/clock"},
	"internal/dispatch":             {"internal/cmq", "internal/clock"},
	"internal/dispatch/push":        {"internal/cmq", "internal/dispatch/push/course"},
	"internal/dispatch/push/course": {"internal/cmq", "internal/mutant", "internal/dispatch/push/retry"},
	"internal/dispatch/push/guard":  {},
	"internal/dispatch/push/web":    {"internal/cmq", "internal/dispatch/push", "internal/dispatch/push/guard", "client"}, // client: for tests
	"internal/dispatch/push/mail":   {"internal/cmq", "internal/dispatch/push"},
	"internal/dispatch/push/sms":    {"internal/cmq", "internal/dispatch/push", "internal/dispatch/push/guard", "internal/dispatch/push/web"},
	"internal/dispatch/push/retry":  {"internal/cmq"},
	"internal/agent":                {"internal/cmq", "internal/dispatch/push", "internal/dispatch/push/guard", "internal/dispatch/push/web", "client"},
	"internal/access":               {"internal/cmq", "internal/auth", "internal/clock"},
	"internal/access/accesstest":    {"internal/cmq", "internal/access", "internal/clock"},
	"internal/access/adminapi":      {"internal/cmq"},
	"internal/access/httpapi":       {"internal/cmq", "internal/access", "internal/auth", "internal/clock"},
	"internal/access/tcpapi":        {"internal/cmq", "internal/access", "internal/auth", "internal/clock"},
	"internal/access/tcpapi/tcppb":  {}, // for tests

	"internal/datadir":             {"internal/cmq", "internal/vfs"},
	"internal/inspect":             {"internal/cmq", "internal/datadir", "internal/core/...", "internal/engine", "internal/store/...", "internal/vfs"},
	"internal/inspect/inspecttest": {"internal/cmq", "internal/datadir", "internal/core/...", "internal/engine", "internal/store/...", "internal/vfs"},

	"internal/doctor": {"internal/cmq", "internal/datadir", "internal/inspect", "internal/access/adminapi", "internal/store/segment", "internal/vfs"},

	"internal/config": {"internal/cmq", "internal/dispatch/push/guard"},
	"internal/check":  {"internal/cmq"},
	"internal/sim":    {"internal/..."},
	"internal/node":   {"internal/..."},

	"test/loopback": {},
	"test/cluster":  {"client", "test/loopback"},
	"test/e2e":      {"client", "test/cluster"},
	"test/faults":   {"test/cluster"},

	"client":                  {"client/internal/link", "client/internal/wire"},
	"client/internal/wire":    {},
	"client/internal/link":    {"client/internal/wire"},
	"client/internal/tcptest": {},

	"cmd/cmq": {"client", "internal/agent", "internal/cmq", "internal/config", "internal/node", "internal/dispatch/push/guard", "internal/dispatch/push/mail", "internal/dispatch/push/sms", "internal/datadir", "internal/inspect", "internal/doctor", "internal/sim", "internal/check", "internal/vfs"},

	"examples/internal/demo": {"client"},
	"examples/asynccall":     {"client", "examples/internal/demo"},
	"examples/images":        {"client", "examples/internal/demo"},
	"examples/orders":        {"client", "examples/internal/demo"},
	"examples/payments":      {"client", "examples/internal/demo"},
	"examples/redpacket":     {"client", "examples/internal/demo"},

	"test/compat": {},
	"test/bench":  {"client"},
}

// neverImports are exceptions to the "..." above: the product does not know its tests.
var neverImports = map[string][]string{
	"internal/node": {"internal/sim", "internal/check", "internal/config", "internal/inspect/...", "internal/doctor", "internal/access/accesstest"},
}

// maySkip names the one file that may skip tests, and why: fault tests need root to mount file systems and to trace
// processes. It says what is missing; make test-faults runs them.
var maySkip = []string{"test/faults/privilege.go"}

// pure says which packages are functions of their input: what they would need for anything else is not imported.
func pure(dir string) bool {
	return strings.HasPrefix(dir, "internal/core/") || dir == "internal/dispatch/push/course"
}

var impure = []string{"os", "net", "syscall", "sync", "sync/atomic", "math/rand", "math/rand/v2", "crypto/rand", "log", "log/slog", "context", "io/fs", "golang.org/x/sys/unix"}

// source is one parsed file.
type source struct {
	name string // path from the root, with slashes
	test bool
	file *ast.File
}

func (s *source) dir() string { return path.Dir(s.name) }

// sources parses all Go files below root, without data and what has a module of its own: tools, and the comparison with other queues.
func sources(t *testing.T, root string) []source {
	t.Helper()
	var all []source
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if n := d.Name(); p != root && (n == "testdata" || n == "node_modules" || strings.HasPrefix(n, ".") || strings.HasPrefix(n, "cmq-data")) {
				return filepath.SkipDir
			}
			if _, err := os.Stat(filepath.Join(p, "go.mod")); err == nil && p != root {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(p, ".go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), p, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, p)
		all = append(all, source{filepath.ToSlash(rel), strings.HasSuffix(p, "_test.go"), f})
		return err
	})
	require.NoError(t, err)
	return all
}

func covers(pattern, dir string) bool {
	if above, ok := strings.CutSuffix(pattern, "/..."); ok {
		return dir == above || strings.HasPrefix(dir, above+"/")
	}
	return pattern == dir
}

// badImports lists every import that the table does not allow.
func badImports(all []source) (findings []string) {
	for _, s := range all {
		if s.test || s.dir() == "." {
			continue
		}
		allowed, known := mayImport[s.dir()]
		if !known {
			findings = append(findings, s.name+": package is not in the table of imports")
			continue
		}
		for _, spec := range s.file.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				findings = append(findings, s.name+": "+err.Error())
				continue
			}
			if pure(s.dir()) && slices.Contains(impure, imported) {
				findings = append(findings, fmt.Sprintf("%s: imports %s, but the core is a function", s.name, imported))
			}
			ours, is := strings.CutPrefix(imported, module)
			if !is {
				continue
			}
			match := func(pattern string) bool { return covers(pattern, ours) }
			if !slices.ContainsFunc(allowed, match) || slices.ContainsFunc(neverImports[s.dir()], match) {
				findings = append(findings, fmt.Sprintf("%s: may not import %s", s.name, ours))
			}
		}
	}
	return findings
}

// badCalls lists uses of the clock and goroutines in the core, and of sleeping and skipping in tests.
func badCalls(all []source) (findings []string) {
	for _, s := range all {
		core := pure(s.dir()) && !s.test
		ast.Inspect(s.file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.GoStmt:
				if core {
					findings = append(findings, s.name+": starts a goroutine, but the core is a function")
				}
			case *ast.SelectorExpr:
				pkg, ok := n.X.(*ast.Ident)
				if !ok {
					break
				}
				call := pkg.Name + "." + n.Sel.Name
				if core && slices.Contains([]string{"time.Now", "time.Since", "time.Until", "time.After", "time.NewTimer", "time.AfterFunc", "time.Sleep"}, call) {
					findings = append(findings, s.name+": calls "+call+", but the core is a function")
				}
				if (s.test || strings.HasPrefix(s.name, "test/")) && !slices.Contains(maySkip, s.name) && slices.Contains([]string{"time.Sleep", "t.Skip", "t.Skipf", "t.SkipNow", "b.Skip"}, call) {
					findings = append(findings, s.name+": calls "+call+"; tests wait for events and are never skipped")
				}
			}
			return true
		})
	}
	return findings
}

// withoutComment lists packages that do not say what they are for.
func withoutComment(all []source) (findings []string) {
	has := make(map[string]bool)
	for _, s := range all {
		if !s.test {
			has[s.dir()] = has[s.dir()] || s.file.Doc != nil && len(s.file.Doc.Text()) > 40
		}
	}
	for dir, ok := range has {
		if !ok {
			findings = append(findings, dir+": package has no comment")
		}
	}
	slices.Sort(findings)
	return findings
}

func TestImports(t *testing.T) { require.Empty(t, badImports(sources(t, "."))) }

func TestCoreIsAFunctionAndTestsDoNotSleep(t *testing.T) { require.Empty(t, badCalls(sources(t, "."))) }

func TestEveryPackageHasAComment(t *testing.T) { require.Empty(t, withoutComment(sources(t, "."))) }

// The table lists what exists, so that a line for a package that was removed goes with it.
func TestTableNamesExistingPackages(t *testing.T) {
	for dir := range mayImport {
		_, err := os.Stat(filepath.FromSlash(dir))
		require.NoError(t, err)
	}
}

// The checks above find what they are for.
func TestChecksFindViolations(t *testing.T) {
	root := t.TempDir()
	write := func(name, text string) {
		require.NoError(t, os.MkdirAll(filepath.Join(root, path.Dir(name)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(root, name), []byte(text), 0o644))
	}
	write("internal/cmq/a.go", "// Package cmq imports a package of ours, which the vocabulary must not.\npackage cmq\nimport _ \""+module+"internal/clock\"\n")
	write("internal/access/httpapi/a.go", "package httpapi\nimport x \""+module+"internal/store/segment\"\nvar _ = x.Open\n")
	write("internal/core/queue/a.go", "// Package queue is impure in every way that the check knows about.\npackage queue\nimport (\n\"os\"\n\"time\"\n)\nfunc f() { go f(); _ = time.Now(); _ = os.Args }\n")
	write("internal/core/queue/a_test.go", "package queue\nimport \"time\"\nfunc g() { time.Sleep(1) }\n")
	write("internal/node/a.go", "// Package node knows everything except the simulator and this is about that.\npackage node\nimport _ \""+module+"internal/sim\"\nimport _ \""+module+"internal/engine\"\n")
	write("test/faults/a.go", "// Package faults may skip tests in one file only, and this is not that file.\npackage faults\nfunc f() { t.Skipf(`no`) }\n")
	write("test/faults/privilege.go", "package faults\nfunc g() { t.Skipf(`not root`) }\n")
	write("internal/strange/a.go", "// Package strange is not in the table and so has no place in the order.\npackage strange\n")
	write("tools/go.mod", "module tools\n")
	write("tools/a.go", "package broken because it is not looked at")
	all := sources(t, root)
	require.ElementsMatch(t, []string{
		"internal/cmq/a.go: may not import internal/clock",
		"internal/access/httpapi/a.go: may not import internal/store/segment",
		"internal/core/queue/a.go: imports os, but the core is a function",
		"internal/node/a.go: may not import internal/sim",
		"internal/strange/a.go: package is not in the table of imports",
	}, badImports(all))
	require.ElementsMatch(t, []string{
		"internal/core/queue/a.go: starts a goroutine, but the core is a function",
		"internal/core/queue/a.go: calls time.Now, but the core is a function",
		"internal/core/queue/a_test.go: calls time.Sleep; tests wait for events and are never skipped",
		"test/faults/a.go: calls t.Skipf; tests wait for events and are never skipped",
	}, badCalls(all))
	require.Equal(t, []string{"internal/access/httpapi: package has no comment"}, withoutComment(all))
}
