package measure

import (
	"fmt"
	"io"
	"time"
)

// Print says what the figures mean, which were measured in the directory where.
func (r Report) Print(w io.Writer, where string, took time.Duration) {
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
