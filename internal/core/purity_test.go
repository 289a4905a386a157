// Package core_test keeps the core pure: what replicas compute from the log must not depend on anything else.
package core_test

import (
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
)

const module = "github.com/opencmq/cmq/"

// allowed lists what core packages may import besides each other. Nothing on it knows a clock, a disk, a
// network, a scheduler or chance. Package time is there for its Duration; which of its names may be used is
// checked separately.
var allowed = map[string]bool{
	"bytes": true, "cmp": true, "crypto/sha256": true, "encoding/binary": true, "errors": true, "fmt": true,
	"hash/crc32": true, "iter": true, "math": true, "math/bits": true, "slices": true, "sort": true,
	"strconv": true, "strings": true, "time": true, "unicode": true, "unique": true, "unicode/utf8": true,
	"encoding/json": true, "github.com/tidwall/btree": true, "github.com/cespare/xxhash/v2": true,
	module + "internal/cmq": true, module + "internal/mutant": true,
}

// clock lists the names of package time that read the clock or wait.
var clock = map[string]bool{
	"Now": true, "Since": true, "Until": true, "Sleep": true, "After": true, "AfterFunc": true, "Tick": true,
	"NewTimer": true, "NewTicker": true, "Local": true, "LoadLocation": true,
}

func TestCoreIsPure(t *testing.T) {
	fset := token.NewFileSet()
	packages := map[string][]*ast.File{}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		f, err := parser.ParseFile(fset, path, nil, parser.ParseComments)
		if err == nil && !tagged(f) {
			dir := filepath.Dir(path)
			packages[dir] = append(packages[dir], f)
		}
		return err
	})
	if err != nil || len(packages) < 4 {
		t.Fatalf("%d packages, %v", len(packages), err)
	}
	imports := importer.ForCompiler(fset, "source", nil)
	for dir, files := range packages {
		t.Run(dir, func(t *testing.T) {
			info := &types.Info{Types: map[ast.Expr]types.TypeAndValue{}}
			if _, err := (&types.Config{Importer: imports}).Check(dir, fset, files, info); err != nil {
				t.Fatal(err)
			}
			for _, f := range files {
				checkImports(t, fset, f)
				ast.Inspect(f, func(n ast.Node) bool {
					if why := impure(n, info); why != "" {
						t.Errorf("%s: %s", fset.Position(n.Pos()), why)
					}
					return true
				})
			}
		})
	}
}

func TestImpureCodeIsFound(t *testing.T) {
	for _, c := range []struct {
		code string
		pure bool
	}{
		{"var m map[int]int; m[1] = 2; delete(m, 1)", true},
		{"for range []int{1} { }", true},
		{"type t map[int]int; for range (t{}) { }", false},
		{"go func() {}()", false},
		{"select {}", false},
		{"var c chan int; _ = c", false},
		{"x := 1; _ = float32(x)", false},
	} {
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, "x.go", "package x\nfunc f() {"+c.code+"}", 0)
		if err != nil {
			t.Fatal(err)
		}
		info := &types.Info{Types: map[ast.Expr]types.TypeAndValue{}}
		if _, err := new(types.Config).Check("x", fset, []*ast.File{f}, info); err != nil {
			t.Fatal(err)
		}
		pure := true
		ast.Inspect(f, func(n ast.Node) bool {
			pure = pure && impure(n, info) == ""
			return true
		})
		if pure != c.pure {
			t.Errorf("%s: pure %v", c.code, pure)
		}
	}
}

// tagged reports whether the file is only built with the tag mutants, whose purpose is to do wrong.
func tagged(f *ast.File) bool {
	for _, c := range f.Comments {
		if c.Pos() < f.Package && strings.HasPrefix(c.List[0].Text, "//go:build mutants") {
			return true
		}
	}
	return false
}

func checkImports(t *testing.T, fset *token.FileSet, f *ast.File) {
	for _, i := range f.Imports {
		path := strings.Trim(i.Path.Value, `"`)
		if !allowed[path] && !strings.HasPrefix(path, module+"internal/core/") {
			t.Errorf("%s: the core must not import %s", fset.Position(i.Pos()), path)
		}
	}
}

// impure says what is wrong with a piece of code, "" if nothing is.
func impure(n ast.Node, info *types.Info) string {
	switch n := n.(type) {
	case *ast.GoStmt:
		return "goroutine"
	case *ast.SelectStmt:
		return "select"
	case *ast.SendStmt, *ast.ChanType:
		return "channel"
	case *ast.RangeStmt:
		if _, ok := info.TypeOf(n.X).Underlying().(*types.Map); ok {
			return "range over a map: the order differs from replica to replica"
		}
	case *ast.SelectorExpr:
		if x, ok := n.X.(*ast.Ident); ok && x.Name == "time" && clock[n.Sel.Name] {
			return "time." + n.Sel.Name + ": the core is told the time"
		}
	case ast.Expr:
		if b, ok := info.TypeOf(n).(*types.Basic); ok && b.Info()&(types.IsFloat|types.IsComplex) != 0 {
			return "floating point"
		}
	}
	return ""
}
