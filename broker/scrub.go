package broker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"durablestream/event"
	"durablestream/internal/blocks"
	"durablestream/internal/wire"
)

// scrub reads the store's own files again and again, beside the engine, and finds what
// is damaged in this process's copy of the Log. The engine itself leaves out what it
// cannot read, and says nothing.
//
// It looks each second for files that have changed, and reads those at once; every
// other one at least each scrubEvery, with at most a scrubShare of one core: 100,000
// events are passed well within a minute, and a log of many gigabytes in proportion.
//
// What it finds goes into Damage, which status and metrics tell, and as a mark into
// the Log's configuration, where every reader sees it (see package client). A damaged
// block is copied to the directory "damaged" while it is as it was found: the engine
// may cut it off at any time.
type scrub struct {
	b     *Broker
	dir   string // of the blocks
	known map[uint32]*scrubbed
	state atomic.Pointer[Damage]
	marks []wire.Range // that this process has written
	told  string
	asked time.Time // when the mark was last looked at
	quit  chan struct{}
	done  chan struct{}
}

// scrubbed is a file as it was when it was read.
type scrubbed struct {
	blocks.Block
	mod time.Time
	at  time.Time // when it was read
}

// Damage is what is wrong with this process's copy of the Log.
type Damage struct {
	Found   []blocks.Damage
	Checked time.Time      // since when every file has been read; zero: not yet
	Up      event.Sequence // to which the copy was checked
}

const (
	scrubTick  = time.Second
	scrubEvery = 30 * time.Second
	scrubShare = 50 // one part in so many of a core
	scrubAgain = 10 * time.Second
	scrubGrown = 5 * time.Second // how often the newest file is read while it grows
)

// DamagedDir is inside Config.Dir and keeps copies of damaged blocks.
const DamagedDir = "damaged"

func startScrub(b *Broker) *scrub {
	s := &scrub{
		b: b, known: map[uint32]*scrubbed{}, quit: make(chan struct{}), done: make(chan struct{}),
		dir: blocks.Dir(filepath.Join(b.cfg.Dir, StoreDir), b.cfg.account()),
	}
	s.state.Store(&Damage{})
	go s.run()
	return s
}

// Damage is what is known of damage in the store.
func (b *Broker) Damage() Damage { return *b.scrub.state.Load() }

func (s *scrub) stop() {
	close(s.quit)
	<-s.done
}

func (s *scrub) run() {
	defer close(s.done)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		select {
		case <-s.quit:
			cancel()
		case <-ctx.Done():
		}
	}()
	for ctx.Err() == nil {
		found, err := s.round(ctx)
		if err == nil && len(found.Damage) > 0 {
			// The engine may have been exchanging files at that moment.
			for _, k := range s.known {
				k.mod = time.Time{}
			}
			found, err = s.round(ctx)
		}
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			s.b.cfg.Logger.Warn("cannot check the store for damage", "err", err)
		default:
			s.tell(ctx, found)
		}
		s.sleep(ctx, scrubTick)
	}
}

func (s *scrub) sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// round reads what is due, files that have changed first.
func (s *scrub) round(ctx context.Context) (blocks.Report, error) {
	first, last, err := s.b.bounds()
	if err != nil {
		return blocks.Report{}, err
	}
	files, err := blocks.List(s.dir)
	if err != nil {
		return blocks.Report{}, err
	}
	now := time.Now()
	var old []blocks.File
	newest, grown := uint32(0), false
	if len(files) > 0 {
		newest = files[len(files)-1].Index
	}
	for _, f := range files {
		info, err := os.Stat(f.Path)
		if errors.Is(err, fs.ErrNotExist) {
			return blocks.Report{}, fmt.Errorf("%s has gone", f.Path)
		}
		if err != nil {
			return blocks.Report{}, err
		}
		k := s.known[f.Index]
		switch {
		case k != nil && info.Size() > k.Size && f.Index == newest && now.Sub(k.at) < scrubGrown:
			grown = true // by appends
		case k == nil || !k.mod.Equal(info.ModTime()) || k.Size != info.Size():
			if err := s.read(ctx, f, info.ModTime(), scrubTick/5); err != nil {
				return blocks.Report{}, err
			}
		case now.Sub(k.at) > scrubEvery:
			old = append(old, f)
		}
	}
	slices.SortFunc(old, func(a, b blocks.File) int { return s.known[a.Index].at.Compare(s.known[b.Index].at) })
	for _, f := range old {
		if time.Since(now) > scrubTick {
			break // what has changed comes first
		}
		if err := s.read(ctx, f, s.known[f.Index].mod, scrubEvery); err != nil {
			return blocks.Report{}, err
		}
	}
	all := make([]blocks.Block, 0, len(files))
	oldest := now
	for _, f := range files {
		k := s.known[f.Index]
		all = append(all, k.Block)
		if k.at.Before(oldest) {
			oldest = k.at
		}
	}
	for i := range s.known {
		if !slices.ContainsFunc(files, func(f blocks.File) bool { return f.Index == i }) {
			delete(s.known, i)
		}
	}
	was := s.state.Load()
	if grown {
		last = min(last, was.Up)
	}
	rep := blocks.Join(all, first, last)
	s.state.Store(&Damage{Found: was.Found, Checked: oldest, Up: last})
	return rep, nil
}

