package main

import (
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"durablestream"
	"durablestream/broker"
	"durablestream/event"
	"durablestream/internal/blocks"
	"durablestream/internal/wire"
	"durablestream/mirror"
)

// hostEnds is how long a host has to end: it writes its mirror first.
const hostEnds = 90 * time.Second

func stamp() string { return time.Now().UTC().Format("20060102T150405") }

// stopHost ends the host, if there is one, and keeps everybody from hosting until
// release.
func (d *doctor) stopHost() (release func() error, err error) {
	repair, err := broker.Repair(d.host)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, repair())
		}
	}()
	if d.running != 0 {
		d.say("ending the host, process %d", d.running)
		if err := syscall.Kill(d.running, syscall.SIGTERM); err != nil {
			return nil, fmt.Errorf("cannot end the host, process %d: %w; end it and run doctor again", d.running, err)
		}
	}
	for end := time.Now().Add(hostEnds); ; time.Sleep(20 * time.Millisecond) {
		hold, err := broker.Hold(d.host)
		if err == nil {
			d.running = 0
			return func() error { return errors.Join(hold(), repair()) }, nil
		}
		var locked *broker.LockedError
		if !errors.As(err, &locked) || time.Now().After(end) {
			return nil, err
		}
	}
}

// mendStore brings back what a lone host's store has lost.
func (d *doctor) mendStore() (outcome string, err error) {
	release, err := d.stopHost()
	if err != nil {
		return "", err
	}
	done, err := d.mendBlocks()
	if err = errors.Join(err, release()); err != nil {
		return "", err
	}
	if d.managed == nil { // else only a host with its flags may have it
		if err := d.verify(); err != nil {
			return "", err
		}
	}
	how := map[string]int{}
	var voids []string
	for _, r := range done {
		how[r.How]++
		if r.How == blocks.Voided {
			voids = append(voids, r.Seq.String())
		}
	}
	var parts []string
	for _, name := range []string{blocks.Corrected, blocks.FromCopy, blocks.FromMirror} {
		if how[name] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", how[name], name))
		}
	}
	if len(voids) > 0 {
		parts = append(parts, fmt.Sprintf("%d filled, since nobody knows what guard or lease was there (%s)", len(voids), strings.Join(voids[:min(20, len(voids))], ", ")))
	}
	return fmt.Sprintf("%s brought back: %s; the log and the mirror are equal. Start the host again", count(len(done), "position"), strings.Join(parts, ", ")), nil
}

func (d *doctor) mendBlocks() ([]blocks.Repaired, error) {
	s, err := d.read()
	if err != nil {
		return nil, err
	}
	if len(s.report.Damage) == 0 {
		return nil, nil
	}
	keep, err := d.aside()
	if err != nil {
		return nil, err
	}
	line := func(seq event.Sequence) (blocks.Record, bool) {
		m, ok := s.mirror.Messages[seq]
		if !ok && d.acceptLoss {
			m, ok = wire.EncodeGuard(wire.GuardSubject(wire.GuardVoid, seq.String()), []byte("{}")), true
		}
		if !ok {
			return blocks.Record{}, false
		}
		return blocks.Record{Subject: m.Subject, Header: headerBytes(m), Data: m.Data}, true
	}
	done, lost, err := blocks.Repair(s.blocks, filepath.Join(d.host, broker.DamagedDir), keep, s.first, s.last, line)
	if err != nil {
		return nil, err
	}
	if len(lost) > 0 {
		return nil, fmt.Errorf("nothing was changed: position %s is neither in the store nor in the mirror, which ends at %d; "+
			"--accept-loss gives these positions up and repairs the rest", joinRanges(lost), s.mirror.Last)
	}
	again, err := blocks.Check(s.blocks, s.first, s.last)
	if err == nil && len(again.Damage) > 0 {
		err = fmt.Errorf("after the repair %s; the blocks as they were are in %s", again.Damage[0], keep)
	}
	if err == nil && s.mirror.Problem == nil {
		err = d.compare(s)
	}
	return done, err
}

func joinRanges(rs []wire.Range) string {
	words := make([]string, len(rs))
	for i, r := range rs {
		words[i] = r.String()
	}
	return strings.Join(words, ", ")
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
func (d *doctor) verify() (err error) {
	d.say("comparing the log with the mirror")
	log, err := d.o.open(d.cmd, func(cfg *durablestream.Config) { cfg.NoSweeper = true })
	if err != nil {
		return err
	}
	defer closing(log, &err)
	ctx := d.cmd.Context()
	js, err := jetstream.New(log.Conn())
	if err != nil {
		return err
	}
	if s, err := js.Stream(ctx, wire.LogName); err == nil { // the host finds out by itself, a little later
		if cfg := wire.MarkDamaged(s.CachedInfo().Config, "", nil); !wire.SameMarks(cfg, s.CachedInfo().Config) {
			if _, err := js.UpdateStream(ctx, cfg); err != nil {
				return err
			}
		}
	}
	rep, err := mirror.Verify(ctx, mirror.Config{Client: log.Client, Dir: d.dir, VerifyWait: 10 * time.Second})
	if err == nil {
		err = rep.Problem
	}
	return err
}

// dropReplica takes a node's copy of the log away, with what its raft group keeps.
func (d *doctor) dropReplica() (outcome string, err error) {
	release, err := d.stopHost()
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, release()) }()
	keep, err := d.aside()
	if err != nil {
		return "", err
	}
	engine := filepath.Join(d.host, broker.StoreDir, server.JetStreamStoreDir)
	var moved []string
	for _, pattern := range []string{"*/streams/" + wire.LogName, "*/_js_/S-*"} {
		found, err := filepath.Glob(filepath.Join(engine, pattern))
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
		return "", fmt.Errorf("there is no copy of the log in %s", engine)
	}
	return fmt.Sprintf("this node's copy is in %s: start the node %s again; it copies the log from the others, and 'dstream status' tells when it has", keep, d.managed.Node), nil
}

// rewriteMirror writes the mirror anew from a log that is whole.
func (d *doctor) rewriteMirror() (outcome string, err error) {
	release, err := d.stopHost()
	if err != nil {
		return "", err
	}
	keep, err := d.aside()
	if err == nil {
		err = d.moveMirror(keep)
	}
	if err = errors.Join(err, release()); err != nil {
		return "", err
	}
	if d.managed != nil {
		return fmt.Sprintf("the mirror's files are in %s: start the host again, and it writes them anew", keep), nil
	}
	if err := d.verify(); err != nil {
		return "", err
	}
	return fmt.Sprintf("the mirror was written anew, and is equal to the log; the files as they were are in %s. Start the host again", keep), nil
}

func (d *doctor) moveMirror(to string) error {
	files, err := filepath.Glob(filepath.Join(d.dir, "durable_stream*.jsonl"))
	for _, f := range files {
		if err == nil {
			err = os.Rename(f, filepath.Join(to, filepath.Base(f)))
		}
	}
	return err
}

// iterLines brings the mirror's lines one by one, up to the first that is wrong.
func iterLines(dir string) (next func() (mirror.Line, bool), stop func()) {
	pull, stop := iter.Pull2(mirror.Lines(dir))
	return func() (mirror.Line, bool) {
		l, err, ok := pull()
		return l, ok && err == nil
	}, stop
}
