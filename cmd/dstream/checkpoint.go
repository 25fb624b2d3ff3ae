package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"durablestream"
	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/console"
	"durablestream/projection"
)

func checkpointCommand(o *options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "checkpoint",
		Short: "Ask a human, wait for the answer, decide",
		Long: `A checkpoint is a question that waits for a human. Exactly one decision is ever made
of it: approved, rejected, expired or cancelled. Whoever asked can never decide.`,
		Args: exactArgs(0, "a subcommand"),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(checkpointRequest(o), checkpointList(o), checkpointShow(o), checkpointWait(o),
		checkpointApprove(o), checkpointReject(o), checkpointCancel(o), checkpointVoidGuard(o))
	return cmd
}

func checkpointRequest(o *options) *cobra.Command {
	var q client.CheckpointRequest
	var options []string
	var action, schema, metadata string
	cmd := &cobra.Command{
		Use:   "request",
		Short: "Ask a question; prints its id and does not wait",
		Example: `  id=$(dstream checkpoint request --stream ses_1 --actor agent/deployer \
      --decision-point 'Deploy to production?' --option yes='Deploy now' --option no=Stop)
  dstream checkpoint wait "$id" && ./deploy.sh`,
		Args: exactArgs(0, "flags only"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, opt := range options {
				id, label, ok := strings.Cut(opt, "=")
				if !ok {
					label = id
				}
				q.Options = append(q.Options, event.Option{ID: id, Label: label})
			}
			if err := setJSON(&q.Action, "action", action); err != nil {
				return err
			}
			if err := setJSON(&q.Metadata, "metadata", metadata); err != nil {
				return err
			}
			if schema != "" {
				b, err := os.ReadFile(schema)
				if err != nil {
					return err
				}
				if err := setJSON(&q.Schema, "schema", string(b)); err != nil {
					return err
				}
			}
			return withLog(cmd, o, func(ctx context.Context, d *durablestream.DurableStream) error {
				cp, err := d.Checkpoints().Request(ctx, q)
				if err != nil {
					return err
				}
				return show(cmd, o, cp, func(w io.Writer) error { _, err := fmt.Fprintln(w, cp.ID); return err })
			})
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&q.ID, "id", "", "id of the checkpoint (default: a new one)")
	fs.StringVar(&q.StreamID, "stream", "", "the session that asks")
	fs.StringVar(&q.RequestedBy, "actor", "", "who asks; they can never decide")
	fs.StringVar(&q.DecisionPoint, "decision-point", "", "the question")
	fs.StringArrayVar(&options, "option", nil, "ID[=LABEL]: what an approval may choose (repeatable)")
	fs.DurationVar(&q.ExpiresIn, "expires", 0, "after this time the answer is \"expired\"; 0 is never")
	fs.StringVar(&action, "action", "", "JSON: the exact action that the question is about")
	fs.StringVar(&schema, "schema", "", "file with a JSON Schema for a free answer")
	fs.StringVar(&metadata, "metadata", "", "a JSON object")
	fs.StringVar(&q.CorrelationID, "correlation", "", "correlation_id (default: a new one)")
	fs.StringVar(&q.CausationID, "causation", "", "causation_id")
	return cmd
}

// setJSON takes a flag's JSON; "" leaves it unset.
func setJSON(to *json.RawMessage, field, text string) error {
	if text == "" {
		return nil
	}
	if !json.Valid([]byte(text)) {
		return usage(&event.InvalidError{Field: field, Value: text, Rule: "must be JSON"})
	}
	*to = []byte(text)
	return nil
}

func checkpointList(o *options) *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the checkpoints that wait for a human",
		Args:  exactArgs(0, "flags only"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return readLog(cmd, o, func(ctx context.Context, d *durablestream.DurableStream) error {
				list, err := d.Checkpoints().List(ctx, !all)
				if err != nil {
					return err
				}
				now := time.Now()
				for i := range list {
					list[i].Overdue = list[i].PastDue(now)
				}
				return show(cmd, o, list, func(w io.Writer) error { return listCheckpoints(w, list, now) })
			})
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "the decided ones too")
	return cmd
}

