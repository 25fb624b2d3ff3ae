package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"durablestream/internal/monitor"
)

func healthCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "health [ADDR]",
		Short: "Ask a process that was started with --monitor whether it does its work",
		Long: `Asks /healthz at ADDR (default ` + defaultMonitor + `), which is host:port or the
monitor's URL, and says what keeps the process from its work. Exit status 0 when it
is healthy, 1 when it is not or does not answer. It is the health check of the
container, whose image has no shell.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usage(fmt.Errorf("%s takes one ADDR at most, got %d arguments: see '%s --help'", cmd.CommandPath(), len(args), cmd.CommandPath()))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			addr := defaultMonitor
			if len(args) > 0 {
				addr = args[0]
			}
			h, err := monitor.Ask(cmd.Context(), addr, o.tls.CA)
			var wrong *monitor.AddrError
			if errors.As(err, &wrong) {
				return usage(err)
			}
			if err != nil {
				return err
			}
			if o.json {
				err = printJSON(cmd.OutOrStdout(), h)
			} else {
				err = h.Print(cmd.OutOrStdout())
			}
			if err == nil && len(h.Reasons) > 0 {
				return &exitError{code: exitFailed}
			}
			return err
		},
	}
}
