package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"durablestream"
	"durablestream/broker"
	"durablestream/event"
	"durablestream/internal/address"
	"durablestream/internal/blocks"
	"durablestream/internal/console"
	"durablestream/internal/engine"
	"durablestream/internal/paths"
	"durablestream/internal/wait"
	"durablestream/internal/wire"
	"durablestream/mirror"
)

// seen is what the files hold.
type seen struct {
	blocks string // directory; "": there is no store
	first  event.Sequence
	last   event.Sequence // which the store must hold at least
	report blocks.Report
	part   *blocks.Part    // of a batch, with which it ends; nil: none, or the store is damaged, or a node's
	mirror mirror.Salvaged // with what the mirror has of what the store has lost
	// foreign is where lines that are proven to be as they were written are not what the
	// store holds: the one or the other is not this log's.
	foreign  error
	conflict conflict // all of that
	// unreadable is why a node's copy cannot be read at all; nothing else is known then.
	unreadable error
}

// read reads the store and the mirror.
func (d *Examination) read() (s seen, err error) {
	dirs, err := blocks.Find(filepath.Join(d.host, broker.StoreDir))
	if err == nil && len(dirs) > 1 {
		err = fmt.Errorf("the store holds %d logs: %v; move away those that are not this one", len(dirs), dirs)
	}
	if err != nil {
		return s, err
	}
	lines, err := mirror.Salvage(d.cfg.Dir, nil)
	if err != nil {
		return s, err
	}
	s.mirror = lines
	if len(dirs) == 0 {
		return s, nil
	}
	s.blocks, s.first = dirs[0], blocks.Begins(dirs[0])
	s.last, _ = blocks.LastWritten(s.blocks)
	s.last = max(s.last, blocks.ReadChecked(filepath.Join(d.host, broker.StoreDir, blocks.CheckedFile), s.blocks).Last) // as a host does
	own := s.last
	if !d.clustered() { // a node's blocks may lack what is in its raft log alone
		s.last = max(s.last, lines.Last)
	}
	if s.report, err = blocks.Check(s.blocks, s.first, s.last); err != nil {
		if d.clustered() {
			s.unreadable, err = err, nil
		}
		return s, err
	}
	if len(s.report.Damage) == 0 && !d.clustered() {
		if s.part, err = blocks.OpenEnd(s.blocks); err != nil {
			return s, err
		}
	}
	if _, s.foreign, err = d.compare(s, true); err != nil {
		return s, err
	}
	if s.foreign != nil && s.last > own { // what it has more tells nothing of the store
		s.last = own
		if s.report, err = blocks.Check(s.blocks, s.first, s.last); err != nil {
			return s, err
		}
	}
	if s.foreign != nil {
		if s.conflict, err = d.conflict(s); err != nil {
			return s, err
		}
	}
	if len(s.report.Damage) > 0 {
		s.mirror, err = mirror.Salvage(d.cfg.Dir, ranges(s.report))
	}
	return s, err
}

func ranges(rep blocks.Report) (out []wire.Range) {
	for _, d := range rep.Damage {
		out = append(out, d.Range)
	}
	return out
}

// lookAtFiles compares the store with itself and with the mirror.
func (d *Examination) lookAtFiles(ctx context.Context) error {
	if unknown := broker.CheckEngine(); unknown != nil {
		d.add(Finding{Name: FoundEngine, Sure: true, What: unknown.Error() + "; a dstream that knows them can check it"})
		return nil //nolint:nilerr // it is what was found
	}
	s, err := d.read()
	if err == nil && (len(s.report.Damage) > 0 || s.part != nil) && d.hosts() { // the engine may have been exchanging a file, or storing a batch
		if err := wait.For(ctx, time.Second); err != nil {
			return err
		}
		s, err = d.read()
	}
	if err != nil {
		return err
	}
	if s.unreadable != nil {
		d.add(d.replaceCopy(Finding{Name: FoundStore, Sure: true, What: fmt.Sprintf("this node's copy of the log cannot be read: %v", s.unreadable)}))
		return nil //nolint:nilerr // which is a finding
	}
	d.checked(fmt.Sprintf("store: %s, position %d", console.Count(s.report.Records, "message"), s.report.Last))
	d.checked(fmt.Sprintf("mirror: position %d", s.mirror.Last))
	if d.halfRestored(s) {
		return nil
	}
	if s.blocks == "" {
		if s.mirror.Last > 0 && !d.clustered() { // a node copies the log from the others
			d.add(d.goneFinding(s))
		}
		return nil
	}
	if len(s.report.Damage) > 0 {
		d.add(d.storeFinding(s))
	}
	if s.part != nil {
		d.tornFinding(s)
	}
	if d.clustered() && !address.Stopped(d.running) {
		d.compareNodes(ctx, s)
	}
	behind, disagree, err := d.compare(s, false)
	if err != nil {
		return err
	}
	if !d.diverged && !d.mayRewrite(s) {
		d.conflictFinding(s)
		return nil
	}
	problem := s.mirror.Problem
	if problem == nil && !d.diverged { // else it is the copy of the log that is wrong
		problem = disagree
	}
	var torn *mirror.TornError
	switch {
	case errors.As(problem, &torn), problem == nil && behind > 0:
		if len(s.report.Damage) == 0 {
			d.mirrorEnds(s, problem, behind)
		}
	case problem != nil:
		d.mirrorFinding(s, problem)
	}
	return nil
}

