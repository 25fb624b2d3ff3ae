package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"durablestream"
	"durablestream/broker"
	"durablestream/event"
	"durablestream/internal/console"
	"durablestream/internal/paths"
	"durablestream/internal/place"
)

// finding is one thing that the doctor has found to be wrong. docs/doctor.md has the
// names.
type finding struct {
	Name    string `json:"finding"`
	Sure    bool   `json:"sure"`
	What    string `json:"what"`             // is wrong
	Repair  string `json:"repair,omitempty"` // what --fix does; "": it can do nothing
	Keeps   string `json:"keeps,omitempty"`  // what is kept of what was
	Limits  string `json:"limits,omitempty"` // what the repair cannot do
	Fixed   bool   `json:"fixed"`
	Changed bool   `json:"changed"`           // the repair has changed something, whether or not it was enough
	Outcome string `json:"outcome,omitempty"` // of the repair

	// fix repairs it, and says what it has done. An error with words means that it has
	// changed something, and that this was not enough; one without, that it has not.
	fix func(*doctor) (string, error)
}

type doctorAnswer struct {
	Dir      string     `json:"dir"`
	Findings []*finding `json:"findings"`
	Checked  []string   `json:"checked"` // what was looked at
}

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
			d := &doctor{o: o, cmd: cmd, dir: dir, host: filepath.Join(dir, durablestream.HostDir), acceptLoss: loss, rebuildMeta: meta}
			if err := d.examine(); err != nil {
				return err
			}
			if fix {
				err = d.repair(yes)
			}
			if perr := d.print(); err == nil {
				err = perr
			}
			if err != nil {
				return err
			}
			for _, f := range d.found.Findings {
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

// doctor examines one directory.
type doctor struct {
	o          *options
	cmd        *cobra.Command
	dir, host  string // the log's directory, and the host's in it
	managed    *broker.Managed
	held       bool // somebody hosts
	running    int  // the process that hosts, if it is proven to be one of this machine, else 0
	reached    bool // the host answers, wherever it runs
	ended      bool // it was ended for a repair that is under way
	diverged   bool // this node's copy of the log is not as the others are,
	agrees     bool // or is as those of a majority
	acceptLoss bool
	// metaLost: the engine would take this node's copy of the log for an orphan.
	metaLost    bool
	rebuildMeta bool
	dropped     bool // this node's copy was taken away by an earlier repair
	found       doctorAnswer

	behind *finding       // the mirror lacks lines at its end, up to the position upTo:
	upTo   event.Sequence // a host that runs may be about to write them
}

// readManaged reads what the store must be hosted as. What cannot be read is another
// finding.
func (d *doctor) readManaged() error {
	b, err := paths.ReadFile(filepath.Join(d.host, broker.ManagedFile))
	if err != nil {
		return nil //nolint:nilerr // it is a lone host's, or examine says more
	}
	d.managed = &broker.Managed{}
	if err := json.Unmarshal(b, d.managed); err != nil {
		return fmt.Errorf("%s cannot be read: %w", broker.ManagedFile, err)
	}
	return nil
}

// clustered: the store is a node's.
func (d *doctor) clustered() bool { return d.managed != nil && d.managed.Cluster != "" }

// hosts reports that there is a host that can be asked or ended.
func (d *doctor) hosts() bool { return d.running != 0 || d.reached }

// who names the host.
func (d *doctor) who() string {
	if d.running != 0 {
		return fmt.Sprintf("the host, process %d", d.running)
	}
	return "the host, which runs in another container"
}

func (d *doctor) say(format string, args ...any) {
	if !d.o.json {
		fmt.Fprintf(d.cmd.ErrOrStderr(), format+"\n", args...)
	}
}

func (d *doctor) add(f finding) { d.found.Findings = append(d.found.Findings, &f) }

// repair fixes what was found, one after the other, in the order in which it was found.
func (d *doctor) repair(yes bool) error {
	in := bufio.NewReader(interruptible{d.cmd.Context(), d.cmd.InOrStdin()})
	for _, f := range d.found.Findings {
		if f.fix == nil || f.Fixed {
			continue
		}
		if !yes {
			ok, err := d.ask(in, f)
			if err != nil {
				return err
			}
			if !ok {
				f.Outcome = "not repaired: it was not wanted"
				continue
			}
		}
		outcome, err := f.fix(d)
		f.Outcome, f.Fixed, f.Changed = outcome, err == nil, outcome != ""
		var running *notEndedError
		switch {
		case errors.As(err, &running) && !f.Changed:
			f.Outcome = "not repaired, and nothing of the log was changed: " + inDoctor(err)
		case err != nil && f.Changed:
			f.Outcome = fmt.Sprintf("not all of it was repaired: %s; but %s", outcome, inDoctor(err))
		case err != nil:
			f.Outcome = "not repaired, and nothing was changed: " + inDoctor(err)
		}
		if d.ended {
			f.Outcome += ". The host was ended for that: start it again"
			d.ended = false
		}
	}
	return nil
}

func (d *doctor) ask(in *bufio.Reader, f *finding) (bool, error) {
	out := d.cmd.ErrOrStderr()
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

func (d *doctor) print() error {
	if d.o.json {
		if d.found.Findings == nil {
			d.found.Findings = []*finding{}
		}
		return printJSON(d.cmd.OutOrStdout(), d.found)
	}
	s := console.NewSheet(d.cmd.OutOrStdout())
	s.Line("log of", "%s", d.dir)
	s.Line("checked", "%s", strings.Join(d.found.Checked, "; "))
	for _, f := range d.found.Findings {
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
	if len(d.found.Findings) == 0 {
		s.Line("", "nothing is wrong")
	}
	return s.Err()
}

// aside gives a new directory for what is replaced.
func (d *doctor) aside() (string, error) {
	dir := filepath.Join(d.host, broker.DamagedDir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	return os.MkdirTemp(dir, "replaced-"+stamp()+"-")
}

// removeEmpty takes away what aside made, if nothing was put there.
func removeEmpty(dir string) {
	if os.Remove(dir) == nil {
		_ = os.Remove(filepath.Dir(dir)) // fails while it holds something
	}
}
