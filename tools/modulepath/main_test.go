package main

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const (
	top    = "../.."
	target = "example.com/x/dstream"
)

// command runs a program with the build cache that 'make build' fills, and without a network.
func command(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOPROXY=off", "DSTREAM_DIR=", "GIT_CONFIG_GLOBAL=/dev/null")
	var words bytes.Buffer
	cmd.Stderr = &words
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, out, &words)
	}
	return string(out)
}

// copyTop copies the repository as git would commit it into an empty one.
func copyTop(t *testing.T) string {
	t.Helper()
	names, err := files(top)
	if err != nil {
		t.Skip("the repository is not under git: ", err)
	}
	to := t.TempDir()
	names = append(names, "go.sum", "bench/go.sum", "deploy/containers/go.sum", "tools/modulepath/main.go", "tools/modulepath/rewrite.go")
	for _, name := range names {
		info, err := os.Lstat(filepath.Join(top, name))
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		text, err := os.ReadFile(filepath.Join(top, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Join(to, filepath.Dir(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(to, name), text, info.Mode()); err != nil {
			t.Fatal(err)
		}
	}
	command(t, to, "git", "init", "-q")
	return to
}

func contents(t *testing.T, root string) map[string]string {
	t.Helper()
	names, err := files(root)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, name := range names {
		text, err := read(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		all[name] = string(text)
	}
	return all
}

// A copy of this repository gets another path with one command. It builds, offline, with
// no trace of the old path; the names that a log stores are the same; and the way back
// gives the files that were there.
func TestModulePath(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the program twice")
	}
	t.Parallel()
	root := copyTop(t)
	old, err := modulePath(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	before := contents(t, root)
	if !trace(t, before, old) {
		t.Fatal("no trace of the path is found even before")
	}
	command(t, root, "make", "module-path", "NEW="+target)
	after := contents(t, root)
	if trace(t, after, old) {
		t.Error("the old path is left, see above")
	}
	sameStrings(t, before, after, old)
	for name := range before {
		if strings.HasPrefix(name, "docs/vectors/") || strings.Contains(name, "testdata/") {
			if before[name] != after[name] {
				t.Errorf("%s is stored data, and changed", name)
			}
		}
	}

	if t.Failed() {
		return
	}
	for name := range after {
		if dir, is := strings.CutSuffix(name, "go.mod"); is && dir != "tools/" { // tools needs the linter's modules
			command(t, filepath.Join(root, dir), "go", "list", "-deps", "-test", "./...")
		}
	}
	bin := t.TempDir()
	command(t, root, "go", "build", "-trimpath", "-o", bin+"/after/", "./...")
	command(t, top, "go", "build", "-trimpath", "-o", bin+"/before/", "./cmd/dstream")
	sameLog(t, bin+"/before/dstream", bin+"/after/dstream")

	if err := run(root, old, io.Discard); err != nil {
		t.Fatal(err)
	}
	if again := contents(t, root); !maps.Equal(before, again) {
		for name := range before {
			if before[name] != again[name] {
				t.Errorf("%s is not what it was", name)
			}
		}
	}
}

// trace finds a path of a package, in whatever text.
func trace(t *testing.T, all map[string]string, old string) bool {
	t.Helper()
	named := regexp.MustCompile(`(^|[^\w./-])` + regexp.QuoteMeta(old) + `/(event|client|broker|mirror|projection|internal|cmd|bench|tools|deploy)\b|` +
		`(?m)^(import |\s+)?"` + regexp.QuoteMeta(old) + `"$|^(module|require|replace|\s+)\s*` + regexp.QuoteMeta(old) + `( v\S+| =>.*)?$`)
	for name, text := range all {
		if at := named.FindString(text); at != "" {
			t.Logf("%s: %q", name, at)
			return true
		}
	}
	return false
}

// sameStrings holds that no string of the program changed but paths of packages.
func sameStrings(t *testing.T, before, after map[string]string, old string) {
	t.Helper()
	stored := 0
	for name := range before {
		if !strings.HasSuffix(name, ".go") || strings.HasPrefix(name, "tools/") {
			continue
		}
		was, is := literals(t, name, before[name]), literals(t, name, after[name])
		if len(was) != len(is) {
			t.Errorf("%s had %d strings, and has %d", name, len(was), len(is))
			continue
		}
		for n := range was {
			if strings.HasPrefix(was[n], `"`+old+".") {
				stored++
			}
			if was[n] != is[n] && is[n] != strings.ReplaceAll(was[n], old+"/", target+"/") {
				t.Errorf("%s: the string %s became %s", name, was[n], is[n])
			}
		}
	}
	if stored < 3 { // durablestream.format, .restoring, .damaged
		t.Errorf("%d stored names were compared", stored)
	}
}

// literals are the strings of a Go file in their order, but for its imports.
func literals(t *testing.T, name, text string) []string {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), name, text, 0)
	if err != nil {
		t.Fatal(err)
	}
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
		command(t, dir, program, "--dir", dir, "append", "task.created", "--stream", "ses_1", "--actor", "agent/planner")
		if got := strings.Count(command(t, dir, program, "--dir", dir, "query"), "\n"); got != n+1 {
			t.Fatalf("%s finds %d events of %d", program, got, n+1)
		}
	}
}

// What cannot be done changes nothing.
func TestRefusals(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("go.mod", "module durablestream\n\ngo 1.26.0\n")
	if err := run(root, "example.com/x", io.Discard); err == nil || !strings.Contains(err.Error(), "with git") {
		t.Errorf("outside a repository: %v", err)
	}
	command(t, root, "git", "init", "-q")
	for _, c := range [][2]string{{"", "no new path"}, {"a b", "is not a module path"}, {"durablestream", "already"}} {
		if err := run(root, c[0], io.Discard); err == nil || !strings.Contains(err.Error(), c[1]) {
			t.Errorf("%q: %v", c[0], err)
		}
	}
	if got, _ := os.ReadFile(filepath.Join(root, "go.mod")); !slices.Equal(got, []byte("module durablestream\n\ngo 1.26.0\n")) {
		t.Errorf("go.mod changed: %s", got)
	}
}