func checkpointShow(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "show ID",
		Short: "Show a checkpoint, and its decision where there is one",
		Args:  exactArgs(1, "one ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return readLog(cmd, o, func(ctx context.Context, d *durablestream.DurableStream) error {
				cp, err := d.Checkpoints().Get(ctx, args[0])
				if err != nil {
					return err
				}
				cp.Overdue = cp.PastDue(time.Now())
				return show(cmd, o, cp, func(w io.Writer) error { return showCheckpoint(w, cp) })
			})
		},
	}
}

func showCheckpoint(out io.Writer, cp projection.Checkpoint) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "checkpoint\t%s\n", console.OneLine(cp.ID, 300))
	fmt.Fprintf(w, "question\t%s\n", console.OneLine(cp.DecisionPoint, 1000))
	fmt.Fprintf(w, "status\t%s\n", cp.Status)
	fmt.Fprintf(w, "asked by\t%s, in %s, %s\n", console.OneLine(cp.RequestedBy, 200), console.OneLine(cp.StreamID, 200), console.Ago(time.Now(), cp.RequestedAt.Time))
	for _, opt := range cp.Options {
		fmt.Fprintf(w, "option\t%s: %s\n", console.OneLine(opt.ID, 100), console.OneLine(strings.TrimSpace(opt.Label+" "+opt.Description), 300))
	}
	if len(cp.Action) > 0 {
		fmt.Fprintf(w, "action\t%s\n", console.OneLine(string(cp.Action), 2000))
		fmt.Fprintf(w, "action hash\t%s\n", cp.ActionHash)
	}
	if len(cp.Schema) > 0 {
		fmt.Fprintf(w, "answer schema\t%s\n", console.OneLine(string(cp.Schema), 2000))
	}
	fmt.Fprintf(w, "time left\t%s\n", left(cp, time.Now()))
	if cp.CancelRequested && cp.Decision == nil {
		fmt.Fprintf(w, "cancel\tasked for by %s\n", console.OneLine(cp.CancelBy, 200))
	}
	if d := cp.Decision; d != nil {
		fmt.Fprintf(w, "decision\t%s by %s at %s (seq %d)\n", d.Status, console.OneLine(d.By, 200), d.At.Format(time.RFC3339), d.Seq)
		for _, f := range []struct{ name, v string }{{"option", d.Option}, {"answer", string(d.Answer)}, {"comment", d.Comment}, {"reason", d.Reason}} {
			if f.v != "" {
				fmt.Fprintf(w, "%s\t%s\n", f.name, console.OneLine(f.v, 2000))
			}
		}
	}
	return w.Flush()
}

func checkpointWait(o *options) *cobra.Command {
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "wait ID",
		Short: "Wait until the checkpoint is decided; prints the decision",
		Long: `Blocks until the checkpoint is decided, through restarts of the host, and prints the
decision as JSON. Exit status: 0 approved; 3 rejected, expired or cancelled; 1 when
--timeout ran out first.`,
		Args: exactArgs(1, "one ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if timeout < 0 {
				return usage(&event.InvalidError{Field: "timeout", Value: timeout.String(), Rule: "must be 0 (never) or more"})
			}
			defer o.within(cmd, timeout)()
			opened := false
			err := withLog(cmd, o, func(ctx context.Context, d *durablestream.DurableStream) error {
				opened = true
				cp, err := d.Checkpoints().Wait(ctx, args[0])
				if errors.Is(err, context.DeadlineExceeded) {
					return fmt.Errorf("checkpoint %s was not decided within %v: it still waits", args[0], timeout)
				}
				if err != nil {
					return err
				}
				if err := printJSON(cmd.OutOrStdout(), cp.Decision); err != nil {
					return err
				}
				if cp.Status != projection.Approved {
					return &exitError{code: exitOther}
				}
				return nil
			})
			if err != nil && !opened && errors.Is(cmd.Context().Err(), context.DeadlineExceeded) {
				err = fmt.Errorf("checkpoint %s was not decided within %v: the log was not open by then: %w", args[0], timeout, err)
			}
			return err
		},
	}
	cmd.Flags().DurationVar(&timeout, "timeout", 0, "give up after this time, to find the host included; 0 is never")
	return cmd
}

