package main

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

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
	if out, err := exec.CommandContext(t.Context(), "git", "init", "-q", root).CombinedOutput(); err != nil {
		t.Fatalf("git init: %v: %s", err, out)
	}
	for _, c := range [][2]string{{"", "no new path"}, {"a b", "is not a module path"}, {"durablestream", "already"}} {
		if err := run(root, c[0], io.Discard); err == nil || !strings.Contains(err.Error(), c[1]) {
			t.Errorf("%q: %v", c[0], err)
		}
	}
	if got, _ := os.ReadFile(filepath.Join(root, "go.mod")); string(got) != "module durablestream\n\ngo 1.26.0\n" {
		t.Errorf("go.mod changed: %s", got)
	}
}
