package durablestream_test

import (
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// public are the packages that others may import.
var public = []string{"", "event", "client", "projection", "mirror", "broker"}

// A program that imports the public packages can name every type that it meets there:
// none of them is internal.
func TestPublicAPINamesNoInternalType(t *testing.T) {
	t.Parallel()
	module := strings.TrimSpace(goTool(t, "list", "-m"))
	load := packageLoader(t)
	var found []string
	for _, name := range public {
		pkg, err := load.Import(strings.TrimSuffix(module+"/"+name, "/"))
		require.NoError(t, err)
		w := apiWalk{internal: module + "/internal/", seen: map[types.Type]bool{}}
		for _, n := range pkg.Scope().Names() {
			if o := pkg.Scope().Lookup(n); o.Exported() {
				w.object(pkg.Name()+"."+n, o)
			}
		}
		found = append(found, w.found...)
	}
	require.Empty(t, found, "types of internal packages in the API of the public ones")
}

// The errors of the packages that every public one is built on have public names: a
// program can tell them apart.
func TestErrorTypesArePublic(t *testing.T) {
	t.Parallel()
	module := strings.TrimSpace(goTool(t, "list", "-m"))
	load := packageLoader(t)
	failure := types.Universe.Lookup("error").Type().Underlying().(*types.Interface)
	var found []string
	for _, name := range []string{"wire", "logio", "dial"} {
		pkg, err := load.Import(module + "/internal/" + name)
		require.NoError(t, err)
		for _, n := range pkg.Scope().Names() {
			o, ok := pkg.Scope().Lookup(n).(*types.TypeName)
			if !ok || !o.Exported() || !types.Implements(types.NewPointer(o.Type()), failure) {
				continue
			}
			if of, ok := types.Unalias(o.Type()).(*types.Named); ok && strings.HasPrefix(of.Obj().Pkg().Path(), module+"/internal/") {
				found = append(found, name+"."+n)
			}
		}
	}
	require.Equal(t, []string{"wire.DecodeError"}, found, "readers set such a message aside; every other error reaches a program, and needs a public name")
}

// No comment of an exported declaration of a public package names an identifier of an internal one.
func TestPublicDocsNameNothingInternal(t *testing.T) {
	t.Parallel()
	entries, err := os.ReadDir("internal")
	require.NoError(t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	var found []string
	named := regexp.MustCompile(`\b(` + strings.Join(names, "|") + `)\.[A-Z]\w*`)
	for _, dir := range public {
		files, err := filepath.Glob(filepath.Join(".", dir, "*.go"))
		require.NoError(t, err)
		for _, path := range files {
			if strings.HasSuffix(path, "_test.go") {
				continue
			}
			f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
			require.NoError(t, err)
			for _, doc := range exportedDocs(f) {
				if named.MatchString(doc) {
					found = append(found, path+": "+doc)
				}
			}
		}
	}
	require.Empty(t, found, "identifiers of internal packages in comments of public ones")
}

// exportedDocs are the comments that go doc prints.
func exportedDocs(f *ast.File) (docs []string) {
	add := func(groups ...*ast.CommentGroup) {
		for _, g := range groups {
			if g != nil {
				docs = append(docs, g.Text())
			}
		}
	}
	add(f.Doc)
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			if n.Name.IsExported() {
				add(n.Doc)
			}
			return false
		case *ast.GenDecl:
			if n.Lparen.IsValid() || exports(n.Specs[0]) {
				add(n.Doc)
			}
		case *ast.TypeSpec:
			add(n.Doc, n.Comment)
			return n.Name.IsExported()
		case *ast.ValueSpec:
			if n.Names[0].IsExported() {
				add(n.Doc, n.Comment)
			}
			return false
		case *ast.Field:
			if len(n.Names) == 0 || n.Names[0].IsExported() {
				add(n.Doc, n.Comment)
			}
		}
		return true
	})
	return docs
}

func exports(s ast.Spec) bool {
	switch s := s.(type) {
	case *ast.TypeSpec:
		return s.Name.IsExported()
	case *ast.ValueSpec:
		return s.Names[0].IsExported()
	}
	return false
}

// packageLoader reads packages as the compiler left them in its cache.
func packageLoader(t *testing.T) types.Importer {
	t.Helper()
	args := []string{"list", "-export", "-deps", "-f", "{{.ImportPath}}={{.Export}}"}
	for _, name := range public {
		args = append(args, "./"+name)
	}
	exports := map[string]string{}
	for line := range strings.FieldsSeq(goTool(t, args...)) {
		path, file, _ := strings.Cut(line, "=")
		exports[path] = file
	}
	return importer.ForCompiler(token.NewFileSet(), "gc", func(path string) (io.ReadCloser, error) {
		if exports[path] == "" {
			return nil, fmt.Errorf("no export data of %s", path)
		}
		return os.Open(exports[path])
	})
}

func goTool(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.Command("go", args...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, stderr.String())
	return string(out)
}

// apiWalk goes through what a program can reach from exported declarations.
type apiWalk struct {
	internal string
	seen     map[types.Type]bool
	found    []string
}

func (w *apiWalk) object(at string, o types.Object) {
	w.visit(at, o.Type())
	if name, ok := o.(*types.TypeName); ok {
		w.visit(at, types.Unalias(name.Type()))
		w.visit(at, name.Type().Underlying())
		if named, ok := types.Unalias(name.Type()).(*types.Named); ok {
			for m := range named.Methods() {
				if m.Exported() {
					w.visit(at+"."+m.Name(), m.Signature())
				}
			}
		}
	}
}

func (w *apiWalk) visit(at string, t types.Type) {
	switch t := t.(type) {
	case *types.Alias:
		w.visit(at, types.Unalias(t))
	case *types.Named:
		if p := t.Obj().Pkg(); p != nil && strings.HasPrefix(p.Path()+"/", w.internal) {
			if s := at + ": " + p.Path() + "." + t.Obj().Name(); !slices.Contains(w.found, s) {
				w.found = append(w.found, s)
			}
			return
		}
		for a := range t.TypeArgs().Types() {
			w.visit(at, a)
		}
	case *types.Pointer:
		w.visit(at, t.Elem())
	case *types.Slice:
		w.visit(at, t.Elem())
	case *types.Array:
		w.visit(at, t.Elem())
	case *types.Chan:
		w.visit(at, t.Elem())
	case *types.Map:
		w.visit(at, t.Key())
		w.visit(at, t.Elem())
	case *types.Signature:
		for v := range t.Params().Variables() {
			w.visit(at, v.Type())
		}
		for v := range t.Results().Variables() {
			w.visit(at, v.Type())
		}
	case *types.Struct:
		for f := range t.Fields() {
			if f.Exported() {
				w.visit(at+"."+f.Name(), f.Type())
			}
		}
	case *types.Interface:
		for m := range t.Methods() {
			if m.Exported() {
				w.visit(at+"."+m.Name(), m.Signature())
			}
		}
		for e := range t.EmbeddedTypes() {
			w.visit(at, e)
		}
	case *types.Tuple:
		for v := range t.Variables() {
			w.visit(at, v.Type())
		}
	}
}