// printDecision tells what was decided.
func printDecision(cmd *cobra.Command, o *options, cp projection.Checkpoint) error {
	return show(cmd, o, cp, func(w io.Writer) error {
		if cp.Decision == nil {
			_, err := fmt.Fprintf(w, "%s: asked the sweeper to cancel it\n", cp.ID)
			return err
		}
		_, err := fmt.Fprintf(w, "%s: %s by %s (seq %d)\n", console.OneLine(cp.ID, 300), cp.Status, console.OneLine(cp.Decision.By, 300), cp.Decision.Seq)
		return err
	})
}

func checkpointApprove(o *options) *cobra.Command {
	var a client.Approval
	var answer string
	cmd := &cobra.Command{
		Use:     "approve ID",
		Short:   "Decide a checkpoint with a yes",
		Example: `  dstream checkpoint approve cp_1 --by alice --option yes --comment 'looks right'`,
		Args:    exactArgs(1, "one ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := setJSON(&a.Answer, "answer", answer); err != nil {
				return err
			}
			return withLog(cmd, o, func(ctx context.Context, d *durablestream.DurableStream) error {
				cp, err := d.Checkpoints().Approve(ctx, args[0], a)
				if err != nil {
					return err
				}
				return printDecision(cmd, o, cp)
			})
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&a.By, "by", "", "who decides; never the one who asked")
	fs.StringVar(&a.Option, "option", "", "the option that is chosen")
	fs.StringVar(&answer, "answer", "", "JSON: a free answer")
	fs.StringVar(&a.Comment, "comment", "", "a remark")
	return cmd
}

func checkpointReject(o *options) *cobra.Command {
	return withdrawCommand(o, "reject ID", "Decide a checkpoint with a no", func(ctx context.Context, d *durablestream.DurableStream, id, by, reason string) (projection.Checkpoint, error) {
		return d.Checkpoints().Reject(ctx, id, client.Rejection{By: by, Reason: reason})
	})
}

func checkpointCancel(o *options) *cobra.Command {
	return withdrawCommand(o, "cancel ID", "Withdraw a checkpoint", func(ctx context.Context, d *durablestream.DurableStream, id, by, reason string) (projection.Checkpoint, error) {
		return d.Checkpoints().Cancel(ctx, id, client.Cancellation{By: by, Reason: reason})
	})
}

func checkpointVoidGuard(o *options) *cobra.Command {
	var by, reason string
	cmd := &cobra.Command{
		Use:   "void-guard ID",
		Short: "Open a checkpoint that nobody can decide, because its guard holds no decision",
		Long: `A guard that somebody wrote by hand, without a decision, keeps a checkpoint from being
decided for good. This voids it, and the checkpoint can be decided again: once. It takes an
operator's key where the server has roles. Where the log is damaged it refuses, since a
decision that cannot be read would be made again: run 'dstream doctor' first.`,
		Args: exactArgs(1, "one ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withLog(cmd, o, func(ctx context.Context, d *durablestream.DurableStream) error {
				cp, err := d.Admin().VoidGuard(ctx, args[0], by, reason)
				if err != nil {
					return err
				}
				return show(cmd, o, cp, func(w io.Writer) error {
					_, err := fmt.Fprintf(w, "%s: its guard is void, and it waits for a decision\n", console.OneLine(cp.ID, 300))
					return err
				})
			})
		},
	}
	cmd.Flags().StringVar(&by, "by", "", "who voids it")
	cmd.Flags().StringVar(&reason, "reason", "", "why")
	return cmd
}

type decideFunc func(ctx context.Context, d *durablestream.DurableStream, id, by, reason string) (projection.Checkpoint, error)

func withdrawCommand(o *options, use, short string, decide decideFunc) *cobra.Command {
	var by, reason string
	cmd := &cobra.Command{
		Use:   use,
		Short: short,
		Args:  exactArgs(1, "one ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withLog(cmd, o, func(ctx context.Context, d *durablestream.DurableStream) error {
				cp, err := decide(ctx, d, args[0], by, reason)
				if err != nil {
					return err
				}
				return printDecision(cmd, o, cp)
			})
		},
	}
	cmd.Flags().StringVar(&by, "by", "", "who decides")
	cmd.Flags().StringVar(&reason, "reason", "", "why")
	return cmd
}