// read reads one file, and rests so that all is within the share, but for most at most.
func (s *scrub) read(ctx context.Context, f blocks.File, mod time.Time, most time.Duration) error {
	begun := time.Now()
	b, err := blocks.CheckFile(f)
	if err != nil {
		return err
	}
	s.known[f.Index] = &scrubbed{b, mod, begun}
	s.sleep(ctx, min((scrubShare-1)*time.Since(begun), most))
	return ctx.Err()
}

// tell passes on what a round found.
func (s *scrub) tell(ctx context.Context, rep blocks.Report) {
	was := s.state.Load()
	words := fmt.Sprint(rep.Damage)
	if words != s.told {
		s.told = words
		for _, d := range rep.Damage {
			s.b.cfg.Logger.Error("the store is damaged: 'dstream doctor' repairs it", "seq", d.Range.String(), "file", d.File, "offset", d.Off, "err", d.Why)
			s.keep(d.File)
		}
		if len(rep.Damage) == 0 && len(was.Found) > 0 {
			s.b.cfg.Logger.Info("the store is whole again")
		}
	}
	s.state.Store(&Damage{Found: rep.Damage, Checked: was.Checked, Up: was.Up})
	ranges := make([]wire.Range, 0, len(rep.Damage))
	for _, d := range rep.Damage {
		ranges = append(ranges, d.Range)
	}
	if slices.Equal(ranges, s.marks) && (len(ranges) == 0 && !s.asked.IsZero() || time.Since(s.asked) < scrubAgain) {
		return
	}
	if err := s.b.mark(ctx, ranges); err != nil {
		if ctx.Err() == nil {
			s.b.cfg.Logger.Warn("cannot mark the Log as damaged", "err", err)
		}
		return
	}
	s.marks, s.asked = ranges, time.Now()
}

// keep copies a damaged block.
func (s *scrub) keep(path string) {
	if err := keepBlock(s.b.cfg.Dir, path); err != nil {
		s.b.cfg.Logger.Warn("cannot keep a copy of a damaged block", "file", path, "err", err)
	}
}

// mostKept bounds the copies of damaged blocks, each of some 8 MB.
const mostKept = 32

// keepBlock copies a block file to the directory of the damaged ones, under a name that
// tells its state.
func keepBlock(dir, path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	aside := filepath.Join(dir, DamagedDir)
	to := filepath.Join(aside, fmt.Sprintf("%s.%s", filepath.Base(path), info.ModTime().UTC().Format("20060102T150405.000")))
	if _, err := os.Stat(to); err == nil {
		return nil
	}
	if err := os.MkdirAll(aside, 0o700); err != nil {
		return err
	}
	if kept, err := os.ReadDir(aside); err != nil || len(kept) >= mostKept {
		return errors.Join(err, fmt.Errorf("%s holds %d already", aside, len(kept)))
	}
	from, err := os.Open(path)
	if err != nil {
		return err
	}
	defer from.Close()
	copied, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(copied, from)
	return errors.Join(err, copied.Sync(), copied.Close())
}

// bounds are the first Sequence that this process's copy of the Log must hold, and the
// last one.
func (b *Broker) bounds() (first, last event.Sequence, err error) {
	z, err := b.server.Jsz(&server.JSzOptions{Account: b.cfg.account(), Streams: true, Config: true})
	if err != nil {
		return 0, 0, err
	}
	for _, a := range z.AccountDetails {
		for _, s := range a.Streams {
			if s.Name == wire.LogName && s.Config != nil {
				return max(1, event.Sequence(s.Config.FirstSeq)), event.Sequence(s.State.LastSeq), nil
			}
		}
	}
	return 0, 0, fmt.Errorf("this server has no copy of the Log")
}

// mark writes what is damaged in this process's copy into the Log's configuration,
// where it is not written yet.
func (b *Broker) mark(ctx context.Context, damaged []wire.Range) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	s, err := b.js.Stream(ctx, wire.LogName)
	if err != nil {
		return err
	}
	node := ""
	if b.cfg.Cluster != nil {
		node = b.cfg.Name
	}
	cfg := wire.MarkDamaged(s.CachedInfo().Config, node, damaged)
	if wire.SameMarks(cfg, s.CachedInfo().Config) {
		return nil
	}
	_, err = b.js.UpdateStream(ctx, cfg)
	return err
}
