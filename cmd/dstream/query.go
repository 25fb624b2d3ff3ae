package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"durablestream/event"
	"durablestream/internal/when"
)

func queryCommand(o *options) *cobra.Command {
	var f filterFlags
	cmd := &cobra.Command{
		Use:   "query",
		Short: "Print recorded events as JSONL, up to the present end of the log",
		Example: `  dstream query --stream ses_1 --type 'agent.*'
  dstream query --actor agent/planner --last 20
  dstream query --since 2h --type 'checkpoint.*'`,
		Args: exactArgs(0, "flags only"),
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			filter, err := f.filter(cmd)
			if err != nil {
				return err
			}
			d, err := o.toRead(cmd)
			if err != nil {
				return err
			}
			defer closing(d, &err)
			out := bufio.NewWriterSize(cmd.OutOrStdout(), 1<<16)
			for r, err := range d.Query(cmd.Context(), filter) {
				if err == nil {
					err = printEvent(out, r)
				}
				if err != nil {
					return errors.Join(err, out.Flush())
				}
			}
			return out.Flush()
		},
	}
	fs := cmd.Flags()
	f.register(fs)
	fs.Uint64Var(&f.after, "after", 0, "events after this sequence")
	fs.IntVar(&f.Limit, "limit", 0, "at most so many, from the front")
	fs.IntVar(&f.Last, "last", 0, "only the newest so many")
	fs.BoolVar(&f.Linearizable, "linearizable", false, "on a cluster, miss no event whose append had returned anywhere when this began (stores one small message)")
	return cmd
}

// tailNewest is how many events tail shows before it follows.
const tailNewest = 10

func tailCommand(o *options) *cobra.Command {
	var f filterFlags
	var from string
	cmd := &cobra.Command{
		Use:   "tail [TYPE…]",
		Short: "Print events live, as they are recorded",
		Long: `Prints the newest 10 events that match and then those to come, until interrupted or,
with --limit, until it has printed so many. TYPE is a type or a pattern, as --type.`,
		Example: `  dstream tail 'agent.*'
  dstream tail --stream ses_1 --from start`,
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			f.Types = append(f.Types, args...)
			filter, err := f.filter(cmd)
			if err != nil {
				return err
			}
			var start event.Sequence
			if from != "" && from != "start" && from != "now" {
				if start, err = event.ParseSequence(from); err != nil {
					return usage(fmt.Errorf("--from %q: must be start, now, or a sequence", from))
				}
			}
			d, err := o.toRead(cmd)
			if err != nil {
				return err
			}
			defer closing(d, &err)
			if d.Hosting() && d.Admin().Copied() == nil {
				fmt.Fprintln(cmd.ErrOrStderr(), "dstream: no host was running: this command hosts the log until it ends")
			}
			ctx := cmd.Context()
			printed := 0
			switch from {
			case "start":
			case "", "now":
				if filter.After, err = d.Position(ctx); err != nil {
					return err
				}
				if from == "" {
					printed, err = printNewest(cmd, d.Query, filter)
				}
			default:
				filter.After = max(start, 1) - 1
			}
			if err != nil || filter.Limit > 0 && printed >= filter.Limit {
				return err
			}
			if filter.Limit > 0 {
				filter.Limit -= printed
			}
			for r, err := range d.Subscribe(ctx, filter) {
				if errors.Is(err, context.Canceled) {
					return nil // interrupted: that is how a tail ends
				}
				if err == nil {
					err = printEvent(cmd.OutOrStdout(), r)
				}
				if err != nil {
					return err
				}
			}
			return nil
		},
	}
	f.register(cmd.Flags())
	cmd.Flags().StringVar(&from, "from", "", "start, now, or the sequence to begin with (default: the newest 10, then live)")
	cmd.Flags().IntVar(&f.Limit, "limit", 0, "end after so many, of which those before now are the newest")
	return cmd
}

// printNewest prints the newest events up to filter.After, where following begins, and
// returns how many.
func printNewest(cmd *cobra.Command, query func(context.Context, event.Filter) iter.Seq2[event.Recorded, error], filter event.Filter) (printed int, err error) {
	until, most := filter.After, filter.Limit
	filter.After, filter.Last, filter.Limit = 0, tailNewest, 0
	if most > 0 {
		filter.Last = min(most, tailNewest)
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), time.Minute)
	defer cancel()
	for r, err := range query(ctx, filter) {
		if err != nil {
			return printed, err
		}
		if r.Seq <= until {
			if err := printEvent(cmd.OutOrStdout(), r); err != nil {
				return printed, err
			}
			printed++
		}
	}
	return printed, nil
}

// filterFlags are the flags that choose events.
type filterFlags struct {
	event.Filter
	since, until string
	after        uint64
}

func (f *filterFlags) register(fs *pflag.FlagSet) {
	fs.StringVar(&f.StreamID, "stream", "", "events of this stream")
	fs.StringArrayVar(&f.Types, "type", nil, `events of this type; * and > as in "checkpoint.*" and "ledger.>" (repeatable)`)
	fs.StringVar(&f.Actor, "actor", "", "events of this actor")
	fs.StringVar(&f.CorrelationID, "correlation", "", "events with this correlation_id")
	fs.StringVar(&f.since, "since", "", "events from this time on, such as 2h ago, 7d, 13:50, yesterday, 2026-11-29, '2026-11-29 13:50', or Unix ms; local time unless it names a zone")
	fs.StringVar(&f.until, "until", "", "events up to this time, inclusive; a day includes all of it")
}

// filter checks the flags and gives the Filter.
func (f *filterFlags) filter(cmd *cobra.Command) (event.Filter, error) {
	var err error
	for _, flag := range []struct{ name, v string }{{"stream", f.StreamID}, {"actor", f.Actor}, {"correlation", f.CorrelationID}} {
		if cmd.Flags().Changed(flag.name) && flag.v == "" {
			return f.Filter, usage(&event.InvalidError{Field: flag.name, Value: "", Rule: "must not be empty; leave the flag out for all"})
		}
	}
	if f.Since, err = parseTime("since", f.since, time.Now(), when.First); err != nil {
		return f.Filter, usage(err)
	}
	if f.Until, err = parseTime("until", f.until, time.Now(), when.Last); err != nil {
		return f.Filter, usage(err)
	}
	if !f.Until.IsZero() && f.Since.After(f.Until) {
		return f.Filter, usage(&event.InvalidError{Field: "since", Value: f.since, Rule: fmt.Sprintf("must not be after until (%s)", f.until)})
	}
	f.After = event.Sequence(f.after)
	return f.Filter, usage(f.Validate())
}

// parseTime reads a time; "" is no bound.
func parseTime(field, s string, now time.Time, edge when.Edge) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	t, err := when.Parse(s, now, edge)
	if err != nil {
		return time.Time{}, &event.InvalidError{Field: field, Value: s, Rule: err.Error()}
	}
	return t, nil
}
