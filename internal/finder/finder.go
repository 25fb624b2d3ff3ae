// Package finder answers what matches a question, out of a host's block files and an index
// of each.
package finder

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"durablestream/event"
	"durablestream/internal/blocks"
	"durablestream/internal/index"
	"durablestream/internal/wait"
	"durablestream/internal/wire"
)

// Finder keeps an index of each block of the Log, in files for those that the engine has
// filled, in memory for the newest, and answers on wire.FindSubject what matches a
// question, out of the block files themselves. The engine knows which subjects a block
// holds, but not where in it, so that it reads 8 MB for one message.
//
// Only blocks that follow each other from the Log's beginning without a gap, and that are
// as they were when they were indexed, count; each record that is handed out has had its
// checksum checked. Where any of that fails, the answer ends before, and the reader goes
// on with the engine, which with the scrub finds what is wrong.
type Finder struct {
	Config
	full   atomic.Pointer[chain]
	seen   blocks.File          // the newest one, at the last round
	looked time.Time            // when the last round was
	again  atomic.Bool          // an index cannot be read
	failed map[uint32]time.Time // when a block could not be indexed
	asking chan *nats.Msg

	mu     sync.Mutex     // guards newest, and what it holds
	newest *index.Growing // the block behind the chain; nil: not known yet

	ctx    context.Context //nolint:containedctx // of all that this does in the background
	cancel context.CancelFunc
	done   sync.WaitGroup
}

// Config says where the Log is, and what the finder needs of the broker beside which it reads.
type Config struct {
	Blocks string // their directory
	Dir    string // of the indexes
	Node   string // of a cluster; "": a lone host's
	Logger *slog.Logger
	Admin  *nats.Conn
	Last   func() (event.Sequence, error) // that the engine has stored
	Full   func() bool                    // the disk takes no index
}

// chain is what of a Log is in index files: blocks that follow each other from its
// beginning.
type chain struct {
	made   int64 // the Log, Unix ns
	begins event.Sequence
	blocks []*index.Index
}

func (c *chain) end() event.Sequence {
	if len(c.blocks) == 0 {
		return max(1, c.begins) - 1
	}
	return c.blocks[len(c.blocks)-1].Last()
}

const (
	roundEvery = time.Second
	// lookEvery is how often all is looked at while nothing is written.
	lookEvery  = 10 * time.Second
	retryEvery = time.Minute // after a block that could not be indexed
)

// waiting is how many questions wait for an answer. One on top is answered at once: busy, ask
// again after askAgain.
const (
	waiting  = 1024
	askAgain = 100 * time.Millisecond
)

// Start goes on with the indexes that are there.
func Start(cfg Config) (*Finder, error) {
	f := &Finder{Config: cfg, failed: map[uint32]time.Time{}, asking: make(chan *nats.Msg, waiting)}
	f.full.Store(&chain{})
	f.ctx, f.cancel = context.WithCancel(context.Background())
	f.round(false)
	if _, err := f.Admin.QueueSubscribe(wire.FindSubject, wire.FindGroup, wire.Intake(f.asking, askAgain)); err != nil {
		return nil, err
	}
	f.done.Go(f.run)
	for range max(2, runtime.GOMAXPROCS(0)) {
		f.done.Go(f.answers)
	}
	return f, nil
}

// Stop ends it.
func (f *Finder) Stop() {
	f.cancel()
	f.done.Wait()
}

// Indexed is the Sequence up to which the index files go; 0 where there are none.
func (f *Finder) Indexed() event.Sequence { return f.full.Load().end() }

func (f *Finder) run() {
	for tick := time.NewTicker(roundEvery); ; {
		f.round(true)
		select {
		case <-f.ctx.Done():
			tick.Stop()
			return
		case <-tick.C:
		}
	}
}

// round takes the index files that are there, makes those that are not, and looks at what
// the newest block has got since.
func (f *Finder) round(build bool) {
	files, err := blocks.List(f.Blocks)
	if err != nil || len(files) == 0 {
		return
	}
	if newest := files[len(files)-1]; newest != f.seen || f.again.Swap(false) || time.Since(f.looked) > lookEvery {
		f.seen, f.looked = newest, time.Now()
		if whole := f.take(files, build); !whole || !build {
			f.again.Store(true)
		}
	}
}

