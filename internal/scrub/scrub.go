// Package scrub reads a host's store beside the engine, at the host's start and repeatedly
// after it, and finds damage.
package scrub

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"durablestream/event"
	"durablestream/internal/blocks"
	"durablestream/internal/wire"
)

// Scrub reads the store's own files repeatedly, beside the engine, and finds damage in this
// process's copy of the Log. The engine skips a message that it cannot read, without an
// error.
//
// Scrub looks each second for files that have changed, and reads those at once. It reads
// every other file at least once each readEvery, with at most a share of one core: 100,000
// events take well under a minute, and a log of many gigabytes takes in proportion.
//
// Scrub puts the damage into State, which status and metrics report, and marks it in the
// Log's configuration, where every reader sees it (see package client). It copies a damaged
// block to the directory "damaged" at once, because the engine may cut the block off at any
// time.
//
// A reader cannot always see that the engine skipped a message. Such a reader asks on
// wire.CheckSubject after it has read. Scrub then reads the changed files without resting,
// and answers with the damage.
type Scrub struct {
	Store
	b      Broker
	known  map[uint32]*scrubbed
	state  atomic.Pointer[State]
	marks  []event.Range // that this process has written
	told   string
	failed string    // why the last look failed
	marked time.Time // when the mark was last looked at
	kept   time.Time // when CheckedFile was last written
	fresh  bool      // a file was read since
	asking chan *nats.Msg
	// high is the highest Sequence that was ever read from the files. On a lone host it
	// never goes down, also when the engine opens files that were cut off.
	high   event.Sequence
	cutOff error // the end has gone, or all: this process must not go on
	quit   chan struct{}
	done   chan struct{}
}

// Store is where a host keeps its copy of the Log.
type Store struct {
	Blocks  string // the directory of the Log's blocks
	Checked string // the path of blocks.CheckedFile
	Aside   string // the directory for copies of damaged blocks
	Node    string // of a cluster; "": a lone host's
	Logger  *slog.Logger
}

// Broker is the part of the broker that the scrub uses.
type Broker struct {
	Admin      *nats.Conn
	Bounds     func() (Bounds, error)
	Mark       func(ctx context.Context, damaged []event.Range) error // where every reader sees it
	KeepConfig func()                                                 // of the Log, where it has changed
	Gone       func() error                                           // why the store is no longer at its path; nil: it is
	Evict      func(why error)                                        // after it, nobody appends here any more
}

// Bounds are the ends of this process's copy of the Log, as the engine reports them.
type Bounds struct {
	First, Last event.Sequence // that it must hold
	Messages    uint64
}

// scrubbed is a file as it was when it was read.
type scrubbed struct {
	blocks.Block
	mod time.Time
	at  time.Time      // when it was read
	due event.Sequence // that the engine had stored before that; 0: not known
}

// State is the scrub's findings about this process's copy of the Log.
type State struct {
	Found   []blocks.Damage
	Checked time.Time      // since when every file has been read; zero: not yet
	Up      event.Sequence // to which the copy was checked
}

const (
	roundEvery = time.Second
	readEvery  = 30 * time.Second
	share      = 50                   // one part in so many of a core
	mostRest   = 45 * time.Nanosecond // at most, for each byte
	markAgain  = 10 * time.Second
	grownEvery = 5 * time.Second        // how often the newest file is read while it grows
	askedEvery = 250 * time.Millisecond // the same, where a reader asks
	keepEvery  = 30 * time.Second
	// racy is how long after a change of a file another one may have the same time.
	racy = 20 * time.Millisecond
)

// waiting is how many questions wait for an answer. One on top is answered at once: busy, ask
// again after askAgain. (A check answers all that wait.)
const (
	waiting  = 1024
	askAgain = 250 * time.Millisecond
)

// Start goes on from what Store.Check has found, and on a lone host marks it before
// anybody reads.
func Start(ctx context.Context, store Store, b Broker, from Known) (*Scrub, error) {
	s := &Scrub{
		Store: store, b: b, known: from.blocks, high: from.high, kept: time.Now(),
		asking: make(chan *nats.Msg, waiting), quit: make(chan struct{}), done: make(chan struct{}),
	}
	s.state.Store(&State{Found: from.found})
	if s.Node == "" && len(from.found) > 0 {
		s.told = fmt.Sprint(from.found)
		if err := b.Mark(ctx, rangesOf(from.found)); err != nil { // it is tried again
			s.Logger.Warn("cannot mark the Log as damaged", "err", err)
		}
	}
	if _, err := b.Admin.Subscribe(wire.CheckSubject(s.Node), wire.Intake(s.asking, askAgain)); err != nil {
		return nil, err
	}
	go s.run()
	return s, nil
}

