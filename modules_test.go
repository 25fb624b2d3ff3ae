package durablestream_test

import (
	"encoding/json"
	"io/fs"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// directly are the modules that this one may require directly, each with what needs it.
// Every program that imports durablestream has them in its go.mod, so what only a test of
// containers or a benchmark needs belongs into a nested module.
var directly = map[string]string{
	"github.com/nats-io/nats-server/v2":        "broker",
	"github.com/nats-io/nats.go":               "client",
	"github.com/nats-io/nkeys":                 "internal/roles",
	"github.com/google/uuid":                   "event",
	"github.com/gofrs/flock":                   "broker, internal/address, mirror",
	"github.com/klauspost/compress":            "internal/blocks: the engine's compression",
	"github.com/minio/highwayhash":             "internal/blocks: the engine's checksums",
	"github.com/santhosh-tekuri/jsonschema/v6": "client: the schema of an answer",
	"golang.org/x/sys":                         "files, locks and disks",
	"golang.org/x/term":                        "internal/console",
	"github.com/spf13/cobra":                   "cmd/dstream",
	"github.com/spf13/pflag":                   "cmd/dstream",
	"github.com/schollz/progressbar/v3":        "cmd/dstream",
	"github.com/prometheus/client_golang":      "internal/monitor",
	"github.com/prometheus/client_model":       "tests of internal/monitor",
	"github.com/prometheus/common":             "tests of internal/monitor",
	"github.com/creachadair/jrpc2":             "internal/rpc",
	"github.com/anishathalye/porcupine":        "tests: linearizability",
	"github.com/rogpeppe/go-internal":          "tests: scripts",
	"github.com/stretchr/testify":              "tests",
	"go.uber.org/goleak":                       "tests",
	"pgregory.net/rapid":                       "tests",
}

// nestedOnly are modules that the root's go.mod must not name at all.
var nestedOnly = []string{"github.com/moby/buildkit", "github.com/compose-spec/compose-go", "modernc.org/sqlite"}

// goMod is what a go.mod says.
type goMod struct {
	Module  struct{ Path string }
	Go      string
	Require []struct {
		Path, Version string
		Indirect      bool
	}
	Replace []struct{ Old, New struct{ Path string } }
}

func readGoMod(t *testing.T, dir string) goMod {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "mod", "edit", "-json", filepath.Join(dir, "go.mod")).Output()
	require.NoError(t, err)
	var m goMod
	require.NoError(t, json.Unmarshal(out, &m))
	return m
}

// nestedModules are the directories with a go.mod of their own.
func nestedModules(t *testing.T) []string {
	t.Helper()
	var all []string
	require.NoError(t, filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (path == "bin" || d.Name() == "node_modules" || path != "." && strings.HasPrefix(d.Name(), ".")):
			return fs.SkipDir
		case d.Name() == "go.mod" && path != "go.mod":
			all = append(all, filepath.ToSlash(filepath.Dir(path)))
		}
		return nil
	}))
	return all
}

func TestRootModuleCarriesOnlyWhatItNeeds(t *testing.T) {
	t.Parallel()
	have := map[string]bool{}
	for _, r := range readGoMod(t, ".").Require {
		for _, no := range nestedOnly {
			require.False(t, strings.HasPrefix(r.Path, no), "go.mod names %s: put what needs it into a nested module", r.Path)
		}
		if !r.Indirect {
			have[r.Path] = true
			require.Contains(t, directly, r.Path, "go.mod requires a module that is not in the list of this test")
		}
	}
	for path := range directly {
		require.True(t, have[path], "%s is in the list of this test, and go.mod does not require it", path)
	}
}

// A nested module is tested and linted like the rest, is built with this tree, and
// with the same versions: else the benchmark measures another engine than the program's.
func TestNestedModules(t *testing.T) {
	t.Parallel()
	root := readGoMod(t, ".")
	versions := map[string]string{}
	for _, r := range root.Require {
		versions[r.Path] = r.Version
	}
	all := nestedModules(t)
	require.Contains(t, all, "bench")
	for _, dir := range all {
		m := readGoMod(t, dir)
		require.Equal(t, root.Module.Path+"/"+dir, m.Module.Path)
		require.Equal(t, root.Go, m.Go, dir)
		if dir == "tools" { // pins programs; shares nothing with the root
			continue
		}
		for _, r := range m.Require {
			if want, ok := versions[r.Path]; ok {
				require.Equal(t, want, r.Version, "%s of %s, beside the root's", r.Path, dir)
			}
			if r.Path != root.Module.Path {
				continue
			}
			require.Len(t, m.Replace, 1, dir)
			require.Equal(t, root.Module.Path, m.Replace[0].Old.Path)
			require.Equal(t, filepath.Clean("."), filepath.Join(dir, m.Replace[0].New.Path), dir)
		}
		require.Contains(t, madeModules(t, "test"), dir, "make test leaves it out")
		require.Contains(t, madeModules(t, "lint"), dir, "make lint leaves it out")
	}
}

// madeModules are the words of the loops over modules that a make target runs.
func madeModules(t *testing.T, target string) []string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "make", "--no-print-directory", "-n", target).CombinedOutput()
	require.NoError(t, err, "%s", out)
	var all []string
	for line := range strings.Lines(string(out)) {
		if _, rest, ok := strings.Cut(line, "for m in "); ok {
			list, _, _ := strings.Cut(rest, ";")
			all = append(all, strings.Fields(list)...)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}
