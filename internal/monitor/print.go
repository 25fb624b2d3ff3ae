package monitor

import (
	"fmt"
	"io"

	"durablestream/internal/console"
)

// Print writes one line where the process is healthy, and otherwise a line for each reason.
func (h Health) Print(w io.Writer) error {
	name := string(h.State)
	if h.Node != "" {
		name = h.Node + " (" + name + ")"
	}
	if len(h.Reasons) == 0 {
		_, err := fmt.Fprintf(w, "healthy: %s, version %s\n", name, h.Version)
		return err
	}
	for _, r := range h.Reasons {
		if _, err := fmt.Fprintf(w, "failing: %s: %s: %s\n", name, r.Name, console.OneLine(r.Message, 1000)); err != nil {
			return err
		}
	}
	return nil
}
