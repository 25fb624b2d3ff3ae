package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
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
	sayBench(cmd.OutOrStdout(), where, r, time.Since(began))
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

// sayBench tells what the figures mean.
func sayBench(w io.Writer, where string, r measure.Report, took time.Duration) {
	fmt.Fprintf(w, `An append takes %s (1 in 100 more than %s): your disk's write + fsync is %s
of it, the engine around it %s, this program %s. Nothing is acknowledged before it is
on the disk, so no append is faster than that fsync.
`, inMS(r.Append.P50), inMS(r.Append.P99), inMS(r.Fsync.P50), inMS(max(0, r.Bare.P50-r.Fsync.P50)), inMS(max(0, r.Append.P50-r.Bare.P50)))
	switch {
	case r.Fsync.P50 > 5:
		fmt.Fprintf(w, "That is a slow disk for this: a rotating one, or one behind a network. An SSD takes 0.1 to 1 ms.\n")
	case r.Fsync.P50 < 0.02:
		fmt.Fprintf(w, "That is too fast for a disk: %s is in memory, or its disk does not wait for its own cache. What is\nacknowledged here may not outlive a power cut.\n", where)
	}
	fmt.Fprintf(w, "A subscriber has the event %s after its append began.\n\n", inMS(r.Heard.P50))
	for _, f := range r.InFlight {
		if f.N == 1 {
			fmt.Fprintf(w, "One agent that waits for each append made %s a second.\n", thousands(f.PerSecond))
			continue
		}
		fmt.Fprintf(w, "%3d appends waiting at once: %s a second.\n", f.N, thousands(f.PerSecond))
	}
	fmt.Fprintf(w, "Batches of %d: %s events a second. Use them for many events that come at once.\n\n", r.Batch.N, thousands(r.Batch.PerSecond))
	fmt.Fprintf(w, "All %s events of this log were read at %s a second, and a host started on them in %s.\n",
		thousands(float64(r.CatchUp.N)), thousands(r.CatchUp.PerSecond), inMS(r.Start.P50))
	fmt.Fprintf(w, "\nMeasured in %s, in %.0f s. Other programs that use the disk make it slower.\n", where, took.Seconds())
}

// inMS writes milliseconds.
func inMS(v float64) string {
	if v >= 10 {
		return fmt.Sprintf("%.0f ms", v)
	}
	return fmt.Sprintf("%.2f ms", v)
}

// thousands writes a number with its thousands apart.
func thousands(v float64) string {
	s := fmt.Sprintf("%.0f", v)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