// State returns the findings so far.
func (s *Scrub) State() State { return *s.state.Load() }

// Stop ends it.
func (s *Scrub) Stop() {
	close(s.quit)
	<-s.done
}

func (s *Scrub) run() {
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
		_ = s.look(ctx, false) // look has logged the error
		s.rest(ctx, roundEvery)
	}
	if s.cutOff != nil {
		_ = s.b.Admin.Flush() // the readers that have asked get an answer first
		s.b.Evict(s.cutOff)
	}
}

// look makes one round, and reports what it found. Where a reader has asked it reads
// only what has changed, and does not rest.
func (s *Scrub) look(ctx context.Context, asked bool) (err error) {
	found, err := s.find(ctx, asked)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		if words := err.Error(); words != s.failed { // the engine may not have opened the Log for long, which its own watch tells
			s.failed = words
			s.Logger.Warn("cannot check the store for damage", "err", err)
		}
		return err
	}
	if len(found.Damage) > 0 {
		if gone := s.b.Gone(); gone != nil {
			s.cutOff = gone // no repair brings back what somebody has taken away
			return gone
		}
	}
	if s.Node == "" && found.Last < s.high {
		s.cutOff = &EndError{found.Damage}
	}
	s.failed = ""
	s.high = max(s.high, found.Last)
	s.tell(ctx, found)
	s.keepKnown()
	s.b.KeepConfig()
	return nil
}

// rest waits, and answers the readers that ask meanwhile.
func (s *Scrub) rest(ctx context.Context, d time.Duration) {
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

// answer makes one look for all readers that have asked by now.
func (s *Scrub) answer(ctx context.Context, first *nats.Msg) {
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
			_ = m.Respond(b) // the reader that asked has gone, or asks again
		}
	}
}

// keepKnown writes the results of the checks to CheckedFile from time to time.
func (s *Scrub) keepKnown() {
	if !s.fresh || time.Since(s.kept) < keepEvery {
		return
	}
	s.fresh, s.kept = false, time.Now()
	still := maps.Clone(s.known)
	newest := uint32(0)
	for i := range still {
		newest = max(newest, i)
	}
	delete(still, newest) // which is being written
	if err := s.writeChecked(still, 0); err != nil {
		s.Logger.Debug("what was checked of the store is checked again at the next start", "err", err)
	}
}

func rangesOf(found []blocks.Damage) []event.Range {
	out := make([]event.Range, 0, len(found))
	for _, d := range found {
		out = append(out, d.Range)
	}
	return out
}

// tell passes on what a round found.
func (s *Scrub) tell(ctx context.Context, rep blocks.Report) {
	was := s.state.Load()
	words := fmt.Sprint(rep.Damage)
	if words != s.told {
		s.told = words
		for _, d := range rep.Damage {
			s.Logger.Error("the store is damaged: 'dstream doctor' repairs it", "seq", d.Range.String(), "file", d.File, "offset", d.Offset, "err", d.Why)
			if d.File == "" {
				continue
			}
			if err := s.keep(d.File); err != nil {
				s.Logger.Warn("cannot keep a copy of a damaged block", "file", d.File, "err", err)
			}
		}
		if len(rep.Damage) == 0 && len(was.Found) > 0 {
			s.Logger.Info("the store is whole again")
		}
	}
	s.state.Store(&State{Found: rep.Damage, Checked: was.Checked, Up: was.Up})
	ranges := rangesOf(rep.Damage)
	if slices.Equal(ranges, s.marks) && (len(ranges) == 0 && !s.marked.IsZero() || time.Since(s.marked) < markAgain) {
		return
	}
	if err := s.b.Mark(ctx, ranges); err != nil {
		if ctx.Err() == nil {
			s.Logger.Warn("cannot mark the Log as damaged", "err", err)
		}
		return
	}
	s.marks, s.marked = ranges, time.Now()
}
