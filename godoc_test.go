package durablestream_test

import (
	"go/ast"
	"go/doc"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The index of the root package fits on a screen below its comment.
func TestGoDocIsOneScreen(t *testing.T) {
	t.Parallel()
	out, err := exec.Command("go", "doc", ".").CombinedOutput()
	require.NoError(t, err, "%s", out)
	_, index, found := strings.Cut(string(out), "\nconst ")
	require.True(t, found, "%s", out)
	require.LessOrEqual(t, strings.Count(index, "\n"), 40, "%s", index)
	require.LessOrEqual(t, strings.Count(string(out), "\n"), 120, "the comment of the package is a page")
}

var docLink = regexp.MustCompile(`\[([a-z][a-z0-9./-]*\.)?([A-Z]\w*(?:\.[A-Z]\w*)?)\]`)

// Each link of doc.go leads to something: go doc itself does not check that.
func TestDocLinks(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("doc.go")
	require.NoError(t, err)
	links := docLink.FindAllStringSubmatch(string(text), -1)
	require.Greater(t, len(links), 20)
	known := map[string]map[string]bool{}
	for _, link := range links {
		dir := strings.TrimSuffix(strings.TrimPrefix(link[1], module+"/"), ".")
		if known[dir] == nil {
			known[dir] = exported(t, filepath.Join(".", dir))
		}
		require.True(t, known[dir][link[2]], "doc.go: %s leads nowhere", link[0])
	}
}

// exported are the names that a package of dir exports, methods as Type.Method.
func exported(t *testing.T, dir string) map[string]bool {
	t.Helper()
	fset := token.NewFileSet()
	paths, err := filepath.Glob(filepath.Join(dir, "*.go"))
	require.NoError(t, err)
	var files []*ast.File
	for _, path := range paths {
		if !strings.HasSuffix(path, "_test.go") {
			f, err := parser.ParseFile(fset, path, nil, 0)
			require.NoError(t, err)
			files = append(files, f)
		}
	}
	pkg, err := doc.NewFromFiles(fset, files, module+"/"+dir)
	require.NoError(t, err)
	names := map[string]bool{}
	for _, f := range pkg.Funcs {
		names[f.Name] = true
	}
	for _, typ := range pkg.Types {
		names[typ.Name] = true
		for _, f := range typ.Funcs {
			names[f.Name] = true
		}
		for _, m := range typ.Methods {
			names[typ.Name+"."+m.Name] = true
		}
	}
	return names
}
