package durablestream_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"durablestream/internal/longtest"
)

// A program of another module, whose go.mod has the lines of README.md, builds and runs.
func TestLibraryFromAnotherModule(t *testing.T) {
	longtest.Only(t, "it builds a program of another module; nothing else in a short run does")
	t.Parallel()
	lines := regexp.MustCompile("(?s)```\n(require \\S+ v0\\.0\\.0\nreplace \\S+ => \\.\\./durable-stream\n)```").FindStringSubmatch(read(t, "README.md"))
	require.NotNil(t, lines, "README.md has no lines for a go.mod")
	here, err := os.Getwd()
	require.NoError(t, err)
	// The path of the clone is the one thing that differs: with a link in its place, Go would
	// compile all packages once more.
	goMod := "module example.org/agent\n\ngo 1.26.0\n\n" + strings.ReplaceAll(lines[1], "../durable-stream", here)

	dir := t.TempDir()
	for name, text := range map[string]string{"go.mod": goMod, "main.go": strings.ReplaceAll(agent, "MODULE", module)} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	for _, args := range [][]string{{"go", "mod", "tidy"}, {"go", "build", "-trimpath", "-o", "agent", "."}, {"./agent"}} {
		cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-mod=mod")
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s: %s", args, out)
		if args[0] == "./agent" {
			require.Equal(t, "task.created at 1\n", string(out))
		}
	}
	tidied := read(t, filepath.Join(dir, "go.mod"))
	for _, no := range nestedOnly {
		require.NotContains(t, tidied, no, "the user's go.mod carries it")
	}
}

const agent = `package main

import (
	"context"
	"fmt"
	"log"

	durablestream "MODULE"
	"MODULE/event"
)

func main() {
	ctx := context.Background()
	d, err := durablestream.Open(ctx, durablestream.Config{Dir: "log"})
	if err != nil {
		log.Fatal(err)
	}
	r, err := d.Append(ctx, event.Event{Type: "task.created", StreamID: "ses_1", Actor: "agent/planner"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(r.Type, "at", r.Seq)
}
`
