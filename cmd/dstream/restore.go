package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"durablestream"
	"durablestream/internal/console"
	"durablestream/internal/paths"
	"durablestream/internal/place"
	"durablestream/mirror"
)

func restoreCommand(o *options) *cobra.Command {
	var from []string
	var replicas int
	cmd := &cobra.Command{
		Use:   "restore",
		Short: "Rebuild an empty log from the mirror's files, with the same ids and sequences",
		Long: `Rebuilds an empty log from the mirror's files: the same ids and the same sequences;
what was decided stays decided, leases are void. The files are checked whole before
anything is written. A log that is not empty is refused.

So a local log moves to a cluster, or to other servers: stop whatever writes to it, then
  dstream restore --server nats://host:4222 --from .opencode
Nobody may write to the new log until that is done; it is marked, and refused to those
who open it.`,
		Args: exactArgs(0, "flags only"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(from) == 0 {
				from = []string{o.dir}
			}
			return restore(cmd, o, from, replicas)
		},
	}
	cmd.Flags().StringSliceVar(&from, "from", nil, "the mirror's directory, or its files in order (default: --dir)")
	cmd.Flags().IntVar(&replicas, "replicas", 0, "with --server: replicas of a log that is made (default: 3 in a cluster, else 1)")
	return cmd
}

func restore(cmd *cobra.Command, o *options, from []string, replicas int) error {
	report, err := restoreFrom(cmd, o, from, func(cfg *durablestream.Config) { cfg.Replicas = replicas })
	if err != nil {
		return err
	}
	if o.json {
		return printJSON(cmd.OutOrStdout(), report)
	}
	if report.Torn {
		fmt.Fprintln(cmd.ErrOrStderr(), "dstream: the last line of the files was cut off, and is not restored")
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "restored %s, position %d\n", console.Count(report.Lines, "event"), report.Last)
	return nil
}

// restoreFrom fills an empty log. What cannot be restored, or cannot be read by the user that
// root becomes, makes none.
func restoreFrom(cmd *cobra.Command, o *options, from []string, change func(*durablestream.Config)) (report mirror.RestoreReport, err error) {
	if len(o.servers) == 0 {
		if err := place.AsOwner(o.dir); err != nil {
			return report, err
		}
	}
	if err := demandFiles(o, from); err != nil {
		return report, err
	}
	if err := mirror.CheckSources(mirror.RestoreConfig{From: from}); err != nil {
		return report, err
	}
	d, err := o.open(cmd, func(cfg *durablestream.Config) {
		cfg.Command.NoMirror, cfg.Command.NoSweeper, cfg.Command.Restoring = true, true, true
		change(cfg)
	})
	if err != nil {
		return report, err
	}
	defer closing(d, &err)
	cfg := mirror.RestoreConfig{Client: d.Client(), Conn: d.Admin().Conn(), From: from}
	if d.Hosting() || len(o.servers) > 0 {
		cfg.Recreate = d.Admin().RecreateLog
	}
	bar := console.NewBar(cmd.ErrOrStderr(), "restoring")
	defer bar.Finish()
	cfg.Progress = bar.Set
	return mirror.Restore(cmd.Context(), cfg)
}

// demandFiles keeps a restore from nothing from making an empty log, perhaps where one is gone.
func demandFiles(o *options, from []string) error {
	if len(o.servers) > 0 {
		return nil
	}
	for _, path := range from {
		if !paths.IsDirectory(path) {
			return nil // a file, or nothing, which the restore says
		}
		if files, err := mirror.Files(path); err != nil || len(files) > 0 {
			return err
		}
	}
	var none *durablestream.NoLogError
	if err := place.Demand(o.dir); errors.As(err, &none) && none.Lost {
		return err
	}
	return fmt.Errorf("mirror: restore: %w in %v", mirror.ErrNoLines, from)
}
