// Command filecycles counts the files of a package that refer to each other in a cycle.
//
// A file refers to another one when it uses a name that the other declares: a function, a
// type, a method, a field. Files that can reach each other along such references form a
// cycle: none of them can be read, or moved to another package, without the others. The
// imports say nothing of this, since one package's files need none.
//
//	go run tools/filecycles/main.go ./client ./cmd/dstream
//
// The program prints for each package how many of its files are in cycles, and with -v
// which; with -refs it prints each reference. Test files do not count. With -root it reads the module in another directory.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
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
	"slices"
	"strings"
)

func main() {
	verbose := flag.Bool("v", false, "name the files of each cycle")
	edges := flag.Bool("refs", false, "print who refers to whom")
	root := flag.String("root", ".", "directory of the module")
	flag.Parse()
	if err := run(os.Stdout, *root, flag.Args(), *verbose, *edges); err != nil {
		fmt.Fprintln(os.Stderr, "filecycles:", err)
		os.Exit(1)
	}
}

// run reports on each package that the patterns name.
func run(w io.Writer, root string, patterns []string, verbose, edges bool) error {
	listed, err := list(root, patterns)
	if err != nil {
		return err
	}
	exports := map[string]string{} // by import path
	for _, p := range listed {
		exports[p.ImportPath] = p.Export
	}
	for _, p := range listed {
		if p.DepOnly {
			continue
		}
		refs, err := references(p, exports)
		if err != nil {
			return fmt.Errorf("%s: %w", p.ImportPath, err)
		}
		cycles := cyclesOf(refs)
		fmt.Fprintf(w, "%s: %d of %d files in cycles\n", p.ImportPath, len(slices.Concat(cycles...)), len(refs))
		for _, c := range cycles {
			if verbose {
				fmt.Fprintf(w, "\t%d: %s\n", len(c), strings.Join(c, " "))
			}
		}
		for _, from := range sorted(refs) {
			for _, to := range sorted(refs[from]) {
				if edges {
					fmt.Fprintf(w, "\t%s -> %s\n", from, to)
				}
			}
		}
	}
	return nil
}

// pkg is what go list says of a package.
type pkg struct {
	ImportPath string
	Dir        string
	Export     string // file with the types of what it exports
	GoFiles    []string
	DepOnly    bool // only imported by one that was asked for
}

func list(root string, patterns []string) ([]pkg, error) {
	cmd := exec.Command("go", append([]string{"list", "-export", "-deps", "-json=ImportPath,Dir,Export,GoFiles,DepOnly", "--"}, patterns...)...)
	cmd.Dir = root
	var words bytes.Buffer
	cmd.Stderr = &words
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w: %s", err, words.String())
	}
	var pkgs []pkg
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		switch err := d.Decode(&p); {
		case errors.Is(err, io.EOF):
			return pkgs, nil
		case err != nil:
			return nil, fmt.Errorf("go list: %w", err)
		}
		pkgs = append(pkgs, p)
	}
}

// graph holds for each file of a package the files that it refers to.
type graph map[string]map[string]bool

func references(p pkg, exports map[string]string) (graph, error) {
	fset := token.NewFileSet()
	var files []*ast.File
	refs := graph{}
	for _, name := range p.GoFiles {
		f, err := parser.ParseFile(fset, filepath.Join(p.Dir, name), nil, 0)
		if err != nil {
			return nil, err
		}
		files, refs[name] = append(files, f), map[string]bool{}
	}
	open := func(path string) (io.ReadCloser, error) { return os.Open(exports[path]) }
	conf := types.Config{Importer: importer.ForCompiler(fset, "gc", open)}
	info := &types.Info{Uses: map[*ast.Ident]types.Object{}}
	this, err := conf.Check(p.ImportPath, fset, files, info)
	if err != nil {
		return nil, err
	}
	fileOf := func(at token.Pos) string { return filepath.Base(fset.Position(at).Filename) }
	for use, object := range info.Uses {
		if object.Pkg() == this {
			if from, to := fileOf(use.Pos()), fileOf(object.Pos()); from != to {
				refs[from][to] = true
			}
		}
	}
	return refs, nil
}

// cyclesOf is the graph's strongly connected components of more than one file.
func cyclesOf(refs graph) [][]string {
	reach := map[string]map[string]bool{}
	for name := range refs {
		reach[name] = map[string]bool{}
		var visit func(string)
		visit = func(at string) {
			for to := range refs[at] {
				if !reach[name][to] {
					reach[name][to] = true
					visit(to)
				}
			}
		}
		visit(name)
	}
	var cycles [][]string
	done := map[string]bool{}
	for _, name := range sorted(refs) {
		if done[name] || !reach[name][name] {
			continue
		}
		var cycle []string
		for _, other := range sorted(refs) {
			if reach[name][other] && reach[other][name] {
				cycle, done[other] = append(cycle, other), true
			}
		}
		cycles = append(cycles, cycle)
	}
	return cycles
}

func sorted[V any](m map[string]V) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
