package doctor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"durablestream"
	"durablestream/broker"
	"durablestream/internal/address"
	"durablestream/internal/blocks"
	"durablestream/internal/engine"
	"durablestream/internal/wait"
	"durablestream/internal/wire"
	"durablestream/mirror"
)

// hostEnds is how long a host has to end: it writes its mirror first.
const hostEnds = 90 * time.Second

// holderEnds is how long a host that cannot be told has: it may be ending just now.
const holderEnds = 3 * time.Second

func stamp() string { return time.Now().UTC().Format("20060102T150405") }

// stopHost ends the host, if there is one, and keeps everybody from hosting until
// release.
func (d *Examination) stopHost(ctx context.Context) (release func() error, err error) {
	repair, err := broker.Repair(d.host)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, repair())
		}
	}()
	told, patience := "", hostEnds
	var cannot error
	if d.held || d.hosts() {
		d.cfg.Say("ending %s", d.who())
		if told, cannot = d.tellToEnd(); cannot != nil {
			patience = holderEnds
		}
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		hold, err := broker.Hold(d.host)
		if err == nil {
			d.ended = d.ended || d.hosts()
			d.running, d.reached, d.held = 0, false, false
			return func() error { return errors.Join(hold(), repair()) }, nil
		}
		var locked *broker.LockedError
		if !errors.As(err, &locked) {
			return nil, err
		}
		if wait.For(ctx, 20*time.Millisecond) == nil {
			continue
		}
		switch {
		case told != "":
			return nil, &notEndedError{told, err}
		case cannot != nil:
			return nil, fmt.Errorf("%w; %w", cannot, err)
		}
		return nil, fmt.Errorf("whoever holds the lock does not end: %w", err)
	}
}

// tellToEnd has the host end, and says how it was told. It is asked itself, which also
// reaches it in another container. One that does not answer, or is of an earlier version,
// gets a signal, but only where it is proven to be the process that holds the lock: a
// process id in a file may be that of anybody here.
func (d *Examination) tellToEnd() (told string, err error) {
	err = address.End(d.host)
	if err == nil {
		return d.who() + ", was asked to end", nil
	}
	pid := address.Holder(d.host, d.running)
	if pid == 0 {
		return "", fmt.Errorf("the host cannot be asked to end (%w), and no process of this machine is proven to hold the lock: end it where it runs, and run doctor again", err)
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		return "", fmt.Errorf("cannot end the host, process %d: %w; end it and run doctor again", pid, err)
	}
	return fmt.Sprintf("the host, process %d, was told to end (SIGTERM)", pid), nil
}

// notEndedError is a host that was told to end, and still hosts.
type notEndedError struct {
	told string
	err  error
}

func (e *notEndedError) Error() string {
	return fmt.Sprintf("%s and has not ended yet, though it may soon; see whether it has, run doctor again, and start the host again: %v", e.told, e.err)
}

func (e *notEndedError) Unwrap() error { return e.err }

// mendStore brings back what a lone host's store has lost.
func (d *Examination) mendStore(ctx context.Context) (outcome string, err error) {
	if d.hosts() { // it goes on if there is no use in ending it
		s, err := d.read()
		if err != nil {
			return "", err
		}
		if _, err := d.mendBlocks(ctx, s, ""); err != nil {
			return "", err
		}
	}
	release, err := d.stopHost(ctx)
	if err != nil {
		return "", err
	}
	s, outcome, err := d.mendKept(ctx)
	if rerr := release(); err == nil {
		err = rerr
	}
	if err != nil {
		return outcome, err
	}
	if s.mirror.Problem != nil || s.foreign != nil || d.managed != nil { // else only a host with its flags may have it
		return outcome, nil //nolint:nilerr // which is another finding
	}
	if err := d.verify(ctx); err != nil {
		return outcome, fmt.Errorf("the log was not compared with the mirror: %w", err)
	}
	return outcome + "; the log and the mirror are equal", nil
}

