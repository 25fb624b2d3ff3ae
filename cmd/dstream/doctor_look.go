package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"durablestream"
	"durablestream/broker"
	"durablestream/event"
	"durablestream/internal/address"
	"durablestream/internal/blocks"
	"durablestream/internal/wire"
	"durablestream/mirror"
)

// The findings. The names are for scripts; docs/doctor.md explains them.
const (
	foundMount    = "directory_unreadable"
	foundAddress  = "stale_address"
	foundLock     = "lock_held_elsewhere"
	foundStopped  = "host_stopped"
	foundStore    = "store_damaged"
	foundMirror   = "mirror_damaged"
	foundLeftover = "leftover_files"
	foundRestore  = "half_restored"
	foundDisk     = "disk_full"
	foundWedged   = "appends_stuck"
	foundHost     = "host_failing"
)

// examine looks at everything. Its error means that it could not.
func (d *doctor) examine() error {
	d.found.Dir = d.dir
	if !d.answers() {
		return nil
	}
	if err := d.lookAtHost(); err != nil {
		return err
	}
	if b, err := os.ReadFile(filepath.Join(d.host, broker.ManagedFile)); err == nil {
		d.managed = &broker.Managed{}
		if err := json.Unmarshal(b, d.managed); err != nil {
			return fmt.Errorf("%s cannot be read: %w", broker.ManagedFile, err)
		}
	}
	d.lookForLeftovers()
	if err := d.lookAtFiles(); err != nil {
		return err
	}
	d.askHost()
	return nil
}

func (d *doctor) checked(what string) { d.found.Checked = append(d.found.Checked, what) }

// answers tells whether the directory does: one on a mount that has died may not.
func (d *doctor) answers() bool {
	const patience = 10 * time.Second
	done := make(chan error, 1)
	go func() { _, err := os.ReadDir(d.host); done <- err }()
	var why string
	select {
	case err := <-done:
		if err == nil || errors.Is(err, os.ErrNotExist) {
			return true
		}
		why = err.Error()
	case <-time.After(patience):
		why = fmt.Sprintf("no answer within %s", patience)
	}
	d.add(finding{Name: foundMount, Sure: true, What: fmt.Sprintf(
		"%s cannot be read (%s): its disk or mount is dead; end the processes that use it, mount it again, and run doctor again", d.host, why)})
	return false
}

// lookAtHost finds out who hosts.
func (d *doctor) lookAtHost() error {
	d.checked("lock and address")
	path := broker.AddressPath(d.host)
	a, err := address.Read(path)
	there := !errors.Is(err, address.ErrNone)
	release, err := broker.Hold(d.host)
	var locked *broker.LockedError
	switch {
	case err == nil:
		if err := release(); err != nil {
			return err
		}
		if there {
			d.add(finding{Name: foundAddress, Sure: true, What: fmt.Sprintf("%s is of a host that has gone (process %d): it was killed. Nothing is lost by that", path, a.PID),
				Repair: "removes the file", fix: func(*doctor) (string, error) { return "removed", os.Remove(path) }})
		}
		return nil
	case !errors.As(err, &locked):
		return err
	}
	d.running = a.PID
	switch {
	case !there || a.PID == 0:
		d.add(finding{Name: foundLock, What: fmt.Sprintf("%s is held, and nobody tells who hosts: a host that is just starting or stopping; else look with 'fuser -v %s' who holds it", locked.Path, locked.Path)})
	case errors.Is(syscall.Kill(a.PID, 0), syscall.ESRCH):
		d.running = 0
		d.add(finding{Name: foundLock, What: fmt.Sprintf("%s is held, and the process %d that hosts is not on this machine: it is in another container or on another machine that mounts the same directory, or its mount is dead; run doctor there",
			locked.Path, a.PID)})
	case address.Stopped(a.PID):
		d.add(finding{Name: foundStopped, Sure: true, What: (&durablestream.StoppedError{PID: a.PID}).Error(),
			Repair: fmt.Sprintf("lets the process %d go on (SIGCONT)", a.PID),
			fix:    func(*doctor) (string, error) { return "it goes on", syscall.Kill(a.PID, syscall.SIGCONT) }})
	}
	return nil
}

