// Command modulepath gives this repository another module path: in each go.mod, in the
// imports, and in whatever else names a package by its path. The names that a log stores,
// such as durablestream.format, are not paths and stay; so does the name of the package.
//
//	go run ./modulepath .. example.com/x/dstream
//
// It works on the files that git would commit. It reads and rewrites all of them in memory
// before it writes the first one; the go.mod of the root, which holds the old path, is
// written last. After a crash in between, 'git checkout .' restores the files.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "modulepath: give the directory of the repository and the new path: make module-path NEW=example.com/x/dstream")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "modulepath:", err)
		os.Exit(1)
	}
}

func run(root, path string, out io.Writer) error {
	if err := valid(path); err != nil {
		return err
	}
	names, err := files(root)
	if err != nil {
		return err
	}
	old, err := modulePath(filepath.Join(root, "go.mod"))
	if err != nil {
		return err
	}
	if old == path {
		return fmt.Errorf("the module path is %s already", path)
	}
	r := newRewriter(old, path, names)
	changed := map[string][]byte{}
	var order []string
	for _, name := range names {
		was, err := read(filepath.Join(root, name))
		if err != nil {
			return err
		}
		is, err := r.file(name, was)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if !bytes.Equal(is, was) {
			changed[name] = is
			order = append(order, name)
		}
	}
	slices.SortStableFunc(order, func(a, b string) int { return last(a) - last(b) })
	for _, name := range order {
		if err := write(filepath.Join(root, name), changed[name]); err != nil {
			return fmt.Errorf("%w: 'git checkout .' restores what is changed so far", err)
		}
	}
	for _, name := range order {
		if filepath.Base(name) == "go.mod" {
			if err := format(filepath.Join(root, name)); err != nil {
				return err
			}
		}
	}
	_, err = fmt.Fprintf(out, "%s is now %s in %d files; 'make build lint' checks them\n", old, path, len(order))
	return err
}

// last sorts the root's go.mod behind all other files.
func last(name string) int {
	if name == "go.mod" {
		return 1
	}
	return 0
}

var element = regexp.MustCompile(`^[A-Za-z0-9_~-]([A-Za-z0-9._~-]*[A-Za-z0-9_~-])?$`)

// valid checks a module path by the rules of https://go.dev/ref/mod#go-mod-file-ident.
func valid(path string) error {
	if path == "" {
		return errors.New("no new path is given: make module-path NEW=example.com/x/dstream")
	}
	for e := range strings.SplitSeq(path, "/") {
		if !element.MatchString(e) {
			return fmt.Errorf("%q is not a module path: %q must be letters, digits and '-._~' without a dot at either end, as in example.com/x/dstream", path, e)
		}
	}
	return nil
}

// files are the files that git has or would add, relative to root. Left out are checksums,
// and this program, whose tests speak of paths like the one that it replaces.
func files(root string) ([]string, error) {
	cmd := exec.Command("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--deduplicate")
	cmd.Dir = root
	var words bytes.Buffer
	cmd.Stderr = &words
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("list the files of %s with git: %w: %s", root, err, &words)
	}
	var all []string
	for name := range strings.SplitSeq(strings.TrimRight(string(out), "\x00"), "\x00") {
		if filepath.Base(name) != "go.sum" && !strings.HasPrefix(name, "tools/modulepath/") {
			all = append(all, name)
		}
	}
	return all, nil
}

var moduleLine = regexp.MustCompile(`(?m)^module\s+(\S+)\s*$`)

func modulePath(goMod string) (string, error) {
	text, err := os.ReadFile(goMod)
	if err != nil {
		return "", err
	}
	m := moduleLine.FindSubmatch(text)
	if m == nil {
		return "", fmt.Errorf("%s has no module line", goMod)
	}
	return string(m[1]), nil
}

// read reads a file. What git lists and is no regular file here, as a link or a file that
// was deleted, reads as empty.
func read(path string) ([]byte, error) {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) || err == nil && !info.Mode().IsRegular() {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return os.ReadFile(path)
}

// write keeps the file's mode.
func write(path string, text []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Close())
}

// format sorts the requirements of a go.mod, as 'go mod tidy' would.
func format(path string) error {
	out, err := exec.Command("go", "mod", "edit", "-fmt", path).CombinedOutput()
	if err != nil {
		return fmt.Errorf("go mod edit -fmt %s: %w: %s", path, err, out)
	}
	return nil
}
