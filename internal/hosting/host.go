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

// host is the state of a process that hosts: the broker, the mirror and the sweeper,
// which share one connection.
type host struct {
	cfg    Config
	broker *broker.Broker
	nc     *nats.Conn
	client *client.Client
	since  time.Time

	mirror  mirroring
	sweeper sweeping
}

// hostGrace is the time for the steps after the start of the engine.
const hostGrace = 30 * time.Second

// startHost makes this process the host. It writes the address last: others join only a
// log whose mirror fits it. After an error nothing runs.
func startHost(ctx context.Context, cfg Config) (_ *host, err error) {
	bcfg, err := cfg.broker()
	if err != nil {
		return nil, err
	}
	if err := paths.NotAsRoot(cfg.Dir); err != nil && cfg.copied == "" {
		return nil, err
	}
	if err := cfg.onlyMirror(); err != nil {
		return nil, err
	}
	if !cfg.NoCreate && cfg.copied == "" && !cfg.takingOver { // at a take-over the directory existed a moment ago
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
	if cfg.Node.Cluster == nil { // the engine may have taken longer than ctx allowed
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
		// The sweeper decides everything that expired without a host before anybody can
		// join. A host that takes over from one that ran a moment ago lets nobody wait
		// for that.
		if err := h.sweeper.start(ctx, !cfg.takingOver); err != nil {
			return nil, err
		}
	}
	return h, b.Advertise()
}

// stop writes the mirror up to the Log's end, and then stops everything. It stops the
// broker last, so that the next host finds a store that nobody writes to.
//
// The mirror first catches up while other processes continue to append, so that they wait
// for its last lines only. Then no other process may append.
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

// abandon stops everything without another line in the mirror, since the mirror's place
// belongs to another log now, or to none.
func (h *host) abandon() error {
	h.client.Close()
	h.nc.Close() // so that the mirror cannot read on
	err := errors.Join(h.sweeper.end(), h.mirror.end())
	return errors.Join(err, h.broker.Stop(context.Background()))
}

const isolateTime = 5 * time.Second