// mendKept repairs the files of the store, and keeps those that it replaces. It has
// changed nothing where it returns no words.
func (d *Examination) mendKept(ctx context.Context) (s seen, outcome string, err error) {
	if s, err = d.read(); err != nil {
		return s, "", err
	}
	if len(s.report.Damage) == 0 {
		return s, "the store is whole by now", nil
	}
	keep, err := d.aside()
	if err != nil {
		return s, "", err
	}
	defer removeEmpty(keep)
	outcome, err = d.mendBlocks(ctx, s, keep)
	return s, outcome, err
}

// mendBlocks brings back what can be, or, where keep is "", looks whether it can.
func (d *Examination) mendBlocks(ctx context.Context, s seen, keep string) (outcome string, err error) {
	if s.foreign != nil && !d.cfg.AcceptLoss {
		return "", fmt.Errorf("%w, where both can be read: one of them is not this log's; put the right files back, or let --accept-loss repair the store without the mirror", s.foreign)
	}
	k := knowledge{s, d.cfg.AcceptLoss}
	done, lost, err := blocks.Repair(ctx, s.blocks, filepath.Join(d.host, broker.DamagedDir), keep, s.first, s.last, blocks.Known{Record: k.record, Body: k.body})
	switch {
	case err != nil && len(done) > 0:
		return "some blocks were written anew; as they were they are in " + keep, fmt.Errorf("then: %w; run it again", err)
	case err != nil:
		return "", err
	case len(lost) > 0:
		return "", k.lost(lost)
	case keep == "":
		return "", nil
	}
	again, err := blocks.Check(s.blocks, s.first, s.last)
	if err == nil && len(again.Damage) > 0 {
		err = fmt.Errorf("now %s", again.Damage[0])
	}
	return k.words(done) + "; the blocks as they were are in " + keep, err
}

// headerBytes writes headers as NATS sends them.
func headerBytes(m *nats.Msg) []byte {
	if len(m.Header) == 0 {
		return nil
	}
	var b strings.Builder
	b.WriteString("NATS/1.0\r\n")
	names := make([]string, 0, len(m.Header))
	for name := range m.Header {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		for _, v := range m.Header[name] {
			b.WriteString(name + ": " + v + "\r\n")
		}
	}
	b.WriteString("\r\n")
	return []byte(b.String())
}

// verify hosts the log for a moment: the engine must take the store, and the mirror
// must be equal to it, line by line.
func (d *Examination) verify(ctx context.Context) (err error) {
	d.cfg.Say("comparing the log with the mirror")
	if err := d.unmark(ctx); err != nil {
		return err
	}
	log, err := d.cfg.Open(func(cfg *durablestream.Config) { cfg.Servers, cfg.Command.NoSweeper = nil, true })
	if err != nil {
		return err
	}
	defer closing(log, &err)
	rep, err := mirror.Verify(ctx, mirror.Config{Client: log.Client(), Dir: d.cfg.Dir, VerifyWait: 10 * time.Second})
	if err == nil {
		err = rep.Problem
	}
	return err
}

// unmark takes the mark of a damaged store off. A host finds out by itself that it is
// whole, a little later, and until then its mirror stops there.
func (d *Examination) unmark(ctx context.Context) (err error) {
	log, err := d.cfg.Open(func(cfg *durablestream.Config) {
		cfg.Servers, cfg.Command.NoSweeper, cfg.Command.NoMirror = nil, true, true
	})
	if err != nil {
		return err
	}
	defer closing(log, &err)
	if !log.Hosting() {
		return nil // another process hosts by now, and takes it off itself
	}
	js, err := jetstream.New(log.Admin().Conn())
	if err != nil {
		return err
	}
	s, err := js.Stream(ctx, wire.LogName)
	if err != nil {
		return err
	}
	cfg := wire.MarkDamaged(s.CachedInfo().Config, "", nil)
	if !wire.SameMarks(cfg, s.CachedInfo().Config) {
		_, err = js.UpdateStream(ctx, cfg)
	}
	return err
}

