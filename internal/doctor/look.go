package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"durablestream"
	"durablestream/broker"
	"durablestream/internal/address"
	"durablestream/internal/blocks"
	"durablestream/internal/fence"
	"durablestream/internal/paths"
	"durablestream/internal/place"
	"durablestream/internal/status"
	"durablestream/internal/wait"
	"durablestream/internal/wire"
)

// The findings. The names are for scripts; docs/doctor.md explains them.
const (
	FoundMount    = "directory_unreadable"
	FoundAddress  = "stale_address"
	FoundLock     = "lock_held_elsewhere"
	FoundStopped  = "host_stopped"
	FoundStore    = "store_damaged"
	FoundPlace    = "log_out_of_place"
	FoundMirror   = "mirror_damaged"
	FoundBehind   = "mirror_behind"
	FoundDiverged = "replica_diverged"
	FoundMeta     = "meta_lost"
	FoundCopy     = "copy_unhealthy"
	FoundLeftover = "leftover_files"
	FoundEngine   = "engine_unknown"
	FoundRestore  = "half_restored"
	FoundDisk     = "disk_full"
	FoundReadOnly = "disk_read_only"
	FoundTorn     = "batch_torn"
	FoundWedged   = "appends_stuck"
	FoundHost     = "host_failing"
)

// examine looks at everything. Its error means that it could not.
func (d *Examination) examine(ctx context.Context) error {
	if err := paths.NoLogLink(d.cfg.Dir); err != nil {
		return err
	}
	if answers, err := d.answers(); !answers {
		return err
	}
	if err := place.Demand(d.cfg.Dir); err != nil {
		return err
	}
	if err := broker.CheckLinks(d.host); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := d.readManaged(); err != nil {
		return err
	}
	if d.cfg.Elsewhere && !d.clustered() {
		return ErrElsewhere
	}
	if err := d.lookAtHost(); err != nil {
		return err
	}
	d.lookForLeftovers()
	if d.clustered() {
		if err := d.lookAtMeta(); err != nil {
			return err
		}
	}
	if d.lookAtPlace() {
		return nil
	}
	if err := d.lookAtFiles(ctx); err != nil {
		return err
	}
	d.askHost(ctx)
	return nil
}

func (d *Examination) checked(what string) { d.Found.Checked = append(d.Found.Checked, what) }

// answers tells whether the directory does: one on a mount that has died may not. One
// that does not let this user in is an error.
func (d *Examination) answers() (bool, error) {
	const patience = 10 * time.Second
	done := make(chan error, 1)
	go func() { _, err := os.ReadDir(d.host); done <- err }()
	var why string
	select {
	case err := <-done:
		if err == nil || errors.Is(err, os.ErrNotExist) {
			return true, nil
		}
		if errors.Is(err, os.ErrPermission) {
			return false, err
		}
		why = err.Error()
	case <-time.After(patience):
		why = fmt.Sprintf("no answer within %s", patience)
	}
	d.add(Finding{Name: FoundMount, Sure: true, What: fmt.Sprintf(
		"%s cannot be read (%s): its disk or mount is dead; end the processes that use it, mount it again, and run doctor again", d.host, why)})
	return false, nil
}

// lookAtHost finds out who hosts.
func (d *Examination) lookAtHost() error {
	d.checked("lock and address")
	path := broker.AddressPath(d.host)
	a, err := address.Read(path)
	there := !errors.Is(err, address.ErrNone)
	release := func() error { return nil }
	if paths.Exists(filepath.Join(d.host, broker.StoreDir)) { // else nobody hosts, and a look makes none
		release, err = broker.Hold(d.host)
	} else {
		err = nil
	}
	var locked *broker.LockedError
	var unwritable *broker.UnwritableError
	if !errors.As(err, &locked) && errors.As(broker.Unwritable(d.host), &unwritable) {
		d.add(Finding{Name: FoundReadOnly, Sure: true, What: unwritable.Brief() + "; before anything can be repaired, mount its disk to be written, or give its owner the right to write"})
		if err != nil { // it has no lock file, and takes none
			return nil //nolint:nilerr // so nobody hosts
		}
	}
	switch {
	case err == nil:
		if unwritable == nil {
			d.lookAtDisk()
		}
		if err := release(); err != nil {
			return err
		}
		if there {
			d.add(Finding{Name: FoundAddress, Sure: true, What: fmt.Sprintf("%s is of a host that has gone (process %d): it was killed. Nothing is lost by that", path, a.PID),
				Repair: "removes the file", fix: func(context.Context) (string, error) { return "removed", os.Remove(path) }})
		}
		return nil
	case !errors.As(err, &locked):
		return err
	}
	d.running, d.held = locked.PID, true
	if d.running != 0 && address.Stopped(d.running) {
		pid := d.running
		d.add(Finding{Name: FoundStopped, Sure: true, What: (&durablestream.StoppedError{PID: pid}).Error(),
			Repair: fmt.Sprintf("lets the process %d go on (SIGCONT)", pid),
			fix: func(ctx context.Context) (string, error) {
				if address.Holder(d.host, pid) == 0 {
					return "", fmt.Errorf("the process %d does not hold the lock any more", pid)
				}
				return "it goes on", syscall.Kill(pid, syscall.SIGCONT)
			}})
		return nil
	}
	_, why := address.Find(path)
	d.reached = why == nil
	switch {
	case d.hosts():
	case !there || a.PID == 0:
		d.add(Finding{Name: FoundLock, What: fmt.Sprintf("%s is held, and nobody tells who hosts: a host that is just starting or stopping; else look with 'fuser -v %s' who holds it", locked.Path, locked.Path)})
	default:
		d.add(Finding{Name: FoundLock, What: fmt.Sprintf("%s is held, and the address beside it names the process %d, which is not proven to hold it on this machine, and nobody answers there (%v). Either that was a host that was killed, "+
			"and another process, perhaps of this machine, holds the lock now and has not written its own address yet (a host that is just starting, a node that waits for a majority of its cluster): look with 'fuser -v %s' who; "+
			"or the host is in another container or on another machine that mounts the same directory, or its mount is dead: run doctor there", locked.Path, a.PID, why, locked.Path)})
	}
	return nil
}

