package longtest_test

import (
	"bytes"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/printer"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write the table of docs/testing.md")

const (
	root = "../.."
	doc  = root + "/docs/testing.md"

	begin = "<!-- go test ./internal/longtest -update writes this table -->\n"
	end   = "<!-- end of the table -->\n"
)

// row is one call of this package: a test that is shorter in a short run, or left out.
type row struct {
	dir, fn     string
	short, long string // of Pick, as the code says it
	why         string // of Only
}

func (r row) String() string {
	if r.why != "" {
		return fmt.Sprintf("| `%s` | `%s` | left out: %s | yes |\n", r.dir, r.fn, r.why)
	}
	return fmt.Sprintf("| `%s` | `%s` | `%s` | `%s` |\n", r.dir, r.fn, r.short, r.long)
}

// table lists the calls in every test file below dir, and the places that ask
// testing.Short themselves.
func table(t *testing.T, dir string) (rows []row, stray []string) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "node_modules" || d.Name() == ".git" || d.Name() == "bin"):
			return fs.SkipDir
		case !strings.HasSuffix(path, ".go") || filepath.Dir(path) == filepath.Join(dir, "internal/longtest"):
			return nil
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, path, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		for _, decl := range file.Decls {
			name := "var"
			if fn, ok := decl.(*ast.FuncDecl); ok {
				name = fn.Name.Name
			}
			rel, err := filepath.Rel(dir, filepath.Dir(path))
			require.NoError(t, err)
			ast.Inspect(decl, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok {
					return true
				}
				switch called := source(t, set, call.Fun); called {
				case "testing.Short":
					stray = append(stray, path)
				case "longtest.Pick", "longtest.Only":
					r := row{dir: filepath.ToSlash(rel), fn: name}
					require.Len(t, call.Args, 2, path)
					if called == "longtest.Pick" {
						r.short, r.long = source(t, set, call.Args[0]), source(t, set, call.Args[1])
					} else {
						r.why, err = strconv.Unquote(source(t, set, call.Args[1]))
						require.NoError(t, err, "%s: the reason is one string", path)
					}
					rows = append(rows, r)
				}
				return true
			})
		}
		return nil
	}))
	slices.SortStableFunc(rows, func(a, b row) int { return strings.Compare(a.dir+"\t"+a.fn, b.dir+"\t"+b.fn) })
	return rows, stray
}

func source(t *testing.T, set *token.FileSet, n ast.Node) string {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, printer.Fprint(&b, set, n))
	return b.String()
}

// What a short run leaves out is what docs/testing.md says, and nothing decides it but
// this package.
func TestDocumentSaysWhatRunsWhere(t *testing.T) {
	t.Parallel()
	rows, stray := table(t, root)
	require.Empty(t, stray, "use longtest.Pick or longtest.Only")
	require.NotEmpty(t, rows)
	want := begin + "\n| package | test | `make test` | `make test-all` |\n|---|---|---|---|\n"
	for _, r := range rows {
		want += r.String()
	}
	want += "\n" + end

	text, err := os.ReadFile(doc)
	require.NoError(t, err)
	before, rest, ok := strings.Cut(string(text), begin)
	require.True(t, ok, "the table's beginning")
	_, after, ok := strings.Cut(rest, end)
	require.True(t, ok, "the table's end")
	if *update {
		require.NoError(t, os.WriteFile(doc, []byte(before+want+after), 0o644))
		return
	}
	require.Equal(t, want, begin+strings.TrimSuffix(strings.TrimPrefix(string(text), before+begin), after), "go test ./internal/longtest -update")
}

// The check sees what it looks for.
func TestTableSeesCalls(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "a_test.go"), []byte(`package a

func TestA(t *testing.T) {
	t.Run("sub", func(t *testing.T) { longtest.Only(t, "takes an hour") })
}

func helper() int { return longtest.Pick(3, 200) }

func TestB(t *testing.T) {
	if testing.Short() {
		t.Skip()
	}
}
`), 0o600))
	rows, stray := table(t, dir)
	require.Equal(t, []row{{dir: ".", fn: "TestA", why: "takes an hour"}, {dir: ".", fn: "helper", short: "3", long: "200"}}, rows)
	require.Equal(t, []string{filepath.Join(dir, "a_test.go")}, stray)
}

// make test-all runs every package without -short, and each of the long runs; .ci/run
// calls it. Neither picks tests by name.
func TestAllIsAll(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(root + "/Makefile")
	require.NoError(t, err)
	require.Contains(t, recipe(string(text), "test"), "$(GO) test $(RACE) -short ")
	all := recipe(string(text), "test-all")
	require.Contains(t, all, "$(GO) test $(RACE) ")
	require.NotContains(t, all, "-short")
	for _, name := range []string{"test", "test-all"} {
		require.Contains(t, recipe(string(text), name), " ./...")
		require.Contains(t, recipe(string(text), name), "for m in $(NESTED)")
		require.NotRegexp(t, "-run|-skip", recipe(string(text), name))
	}
	for _, name := range []string{"sdk-test", "plugin-test", "e2e", "kill", "races", "faults", "upgrade", "test-plain"} {
		require.NotEmpty(t, recipe(string(text), name), name)
		require.Contains(t, all, "$(MAKE) "+name, name)
	}
	ci, err := os.ReadFile(root + "/.ci/run")
	require.NoError(t, err)
	require.Contains(t, string(ci), "\nmake test-all\n")
}

// recipe is the lines of a target of a Makefile.
func recipe(makefile, target string) string {
	_, after, ok := strings.Cut(makefile, "\n"+target+":")
	if !ok {
		return ""
	}
	_, lines, _ := strings.Cut(after, "\n")
	var out strings.Builder
	for line := range strings.Lines(lines) {
		if !strings.HasPrefix(line, "\t") {
			break
		}
		out.WriteString(line)
	}
	return out.String()
}
