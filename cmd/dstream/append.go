package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"durablestream"
	"durablestream/broker"
	"durablestream/event"
	"durablestream/internal/console"
)

type appendFlags struct {
	e        event.Event
	at       int64 // Unix ms; 0: now
	payload  string
	metadata string
	jsonl    string
	skipBad  bool
	timeout  time.Duration
}

func appendCommand(o *options) *cobra.Command {
	var f appendFlags
	cmd := &cobra.Command{
		Use:   "append TYPE | append --jsonl FILE",
		Short: "Append one event, or a file of events, and print what was recorded",
		Long: `Appends an event and prints it as it was recorded, once it is on disk.

With --jsonl each line of the file (- is standard input) is one event; --stream,
--actor and --correlation fill in what a line leaves out. All lines are checked
before any is appended: a bad line says which it is, and nothing is appended
unless --skip-bad leaves it out.`,
		Example: `  dstream append task.created --stream ses_1 --actor agent/planner --payload '{"title":"Refactor Auth"}'
  dstream append --jsonl events.jsonl`,
		Args: func(cmd *cobra.Command, args []string) error {
			if f.jsonl != "" {
				return exactArgs(0, "no TYPE beside --jsonl")(cmd, args)
			}
			return exactArgs(1, "one TYPE, or --jsonl FILE")(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.timeout <= 0 {
				return usage(&event.InvalidError{Field: "timeout", Value: f.timeout.String(), Rule: "must be more than 0"})
			}
			if f.jsonl != "" {
				return appendFile(cmd, o, f)
			}
			return appendOne(cmd, o, f, args[0])
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&f.e.StreamID, "stream", "", "the session or task that the event belongs to")
	fs.StringVar(&f.e.Actor, "actor", "", `who did it: "user", or an agent's name`)
	fs.StringVar(&f.payload, "payload", "{}", "any JSON; - reads it from standard input")
	fs.StringVar(&f.e.CorrelationID, "correlation", "", "correlation_id (default: a new one)")
	fs.StringVar(&f.e.CausationID, "causation", "", "causation_id: the id of the event that caused this one")
	fs.StringVar(&f.metadata, "metadata", "", "a JSON object")
	fs.StringVar(&f.e.ID, "id", "", "id (default: a new UUIDv7); the same id again stores nothing new")
	fs.Int64Var(&f.at, "timestamp", 0, "Unix ms (default: now)")
	fs.StringVar(&f.jsonl, "jsonl", "", "a file with one event a line, or -")
	fs.BoolVar(&f.skipBad, "skip-bad", false, "with --jsonl: leave bad lines out instead of appending nothing")
	fs.DurationVar(&f.timeout, "timeout", 30*time.Second, "how long to try, to find the host included; with --jsonl for each batch")
	return cmd
}

func appendOne(cmd *cobra.Command, o *options, f appendFlags, typ string) (err error) {
	e := f.e
	e.Timestamp = event.Milli(f.at).Time
	e.Type = typ
	e.Payload = []byte(f.payload)
	if f.payload == "-" {
		if e.Payload, err = io.ReadAll(console.Interruptible(cmd.Context(), cmd.InOrStdin())); err != nil {
			return fmt.Errorf("read the payload: %w", err)
		}
	}
	if f.metadata != "" {
		e.Metadata = []byte(f.metadata)
	}
	if err := checkEvent(e); err != nil {
		return usage(err)
	}
	defer o.within(cmd, f.timeout)()
	d, err := o.open(cmd)
	if err != nil {
		return err
	}
	defer closing(d, &err)
	r, err := d.Append(cmd.Context(), e)
	if err != nil {
		return decided(err)
	}
	if err := printEvent(cmd.OutOrStdout(), r); err != nil {
		return fmt.Errorf("the event is stored (seq %d), and cannot be printed: %w", r.Seq, err)
	}
	return nil
}

// checkEvent checks what a person gave before anything is opened.
func checkEvent(e event.Event) error {
	if e.ID == "" {
		e.ID = "minted"
	}
	if e.CorrelationID == "" {
		e.CorrelationID = "minted"
	}
	if len(e.Payload) == 0 {
		return &event.InvalidError{Field: "payload", Value: "", Rule: "must be JSON"}
	}
	if err := e.Validate(); err != nil {
		return err
	}
	return event.ValidateTimestamp(e.Timestamp)
}

func appendFile(cmd *cobra.Command, o *options, f appendFlags) (err error) {
	events, lines, err := readEvents(cmd, f)
	if err != nil {
		return err
	}
	whole := cmd.Context()
	defer o.within(cmd, f.timeout)() // of opening and the first events
	d, err := o.open(cmd)
	if err != nil {
		return err
	}
	defer closing(d, &err)
	ctx := cmd.Context()
	out := bufio.NewWriter(cmd.OutOrStdout())
	stored := 0
	for len(events) > 0 {
		n := chunk(events)
		rs, err := appendChunk(ctx, d, events[:n], f.timeout)
		ctx = whole
		for _, r := range rs {
			err = errors.Join(err, printEvent(out, r))
		}
		stored += len(rs)
		if err != nil {
			return errors.Join(decided(fmt.Errorf("%s stored; from line %d on nothing is known to be: %w",
				console.Count(stored, "event"), lines[len(rs)], err)), out.Flush())
		}
		events, lines = events[n:], lines[n:]
	}
	return out.Flush()
}

// A batch costs the engine as much as some 50 single appends.
const worthBatch = 50

// chunk is how many of the events go together: one where batches do not pay.
func chunk(events []event.Event) int {
	if len(events) < worthBatch {
		return 1
	}
	n, size := 0, 0
	for n < min(len(events), event.MaxBatchLen) && size < 8<<20 {
		size += len(events[n].Payload)
		n++
	}
	return n
}

func appendChunk(ctx context.Context, d *durablestream.DurableStream, events []event.Event, timeout time.Duration) ([]event.Recorded, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return d.AppendBatch(ctx, events)
}

// readEvents reads and checks every line; lines[i] is the number of event i's.
func readEvents(cmd *cobra.Command, f appendFlags) (events []event.Event, lines []int, err error) {
	var in io.Reader = console.Interruptible(cmd.Context(), cmd.InOrStdin())
	name := "standard input"
	if f.jsonl != "-" {
		file, err := os.Open(f.jsonl)
		if err != nil {
			return nil, nil, err
		}
		defer file.Close()
		in, name = file, f.jsonl
	}
	bad, ids := 0, map[string]int{}
	r := bufio.NewReaderSize(in, 1<<16)
	for number := 1; ; number++ {
		line, err := r.ReadBytes('\n')
		if err != nil && err != io.EOF {
			return nil, nil, fmt.Errorf("read %s: %w", name, err)
		}
		if text := bytes.TrimSpace(bytes.TrimPrefix(line, []byte("\xef\xbb\xbf"))); len(text) > 0 {
			e, bade := decodeLine(text, f.e)
			if first := ids[e.ID]; bade == nil && e.ID != "" && first != 0 {
				bade = &event.InvalidError{Field: "id", Value: e.ID, Rule: fmt.Sprintf("is that of line %d already", first)}
			}
			switch {
			case bade == nil:
				ids[e.ID] = number
				events, lines = append(events, e), append(lines, number)
			case f.skipBad:
				bad++
				fmt.Fprintf(cmd.ErrOrStderr(), "dstream: %s line %d is left out: %v\n", name, number, bade)
			default:
				return nil, nil, fmt.Errorf("%s line %d: %w; nothing was appended (--skip-bad leaves bad lines out)", name, number, bade)
			}
		}
		if err == io.EOF {
			break
		}
	}
	if bad > 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "dstream: %s left out\n", console.Count(bad, "bad line"))
	}
	return events, lines, nil
}

func decodeLine(line []byte, defaults event.Event) (event.Event, error) {
	e, err := event.Decode(line)
	if err != nil {
		return e, err
	}
	fill := func(field *string, v string) {
		if *field == "" {
			*field = v
		}
	}
	fill(&e.StreamID, defaults.StreamID)
	fill(&e.Actor, defaults.Actor)
	fill(&e.CorrelationID, defaults.CorrelationID)
	if len(e.Payload) == 0 {
		e.Payload = []byte("{}")
	}
	const headers = 16 << 10 // room for what the server counts beside the event
	if size := len(e.AppendJSON(nil)) + headers; size > broker.MaxPayload {
		return e, &event.InvalidError{Field: "payload", Value: string(e.Payload), Rule: fmt.Sprintf("is too large: the event has %d bytes with its headers, and the limit is %d", size, broker.MaxPayload)}
	}
	return e, checkEvent(e)
}
