package durablestream_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// All code uses internal/wait for a pause: it stops its timer, and the pause ends with the
// context.
func TestWaitsAreOfOnePackage(t *testing.T) {
	t.Parallel()
	var found []string
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "node_modules" || path == "internal/wait" || path != "." && strings.HasPrefix(d.Name(), ".")):
			return fs.SkipDir
		case !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		files := token.NewFileSet()
		f, err := parser.ParseFile(files, path, nil, 0)
		if err != nil {
			return err
		}
		for _, n := range handWritten(f) {
			found = append(found, files.Position(n.Pos()).String())
		}
		return nil
	})
	require.NoError(t, err)
	require.Empty(t, found, "waits that are not internal/wait's")

	f, err := parser.ParseFile(token.NewFileSet(), "", `package p
func a() { time.Sleep(d) }
func b() { select { case <-ctx.Done(): case <-time.After(d): } }
func c() { t := time.NewTimer(d); select { case <-t.C: case <-ctx.Done(): } }
func f() { t := time.NewTicker(d); for { select { case <-ctx.Done(): case <-t.C: } } }
func g() { select { case <-ctx.Done(): case <-more: case <-time.After(d): } }`, 0)
	require.NoError(t, err)
	require.Len(t, handWritten(f), 3)
}

// handWritten returns the sleeps of a file, and its selects that wait only for a time and for the
// end of a context. A ticker does not count.
func handWritten(f *ast.File) (found []ast.Node) {
	timers := map[string]bool{}
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			clear(timers)
		case *ast.AssignStmt:
			if len(n.Lhs) == 1 && calls(n.Rhs[0], "NewTimer") {
				if name, ok := n.Lhs[0].(*ast.Ident); ok {
					timers[name.Name] = true
				}
			}
		case *ast.CallExpr:
			if calls(n, "Sleep") {
				found = append(found, n)
			}
		case *ast.SelectStmt:
			timed, ended := 0, 0
			for _, c := range n.Body.List {
				switch x := received(c.(*ast.CommClause)).(type) {
				case *ast.CallExpr:
					if calls(x, "After") {
						timed++
					} else if s, ok := x.Fun.(*ast.SelectorExpr); ok && s.Sel.Name == "Done" {
						ended++
					}
				case *ast.SelectorExpr:
					if name, ok := x.X.(*ast.Ident); ok && x.Sel.Name == "C" && timers[name.Name] {
						timed++
					}
				}
			}
			if timed == 1 && ended == 1 && len(n.Body.List) == 2 {
				found = append(found, n)
			}
		}
		return true
	})
	return found
}

// calls reports whether e is a call of that function of package time.
func calls(e ast.Expr, function string) bool {
	c, ok := e.(*ast.CallExpr)
	if !ok {
		return false
	}
	s, ok := c.Fun.(*ast.SelectorExpr)
	if !ok || s.Sel.Name != function {
		return false
	}
	pkg, ok := s.X.(*ast.Ident)
	return ok && pkg.Name == "time"
}

// received is the channel from which a case of a select receives; nil if there is none.
func received(c *ast.CommClause) ast.Expr {
	s, ok := c.Comm.(*ast.ExprStmt)
	if !ok {
		return nil
	}
	u, ok := s.X.(*ast.UnaryExpr)
	if !ok {
		return nil
	}
	return u.X
}
