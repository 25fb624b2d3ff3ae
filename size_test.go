package durablestream_test

import (
	"bytes"
	"go/build"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// No package outside internal has more than 3,500 lines, tests aside.
func TestPackagesAreNoLargerThanARoom(t *testing.T) {
	t.Parallel()
	const most = 3500
	counted := 0
	for line := range strings.SplitSeq(strings.TrimSpace(goTool(t, "list", "-f", "{{.ImportPath}}\t{{.Dir}}", "./...")), "\n") {
		path, dir, _ := strings.Cut(line, "\t")
		if strings.Contains(path+"/", "/internal/") {
			continue
		}
		counted++
		p, err := build.ImportDir(dir, 0)
		if none := (*build.NoGoError)(nil); err != nil {
			require.ErrorAs(t, err, &none) // a directory of tests alone
		}
		lines := 0
		for _, name := range append(p.GoFiles, p.IgnoredGoFiles...) {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			text, err := os.ReadFile(filepath.Join(dir, name))
			require.NoError(t, err)
			lines += bytes.Count(text, []byte("\n"))
		}
		require.LessOrEqual(t, lines, most, "%s: move a part of it to a package of its own", path)
	}
	require.GreaterOrEqual(t, counted, len(public), "it counts the public packages")
}