// take reports whether all that is full is indexed.
func (f *Finder) take(files []blocks.File, build bool) bool {
	was, now := f.full.Load(), &chain{begins: blocks.Begins(f.Blocks)}
	var err error
	if now.made, err = made(f.Blocks); err != nil {
		return false // the engine is making the Log
	}
	known := map[uint32]*index.Index{}
	for _, x := range was.blocks {
		known[x.Block()] = x
	}
	newest := files[len(files)-1]
	for _, file := range files[:len(files)-1] {
		x, err := f.indexOf(file, now.made, known[file.Index], build)
		if err != nil || x.First() != now.end()+1 || f.ctx.Err() != nil {
			newest = blocks.File{} // it does not follow
			break
		}
		now.blocks = append(now.blocks, x)
		if len(now.blocks) > len(was.blocks) { // it is used at once
			f.full.Store(&chain{now.made, now.begins, slices.Clone(now.blocks)})
		}
	}
	f.full.Store(now)
	f.grow(newest, now.made, build)
	if build {
		f.tidy(files)
	}
	return newest.Path != ""
}

// made is when the Log was made, in Unix ns.
func made(dir string) (int64, error) {
	_, created, err := blocks.Stream(dir)
	if err != nil {
		return 0, err
	}
	at, err := time.Parse(time.RFC3339Nano, created)
	return at.UnixNano(), err
}

// indexOf gives the index of a block that is full.
func (f *Finder) indexOf(file blocks.File, log int64, known *index.Index, build bool) (*index.Index, error) {
	info, err := os.Stat(file.Path)
	if err != nil {
		return nil, err
	}
	of := index.Source{Log: log, Size: info.Size(), Mod: info.ModTime().UnixNano()}
	if known != nil && known.Of() == of && known.There() {
		return known, nil
	}
	x, err := index.Open(f.Dir, file.Index, of)
	if err != nil && build {
		x, err = f.build(file, of)
	}
	return x, err
}

// build makes an index file, and rests for thrice as long as that took, since agents wait
// for what they append.
func (f *Finder) build(file blocks.File, of index.Source) (*index.Index, error) {
	if at, ok := f.failed[file.Index]; ok && time.Since(at) < retryEvery {
		return nil, index.ErrNotWhole
	}
	if f.Full() {
		return nil, errors.New("the disk is full")
	}
	begun := time.Now()
	f.mu.Lock()
	g := f.newest // until a moment ago
	if g == nil || g.Block() != file.Index || g.Of().Log != of.Log {
		g = index.Grow(file, of.Log)
	} else {
		f.newest = nil
	}
	f.mu.Unlock()
	err := os.MkdirAll(f.Dir, 0o700)
	if err == nil {
		err = g.Extend()
	}
	var x *index.Index
	if err == nil {
		x, err = g.Write(f.Dir, of)
	}
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) { // else somebody has removed the directory meanwhile, as anybody may
			f.failed[file.Index] = time.Now()
		}
		f.Logger.Debug("a block has no index: it is left to the engine to search", "block", file.Path, "err", err)
		return nil, err
	}
	delete(f.failed, file.Index)
	_ = wait.For(f.ctx, 3*time.Since(begun)) // a Finder that ends needs no rest
	return x, nil
}

// grow sees to the newest block's index.
func (f *Finder) grow(newest blocks.File, log int64, extend bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case newest.Path == "":
		f.newest = nil
		return
	case f.newest == nil || f.newest.Block() != newest.Index || f.newest.Of().Log != log:
		f.newest = index.Grow(newest, log)
	}
	if extend {
		f.extend()
	}
}

// extend needs mu.
func (f *Finder) extend() {
	if err := f.newest.Extend(); err != nil {
		f.Logger.Debug("the newest block is left to the engine to search", "err", err)
		f.newest = nil // until the next round
		f.again.Store(true)
	}
}

// tidy removes the indexes of blocks that are there no more.
func (f *Finder) tidy(files []blocks.File) {
	here := map[string]bool{}
	for _, file := range files {
		here[index.Path(f.Dir, file.Index)] = true
	}
	entries, err := os.ReadDir(f.Dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		path := filepath.Join(f.Dir, e.Name())
		if !here[path] && !strings.HasSuffix(path, ".tmp") {
			_ = os.Remove(path) // or at the next round
		}
	}
}
