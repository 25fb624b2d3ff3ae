package main

import (
	"github.com/spf13/cobra"

	"durablestream"
	"durablestream/internal/status"
)

func statusCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Tell who hosts the log, where it stands, and what is wrong with it",
		Long: `Tells who hosts the log, its position, its replicas, the mirror's lag, the disk,
and alarms. Exit status 1 when there is an alarm.`,
		Args: exactArgs(0, "flags only"),
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			a, err := status.Ask(cmd.Context(), status.Config{
				Dir: o.dir, Servers: o.servers, NKey: o.nkey, TLS: o.tls, Wait: openWait,
				Open: func() (*durablestream.DurableStream, error) { return o.open(cmd, readCopy, onlyLook) },
			})
			if err != nil {
				return err
			}
			if o.json {
				err = printJSON(cmd.OutOrStdout(), a)
			} else {
				err = a.Print(cmd.OutOrStdout())
			}
			if err == nil && len(a.Alarms) > 0 {
				return &exitError{code: exitFailed}
			}
			return err
		},
	}
}
