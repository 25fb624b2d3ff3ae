package durablestream_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// rewrite is set by `make readme`: what a document shows is replaced by what is printed.
var rewrite = os.Getenv("DSTREAM_README_WRITE") != ""

// otherwise are the commands of README that are not typed as they are printed.
var otherwise = map[string]string{
	// Run from the repository once for all documents, with another name for its output.
	"make build": "echo 'CGO_ENABLED=0 go build -trimpath -o bin/dstream ./cmd/dstream'",
	// The program was built outside the repository, and is on the PATH already.
	`export PATH="$PWD/bin:$PATH"`: "true",
	// The file is one that the reader has.
	"dstream import old/.opencode/durable_stream.jsonl": `mkdir -p old/.opencode && cp "$REPOSITORY/internal/legacy/testdata/durable_stream.jsonl" old/.opencode/ &&
		dstream import old/.opencode/durable_stream.jsonl`,
}

// programDir is removed when all tests have ended.
var programDir string

// program is the program, as README's first command builds it.
var program = sync.OnceValues(func() (_ string, err error) {
	if programDir, err = os.MkdirTemp("", "dstream-bin-*"); err != nil {
		return "", err
	}
	bin := filepath.Join(programDir, "dstream")
	out, err := exec.Command("make", "--no-print-directory", "build", "BIN="+bin).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("make build: %w\n%s", err, out)
	}
	printed := strings.TrimSpace(string(out))
	if !strings.HasPrefix(printed, "CGO_ENABLED=0 ") || !strings.HasSuffix(printed, " build -trimpath -o "+bin+" ./cmd/dstream") {
		return "", fmt.Errorf("make build does not print what README shows: %s", printed)
	}
	return bin, nil
})

// Every command of README runs in order, from an empty directory, as it is printed, and
// prints what README shows.
func TestReadme(t *testing.T) {
	t.Parallel()
	follow(t, "README.md", 20)
}

// The same for the blocks of docs that need nothing but one host.
func TestDocuments(t *testing.T) {
	t.Parallel()
	for path, atLeast := range map[string]int{"docs/roles.md": 7, "docs/operations.md": 3} {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			follow(t, path, atLeast)
		})
	}
}

// follow carries out the commands of a document, which has at least so many, and fails
// where one does not print what the document shows.
func follow(t *testing.T, path string, atLeast int) {
	t.Helper()
	text := read(t, path)
	all := steps(text)
	require.GreaterOrEqual(t, len(all), atLeast, "%s has lost its commands", path)
	wrong, printed := carryOut(t, all)
	if rewrite && wrong == "" {
		require.NoError(t, os.WriteFile(path, []byte(withOutput(text, all, printed)), 0o644))
		return
	}
	if wrong != "" {
		t.Fatalf("%s: %s\n'make readme' puts what is printed into the document", path, wrong)
	}
}

// carryOut carries out steps at a desk of their own, up to the first that does not print what
// it shows; with rewrite all of them. It returns how that one differs, and what was printed.
func carryOut(t *testing.T, all []step) (wrong string, printed [][]string) {
	t.Helper()
	if _, err := exec.LookPath("bash"); err != nil {
		t.Skip("the commands of the documents are bash's: ", err)
	}
	bin, err := program()
	require.NoError(t, err)
	d := newDesk(t, bin)
	for _, s := range all {
		if instead, ok := otherwise[s.command]; ok {
			s.command = instead
		}
		out, err := d.do(s)
		for late := time.Now().Add(patience); follows(s.command) && d.means.differ(s, out) != "" && time.Now().Before(late) && !rewrite; {
			out, err = d.do(s)
		}
		if err != nil {
			return fmt.Sprintf("line %d, %q: %s\n  printed: %s", s.line, s.command, err, strings.Join(out, "\n")), printed
		}
		if rewrite {
			out = d.means.rewritten(s, out)
		} else if diff := d.means.differ(s, out); diff != "" {
			return diff, printed
		}
		printed = append(printed, out)
	}
	return "", printed
}

// follows reports whether a command reads what follows the log a moment later: the mirror's
// file, or how far the host has come. A command that runs sooner than that is repeated.
func follows(command string) bool {
	return strings.HasPrefix(command, "cat .opencode/") || command == "dstream mirror verify" || command == "dstream status"
}

// withOutput is the document with what each step printed in place of what it shows.
func withOutput(document string, all []step, printed [][]string) string {
	lines := strings.Split(document, "\n")
	for i, s := range slices.Backward(all) {
		from := s.line - 1
		if s.command != "" {
			from += 1 + strings.Count(s.command, "\n")
		}
		lines = slices.Replace(lines, from, from+len(s.shown), printed[i]...)
	}
	return strings.Join(lines, "\n")
}

// The comparison finds what is wrong, and lets pass what differs from run to run.
func TestReadmeCanFail(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, command, shown, wrong string }{
		{"right", `dstream query --last 1`, `dstream: there is no log in /home/dev/project/.opencode; 'dstream serve' makes one, and --dir names another directory`, ""},
		{"a word of the output", `dstream query`, `dstream: there is one log in /home/dev/project/.opencode`, "shows:   dstream: there is one log"},
		{"a flag of another name", `dstream query --newest 1`, `dstream: there is no log in /home/dev/project/.opencode; 'dstream serve' makes one, and --dir names another directory`, "unknown flag: --newest"},
		{"a line too many", "echo a", "a\nb", "shows, but nothing was printed"},
		{"a line too few", `printf 'a\nb\n'`, "a", "printed, but not shown: b"},
		{"an id", "echo 01a22df0-581c-7184-ac75-e639570bc3bd", "01a20437-c3b1-7665-a231-78c4a4e36415", ""},
		{"two ids for one", "echo 01a22df0-581c-7184-ac75-e639570bc3bd 01a22df0-581a-7218-93d4-68de4301b1bb",
			"01a20437-c3b1-7665-a231-78c4a4e36415 01a20437-c3b1-7665-a231-78c4a4e36415", "line 2"},
		{"no id", "echo none", "01a20437-c3b1-7665-a231-78c4a4e36415", "printed: none"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			wrong, _ := carryOut(t, steps("```console\n$ "+c.command+"\n"+c.shown+"\n```"))
			if c.wrong == "" {
				require.Empty(t, wrong)
			} else {
				require.Contains(t, wrong, c.wrong)
			}
		})
	}
}

// The program of "In Go" is ExampleGet's, which is run with its output; TypeScript's is the
// start of the SDK's own test.
func TestReadmeShowsWhatIsTested(t *testing.T) {
	t.Parallel()
	squeeze := func(s string) string { return strings.Join(strings.Fields(s), " ") }
	text := read(t, "README.md")
	for language, source := range map[string]string{"go": "example_readme_test.go", "ts": "sdk/typescript/test/quickstart.ts"} {
		_, block, found := strings.Cut(text, "\n```"+language+"\n")
		require.True(t, found, "README has a block of %s", language)
		block, _, _ = strings.Cut(block, "\n```")
		require.Contains(t, squeeze(read(t, source)), squeeze(block), "the block of %s is not in %s", language, source)
	}
}
