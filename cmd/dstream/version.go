package main

import (
	"fmt"
	"regexp"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"durablestream"
	"durablestream/internal/wire"
)

func versionCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the versions of this program, of its format and of its engine",
		Args:  exactArgs(0, "flags only"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !o.json {
				_, err := fmt.Fprintln(cmd.OutOrStdout(), versionLine(buildInfo()))
				return err
			}
			info := buildInfo()
			v := map[string]any{
				"version": durablestream.Version, "format": wire.Format, "go": runtime.Version(),
				"nats-server": dependency(info, "github.com/nats-io/nats-server/v2"),
				"nats.go":     dependency(info, "github.com/nats-io/nats.go"),
			}
			if c := commit(info); c != "" {
				v["commit"] = c
			}
			return printJSON(cmd.OutOrStdout(), v)
		},
	}
}

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

// The last part of a version that Go derives from a commit: v0.1.1-0.20261130120000-0123456789ab.
var pseudoVersion = regexp.MustCompile(`\d{14}-([0-9a-f]{12})$`)

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
