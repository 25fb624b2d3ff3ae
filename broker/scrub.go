package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

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
//
// A reader that could not see by itself that something was left out asks, on
// wire.CheckSubject, when it has read: then what has changed is read at once, and what
// is damaged is the answer. Until the answer nobody rests.
type scrub struct {
	b      *Broker
	dir    string                 // of the blocks
	bounds func() (bounds, error) // Broker.bounds; a test's own in tests
	known  map[uint32]*scrubbed
	state  atomic.Pointer[Damage]
	marks  []wire.Range // that this process has written
	told   string
	failed string    // why the last look failed
	marked time.Time // when the mark was last looked at
	kept   time.Time // when what is known was last written to CheckedFile
	fresh  bool      // a file was read since
	asking chan *nats.Msg
	// high is the last Sequence that was ever read from the files. On a lone host it
	// never goes down, whatever the engine makes of files that were cut off.
	high   event.Sequence
	cutOff error // the end has gone, or all: this process must not go on
	quit   chan struct{}
	done   chan struct{}
}

// scrubbed is a file as it was when it was read.
type scrubbed struct {
	blocks.Block
	mod time.Time
	at  time.Time      // when it was read
	due event.Sequence // that the engine had stored before that; 0: not known
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
	scrubShare = 50                   // one part in so many of a core
	scrubRest  = 45 * time.Nanosecond // at most, for each byte
	scrubAgain = 10 * time.Second
	scrubGrown = 5 * time.Second        // how often the newest file is read while it grows
	askedGrown = 250 * time.Millisecond // the same, where a reader asks
	scrubKeep  = 30 * time.Second
	// racy is how long after a change of a file another one may have the same time.
	racy = 20 * time.Millisecond
)

// DamagedDir is inside Config.Dir and keeps copies of damaged blocks.
const DamagedDir = "damaged"

// startScrub goes on from what checkStore has found, and on a lone host marks it before
// anybody reads. With an engine that is not known it returns nil.
func startScrub(ctx context.Context, b *Broker) (*scrub, error) {
	subject := wire.CheckSubject("")
	if b.cfg.Cluster != nil {
		subject = wire.CheckSubject(b.cfg.Name)
	}
	if err := CheckEngine(); err != nil {
		b.cfg.Logger.Warn("the store is not checked", "err", err)
		return nil, b.answerUnchecked(subject)
	}
	s := &scrub{
		b: b, known: b.known, asking: make(chan *nats.Msg, checkWaiting), quit: make(chan struct{}), done: make(chan struct{}),
		dir: b.blocksDir(), bounds: b.bounds, kept: time.Now(), high: b.high,
	}
	s.state.Store(&Damage{Found: b.found})
	if b.cfg.Cluster == nil && len(b.found) > 0 {
		s.told = fmt.Sprint(b.found)
		if err := b.mark(ctx, rangesOf(b.found)); err != nil { // it is tried again
			b.cfg.Logger.Warn("cannot mark the Log as damaged", "err", err)
		}
	}
	if _, err := b.admin.Subscribe(subject, intake(s.asking, checkRetry)); err != nil {
		return nil, fmt.Errorf("broker: %w", err)
	}
	go s.run()
	return s, nil
}

// Damage is what is known of damage in the store: nothing where CheckEngine returns an error.
func (b *Broker) Damage() Damage {
	if b.scrub == nil {
		return Damage{}
	}
	return *b.scrub.state.Load()
}

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
	for ctx.Err() == nil && s.cutOff == nil {
		_ = s.look(ctx, false) // it was told
		s.rest(ctx, scrubTick)
	}
	if s.cutOff != nil {
		_ = s.b.admin.Flush() // who asked gets an answer first
		s.b.evict(s.cutOff)
	}
}

// look makes one round, and tells what it found. Where a reader has asked it reads
// only what has changed, and does not rest.
func (s *scrub) look(ctx context.Context, asked bool) (err error) {
	found, err := s.find(ctx, asked)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		if words := err.Error(); words != s.failed { // the engine may not have opened the Log for long, which its own watch tells
			s.failed = words
			s.b.cfg.Logger.Warn("cannot check the store for damage", "err", err)
		}
		return err
	case len(found.Damage) > 0 && !s.b.present():
		s.cutOff = s.b.evictedError() // no repair brings back what somebody has taken away
		return s.cutOff
	}
	if s.b.cfg.Cluster == nil && found.Last < s.high {
		s.cutOff = &DamagedError{s.b.cfg.Dir, found.Damage}
	}
	s.failed = ""
	s.high = max(s.high, found.Last)
	s.tell(ctx, found)
	s.keepKnown()
	s.b.keepConfig()
	return nil
}

// rest waits, and answers meanwhile who asks.
func (s *scrub) rest(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	for s.cutOff == nil {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			return
		case m := <-s.asking:
			s.answer(ctx, m)
		}
	}
}

// answer looks, for all who have asked by now.
func (s *scrub) answer(ctx context.Context, first *nats.Msg) {
	all := []*nats.Msg{first}
	for more := true; more; {
		select {
		case m := <-s.asking:
			all = append(all, m)
		default:
			more = false
		}
	}
	if err := s.look(ctx, true); err != nil {
		return // they ask again
	}
	b, err := json.Marshal(rangesOf(s.state.Load().Found))
	for _, m := range all {
		if err == nil {
			_ = m.Respond(b) // whoever asked has gone, or asks again
		}
	}
}

