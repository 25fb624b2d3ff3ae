package broker

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
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
	"durablestream/internal/wire"
)

// IndexDir is inside StoreDir and holds what package index makes of the blocks. It may be
// removed at any time.
const IndexDir = "index"

// finder keeps an index of each block of the Log, in files for those that the engine has
// filled, in memory for the newest, and answers on wire.FindSubject what matches a
// question, out of the block files themselves. The engine knows which subjects a block
// holds, but not where in it, so that it reads 8 MB for one message.
//
// Only blocks that follow each other from the Log's beginning without a gap, and that are
// as they were when they were indexed, count; each record that is handed out has had its
// checksum checked. Where any of that fails, the answer ends before, and the reader goes
// on with the engine, which with the scrub finds what is wrong.
type finder struct {
	b      *Broker
	blocks string // their directory
	dir    string // of the indexes
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
	indexTick = time.Second
	// indexLook is how often all is looked at while nothing is written.
	indexLook  = 10 * time.Second
	indexRetry = time.Minute // after a block that could not be indexed
)

// startFinder goes on with the indexes that are there. With an engine that is not known it
// returns nil, and readers search with the engine.
func startFinder(b *Broker) (*finder, error) {
	if !engineKnown() {
		return nil, nil
	}
	f := &finder{b: b, blocks: b.blocksDir(), dir: filepath.Join(pathOf(b.store), IndexDir), failed: map[uint32]time.Time{},
		asking: make(chan *nats.Msg, findWaiting)}
	f.full.Store(&chain{})
	f.ctx, f.cancel = context.WithCancel(context.Background())
	f.round(false)
	if _, err := b.admin.QueueSubscribe(wire.FindSubject, wire.FindGroup, wire.Intake(f.asking, findRetry)); err != nil {
		return nil, fmt.Errorf("broker: %w", err)
	}
	f.done.Go(f.run)
	for range max(2, runtime.GOMAXPROCS(0)) {
		f.done.Go(f.answers)
	}
	return f, nil
}

func (f *finder) stop() {
	f.cancel()
	f.done.Wait()
}

// Indexed is the Sequence up to which this host finds messages by its index files; 0 where
// there are none.
func (b *Broker) Indexed() event.Sequence {
	if b.finder == nil {
		return 0
	}
	return b.finder.full.Load().end()
}

func (f *finder) run() {
	for tick := time.NewTicker(indexTick); ; {
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
func (f *finder) round(build bool) {
	files, err := blocks.List(f.blocks)
	if err != nil || len(files) == 0 {
		return
	}
	if newest := files[len(files)-1]; newest != f.seen || f.again.Swap(false) || time.Since(f.looked) > indexLook {
		f.seen, f.looked = newest, time.Now()
		if whole := f.take(files, build); !whole || !build {
			f.again.Store(true)
		}
	}
}

// take reports whether all that is full is indexed.
func (f *finder) take(files []blocks.File, build bool) bool {
	was, now := f.full.Load(), &chain{begins: blocks.Begins(f.blocks)}
	var err error
	if now.made, err = made(f.blocks); err != nil {
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
func (f *finder) indexOf(file blocks.File, log int64, known *index.Index, build bool) (*index.Index, error) {
	info, err := os.Stat(file.Path)
	if err != nil {
		return nil, err
	}
	of := index.Source{Log: log, Size: info.Size(), Mod: info.ModTime().UnixNano()}
	if known != nil && known.Of() == of && known.There() {
		return known, nil
	}
	x, err := index.Open(f.dir, file.Index, of)
	if err != nil && build {
		x, err = f.build(file, of)
	}
	return x, err
}

// build makes an index file, and rests for thrice as long as that took, since agents wait
// for what they append.
func (f *finder) build(file blocks.File, of index.Source) (*index.Index, error) {
	if at, ok := f.failed[file.Index]; ok && time.Since(at) < indexRetry {
		return nil, index.ErrNotWhole
	}
	if f.b.Disk().Full {
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
	err := os.MkdirAll(f.dir, 0o700)
	if err == nil {
		err = g.Extend()
	}
	var x *index.Index
	if err == nil {
		x, err = g.Write(f.dir, of)
	}
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) { // else somebody has removed the directory meanwhile, as anybody may
			f.failed[file.Index] = time.Now()
		}
		f.b.cfg.Logger.Debug("a block has no index: it is left to the engine to search", "block", file.Path, "err", err)
		return nil, err
	}
	delete(f.failed, file.Index)
	rest := time.NewTimer(3 * time.Since(begun))
	defer rest.Stop()
	select {
	case <-f.ctx.Done():
	case <-rest.C:
	}
	return x, nil
}

// grow sees to the newest block's index.
func (f *finder) grow(newest blocks.File, log int64, extend bool) {
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
func (f *finder) extend() {
	if err := f.newest.Extend(); err != nil {
		f.b.cfg.Logger.Debug("the newest block is left to the engine to search", "err", err)
		f.newest = nil // until the next round
		f.again.Store(true)
	}
}

// tidy removes the indexes of blocks that are there no more.
func (f *finder) tidy(files []blocks.File) {
	here := map[string]bool{}
	for _, file := range files {
		here[index.Path(f.dir, file.Index)] = true
	}
	entries, err := os.ReadDir(f.dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		path := filepath.Join(f.dir, e.Name())
		if !here[path] && !strings.HasSuffix(path, ".tmp") {
			_ = os.Remove(path) // or at the next round
		}
	}
}
