package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"durablestream"
	"durablestream/internal/agents"
	"durablestream/internal/agents/opencode"
	"durablestream/internal/console"
)

func opencodeCommand(o *options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "opencode",
		Short: "Install the plugin for OpenCode; tell what a crash of it left behind, and go on",
		Args:  exactArgs(0, "a subcommand"),
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(opencodeRecover(o))
	return cmd
}

func opencodeRecover(o *options) *cobra.Command {
	var all bool
	var session, dismiss, url, by string
	cmd := &cobra.Command{
		Use:   "recover",
		Short: "Tell which sessions of OpenCode were interrupted, and continue one",
		Long: `Tells which sessions were interrupted: what they were asked, their last text, the calls
whose outcome is unknown, the questions that are still open. Sessions that are at work in
an OpenCode that runs are only counted.

Nothing is continued by itself. With --continue that one session is prompted again,
through the HTTP API of an OpenCode that runs in the same project, with a prompt that
tells the model what was interrupted.`,
		Example: `  dstream opencode recover
  opencode serve --port 4096
  dstream opencode recover --continue ses_… --url http://127.0.0.1:4096`,
		Args: func(cmd *cobra.Command, args []string) error {
			switch set := cmd.Flags().Changed; {
			case len(args) > 0:
				return exactArgs(0, "flags only")(cmd, args)
			case set("continue") && session == "" || set("dismiss") && dismiss == "":
				return usage(errors.New("--continue and --dismiss take the id of a session: 'dstream opencode recover' lists them"))
			case session != "" && dismiss != "":
				return usage(errors.New("--continue and --dismiss exclude each other"))
			case set("url") && session == "":
				return usage(errors.New("--url goes with --continue"))
			case dismiss != "" && by == "":
				return usage(errors.New("--dismiss needs --by: who says that the session is not to be continued"))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withLog(cmd, o, func(ctx context.Context, d *durablestream.DurableStream) error {
				switch {
				case session != "":
					return continueSession(ctx, cmd, o, d, session, url)
				case dismiss != "":
					return dismissSession(ctx, cmd, o, d, dismiss, by)
				}
				r, err := recoverOpenCode(ctx, o, d, all)
				if err != nil {
					return err
				}
				return show(cmd, o, r, func(w io.Writer) error { return printRecovered(w, r) })
			})
		},
	}
	f := cmd.Flags()
	f.BoolVar(&all, "all", false, "also sessions that went on since, of which a call has an unknown outcome")
	f.StringVar(&session, "continue", "", "prompt this session again")
	f.StringVar(&url, "url", "http://127.0.0.1:4096", "where OpenCode listens, for --continue (with the password of $OPENCODE_SERVER_PASSWORD, if it has one)")
	f.StringVar(&dismiss, "dismiss", "", "this session is not to be continued: its open questions are cancelled, and it is not told of again")
	f.StringVar(&by, "by", "", "who says so, for --dismiss")
	return cmd
}

func printRecovered(w io.Writer, r opencode.Recovered) error {
	if len(r.Sessions) == 0 {
		fmt.Fprintln(w, "No session of OpenCode was interrupted, and none has an open question.")
	}
	for i, s := range r.Sessions {
		if i > 0 {
			fmt.Fprintln(w)
		}
		fmt.Fprint(w, console.Plain(s.Story))
	}
	if r.AtWork > 0 {
		fmt.Fprintf(w, "\n%s at work in an OpenCode that runs.\n", console.Count(r.AtWork, "session"))
	}
	if len(r.Sessions) == 0 {
		return nil
	}
	fmt.Fprintf(w, "\nGo on with one:    %s opencode recover --continue SESSION --url http://127.0.0.1:PORT\n", console.Self())
	printAnswers(w, r.Sessions)
	fmt.Fprintf(w, "Let one rest:      %s opencode recover --dismiss SESSION --by YOU\n", console.Self())
	return nil
}

// printAnswers tells by which command each open question is answered.
func printAnswers(w io.Writer, sessions []opencode.RecoveredSession) {
	const most = 5
	var open []opencode.Question
	for _, s := range sessions {
		open = append(open, s.Questions...)
	}
	label := "Answer a question:"
	for i, q := range open {
		if i == most {
			fmt.Fprintf(w, "%18s %s checkpoint list shows %d more\n", "", console.Self(), len(open)-most)
			return
		}
		fmt.Fprintf(w, "%18s %s checkpoint approve %s --by YOU%s\n", label, console.Self(), console.OneLine(opencode.ShellWord(q.ID), 400), console.OneLine(opencode.Choice(q.Checkpoint), 2000))
		label = ""
	}
}

// recoverOpenCode reads the log for what OpenCode left behind.
func recoverOpenCode(ctx context.Context, o *options, d *durablestream.DurableStream, all bool) (opencode.Recovered, error) {
	runs := agents.Presence{Dir: filepath.Join(o.runs(), opencode.Agent().Name)}
	return agents.Recover(ctx, d.Client(), &opencode.Fold{}, runs, all)
}

// leftBehind finds a session among what was left behind.
func leftBehind(ctx context.Context, o *options, d *durablestream.DurableStream, id string) (opencode.RecoveredSession, error) {
	r, err := recoverOpenCode(ctx, o, d, true)
	if err != nil {
		return opencode.RecoveredSession{}, err
	}
	for _, s := range r.Sessions {
		if s.ID == id {
			return s, nil
		}
	}
	return opencode.RecoveredSession{}, fmt.Errorf("session %s was not interrupted, or is at work in an OpenCode that runs: 'dstream opencode recover' lists those that were", id)
}

func dismissSession(ctx context.Context, cmd *cobra.Command, o *options, d *durablestream.DurableStream, id, by string) error {
	s, err := leftBehind(ctx, o, d, id)
	if err != nil {
		return err
	}
	end, err := d.Sessions().Abort(ctx, s.ID, by, "not continued after it was interrupted")
	if err != nil {
		return err
	}
	return show(cmd, o, end, func(w io.Writer) error {
		fmt.Fprintf(w, "Session %s is not told of again; %s cancelled.\n", s.ID, console.Count(len(end.Checkpoints), "question"))
		return nil
	})
}

// continueSession prompts an interrupted session again.
func continueSession(ctx context.Context, cmd *cobra.Command, o *options, d *durablestream.DurableStream, id, url string) error {
	s, err := leftBehind(ctx, o, d, id)
	if err != nil {
		return err
	}
	api := opencode.API{URL: url, User: os.Getenv("OPENCODE_SERVER_USERNAME"), Password: os.Getenv("OPENCODE_SERVER_PASSWORD")}
	err = api.Continue(ctx, s)
	var wrong *opencode.URLError
	if errors.As(err, &wrong) {
		return usage(fmt.Errorf("--url %w", err))
	}
	if err != nil {
		return err
	}
	return show(cmd, o, map[string]any{"continued": id, "url": url, "prompt": s.Continue()}, func(w io.Writer) error {
		fmt.Fprintf(w, "Session %s goes on in the OpenCode at %s.\n", id, url)
		return nil
	})
}