// lookAtDisk looks for what keeps the next host from taking appends, or from starting at all.
// It is called where nobody hosts and this process holds the lock; else the host is asked.
func (d *Examination) lookAtDisk() {
	if !paths.Exists(filepath.Join(d.host, broker.StoreDir)) {
		return // no host starts there: the store is a finding
	}
	disk, err := broker.DiskIn(d.host)
	if err != nil {
		return // what cannot be read is another finding
	}
	d.checked("disk")
	var h broker.HostStatus
	if disk.Tell(&h); !h.DiskFull {
		return
	}
	what := status.FullWords(h)
	var short *broker.ShortageError
	if errors.As(broker.ShortOfInodes(d.host), &short) {
		what += fmt.Sprintf("; a host needs %d to start there", short.Need)
	}
	d.add(Finding{Name: FoundDisk, Sure: true, What: what})
}

// lookForLeftovers finds files that a crash has left in the middle of being written.
func (d *Examination) lookForLeftovers() {
	if d.held {
		return // they may be somebody's
	}
	var left []string
	for _, pattern := range append([]string{"address.*.tmp", "managed.*.tmp", "home.*.tmp", "join.*.*", "end.*.*", "store/jetstream/*/streams/" + wire.LogName + "/msgs/*.repaired",
		"store/" + fence.KeptFile + ".tmp", "store/jetstream/*/streams/" + wire.LogName + "/meta.*.tmp"}, broker.Probes()...) {
		m, _ := blocks.Glob(d.host, pattern) // the patterns are right
		left = append(left, m...)
	}
	if len(left) > 0 {
		d.add(Finding{Name: FoundLeftover, Sure: true, What: "a crash left files behind that nobody reads: " + strings.Join(left, ", "), Repair: "removes them",
			fix: func(context.Context) (string, error) {
				var err error
				for _, f := range left {
					err = errors.Join(err, os.Remove(f))
				}
				return "removed", err
			}})
	}
}

// askHost asks a host that runs what only it knows.
func (d *Examination) askHost(ctx context.Context) {
	if !d.hosts() || address.Stopped(d.running) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, d.cfg.Wait)
	defer cancel()
	cfg := d.cfg.Log
	cfg.Servers = nil // this host is asked
	cfg.JoinOnly, cfg.Command.NoMirror, cfg.Command.NoSweeper = true, true, true
	log, err := durablestream.Open(ctx, cfg)
	if err != nil {
		d.add(Finding{Name: FoundHost, What: fmt.Sprintf("%s, does not let this command in: %s", d.who(), inDoctor(err))})
		return
	}
	defer log.Close() //nolint:errcheck // it was only looked at
	d.checked("the host")
	h, err := log.Admin().HostStatus(ctx)
	if err != nil {
		d.add(Finding{Name: FoundHost, What: err.Error()})
		return
	}
	d.stillBehind(ctx, log, h)
	if h.CopyError != "" {
		f := Finding{Name: FoundCopy, Sure: h.CopyOut, What: status.CopyWords(h)}
		if h.CopyOut {
			f = d.replaceCopy(f)
		}
		d.add(f)
	}
	if h.Torn != "" && !h.DiskFull {
		return // the files say more
	}
	if h.DiskFull {
		d.add(Finding{Name: FoundDisk, Sure: true, What: status.FullWords(h) + "; the host goes on by itself then"})
		return
	}
	if h.DiskReadOnly {
		d.add(Finding{Name: FoundReadOnly, Sure: true, What: status.ReadOnlyWords})
		return
	}
	if err := log.Admin().Fence(ctx); h.Stuck != "" || errors.Is(err, context.DeadlineExceeded) {
		if h.Stuck == "" {
			h.Stuck = "it answers nothing"
		}
		d.add(Finding{Name: FoundWedged, Sure: true, What: strings.Replace(status.StuckWords(h), (&broker.NotOpenError{}).Advice(), "", 1),
			Repair: fmt.Sprintf("ends %s, in an orderly way; another that stands by takes over, or start it again", d.who()),
			fix: func(ctx context.Context) (string, error) {
				release, err := d.stopHost(ctx)
				if err != nil {
					return "", err
				}
				return "the host has ended", release()
			}})
	}
}

// stillBehind looks whether the host writes the lines that the mirror lacked.
func (d *Examination) stillBehind(ctx context.Context, log *durablestream.DurableStream, h durablestream.HostStatus) {
	if d.behind == nil || h.MirrorOff {
		return
	}
	var err error
	for h.MirrorError == "" && h.MirrorSeq < d.upTo {
		if err = wait.For(ctx, 50*time.Millisecond); err == nil {
			h, err = log.Admin().HostStatus(ctx)
		}
		if err != nil {
			return // it is busy, and writes them
		}
	}
	s, err := d.read()
	if err != nil {
		return
	}
	if behind, disagree, err := d.compare(s, false); err != nil || behind == 0 || disagree != nil {
		return // or others have found it meanwhile
	}
	if h.MirrorError != "" {
		d.behind.What += "; the host's mirror has stopped: " + h.MirrorError
	} else {
		d.behind.What += "; the host has written them, and they were taken away since"
	}
	d.add(*d.behind)
}
