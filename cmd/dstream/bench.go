package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"durablestream/internal/console"
	"durablestream/internal/measure"
	"durablestream/internal/place"
)

func benchCommand(o *options) *cobra.Command {
	length := 10 * time.Second
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure what the log does on this machine and disk, in some ten seconds",
		Long: `Hosts a log of its own in a temporary directory in --dir, on the same disk, appends
and reads, says in words what came of it, and removes it. Where there is no --dir yet, it
is in the nearest directory above that there is. The log of the project is not touched.
While it runs it needs up to 50 MB of disk for each second of --for.`,
		Args: exactArgs(0, "flags only"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Flags().Changed("server") {
				return usage(errors.New("bench measures this machine: it takes no --server"))
			}
			if length < 100*time.Millisecond || length > time.Hour {
				return usage(fmt.Errorf("--for %s: must be 100ms to 1h", length))
			}
			return runBench(cmd, o, length)
		},
	}
	cmd.Flags().DurationVar(&length, "for", length, "how long to measure, about; a short time says little of what is rare")
	return cmd
}

func runBench(cmd *cobra.Command, o *options, length time.Duration) (err error) {
	if err := place.AsOwner(o.dir); err != nil {
		return err
	}
	where, err := nearest(o.dir)
	if err != nil {
		return err
	}
	// A terminal that is closed ends this program as Ctrl-C does.
	ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGHUP)
	defer stop()
	dir, err := os.MkdirTemp(where, ".dstream-bench-")
	if err != nil {
		return fmt.Errorf("cannot make a directory to measure in: %w", err)
	}
	doing := func(string) {}
	if words := cmd.ErrOrStderr(); console.IsTerminal(words) {
		doing = func(what string) { console.Redraw(words, "measuring: "+what) }
		defer console.Redraw(words, "")
	}
	began := time.Now()
	r, err := measure.Short(ctx, dir, length, doing)
	if left := os.RemoveAll(dir); left != nil {
		return errors.Join(err, fmt.Errorf("cannot remove what was measured in, remove it by hand: %w", left))
	}
	if ctx.Err() != nil {
		return errors.New("interrupted: nothing was left behind")
	}
	if err != nil {
		return err
	}
	doing("done")
	if o.json {
		return json.NewEncoder(cmd.OutOrStdout()).Encode(r)
	}
	r.Print(cmd.OutOrStdout(), where, time.Since(began))
	return nil
}

// nearest is dir, or the nearest directory above it that there is: on the disk that dir
// is, or will be, on.
func nearest(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	for {
		_, err := os.Stat(dir)
		if above := filepath.Dir(dir); errors.Is(err, fs.ErrNotExist) && above != dir {
			dir = above
			continue
		}
		return dir, err
	}
}
