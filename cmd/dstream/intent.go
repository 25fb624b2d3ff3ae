package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"durablestream"
	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/console"
	"durablestream/projection"
)

func intentCommand(o *options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "intent",
		Short: "Create, claim and end long-running work",
		Args:  exactArgs(0, "a subcommand"),
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(intentCreate(o), intentList(o), intentShow(o), intentClaim(o),
		intentEnd(o, "complete ID", "End an intent as completed", "result", "what came of it",
			func(e *client.End) *string { return &e.Result },
			func(d *durablestream.DurableStream) endFunc { return d.Intents().Complete }),
		intentEnd(o, "fail ID", "End an intent as failed", "error", "what went wrong",
			func(e *client.End) *string { return &e.Error },
			func(d *durablestream.DurableStream) endFunc { return d.Intents().Fail }),
		intentEnd(o, "abort ID", "End an intent as aborted, whoever holds it", "reason", "why",
			func(e *client.End) *string { return &e.Reason },
			func(d *durablestream.DurableStream) endFunc { return d.Intents().Abort }))
	return cmd
}

func intentCreate(o *options) *cobra.Command {
	var s client.IntentSpec
	var actor string
	cmd := &cobra.Command{
		Use:     "create",
		Short:   "Create an intent; prints its id",
		Example: `  dstream intent create --stream ses_1 --agent executor --description 'Refactor Auth' --prompt 'Split the module…' --timeout 10m`,
		Args:    exactArgs(0, "flags only"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			s.Actor = actor
			return withLog(cmd, o, func(ctx context.Context, d *durablestream.DurableStream) error {
				i, err := d.Intents().Create(ctx, s)
				if err != nil {
					return err
				}
				return show(cmd, o, i, func(w io.Writer) error { _, err := fmt.Fprintln(w, i.ID); return err })
			})
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&s.ID, "id", "", "id of the intent (default: a new one)")
	fs.StringVar(&s.StreamID, "stream", "", "the session that the work belongs to")
	fs.StringVar(&actor, "actor", "orchestrator", "who creates it")
	fs.StringVar(&s.Agent, "agent", "", "who is to do it")
	fs.StringVar(&s.Description, "description", "", "what it is")
	fs.StringVar(&s.Prompt, "prompt", "", "what the agent is told")
	fs.DurationVar(&s.Timeout, "timeout", 0, "after this time it fails with reason timeout; 0 is never")
	fs.StringVar(&s.CorrelationID, "correlation", "", "correlation_id (default: a new one)")
	fs.StringVar(&s.CausationID, "causation", "", "causation_id")
	return cmd
}

func intentList(o *options) *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the intents that have not ended",
		Args:  exactArgs(0, "flags only"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return readLog(cmd, o, func(ctx context.Context, d *durablestream.DurableStream) error {
				list, err := d.Intents().List(ctx, !all)
				if err != nil {
					return err
				}
				for i := range list {
					list[i].Overdue = list[i].PastDue(time.Now())
				}
				return show(cmd, o, list, func(w io.Writer) error { return listIntents(w, list) })
			})
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "the ended ones too")
	return cmd
}

func intentShow(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "show ID",
		Short: "Show an intent as JSON",
		Args:  exactArgs(1, "one ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return readLog(cmd, o, func(ctx context.Context, d *durablestream.DurableStream) error {
				i, err := d.Intents().Get(ctx, args[0])
				if err != nil {
					return err
				}
				i.Overdue = i.PastDue(time.Now())
				return printJSON(cmd.OutOrStdout(), i)
			})
		},
	}
}

// leaseAnswer is what `intent claim` prints.
type leaseAnswer struct {
	Intent string         `json:"intent"`
	Holder string         `json:"holder"`
	Token  event.Sequence `json:"token"`
	Until  int64          `json:"until"` // Unix ms
}

func intentClaim(o *options) *cobra.Command {
	var by string
	var lease time.Duration
	var token uint64
	var release bool
	cmd := &cobra.Command{
		Use:   "claim ID",
		Short: "Take, renew or release the lease of an intent",
		Long: `Takes the lease of an intent and prints it as JSON; its token is needed to renew or
release it, and makes "intent complete --token" safe against whoever took over
meanwhile. Exit status 3 when another holds it.`,
		Args: exactArgs(1, "one ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withLog(cmd, o, func(ctx context.Context, d *durablestream.DurableStream) error {
				l := client.Lease{Intent: args[0], Holder: by, Token: event.Sequence(token), Length: lease}
				var err error
				switch {
				case release:
					return d.Intents().Release(ctx, l)
				case token != 0:
					l, err = d.Intents().Renew(ctx, l)
				default:
					l, err = d.Intents().Claim(ctx, args[0], by, lease)
				}
				if err != nil {
					return err
				}
				return printJSON(cmd.OutOrStdout(), leaseAnswer{l.Intent, l.Holder, l.Token, l.Until.UnixMilli()})
			})
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&by, "by", "", "who claims it")
	fs.DurationVar(&lease, "lease", time.Minute, "for how long")
	fs.Uint64Var(&token, "token", 0, "token of the lease to renew or release")
	fs.BoolVar(&release, "release", false, "give the lease of --token back")
	return cmd
}

type endFunc func(context.Context, string, client.End) (projection.Intent, error)

func intentEnd(o *options, use, short, flag, what string, field func(*client.End) *string, end func(*durablestream.DurableStream) endFunc) *cobra.Command {
	var e client.End
	var token uint64
	cmd := &cobra.Command{
		Use:   use,
		Short: short,
		Args:  exactArgs(1, "one ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			e.Token = event.Sequence(token)
			return withLog(cmd, o, func(ctx context.Context, d *durablestream.DurableStream) error {
				i, err := end(d)(ctx, args[0], e)
				if err != nil {
					return err
				}
				return show(cmd, o, i, func(w io.Writer) error {
					_, err := fmt.Fprintf(w, "%s: %s by %s (seq %d)\n", console.OneLine(i.ID, 300), i.Status, console.OneLine(i.EndedBy, 300), i.EndSeq)
					return err
				})
			})
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&e.By, "by", "orchestrator", "who ends it")
	fs.Uint64Var(&token, "token", 0, "token of the lease under which it was done")
	fs.StringVar(field(&e), flag, "", what)
	return cmd
}
