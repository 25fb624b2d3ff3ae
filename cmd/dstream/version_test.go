package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/require"

	"durablestream"
)

func TestVersionNamesTheCommit(t *testing.T) {
	t.Parallel()
	revision := func(modified string) []debug.BuildSetting {
		return []debug.BuildSetting{{Key: "vcs.revision", Value: "0123456789abcdef0123456789abcdef01234567"}, {Key: "vcs.modified", Value: modified}}
	}
	engine := []*debug.Module{{Path: "github.com/nats-io/nats-server/v2", Version: "v2.0.1"}, {Path: "github.com/nats-io/nats.go", Version: "v1.0.2"}}
	for _, c := range []struct {
		info debug.BuildInfo
		want string
	}{
		{debug.BuildInfo{}, ""},
		{debug.BuildInfo{Main: debug.Module{Version: "(devel)"}}, ""},
		{debug.BuildInfo{Main: debug.Module{Version: "v0.1.0"}}, ""},
		{debug.BuildInfo{Main: debug.Module{Version: "v0.1.1-0.20261130120000-fedcba987654"}}, "fedcba987654"},
		{debug.BuildInfo{Settings: revision("false")}, "0123456789ab"},
		{debug.BuildInfo{Settings: revision("true")}, "0123456789ab-modified"},
	} {
		require.Equal(t, c.want, commit(&c.info))
		c.info.Deps = engine
		from := ""
		if c.want != "" {
			from = "commit " + c.want + ", "
		}
		require.Equal(t, "dstream "+durablestream.Version+" ("+from+"log format 1, nats-server v2.0.1, nats.go v1.0.2, "+runtime.Version()+")", versionLine(&c.info))
	}
}

// 'dstream --version' and 'dstream version' print the same line, and create nothing.
func TestVersionFlag(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "log")
	said := func(args ...string) string {
		var out, words bytes.Buffer
		require.Equal(t, exitDone, run(append([]string{"--dir", dir}, args...), nil, &out, &words), "%s", &words)
		require.Empty(t, words.String())
		return out.String()
	}
	require.Regexp(t, `^dstream `+regexp.QuoteMeta(durablestream.Version)+` \(.*log format \d+, .*`+regexp.QuoteMeta(runtime.Version())+`\)\n$`, said("--version"))
	require.Equal(t, said("--version"), said("version"))
	require.NoDirExists(t, dir)
}

// durablestream.Version is where the version is written. What npm and readers need to
// find elsewhere says the same.
func TestOneVersion(t *testing.T) {
	t.Parallel()
	var packages []string
	for _, pattern := range []string{"plugin/*/*/package.json", "sdk/*/package.json"} {
		found, err := filepath.Glob(top(pattern))
		require.NoError(t, err)
		packages = append(packages, found...)
	}
	require.NotEmpty(t, packages)
	for _, path := range packages {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		var p struct{ Version string }
		require.NoError(t, json.Unmarshal(text, &p))
		require.Equal(t, durablestream.Version, p.Version, path)
	}
	text, err := os.ReadFile(top("CHANGELOG.md"))
	require.NoError(t, err)
	section := regexp.MustCompile(`(?m)^## (\d+\.\d+\.\d+) \(\d{4}-\d\d-\d\d\)$`).FindSubmatch(text)
	require.NotNil(t, section, "CHANGELOG.md has no dated section")
	require.Equal(t, durablestream.Version, string(section[1]), "the newest dated section of CHANGELOG.md")
}
