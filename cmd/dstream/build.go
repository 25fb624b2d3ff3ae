package main

import (
	"fmt"
	"regexp"
	"runtime"
	"runtime/debug"

	"durablestream"
	"durablestream/internal/wire"
)

// versionLine is what 'dstream --version' and 'dstream version' print.
func versionLine(info *debug.BuildInfo) string {
	from := ""
	if c := commit(info); c != "" {
		from = "commit " + c + ", "
	}
	return fmt.Sprintf("dstream %s (%slog format %d, nats-server %s, nats.go %s, %s)", durablestream.Version, from, wire.Format,
		dependency(info, "github.com/nats-io/nats-server/v2"), dependency(info, "github.com/nats-io/nats.go"), runtime.Version())
}

// buildInfo is what the Go linker wrote into this program; empty if it wrote nothing.
func buildInfo() *debug.BuildInfo {
	if info, ok := debug.ReadBuildInfo(); ok {
		return info
	}
	return &debug.BuildInfo{}
}

// commit is the commit that this program was built from, with "-modified" if files
// differed from it; empty if the build did not record one.
func commit(info *debug.BuildInfo) string {
	set := map[string]string{}
	for _, s := range info.Settings {
		set[s.Key] = s.Value
	}
	c := set["vcs.revision"]
	if c == "" {
		if m := pseudoVersion.FindStringSubmatch(info.Main.Version); m != nil {
			return m[1] // 'go install …@commit': the source was a module and not a work tree
		}
		return ""
	}
	c = c[:min(len(c), 12)]
	if set["vcs.modified"] == "true" {
		c += "-modified"
	}
	return c
}

// dependency is the version of a module that this program was linked with.
func dependency(info *debug.BuildInfo, path string) string {
	for _, m := range info.Deps {
		if m.Path == path {
			return m.Version
		}
	}
	return "unknown"
}

// The last part of a version that Go derives from a commit: v0.1.1-0.20261130120000-0123456789ab.
var pseudoVersion = regexp.MustCompile(`\d{14}-([0-9a-f]{12})$`)