// mirrorFinding is about a mirror that is not what was written.
func (d *Examination) mirrorFinding(s seen, problem error) {
	f := Finding{Name: FoundMirror, Sure: true, What: inDoctor(problem)}
	var original *mirror.OriginalError
	if s.report.Records > 0 && !errors.As(problem, &original) {
		f.Repair = "moves the mirror's files away and writes them anew from the log, which is whole" + d.ends()
		if len(s.report.Damage) > 0 {
			f.Repair = "once the store is repaired, moves the mirror's files away and writes them anew from it"
		}
		f.Keeps = "the files as they are, in durable_stream/" + broker.DamagedDir
		f.fix = d.rewriteMirror
	}
	if s.mirror.Problem == nil && d.clustered() && !d.agrees {
		f.What += "; the other nodes tell which of the two is right: let this one run, or give --server of another one"
		f.Sure, f.Repair, f.Keeps, f.fix = false, "", "", nil
	}
	d.add(f)
}

// mirrorEnds is about a mirror that only lacks lines at its end. While a host runs, it
// writes them, and askHost looks whether it does.
func (d *Examination) mirrorEnds(s seen, torn error, behind uint64) {
	what := (&mirror.BehindError{File: filepath.Join(d.cfg.Dir, durablestream.MirrorFile), After: s.mirror.Last, LogSeq: s.settled(), Events: behind}).Error()
	if torn != nil {
		what = torn.Error()
	}
	f := Finding{Name: FoundBehind, Sure: true, What: what + ". Nothing is lost by that", Repair: "hosts the log for a moment, which writes the missing lines" + d.ends(), fix: d.completeMirror}
	if d.managed != nil {
		f.Repair, f.fix = "", nil // only a host with its flags may have the log
	}
	if !d.held {
		d.add(f)
		return
	}
	d.behind, d.upTo = &f, s.settled()
}

func (d *Examination) ends() string {
	if !d.hosts() {
		return ""
	}
	return fmt.Sprintf("; ends %s, for that", d.who())
}

func (d *Examination) halfRestored(s seen) bool {
	if s.blocks == "" {
		return false
	}
	var cfg jetstream.StreamConfig
	b, err := paths.ReadFile(filepath.Join(filepath.Dir(s.blocks), engine.ConfigFile))
	if err != nil || json.Unmarshal(b, &cfg) != nil || !wire.IsRestoring(cfg) {
		return false
	}
	d.add(Finding{Name: FoundRestore, Sure: true, What: wire.ErrRestoring.Error()})
	return true
}

// replaceCopy lets the others replace what is wrong with this node's copy of the log.
func (d *Examination) replaceCopy(f Finding) Finding {
	f.Repair = "takes this node's copy of the log away; when the node is started again, it copies the log from the others" + d.ends()
	f.Keeps = "the copy as it is, in durable_stream/" + broker.DamagedDir
	f.Limits = "only while a majority of the nodes holds the log whole without this one: the repair asks them first"
	f.fix = d.dropReplica
	return f
}

// storeFinding says what is damaged and what can be done.
func (d *Examination) storeFinding(s seen) Finding {
	f := Finding{Name: FoundStore, Sure: true}
	words := make([]string, 0, len(s.report.Damage))
	total := uint64(0)
	for i, x := range s.report.Damage {
		total += x.Count()
		if i < 5 {
			words = append(words, x.String())
		}
	}
	if n := len(s.report.Damage); n > 5 {
		words = append(words, fmt.Sprintf("and %d more", n-5))
	}
	f.What = fmt.Sprintf("the store cannot read %s: %s", console.Count(total, "position"), strings.Join(words, "; "))
	if d.clustered() {
		return d.replaceCopy(f)
	}
	events, voids := 0, 0
	for _, m := range s.mirror.Messages {
		if kind, _, ok := wire.ParseGuardSubject(m.Subject); ok && kind == event.GuardVoid {
			voids++
		} else {
			events++
		}
	}
	f.Repair = fmt.Sprintf("writes the damaged blocks anew: a record of which one byte was changed is put right, which its checksum proves; "+
		"the others come from copies of the block, or from the mirror, which knows %d of them%s", events, d.ends())
	f.Keeps = "every other record, and the damaged blocks, in durable_stream/" + broker.DamagedDir
	if rest := total - min(total, uint64(events)); rest > 0 {
		f.Limits = fmt.Sprintf("of %d of them the mirror has no line that can be read: they were no events (leases, barriers), came after its end, or their lines are damaged or gone; should an event be lost, nothing is changed without --accept-loss", rest)
	}
	f.fix = d.mendStore
	return f
}
