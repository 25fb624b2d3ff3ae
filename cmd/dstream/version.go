package main

import (
	"fmt"
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
			v := map[string]any{
				"version": durablestream.Version, "format": wire.Format, "go": runtime.Version(),
				"nats-server": moduleVersion("github.com/nats-io/nats-server/v2"),
				"nats.go":     moduleVersion("github.com/nats-io/nats.go"),
			}
			if o.json {
				return printJSON(cmd.OutOrStdout(), v)
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "dstream %s (log format %d, nats-server %s, nats.go %s, %s)\n",
				v["version"], v["format"], v["nats-server"], v["nats.go"], v["go"])
			return err
		},
	}
}

func moduleVersion(path string) string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, m := range info.Deps {
		if m.Path == path {
			return m.Version
		}
	}
	return "unknown"
}
