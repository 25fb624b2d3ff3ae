package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"durablestream"
	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/console"
	"durablestream/projection"
)

func resumeCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "resume",
		Short: "Tell what survived: what waits for a human, and what is unfinished",
		Args:  exactArgs(0, "flags only"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return readLog(cmd, o, func(ctx context.Context, d *durablestream.DurableStream) error {
				r, err := d.Resume(ctx)
				if err != nil {
					return err
				}
				return show(cmd, o, r, func(w io.Writer) error { return printResume(w, r) })
			})
		},
	}
}

func printResume(w io.Writer, r client.Resume) error {
	fmt.Fprintf(w, "position %d, %s", r.Position, console.Count(r.EventsReplayed, "event"))
	if !r.LastEventAt.IsZero() {
		fmt.Fprintf(w, ", the last at %s", r.LastEventAt.Format(time.DateTime))
	}
	fmt.Fprintf(w, " (%s read in %.1f ms)\n\n", console.Count(r.EventsRead, "message"), r.TookMS)
	fmt.Fprintf(w, "%s waiting for a human\n", console.Count(len(r.PendingCheckpoints), "checkpoint"))
	if len(r.PendingCheckpoints) > 0 {
		if err := listCheckpoints(w, r.PendingCheckpoints, time.Now()); err != nil {
			return err
		}
	}
	fmt.Fprintf(w, "\n%s unfinished\n", console.Count(len(r.ActiveIntents), "intent"))
	if len(r.ActiveIntents) > 0 {
		if err := listIntents(w, r.ActiveIntents); err != nil {
			return err
		}
	}
	fmt.Fprintf(w, "\n%s open\n", console.Count(len(r.OpenSessions), "session"))
	for _, s := range r.OpenSessions {
		fmt.Fprintf(w, "  %s  %s  %s\n", console.OneLine(s.ID, 64), s.Status, console.OneLine(s.Title, 60))
	}
	for _, a := range r.SetAside {
		fmt.Fprintf(w, "set aside: %d: %s\n", a.Seq, console.OneLine(a.Reason, 200))
	}
	return nil
}

// lineageNode is what `lineage --json` prints.
type lineageNode struct {
	ID    string          `json:"id"`
	Event *event.Recorded `json:"event,omitempty"` // missing: named as a cause, never seen
	// TooDeep: the event is nested deeper than encoding/json allows, as versions before
	// event.MaxDepth stored it. Payload, metadata and unknown fields are left out here.
	TooDeep  bool          `json:"too_deep,omitempty"`
	Children []lineageNode `json:"children,omitempty"`
}

func lineageCommand(o *options) *cobra.Command {
	var stream string
	cmd := &cobra.Command{
		Use:   "lineage EVENT-ID | lineage --stream STREAM",
		Short: "Show what caused what: the tree of an event, or of a stream",
		Args: func(cmd *cobra.Command, args []string) error {
			if (stream == "") == (len(args) != 1) || len(args) > 1 {
				return usage(fmt.Errorf("lineage takes one EVENT-ID, or --stream: see '%s --help'", cmd.CommandPath()))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return readLog(cmd, o, func(ctx context.Context, d *durablestream.DurableStream) error {
				var l projection.Lineage
				for r, err := range d.Query(ctx, event.Filter{StreamID: stream}) {
					if err == nil {
						err = l.Apply(projection.Entry{Seq: r.Seq, Event: &r})
					}
					if err != nil {
						return err
					}
				}
				roots := l.Roots()
				if len(args) == 1 {
					if _, ok := l.Get(args[0]); !ok {
						return fmt.Errorf("no event has the id %q, nor was caused by it", args[0])
					}
					roots = []string{l.Root(args[0])}
				}
				return printLineage(cmd, o, &l, roots)
			})
		},
	}
	cmd.Flags().StringVar(&stream, "stream", "", "all events of this stream")
	return cmd
}

func printLineage(cmd *cobra.Command, o *options, l *projection.Lineage, roots []string) error {
	if o.json {
		trees := []lineageNode{}
		for _, root := range roots {
			trees = append(trees, lineageTree(l, root, map[string]bool{}))
		}
		return printJSON(cmd.OutOrStdout(), trees)
	}
	w := cmd.OutOrStdout()
	for _, root := range roots {
		l.Walk(root, func(id string, depth int) {
			n, _ := l.Get(id)
			text := "(not seen here)"
			if n.Event != nil {
				text = fmt.Sprintf("%s  %s  seq %d", n.Event.Type, console.OneLine(n.Event.Actor, 40), n.Event.Seq)
			}
			branch := ""
			if depth > 0 {
				branch = strings.Repeat("   ", depth-1) + "└─ "
			}
			fmt.Fprintf(w, "%s%s  %s\n", branch, console.OneLine(id, 64), text)
		})
	}
	return nil
}

func lineageTree(l *projection.Lineage, id string, seen map[string]bool) lineageNode {
	seen[id] = true
	n, _ := l.Get(id)
	out := lineageNode{ID: id, Event: n.Event}
	if n.Event != nil && !json.Valid(n.Event.AppendJSON(nil)) {
		short := *n.Event
		short.Payload, short.Metadata, short.Extra = nil, nil, nil
		out.Event, out.TooDeep = &short, true
	}
	for _, child := range n.Children {
		if !seen[child] {
			out.Children = append(out.Children, lineageTree(l, child, seen))
		}
	}
	return out
}
