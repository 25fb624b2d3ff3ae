package durablestream_test

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(text)
}

// What a stranger looks for first is there, and says what it has to.
func TestProjectFiles(t *testing.T) {
	t.Parallel()
	licence := read(t, "LICENSE")
	require.Contains(t, licence, "Apache License\n                           Version 2.0, January 2004")
	require.Contains(t, licence, "END OF TERMS AND CONDITIONS")
	require.Contains(t, licence, "Copyright 2026 The Durable Stream Authors")
	require.NotContains(t, licence, "[name of copyright owner]")

	workflow := read(t, ".github/workflows/ci.yml")
	require.Regexp(t, `(?m)^      - run: \.ci/run$`, workflow)
	require.Contains(t, workflow, "go-version-file: go.mod")
	ci, err := os.Stat(".ci/run")
	require.NoError(t, err)
	require.NotZero(t, ci.Mode()&0o100, ".ci/run is executable")

	// A host or an address in SECURITY.md would have to exist.
	require.NotRegexp(t, `[\w.]+@[\w.]+|https?://`, read(t, "SECURITY.md"))
}

// Nothing that a build makes is in the repository.
func TestNoProgramIsCommitted(t *testing.T) {
	t.Parallel()
	out, err := exec.CommandContext(t.Context(), "git", "ls-files", "-z").Output()
	if err != nil {
		t.Skip("these files are not under git: ", err)
	}
	for name := range strings.SplitSeq(strings.TrimRight(string(out), "\x00"), "\x00") {
		info, err := os.Lstat(name)
		if err != nil || !info.Mode().IsRegular() {
			continue // deleted, and not committed yet
		}
		require.Less(t, info.Size(), int64(2<<20), "%s: a program? 'git rm --cached' takes it out", name)
	}
}

// The links, make targets and directories that these documents name exist.
func TestProjectFilesNameWhatExists(t *testing.T) {
	t.Parallel()
	makefile := read(t, "Makefile")
	for _, doc := range []string{"README.md", "CONTRIBUTING.md", "SECURITY.md"} {
		text := read(t, doc)
		for _, bad := range misnamed(text, makefile) {
			t.Errorf("%s names %s, which does not exist", doc, bad)
		}
	}
	require.Equal(t, []string{"docs/nothing.md", "docs/roles.md#x", "make nonsense", "nowhere/"},
		misnamed("see [it](docs/nothing.md), [x](docs/roles.md#x), `make nonsense` and `nowhere/`, [this](docs/roles.md#what-is-left), `make test` and `client/`", makefile))
}

var (
	link   = regexp.MustCompile(`\]\(([^)#:]+)(?:#([^)]*))?\)`)
	target = regexp.MustCompile("(?m)(?:`|^)make ([a-z-]+)")
	folder = regexp.MustCompile("`([a-z][a-z/]*/)`")
)

// No comment and no document points to a text outside the repository: a reader cannot look
// it up there.
func TestNothingPointsOutside(t *testing.T) {
	t.Parallel()
	out, err := exec.Command("git", "ls-files", "-z").Output()
	if err != nil {
		t.Skip("this is no git work tree: ", err)
	}
	for path := range strings.SplitSeq(strings.TrimSuffix(string(out), "\x00"), "\x00") {
		if strings.HasSuffix(path, "-lock.json") || strings.HasSuffix(path, ".sum") || strings.Contains(path, "testdata/") || path == "project_test.go" {
			continue
		}
		text, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) || !utf8.Valid(text) { // removed but not committed; a picture
			continue
		}
		require.NoError(t, err)
		for _, m := range pointsOutside(string(text)) {
			t.Errorf("%s points to %q", path, m)
		}
	}
	for _, bad := range []string{"(ENGINE-FACTS)", "the fifth point of the issue", "as issue 12 says", "see STYLE.md", "in DESIGN.md", "run /work/t1/x.sh"} {
		require.NotEmpty(t, pointsOutside("a line\n"+bad+"\nand another"), bad)
	}
	require.Empty(t, pointsOutside("see docs/design.md, open an issue, docs/performance.md"))
}

// pointsOutside finds what outside matches, in the lines that have a part of it: the
// expression itself takes seconds for all of the repository.
func pointsOutside(text string) (found []string) {
	for _, part := range []string{"FACTS", "ssue", "STYLE.md", "DESIGN.md", "HOUSE-MOVES", "/work/"} {
		if !strings.Contains(text, part) {
			continue
		}
		for line := range strings.Lines(text) {
			if strings.Contains(line, part) {
				found = append(found, outside.FindAllString(line, -1)...)
			}
		}
	}
	return found
}

var outside = regexp.MustCompile(`[A-Z]+-FACTS|\b[Tt]h(?:e|is) issue\b|\b[Ii]ssue \d+|\bSTYLE\.md|\bDESIGN\.md|HOUSE-MOVES|/work/(?:shared|main|t\d)`)

func misnamed(text, makefile string) []string {
	var bad []string
	for _, m := range link.FindAllStringSubmatch(text, -1) {
		text, err := os.ReadFile(m[1])
		if info, _ := os.Stat(m[1]); err != nil && (info == nil || !info.IsDir()) {
			bad = append(bad, m[1])
		} else if m[2] != "" && !slices.Contains(anchors(string(text)), m[2]) {
			bad = append(bad, m[1]+"#"+m[2])
		}
	}
	for _, m := range target.FindAllStringSubmatch(text, -1) {
		if !strings.Contains(makefile, "\n"+m[1]+":") {
			bad = append(bad, "make "+m[1])
		}
	}
	for _, m := range folder.FindAllStringSubmatch(text, -1) {
		if _, err := os.Stat(filepath.FromSlash(m[1])); err != nil {
			bad = append(bad, m[1])
		}
	}
	return bad
}

var heading = regexp.MustCompile(`(?m)^#+ (.*)$`)

// anchors are the names that GitHub gives to the headings of a document.
func anchors(text string) []string {
	var all []string
	for _, m := range heading.FindAllStringSubmatch(text, -1) {
		name := strings.ReplaceAll(strings.ToLower(m[1]), " ", "-")
		all = append(all, regexp.MustCompile(`[^\p{L}\p{N}_-]`).ReplaceAllString(name, ""))
	}
	return all
}
