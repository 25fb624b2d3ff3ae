package hosting

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"

	"durablestream/broker"
	"durablestream/client"
	"durablestream/internal/grace"
	"durablestream/internal/paths"
	"durablestream/internal/sweeper"
	"durablestream/internal/wire"
	"durablestream/mirror"
)

// host is what runs in the process that hosts: the broker, the mirror and the
// sweeper, which have a connection of their own.
type host struct {
	cfg    Config
	broker *broker.Broker
	nc     *nats.Conn
	client *client.Client
	since  time.Time

	mirror  mirroring
	sweeper sweeping
}

// hostGrace is what a host has for the steps that follow the start of its engine.
const hostGrace = 30 * time.Second

// startHost makes this process the host. The address is written last: others join
// only a log whose mirror fits it. After an error nothing runs.
func startHost(ctx context.Context, cfg Config) (_ *host, err error) {
	bcfg, err := cfg.broker()
	if err != nil {
		return nil, err
	}
	if err := paths.NotAsRoot(cfg.Dir); err != nil && cfg.copied == "" {
		return nil, err
	}
	if !cfg.NoCreate && cfg.copied == "" && !cfg.takingOver { // who takes over had a directory a moment ago
		if err := paths.MakeDir(cfg.Dir); err != nil {
			if short := broker.Shortage(bcfg.Dir); short != nil {
				return nil, short
			}
			return nil, err
		}
	}
	b, err := broker.Start(ctx, bcfg)
	if err != nil {
		if cfg.Explain != nil {
			err = cfg.Explain(err)
		}
		return nil, err
	}
	if cfg.Node.Cluster == nil { // the engine may have taken longer than ctx had
		graced, done := grace.Context(ctx, hostGrace)
		defer done()
		ctx = graced
	}
	h := &host{cfg: cfg, broker: b, since: time.Now()}
	defer func() {
		if err != nil {
			err = errors.Join(err, h.stop())
		}
	}()
	if h.nc, err = b.Connect(nats.Name("dstream host")); err != nil {
		return nil, err
	}
	if h.client, err = client.New(ctx, h.nc, client.Config{Logger: cfg.Logger, Restoring: true}); err != nil {
		return nil, err
	}
	h.sweeper.cfg = sweeper.Config{Client: h.client, Logger: cfg.Logger}
	h.mirror.use(mirror.Config{Client: h.client, Dir: cfg.Dir, MaxBytes: cfg.MirrorMaxBytes, Logger: cfg.Logger})
	if !cfg.NoMirror {
		if err := h.mirror.check(ctx, cfg.CheckMirror); err != nil {
			return nil, err
		}
	}
	if _, err := h.nc.Subscribe(wire.StatusSubject, h.answerStatus); err != nil {
		return nil, err
	}
	if cfg.Node.Cluster != nil {
		if err := answerDigests(h.nc, cfg.Node.Name, cfg.store()); err != nil {
			return nil, err
		}
	}
	if !cfg.NoMirror {
		h.mirror.start()
	}
	if !cfg.NoSweeper {
		// What expired while nobody hosted is decided before anybody can join; a host that
		// takes over from one that was there a moment ago lets nobody wait for that.
		if err := h.sweeper.start(ctx, !cfg.takingOver); err != nil {
			return nil, err
		}
	}
	return h, b.Advertise()
}

// stop writes the mirror up to what the Log holds, and then stops everything; the
// broker last, so that whoever hosts next finds a store that nobody writes to.
//
// The mirror first catches up while the others go on, so that they wait for its last
// lines only; then nobody else may append any more.
func (h *host) stop() error {
	err := h.sweeper.end()
	if h.mirror.stop != nil && h.cfg.Node.Cluster == nil {
		h.mirror.catchUp()
		ctx, cancel := context.WithTimeout(context.Background(), isolateTime)
		if late := h.broker.Isolate(ctx, h.nc); late != nil { // no failure: the next host writes the rest
			h.cfg.Logger.Warn("the mirror may end before the log: the next host writes the rest", "err", late)
		}
		cancel()
	}
	err = errors.Join(err, h.mirror.end())
	if h.client != nil {
		h.client.Close()
	}
	if h.nc != nil {
		h.nc.Close()
	}
	return errors.Join(err, h.broker.Stop(context.Background()))
}

// abandon stops everything without another line in the mirror, whose place is another
// log's, or nobody's.
func (h *host) abandon() error {
	h.client.Close()
	h.nc.Close() // so that the mirror cannot read on
	err := errors.Join(h.sweeper.end(), h.mirror.end())
	return errors.Join(err, h.broker.Stop(context.Background()))
}

const isolateTime = 5 * time.Second