// keepKnown writes what is known to CheckedFile now and then.
func (s *scrub) keepKnown() {
	if !s.fresh || time.Since(s.kept) < scrubKeep {
		return
	}
	s.fresh, s.kept = false, time.Now()
	still := maps.Clone(s.known)
	newest := uint32(0)
	for i := range still {
		newest = max(newest, i)
	}
	delete(still, newest) // which is being written
	if err := s.b.writeChecked(s.dir, still, 0); err != nil {
		s.b.cfg.Logger.Debug("what was checked of the store is checked again at the next start", "err", err)
	}
}

func rangesOf(found []blocks.Damage) []wire.Range {
	out := make([]wire.Range, 0, len(found))
	for _, d := range found {
		out = append(out, d.Range)
	}
	return out
}

// round reads what is due, files that have changed first; where a reader asked, only
// those.
func (s *scrub) round(ctx context.Context, asked bool) (blocks.Report, error) {
	due, err := s.bounds()
	if err != nil {
		return blocks.Report{}, err
	}
	first, last := due.first, due.last
	files, err := blocks.List(s.dir)
	if err != nil {
		return blocks.Report{}, err
	}
	now := time.Now()
	rest, often := scrubTick/5, scrubGrown
	if asked {
		rest, often = 0, askedGrown
	}
	var old []*scrubbed
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
		case k != nil && info.Size() > k.Size && f.Index == newest && now.Sub(k.at) < often:
			grown = true // by appends
		case k == nil || !k.mod.Equal(info.ModTime()) || k.Size != info.Size():
			if err := s.read(ctx, f, info.ModTime(), last, rest); err != nil {
				return blocks.Report{}, err
			}
		case now.Sub(k.at) > scrubEvery && !asked:
			old = append(old, k)
		}
	}
	slices.SortFunc(old, func(a, b *scrubbed) int { return a.at.Compare(b.at) })
	for _, k := range old {
		if time.Since(now) > scrubTick {
			break // what has changed comes first
		}
		if err := s.read(ctx, k.File, k.mod, last, scrubEvery); err != nil {
			return blocks.Report{}, err
		}
	}
	oldest := now
	here := make(map[uint32]*scrubbed, len(files))
	for _, f := range files {
		k := s.known[f.Index]
		if k == nil { // a reader asked meanwhile, and it was not there then
			return blocks.Report{}, fmt.Errorf("%s was away", f.Path)
		}
		here[f.Index] = k
		if k.at.Before(oldest) {
			oldest = k.at
		}
	}
	s.known = here
	was := s.state.Load()
	if grown {
		last = min(last, here[newest].due)
	}
	found := inOrder(files, here)
	if blocks.Unwritten(found, first, last, due.messages) {
		last--
	}
	if s.b.cfg.Cluster == nil {
		last = max(last, s.high)
	}
	rep := blocks.Join(found, first, last)
	s.state.Store(&Damage{Found: was.Found, Checked: oldest, Up: last})
	return rep, nil
}

// read reads one file, and rests so that all is within the share; but for most at most, and
// for no longer than lets it pass a gigabyte in 45 s, on a machine that is busy too.
func (s *scrub) read(ctx context.Context, f blocks.File, mod time.Time, due event.Sequence, most time.Duration) error {
	begun := time.Now()
	b, err := blocks.CheckFile(f)
	if err != nil {
		return err
	}
	if begun.Sub(mod) < racy {
		mod = time.Time{}
	}
	s.known[f.Index] = &scrubbed{b, mod, begun, due}
	s.fresh = true
	if most > 0 {
		s.rest(ctx, min((scrubShare-1)*time.Since(begun), most, time.Duration(b.Size)*scrubRest))
	}
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
			if d.File != "" {
				s.keep(d.File)
			}
		}
		if len(rep.Damage) == 0 && len(was.Found) > 0 {
			s.b.cfg.Logger.Info("the store is whole again")
		}
	}
	s.state.Store(&Damage{Found: rep.Damage, Checked: was.Checked, Up: was.Up})
	ranges := rangesOf(rep.Damage)
	if slices.Equal(ranges, s.marks) && (len(ranges) == 0 && !s.marked.IsZero() || time.Since(s.marked) < scrubAgain) {
		return
	}
	if err := s.b.mark(ctx, ranges); err != nil {
		if ctx.Err() == nil {
			s.b.cfg.Logger.Warn("cannot mark the Log as damaged", "err", err)
		}
		return
	}
	s.marks, s.marked = ranges, time.Now()
}

// bounds are what the engine says of this process's copy of the Log.
type bounds struct {
	first, last event.Sequence // that it must hold
	messages    uint64
}

func (b *Broker) bounds() (bounds, error) {
	z, err := b.jsz(&server.JSzOptions{Account: b.cfg.account(), Streams: true, Config: true})
	if err != nil {
		return bounds{}, err
	}
	for _, a := range z.AccountDetails {
		for _, s := range a.Streams {
			if s.Name == wire.LogName && s.Config != nil {
				return bounds{max(1, event.Sequence(s.Config.FirstSeq)), event.Sequence(s.State.LastSeq), s.State.Msgs}, nil
			}
		}
	}
	return bounds{}, fmt.Errorf("this server has no copy of the Log")
}

// jsz is the engine's own, while its JetStream is not being switched.
func (b *Broker) jsz(opts *server.JSzOptions) (*server.JSInfo, error) {
	b.switching.RLock()
	defer b.switching.RUnlock()
	return b.server.Jsz(opts)
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
