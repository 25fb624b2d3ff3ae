package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"durablestream"
	"durablestream/client"
	"durablestream/internal/agents/opencode"
	"durablestream/internal/agents/source"
	"durablestream/internal/place"
	"durablestream/internal/rpc"
)

func rpcCommand(o *options) *cobra.Command {
	var drain time.Duration
	cmd := &cobra.Command{
		Use:   "rpc",
		Short: "Serve the log over JSON-RPC 2.0 on stdin and stdout, for agents in any language",
		Long: `Reads requests from standard input, one JSON-RPC 2.0 message a line, and writes the
answers to standard output. Requests are carried out in the order in which they come,
and answered when they are durable; many may be sent without waiting.

When standard input ends, or at SIGTERM, what was written to it is carried out before
the program ends. A reader of standard output that is slow, or gone, holds up nothing.
docs/protocol.md describes the methods.`,
		Example: `  echo '{"jsonrpc":"2.0","id":1,"method":"append","params":{"event":{"type":"task.created","stream_id":"ses_1","actor":"agent/planner","payload":{"title":"Refactor Auth"}}}}' | dstream rpc`,
		Args:    exactArgs(0, "flags only"),
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			// A reader that has gone is an error of a write, and not our end.
			signal.Ignore(syscall.SIGPIPE)
			var d *durablestream.DurableStream
			defer func() {
				if d != nil {
					closing(d, &err)
				}
			}()
			return rpc.Serve(cmd.Context(), rpc.Config{
				In: cmd.InOrStdin(), Out: cmd.OutOrStdout(), Drain: drain, Logger: o.config(cmd).Logger,
				Agents: []source.Agent{opencode.Agent()}, Runs: o.runs(),
				About: map[string]any{"version": durablestream.Version, "pid": os.Getpid()},
				Open: func(ctx context.Context) (*client.Client, error) {
					err := place.AsOwner(o.dir)
					if err != nil {
						return nil, err
					}
					if d, err = durablestream.Open(ctx, o.config(cmd)); err != nil {
						return nil, openWords(err)
					}
					return d.Client(), nil
				},
			})
		},
	}
	cmd.Flags().DurationVar(&drain, "drain", 30*time.Second, "how long what was asked for may take after standard input has ended")
	return cmd
}
