// Package doctor finds damage to a log, explains it, and repairs it. It looks at the files
// of one host or node, at the host, and at the other nodes of a cluster.
package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"durablestream"
	"durablestream/broker"
	"durablestream/event"
	"durablestream/internal/paths"
)

// Finding is one thing that the doctor has found to be wrong. docs/doctor.md has the
// names.
type Finding struct {
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
	fix func(context.Context) (string, error)
}

// Config says what is examined, and what a repair may do.
type Config struct {
	Dir string // of the log, an absolute path
	// Log is how the log is opened, Servers included, which are those of the other nodes.
	Log durablestream.Config
	// Open opens the log as Log says, with one change.
	Open func(change func(*durablestream.Config)) (*durablestream.DurableStream, error)
	// Elsewhere says that the servers were named for this examination, which is for the
	// nodes of a cluster only: see ErrElsewhere.
	Elsewhere bool
	Wait      time.Duration // for a host that does not answer
	Words     io.Writer     // what the engine's fence logs
	Say       func(format string, args ...any)

	// AcceptLoss takes what nothing proves, gives up what is nowhere, and repairs the rest.
	AcceptLoss bool
	// RebuildMeta writes the meta group of a node again.
	RebuildMeta bool
}

// ErrElsewhere means that a lone host was to be examined through servers.
var ErrElsewhere = errors.New("doctor looks at the files of a host or a node: run it on that machine with --dir; --server is for the other nodes of a cluster")

// Answer is what `doctor --json` prints.
type Answer struct {
	Dir      string     `json:"dir"`
	Findings []*Finding `json:"findings"`
	Checked  []string   `json:"checked"` // what was looked at
}

// Examination is of one directory.
type Examination struct {
	Found Answer

	cfg      Config
	host     string // the host's directory
	managed  *broker.Managed
	held     bool // somebody hosts
	running  int  // the process that hosts, if it is proven to be one of this machine, else 0
	reached  bool // the host answers, wherever it runs
	ended    bool // it was ended for a repair that is under way
	diverged bool // this node's copy of the log is not as the others are,
	agrees   bool // or is as those of a majority
	metaLost bool // the engine would take this node's copy of the log for an orphan
	dropped  bool // this node's copy was taken away by an earlier repair

	behind *Finding       // the mirror lacks lines at its end, up to the position upTo:
	upTo   event.Sequence // a host that runs may be about to write them
}

// Examine looks at everything. Its error means that it could not.
func Examine(ctx context.Context, cfg Config) (*Examination, error) {
	d := &Examination{cfg: cfg, host: filepath.Join(cfg.Dir, durablestream.HostDir), Found: Answer{Dir: cfg.Dir, Findings: []*Finding{}}}
	return d, d.examine(ctx)
}

// readManaged reads what the store must be hosted as. What cannot be read is another
// finding.
func (d *Examination) readManaged() error {
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
func (d *Examination) clustered() bool { return d.managed != nil && d.managed.Cluster != "" }

// hosts reports that there is a host that can be asked or ended.
func (d *Examination) hosts() bool { return d.running != 0 || d.reached }

// who names the host.
func (d *Examination) who() string {
	if d.running != 0 {
		return fmt.Sprintf("the host, process %d", d.running)
	}
	return "the host, which runs in another container"
}

func (d *Examination) add(f Finding) { d.Found.Findings = append(d.Found.Findings, &f) }

// Repair repairs what was found, one after the other, in the order in which it was found.
// want is asked before each repair.
func (d *Examination) Repair(ctx context.Context, want func(*Finding) (bool, error)) error {
	for _, f := range d.Found.Findings {
		if f.fix == nil || f.Fixed {
			continue
		}
		ok, err := want(f)
		if err != nil {
			return err
		}
		if !ok {
			f.Outcome = "not repaired: it was not wanted"
			continue
		}
		outcome, err := f.fix(ctx)
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

// aside gives a new directory for what is replaced.
func (d *Examination) aside() (string, error) {
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
