package main

import (
	"fmt"
	"runtime"

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