// dropReplica takes a node's copy of the log away, with what its raft group keeps.
func (d *Examination) dropReplica(ctx context.Context) (outcome string, err error) {
	if d.dropped {
		return "this node's copy was taken away by the repair before", nil
	}
	if err := d.othersAreWhole(ctx); err != nil {
		return "", err
	}
	release, err := d.stopHost(ctx)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, release()) }()
	keep, err := d.aside()
	if err != nil {
		return "", err
	}
	store := filepath.Join(d.host, broker.StoreDir, engine.StoreDir)
	var moved []string
	patterns := []string{filepath.Join("*", engine.StreamsDir, wire.LogName), filepath.Join("*", engine.RaftDir, engine.StreamGroup+"*")}
	if d.metaLost {
		patterns = append(patterns, filepath.Join("*", engine.RaftDir, engine.MetaGroup))
	}
	for _, pattern := range patterns {
		found, err := blocks.Glob(store, pattern)
		if err != nil {
			return "", err
		}
		for _, path := range found {
			if err := os.Rename(path, filepath.Join(keep, filepath.Base(path))); err != nil {
				return "", err
			}
			moved = append(moved, path)
		}
	}
	if len(moved) == 0 {
		return "", fmt.Errorf("there is no copy of the log in %s", store)
	}
	d.dropped = true
	// What it tells of the copy that has gone is not true of the next one, which begins empty.
	if err := os.Rename(filepath.Join(d.host, broker.StoreDir, blocks.CheckedFile), filepath.Join(keep, blocks.CheckedFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return "this node's copy is in " + keep, err
	}
	if d.diverged { // its mirror may have been written from what was wrong
		if err := d.moveMirror(keep); err != nil {
			return "this node's copy is in " + keep, err
		}
	}
	return fmt.Sprintf("a majority of the others holds the log whole, and this node's copy is in %s: when the node %s is started again, it copies the log from them, and 'dstream status' tells when it has", keep, d.managed.Node), nil
}

// rewriteMirror writes the mirror anew from a log that is whole.
func (d *Examination) rewriteMirror(ctx context.Context) (outcome string, err error) {
	release, err := d.stopHost(ctx)
	if err != nil {
		return "", err
	}
	keep, err := d.setMirrorAside()
	if rerr := release(); err == nil {
		err = rerr
	}
	if keep != "" {
		outcome = fmt.Sprintf("the mirror's files as they were are in %s", keep)
	}
	if err != nil {
		return outcome, err
	}
	if d.managed != nil {
		return outcome + ": start the host again, and it writes them anew", nil
	}
	if err := d.verify(ctx); err != nil {
		return outcome, fmt.Errorf("they were not written anew: %w", err)
	}
	return "the mirror was written anew, and is equal to the log; " + outcome, nil
}

// setMirrorAside moves the mirror's files away, if the log is whole.
func (d *Examination) setMirrorAside() (keep string, err error) {
	s, err := d.read()
	if err != nil {
		return "", err
	}
	if len(s.report.Damage) > 0 {
		return "", errors.New("the mirror is written anew from the log, and that must be repaired first")
	}
	if !d.cfg.AcceptLoss && !d.mayRewrite(s) {
		return "", fmt.Errorf("%s; %s", s.conflict, d.waysOut())
	}
	if keep, err = d.aside(); err != nil {
		return "", err
	}
	return keep, d.moveMirror(keep)
}

// completeMirror lets a host write what is missing at the mirror's end.
func (d *Examination) completeMirror(ctx context.Context) (outcome string, err error) {
	release, err := d.stopHost(ctx)
	if err != nil {
		return "", err
	}
	if err := release(); err != nil {
		return "", err
	}
	if err := d.verify(ctx); err != nil {
		return "", err
	}
	return "the missing lines were written, and the mirror is equal to the log", nil
}

func (d *Examination) moveMirror(to string) error {
	files, err := mirror.Files(d.cfg.Dir)
	for _, f := range files {
		if err == nil {
			err = os.Rename(f, filepath.Join(to, filepath.Base(f)))
		}
	}
	return err
}

// closing closes a log when a repair ends, and reports what went wrong only then.
func closing(log *durablestream.DurableStream, err *error) {
	if cerr := log.Close(); *err == nil {
		*err = cerr
	}
}
