package durablestream_test

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"durablestream/internal/longtest"
)

const otherPath = "example.com/x/dstream"

// A copy of this repository gets another path with one command. It builds, offline, with
// no trace of the old path; the names that a log stores are the same, and programs of both
// paths continue one log; and the way back gives the files that were there.
func TestModulePath(t *testing.T) {
	longtest.Only(t, "it compiles every package under another path; tools/modulepath tests what is replaced and what is not")
	t.Parallel()
	root := copyTop(t)
	before := contents(t, root)
	require.NotEmpty(t, traces(before), "the check finds the path where it is")
	offline(t, root, "make", "module-path", "NEW="+otherPath)
	after := contents(t, root)
	require.Empty(t, traces(after), "the old path is left")
	sameStrings(t, before, after)
	for name := range before {
		if strings.HasPrefix(name, "docs/vectors/") || strings.Contains(name, "testdata/") {
			require.Equal(t, before[name], after[name], "%s is stored data", name)
		}
	}

	for name := range after {
		if dir, is := strings.CutSuffix(name, "go.mod"); is && dir != "tools/" { // tools needs the linter's modules
			offline(t, filepath.Join(root, dir), "go", "list", "-deps", "-test", "./...")
		}
	}
	bin := t.TempDir()
	offline(t, root, "go", "build", "-trimpath", "-o", bin+"/after/", "./...")
	offline(t, ".", "go", "build", "-trimpath", "-o", bin+"/before/", "./cmd/dstream")
	sameLog(t, bin+"/before/dstream", bin+"/after/dstream")

	offline(t, root, "make", "module-path", "NEW="+module)
	for name, text := range contents(t, root) {
		require.Equal(t, before[name], text, "%s is not what it was", name)
	}
}

// offline runs a program with the build cache that 'make build' fills, and without a network.
func offline(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOPROXY=off", "DSTREAM_DIR=", "GIT_CONFIG_GLOBAL=/dev/null")
	var words bytes.Buffer
	cmd.Stderr = &words
	out, err := cmd.Output()
	require.NoError(t, err, "%s %s: %s%s", name, args, out, &words)
	return string(out)
}

// listed are the files that git has or would add.
func listed(t *testing.T, root string) []string {
	t.Helper()
	out := offline(t, root, "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--deduplicate")
	return strings.Split(strings.TrimRight(out, "\x00"), "\x00")
}

// copyTop copies the repository as git would commit it into an empty one.
func copyTop(t *testing.T) string {
	t.Helper()
	if err := exec.CommandContext(t.Context(), "git", "rev-parse", "--git-dir").Run(); err != nil {
		t.Skip("these files are not under git: ", err)
	}
	to := t.TempDir()
	for _, name := range listed(t, ".") {
		info, err := os.Lstat(name)
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		require.NoError(t, os.MkdirAll(filepath.Join(to, filepath.Dir(name)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(to, name), []byte(read(t, name)), info.Mode()))
	}
	offline(t, to, "git", "init", "-q")
	return to
}

// contents are the files of a copy, but for tools/modulepath, whose tests speak of paths
// like the one that it replaces.
func contents(t *testing.T, root string) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, name := range listed(t, root) {
		if !strings.HasPrefix(name, "tools/modulepath/") {
			all[name] = read(t, filepath.Join(root, name))
		}
	}
	return all
}

// traces finds the path of this module and of its packages, in whatever text.
func traces(all map[string]string) (found []string) {
	path := regexp.QuoteMeta(module)
	named := regexp.MustCompile(`(^|[^\w./-])` + path + `/(event|client|broker|mirror|projection|internal|cmd|bench|tools|deploy)\b|` +
		`(?m)^(import |\s+)?"` + path + `"$|^(module|require|replace|\s+)\s*` + path + `( v\S+| =>.*)?$`)
	for name, text := range all {
		if strings.Contains(text, "\x00") { // not a text
			continue
		}
		if at := named.FindString(text); at != "" {
			found = append(found, name+": "+at)
		}
	}
	return found
}

// sameStrings holds that no string of the program changed but paths of packages.
func sameStrings(t *testing.T, before, after map[string]string) {
	t.Helper()
	stored := map[string]bool{}
	for name := range before {
		if !strings.HasSuffix(name, ".go") {
			continue
		}
		was, is := literals(t, name, before[name]), literals(t, name, after[name])
		require.Len(t, is, len(was), name)
		for n := range was {
			if strings.HasPrefix(was[n], `"durablestream.`) && !strings.HasSuffix(name, "_test.go") {
				stored[was[n]] = true
			}
			if was[n] != is[n] {
				require.Equal(t, strings.ReplaceAll(was[n], module+"/", otherPath+"/"), is[n], "a string of %s", name)
			}
		}
	}
	require.Contains(t, stored, `"durablestream.format"`)
	require.GreaterOrEqual(t, len(stored), 4, "the stored names that were compared")
}

// literals are the strings of a Go file in their order, but for its imports.
func literals(t *testing.T, name, text string) []string {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), name, text, 0)
	require.NoError(t, err)
	var all []string
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.ImportSpec:
			return false
		case *ast.BasicLit:
			if n.Kind == token.STRING {
				all = append(all, n.Value)
			}
		}
		return true
	})
	return all
}

// sameLog holds that each program continues the log of the other.
func sameLog(t *testing.T, before, after string) {
	t.Helper()
	dir := t.TempDir()
	for n, program := range []string{before, after, before, after} {
		offline(t, dir, program, "--dir", dir, "append", "task.created", "--stream", "ses_1", "--actor", "agent/planner")
		require.Equal(t, n+1, strings.Count(offline(t, dir, program, "--dir", dir, "query"), "\n"), program)
	}
}
