package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"durablestream/event"
	"durablestream/internal/console"
	"durablestream/projection"
)

// printEvent writes an event as one line of JSON.
func printEvent(w io.Writer, r event.Recorded) error {
	_, err := w.Write(append(r.AppendJSON(nil), '\n'))
	return err
}

// printJSON writes an answer as indented JSON, without escaping HTML.
func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// show prints an answer: JSON, or words.
func show(cmd *cobra.Command, o *options, v any, words func(io.Writer) error) error {
	if o.json {
		return printJSON(cmd.OutOrStdout(), v)
	}
	return words(cmd.OutOrStdout())
}

func listCheckpoints(out io.Writer, list []projection.Checkpoint, now time.Time) error {
	if len(list) == 0 {
		_, err := fmt.Fprintln(out, "nothing waits for a human")
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tSTATUS\tASKED BY\tSINCE\tLEFT\tOPTIONS\tQUESTION")
	for _, cp := range list {
		ids := make([]string, len(cp.Options))
		for i, opt := range cp.Options {
			ids[i] = opt.ID
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", console.OneLine(cp.ID, 64), cp.Status, console.OneLine(cp.RequestedBy, 24),
			console.Ago(now, cp.RequestedAt.Time), left(cp, now), console.OneLine(strings.Join(ids, ","), 24), console.OneLine(cp.DecisionPoint, 60))
	}
	return w.Flush()
}

func left(cp projection.Checkpoint, now time.Time) string {
	switch {
	case cp.Status != projection.Pending:
		return "-"
	case cp.Blocked != 0:
		return "blocked"
	case cp.ExpiresAt.IsZero():
		return "no limit"
	case cp.PastDue(now):
		return "overdue"
	}
	return cp.ExpiresAt.Sub(now).Round(time.Second).String()
}

func listIntents(out io.Writer, list []projection.Intent) error {
	if len(list) == 0 {
		_, err := fmt.Fprintln(out, "nothing is unfinished")
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tSTATUS\tAGENT\tHOLDER\tSINCE\tDESCRIPTION")
	now := time.Now()
	for _, i := range list {
		status := string(i.Status)
		if i.Overdue {
			status += ", overdue"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", console.OneLine(i.ID, 64), status, console.OneLine(i.Agent, 24), holder(i, now), console.Ago(now, i.CreatedAt.Time), console.OneLine(i.Description, 60))
	}
	return w.Flush()
}

func holder(i projection.Intent, now time.Time) string {
	switch {
	case i.Holder == "":
		return "-"
	case i.LeaseUntil.IsZero():
		return console.OneLine(i.Holder, 40)
	}
	return console.OneLine(i.Holder, 40) + " until " + console.Clock(now, i.LeaseUntil.Time)
}
