package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"durablestream/internal/console"
	"durablestream/mirror"
)

func mirrorCommand(o *options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "mirror",
		Short: "Look after the canonical JSONL file",
		Args:  exactArgs(0, "a subcommand"),
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(&cobra.Command{
		Use:   "verify",
		Short: "Compare the mirror's files with their chain and with the log",
		Long: `Reads every line of the mirror's files, checks the chain that runs through them,
and compares each with the log. Names the first line that is wrong; the exit status
is then 1. Nothing is changed.`,
		Args: exactArgs(0, "flags only"),
		RunE: func(cmd *cobra.Command, _ []string) error { return verify(cmd, o) },
	})
	return cmd
}

// verifyAnswer is what `mirror verify --json` prints.
type verifyAnswer struct {
	mirror.Report
	Clean   bool   `json:"clean"`
	Problem string `json:"problem,omitempty"`
}

func verify(cmd *cobra.Command, o *options) (err error) {
	d, err := o.toRead(cmd, onlyLook)
	if err != nil {
		return err
	}
	defer closing(d, &err)
	report, err := mirror.Verify(cmd.Context(), mirror.Config{Client: d.Client(), Dir: d.Dir()})
	if err != nil {
		return err
	}
	if o.json {
		a := verifyAnswer{Report: report, Clean: report.Problem == nil}
		if report.Problem != nil {
			a.Problem = report.Problem.Error()
		}
		if err := printJSON(cmd.OutOrStdout(), a); err != nil {
			return err
		}
	}
	if report.Problem != nil {
		return report.Problem
	}
	if !o.json {
		fmt.Fprintf(cmd.OutOrStdout(), "clean: %s in %s, sequences %d to %d, equal to the log\n",
			console.Count(report.Lines, "line"), console.Count(report.Files, "file"), report.First, report.Last)
		if report.Anchored {
			fmt.Fprintln(cmd.OutOrStdout(), "older files are gone: the chain is taken on trust at the first line that is left")
		}
	}
	return nil
}