// lookForLeftovers finds files that a crash has left in the middle of being written.
func (d *doctor) lookForLeftovers() {
	if d.running != 0 {
		return // they may be somebody's
	}
	var left []string
	for _, pattern := range []string{"address.*.tmp", "managed.*.tmp", "store/jetstream/*/streams/" + wire.LogName + "/msgs/*.repaired"} {
		m, _ := filepath.Glob(filepath.Join(d.host, pattern)) // the patterns are right
		left = append(left, m...)
	}
	if len(left) > 0 {
		d.add(finding{Name: foundLeftover, Sure: true, What: "a crash left files behind that nobody reads: " + strings.Join(left, ", "), Repair: "removes them",
			fix: func(*doctor) (string, error) {
				var err error
				for _, f := range left {
					err = errors.Join(err, os.Remove(f))
				}
				return "removed", err
			}})
	}
}

// seen is what the files hold.
type seen struct {
	blocks string // directory; "": there is no store
	first  event.Sequence
	last   event.Sequence // which the store must hold at least
	report blocks.Report
	mirror mirror.Salvaged // with what the mirror has of what the store has lost
}

// read reads the store and the mirror.
func (d *doctor) read() (s seen, err error) {
	dirs, err := blocks.Find(filepath.Join(d.host, broker.StoreDir))
	if err == nil && len(dirs) > 1 {
		err = fmt.Errorf("the store holds %d logs: %v; move away those that are not this one", len(dirs), dirs)
	}
	if err != nil {
		return s, err
	}
	lines, err := mirror.Salvage(d.dir, nil)
	if err != nil {
		return s, err
	}
	s.mirror = lines
	if len(dirs) == 0 {
		return s, nil
	}
	s.blocks, s.first = dirs[0], blocks.Begins(dirs[0])
	s.last, _ = blocks.LastWritten(s.blocks)
	s.last = max(s.last, lines.Last)
	if s.report, err = blocks.Check(s.blocks, s.first, s.last); err != nil {
		return s, err
	}
	if len(s.report.Damage) > 0 {
		s.mirror, err = mirror.Salvage(d.dir, ranges(s.report))
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
func (d *doctor) lookAtFiles() error {
	s, err := d.read()
	if err == nil && len(s.report.Damage) > 0 && d.running != 0 {
		time.Sleep(time.Second) // the engine may have been exchanging a file
		s, err = d.read()
	}
	if err != nil {
		return err
	}
	d.checked(fmt.Sprintf("store: %s, position %d", count(s.report.Records, "message"), s.report.Last))
	d.checked(fmt.Sprintf("mirror: position %d", s.mirror.Last))
	if d.halfRestored(s) {
		return nil
	}
	if len(s.report.Damage) > 0 {
		d.add(d.storeFinding(s))
	}
	problem := s.mirror.Problem
	var torn *mirror.TornError
	if errors.As(problem, &torn) {
		problem = nil // the next run of the mirror mends it
	}
	if problem == nil && len(s.report.Damage) == 0 && s.blocks != "" {
		problem = d.compare(s)
	}
	if problem != nil {
		f := finding{Name: foundMirror, Sure: true, What: problem.Error()}
		var original *mirror.OriginalError
		if len(s.report.Damage) == 0 && s.report.Records > 0 && !errors.As(problem, &original) {
			f.Repair = "moves the mirror's files away and writes them anew from the log, which is whole" + d.ends()
			f.Keeps = "the files as they are, in durable_stream/" + broker.DamagedDir
			f.fix = (*doctor).rewriteMirror
		}
		d.add(f)
	}
	return nil
}

func (d *doctor) ends() string {
	if d.running == 0 {
		return ""
	}
	return fmt.Sprintf("; ends the process %d for that, which hosts", d.running)
}

func (d *doctor) halfRestored(s seen) bool {
	if s.blocks == "" {
		return false
	}
	var cfg jetstream.StreamConfig
	b, err := os.ReadFile(filepath.Join(filepath.Dir(s.blocks), "meta.inf"))
	if err != nil || json.Unmarshal(b, &cfg) != nil || !wire.IsRestoring(cfg) {
		return false
	}
	d.add(finding{Name: foundRestore, Sure: true, What: wire.ErrRestoring.Error()})
	return true
}

// storeFinding says what is damaged and what can be done.
func (d *doctor) storeFinding(s seen) finding {
	f := finding{Name: foundStore, Sure: true}
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
	f.What = fmt.Sprintf("the store cannot read %s: %s", count(total, "position"), strings.Join(words, "; "))
	if d.managed != nil && d.managed.Cluster != "" {
		f.Repair = "takes this node's copy of the log away; when the node is started again, it copies the log from the others" + d.ends()
		f.Keeps = "the copy as it is, in durable_stream/" + broker.DamagedDir
		f.Limits = "a majority of the other nodes must hold the log whole: look at 'dstream status' first"
		f.fix = (*doctor).dropReplica
		return f
	}
	events, voids := 0, 0
	for _, m := range s.mirror.Messages {
		if kind, _, ok := wire.ParseGuardSubject(m.Subject); ok && kind == wire.GuardVoid {
			voids++
		} else {
			events++
		}
	}
	f.Repair = fmt.Sprintf("writes the damaged blocks anew: a record of which one byte was changed is put right, which its checksum proves; "+
		"the others come from copies of the block, or from the mirror, which knows %d of them%s", events, d.ends())
	f.Keeps = "every other record, and the damaged blocks, in durable_stream/" + broker.DamagedDir
	if rest := total - min(total, uint64(events)); rest > 0 {
		f.Limits = fmt.Sprintf("%d of them are no events (leases, barriers) or came after the mirror's end, and cannot come from it; should an event be lost, nothing is changed without --accept-loss", rest)
	}
	f.fix = (*doctor).mendStore
	return f
}

// compare holds the mirror's lines against the store's records, where both are whole.
// Lines that are missing at the end are the next host's to write.
func (d *doctor) compare(s seen) error {
	files, err := blocks.List(s.blocks)
	if err != nil {
		return err
	}
	next, stop := iterLines(d.dir)
	defer stop()
	l, more := next()
	for _, f := range files {
		_, err := blocks.Walk(f.Path, f.Index, func(_ int64, _ []byte, r blocks.Record) error {
			switch {
			case !more:
				return nil
			case l.Recorded.Seq < r.Seq:
				return fmt.Errorf("the mirror and the log disagree: %s, line %d says seq %d, where the log has no event", l.File, l.Number, l.Recorded.Seq)
			case l.Recorded.Seq > r.Seq:
				_, bad := wire.Decode(r.Subject, r.Data, r.Seq)
				if !wire.IsGuard(r.Subject) && bad == nil && !(l.Number == 1 && r.Seq < l.Recorded.Seq) {
					return fmt.Errorf("the mirror and the log disagree: %s, line %d says seq %d, where seq %d was due", l.File, l.Number, l.Recorded.Seq, r.Seq)
				}
				return nil
			case !bytes.Equal(l.Body, r.Data):
				return fmt.Errorf("the mirror and the log disagree: %s, line %d (seq %d) is not the event in the log", l.File, l.Number, r.Seq)
			}
			l, more = next()
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// askHost asks a host that runs what only it knows.
func (d *doctor) askHost() {
	if d.running == 0 || address.Stopped(d.running) {
		return
	}
	ctx, cancel := context.WithTimeout(d.cmd.Context(), openWait)
	defer cancel()
	cfg := d.o.config(d.cmd)
	cfg.JoinOnly, cfg.NoMirror, cfg.NoSweeper = true, true, true
	log, err := durablestream.Open(ctx, cfg)
	if err != nil {
		d.add(finding{Name: foundHost, What: fmt.Sprintf("the host, process %d, does not let this command in: %v", d.running, err)})
		return
	}
	defer log.Close() //nolint:errcheck // it was only looked at
	d.checked("the host")
	h, err := log.HostStatus(ctx)
	if err != nil {
		d.add(finding{Name: foundHost, What: err.Error()})
		return
	}
	if h.DiskFull {
		d.add(finding{Name: foundDisk, Sure: true, What: fmt.Sprintf("the disk has %s free, under the floor of %s, and appends are refused: make space; it goes on by itself", size(h.DiskFree), size(h.DiskFloor))})
		return
	}
	if err := log.Fence(ctx); errors.Is(err, context.DeadlineExceeded) {
		d.add(finding{Name: foundWedged, What: "the host answers, its disk has space, and appends get no answer: after a full disk the engine may stay stuck. The host's watch over the disk mends that within seconds",
			Repair: fmt.Sprintf("ends the process %d in an orderly way; another that stands by takes over, or start it again", d.running),
			fix: func(d *doctor) (string, error) {
				release, err := d.stopHost()
				if err != nil {
					return "", err
				}
				return "the host has ended", release()
			}})
	}
}
