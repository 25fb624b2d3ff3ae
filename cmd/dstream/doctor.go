package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"durablestream"
	"durablestream/internal/console"
	"durablestream/internal/doctor"
	"durablestream/internal/place"
)

func doctorCommand(o *options) *cobra.Command {
	var fix, yes, loss, meta bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Find damage to the log, explain it, and repair it",
		Long: `Looks for damage in --dir: in the store, whether or not a host runs, in the mirror, and
in what a host that was killed left behind. It changes nothing without --fix, asks
before each repair, and deletes nothing of the log: what is replaced is kept in
durable_stream/damaged. A host that runs is ended for a repair of its store. On a node
of a cluster it also compares the node's copy of the log with those of the others,
which it reaches through the node, if that runs, or through --server.

Exit status: 0 nothing is wrong, or all of it was repaired; 1 something is wrong.`,
		Args: exactArgs(0, "flags only"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := filepath.Abs(o.dir)
			if err == nil {
				err = place.AsOwner(o.dir)
			}
			if err != nil {
				return err
			}
			d, err := doctor.Examine(cmd.Context(), doctor.Config{
				Dir: dir, Log: o.config(cmd), Elsewhere: cmd.Flags().Changed("server"), Wait: openWait, Words: cmd.ErrOrStderr(),
				Open: func(change func(*durablestream.Config)) (*durablestream.DurableStream, error) {
					return o.open(cmd, change)
				},
				Say: func(format string, args ...any) {
					if !o.json {
						fmt.Fprintf(cmd.ErrOrStderr(), format+"\n", args...)
					}
				},
				AcceptLoss: loss, RebuildMeta: meta,
			})
			if errors.Is(err, doctor.ErrElsewhere) {
				err = usage(err)
			}
			if err != nil {
				return err
			}
			if fix {
				err = d.Repair(cmd.Context(), askBefore(cmd, yes))
			}
			if perr := show(cmd, o, d.Found, func(w io.Writer) error { return printFindings(w, d.Found) }); err == nil {
				err = perr
			}
			if err != nil {
				return err
			}
			for _, f := range d.Found.Findings {
				if !f.Fixed {
					return &exitError{code: exitFailed}
				}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&fix, "fix", false, "repair what can be repaired, asking first")
	cmd.Flags().BoolVar(&loss, "accept-loss", false, "with --fix: take what nothing proves to be as it was, give up positions that are nowhere any more, and repair the rest")
	cmd.Flags().BoolVar(&meta, "rebuild-meta", false, "with --fix, on each node of a cluster of which all nodes lost the meta group: write it anew from the log's raft group")
	cmd.Flags().BoolVar(&yes, "yes", false, "with --fix: do not ask")
	return cmd
}

// askBefore asks the person before a repair, or, with yes, nobody.
func askBefore(cmd *cobra.Command, yes bool) func(*doctor.Finding) (bool, error) {
	in := bufio.NewReader(console.Interruptible(cmd.Context(), cmd.InOrStdin()))
	return func(f *doctor.Finding) (bool, error) {
		if yes {
			return true, nil
		}
		out := cmd.ErrOrStderr()
		fmt.Fprintf(out, "%s\n  repair: %s\n", f.What, f.Repair)
		if f.Keeps != "" {
			fmt.Fprintf(out, "  kept:   %s\n", f.Keeps)
		}
		if f.Limits != "" {
			fmt.Fprintf(out, "  but:    %s\n", f.Limits)
		}
		fmt.Fprint(out, "Do it? [y/N] ")
		answer, err := in.ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return false, err
		}
		answer = strings.ToLower(strings.TrimSpace(answer))
		return answer == "y" || answer == "yes", nil
	}
}

func printFindings(w io.Writer, a doctor.Answer) error {
	s := console.NewSheet(w)
	s.Line("log of", "%s", a.Dir)
	s.Line("checked", "%s", strings.Join(a.Checked, "; "))
	for _, f := range a.Findings {
		sure := ""
		if !f.Sure {
			sure = " (not sure)"
		}
		s.Line("FOUND", "%s%s", console.OneLine(f.What, 2000), sure)
		switch {
		case f.Outcome != "" && f.Fixed:
			s.Line("", "repaired: %s", console.OneLine(f.Outcome, 2000))
			continue
		case f.Outcome != "": // which tells more than the plan
			s.Line("", "%s", console.OneLine(f.Outcome, 2000))
			continue
		}
		for _, plan := range [][2]string{{"--fix", f.Repair}, {"kept", f.Keeps}, {"but", f.Limits}} {
			if plan[1] != "" {
				s.Line("", "%s: %s", plan[0], plan[1])
			}
		}
	}
	if len(a.Findings) == 0 {
		s.Line("", "nothing is wrong")
	}
	return s.Err()
}
