package broker

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"durablestream/event"
	"durablestream/internal/blocks"
	"durablestream/internal/scrub"
	"durablestream/internal/wire"
)

// Damage is one run of Sequences that cannot be read in the host's copy of the Log.
type Damage struct {
	event.Range
	File   string `json:"file"` // the block where it should be, or the one behind it
	Offset int64  `json:"offset"`
	Why    string `json:"why"`
}

func (d Damage) String() string { return blocks.Damage(d).String() }

func damages(found []blocks.Damage) (out []Damage) {
	for _, d := range found {
		out = append(out, Damage(d))
	}
	return out
}

// Checked is what a host has found out about its copy of the Log, which it reads again and
// again.
type Checked struct {
	Damage []Damage
	Since  time.Time      // when every file has been read since; zero: not yet
	Up     event.Sequence // to which the copy was checked
}

// Checked is what is known of damage in the store: nothing where CheckEngine returns an error.
func (b *Broker) Checked() Checked {
	if b.scrub == nil {
		return Checked{}
	}
	s := b.scrub.State()
	return Checked{damages(s.Found), s.Checked, s.Up}
}

// DamagedError is a store that must not be hosted as it is: the end of its Log is
// damaged, and the engine would cut it off and give the Sequences of what was
// acknowledged to other events.
type DamagedError struct {
	Dir   string // of the host
	Found []Damage
}

// Unwrap gives the error by which other packages of this module know such a store.
func (e *DamagedError) Unwrap() error { return wire.ErrDamaged }

func (e *DamagedError) Error() string {
	words := make([]string, 0, len(e.Found))
	for _, d := range e.Found {
		words = append(words, d.String())
	}
	return fmt.Sprintf("broker: the store in %s is damaged at its end, and to host it would lose what is there: %s", e.Dir, strings.Join(words, "; ")) + e.Advice()
}

// Advice is the end of Error, which the doctor leaves out.
func (e *DamagedError) Advice() string { return "; 'dstream doctor --fix' repairs it" }

const (
	// DamagedDir is inside Config.Dir and keeps copies of damaged blocks.
	DamagedDir = "damaged"
	// CheckedFile is inside StoreDir.
	CheckedFile = blocks.CheckedFile
)

// scrubbed is the store that the scrub reads. What it writes there it finds by the open directory:
// another one in its place is not written to.
func (b *Broker) scrubbed() scrub.Store {
	s := scrub.Store{
		Blocks: b.blocksDir(), Checked: filepath.Join(pathOf(b.store), CheckedFile),
		Aside: filepath.Join(b.cfg.Dir, DamagedDir), Logger: b.cfg.Logger,
	}
	if b.cfg.Cluster != nil {
		s.Node = b.cfg.Name
	}
	return s
}

func (b *Broker) blocksDir() string {
	return blocks.Dir(filepath.Join(b.cfg.Dir, StoreDir), b.cfg.account())
}

// checkStore looks at the store before the engine does, and leaves what it learnt to the
// scrub.
func (b *Broker) checkStore() (err error) {
	if !engineKnown() { // startScrub tells it
		return nil
	}
	var unread *scrub.ReadError
	b.known, err = b.scrubbed().Check()
	switch {
	case err == nil:
		return nil
	case errors.As(err, &unread) && b.cfg.Cluster != nil:
		return &UnreadableCopyError{b.cfg.Dir, unread.Err}
	case errors.As(err, new(*scrub.EndError)):
		return b.asDamaged(err)
	}
	return fmt.Errorf("broker: %w", err)
}

// asDamaged names the host in what the scrub says.
func (b *Broker) asDamaged(err error) error {
	var end *scrub.EndError
	if errors.As(err, &end) {
		return &DamagedError{b.cfg.Dir, damages(end.Found)}
	}
	return err
}

// startScrub goes on from what checkStore has found. With an engine that is not known there
// is no scrub.
func (b *Broker) startScrub(ctx context.Context) error {
	store := b.scrubbed()
	if err := CheckEngine(); err != nil {
		b.cfg.Logger.Warn("the store is not checked", "err", err)
		return b.answerUnchecked(wire.CheckSubject(store.Node))
	}
	gone := func() error {
		if b.present() {
			return nil
		}
		return b.evictedError()
	}
	s, err := scrub.Start(ctx, store, scrub.Broker{
		Admin: b.admin, Bounds: b.bounds, Mark: b.mark, KeepConfig: b.keepConfig, Gone: gone,
		Evict: func(why error) { b.evict(b.asDamaged(why)) },
	}, b.known)
	if err != nil {
		return fmt.Errorf("broker: %w", err)
	}
	b.scrub = s
	return nil
}

// forgetUnwritten is for each start of the engine: see blocks.ForgetUnwritten.
func (b *Broker) forgetUnwritten() error {
	if !engineKnown() {
		return nil
	}
	if err := blocks.ForgetUnwritten(b.blocksDir()); err != nil {
		return fmt.Errorf("broker: cannot remove the engine's state file: %w", err)
	}
	return nil
}

// bounds are what the engine says of this process's copy of the Log.
func (b *Broker) bounds() (scrub.Bounds, error) {
	z, err := b.jsz(&server.JSzOptions{Account: b.cfg.account(), Streams: true, Config: true})
	if err != nil {
		return scrub.Bounds{}, err
	}
	for _, a := range z.AccountDetails {
		for _, s := range a.Streams {
			if s.Name == wire.LogName && s.Config != nil {
				return scrub.Bounds{First: max(1, event.Sequence(s.Config.FirstSeq)), Last: event.Sequence(s.State.LastSeq), Messages: s.State.Msgs}, nil
			}
		}
	}
	return scrub.Bounds{}, errors.New("this server has no copy of the Log")
}

// jsz is the engine's own, while its JetStream is not being switched.
func (b *Broker) jsz(opts *server.JSzOptions) (*server.JSInfo, error) {
	b.switching.RLock()
	defer b.switching.RUnlock()
	return b.server.Jsz(opts)
}

// mark writes what is damaged in this process's copy into the Log's configuration,
// where it is not written yet.
func (b *Broker) mark(ctx context.Context, damaged []event.Range) error {
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
