package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"durablestream"
	"durablestream/broker"
	"durablestream/internal/mirrorrun"
	"durablestream/internal/paths"
	"durablestream/internal/place"
	"durablestream/internal/status"
)

func mirrorRunCommand(o *options) *cobra.Command {
	var sweep bool
	var maxBytes int64
	var monitor monitorFlags
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Write the mirror of a log that other processes host, until interrupted",
		Long: `Keeps the JSONL file in --dir equal to the log, as a process of its own: of a
cluster or of other servers (--server), or of the host in --dir if that does not do it
itself. Any number may run: those in different directories write equal files; of
those in one directory one writes, and the others stand by. With --sweeper it also
decides what time decides, which any number may do, too. It waits for servers that are
away. Interrupt it (Ctrl-C, SIGTERM) to stop: what the log holds is written first.`,
		Args: exactArgs(0, "flags only"),
		RunE: func(cmd *cobra.Command, _ []string) error { return mirrorRun(cmd, o, monitor, sweep, maxBytes) },
	}
	cmd.Flags().BoolVar(&sweep, "sweeper", false, "also decide what time decides")
	cmd.Flags().Int64Var(&maxBytes, "mirror-max-bytes", 64<<20, "size at which the JSONL file is rotated")
	monitor.register(cmd.Flags())
	return cmd
}

func mirrorRun(cmd *cobra.Command, o *options, monitor monitorFlags, sweep bool, maxBytes int64) error {
	store := filepath.Join(o.dir, durablestream.HostDir, broker.StoreDir)
	if _, err := os.Stat(store); err == nil && len(o.servers) > 0 {
		return usage(fmt.Errorf("%s has a store, whose own host writes the mirror there: give another --dir, or no --server", o.dir))
	}
	if err := place.AsOwner(o.dir); err != nil {
		return err
	}
	if len(o.servers) == 0 {
		if err := place.Demand(o.dir); err != nil {
			return err
		}
	}
	var typo *paths.ParentError
	if err := errors.Join(paths.NoLogLink(paths.Absolute(o.dir)), paths.MakeDir(paths.Absolute(o.dir))); errors.As(err, &typo) {
		return usage(err)
	} else if err != nil {
		return err
	}
	watched, err := monitor.watch(status.WatchConfig{Mirror: true, Logger: o.config(cmd).Logger})
	if err != nil {
		return err
	}
	defer watched.Stop()
	return mirrorrun.Run(cmd.Context(), mirrorrun.Config{
		Dir: o.dir, Servers: o.servers, Sweep: sweep, MaxBytes: maxBytes,
		Open: func() (*durablestream.DurableStream, error) {
			return o.open(cmd, func(cfg *durablestream.Config) {
				cfg.JoinOnly, cfg.Command.NoMirror, cfg.Command.NoCreate = true, true, true
			})
		},
		Watched: watched, Words: cmd.ErrOrStderr(), Logger: o.config(cmd).Logger,
	})
}
