package durablestream_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func fileCycles(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("go", append([]string{"run", "tools/filecycles/main.go"}, args...)...).CombinedOutput()
	require.NoError(t, err, "%s", out)
	return string(out)
}

// The program that counts files in cycles counts them: through a function, a method and
// a field, and neither what stands alone nor what only uses or is only used.
func TestFileCyclesAreCounted(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":       "module example\n\ngo 1.26\n",
		"func.go":      "package example\n\nfunc f() { t{}.m() }\n",
		"method.go":    "package example\n\nfunc (x t) m() { x.n = 1 }\n",
		"field.go":     "package example\n\ntype t struct{ n int }\n\nvar _ = f\n",
		"uses.go":      "package example\n\nvar _ = f\n\nvar _ = used\n",
		"used.go":      "package example\n\nvar used int\n",
		"alone.go":     "package example\n\nimport \"fmt\"\n\nvar _ = fmt.Sprint\n",
		"none_test.go": "package example\n\nvar _ = used\n",
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	require.Equal(t, "example: 3 of 6 files in cycles\n\t3: field.go func.go method.go\n", fileCycles(t, "-v", "-root", dir, "."))
}

// The files of a subcommand know the files that open, print and end, and no other
// subcommand's: so each can be read, changed and moved by itself.
func TestSubcommandsDoNotKnowEachOther(t *testing.T) {
	t.Parallel()
	shared := []string{"open.go", "print.go", "exit.go", "monitor.go", "build.go"}
	refs := 0
	for line := range strings.Lines(fileCycles(t, "-refs", "./cmd/dstream")) {
		from, to, ok := strings.Cut(strings.TrimSpace(line), " -> ")
		if !ok {
			require.Contains(t, line, ": 0 of ", "no file of the command is in a cycle")
			continue
		}
		refs++
		require.True(t, from == "main.go" || slices.Contains(shared, to), "%s uses %s", from, to)
	}
	require.NotZero(t, refs)
}
