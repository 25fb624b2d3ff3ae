package hosting

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/dial"
	"durablestream/internal/wait"
	"durablestream/internal/wire"
)

// openServers opens the log of Config.Servers: of a cluster of ours, or of any NATS
// servers.
func openServers(ctx context.Context, cfg Config) (*Process, error) {
	target := dial.Target{Servers: cfg.Servers.URLs, NKey: cfg.NKey, TLS: dial.TLSFiles(cfg.TLS)}
	nc, err := dial.Connect(ctx, target)
	if err != nil {
		return nil, err
	}
	err = prepareServers(ctx, cfg, nc)
	nc.Close()
	if err != nil {
		return nil, fmt.Errorf("durablestream: %s: %w", target, err)
	}
	p := &Process{cfg: cfg}
	if err := p.attach(ctx, target); err != nil {
		return nil, err
	}
	return p, nil
}

// prepareServers checks what the servers promise, and creates the Log if there is none.
func prepareServers(ctx context.Context, cfg Config, nc *nats.Conn) error {
	js, err := client.JetStream(ctx, nc)
	if err != nil {
		return err
	}
	report, err := client.CheckServer(ctx, js, cfg.Servers.Monitor)
	if err != nil {
		return err
	}
	for _, words := range slices.Concat(report.Unseen, report.Limits) {
		cfg.Logger.Warn("servers: " + words)
	}
	switch {
	case len(report.Missing) > 0 && !cfg.Servers.AcceptWeaker:
		return &client.WeakServerError{Server: nc.ConnectedServerName(), Missing: report.Missing}
	case len(report.Missing) > 0:
		cfg.Logger.Warn("servers: weaker durability is accepted", "missing", report.Missing)
	}
	want := wire.LogWant{Replicas: cfg.Servers.Replicas, Window: cfg.DuplicateWindow, Restoring: cfg.Restoring}
	if want.Window == 0 {
		want.Window = 1 // any: the client uses the Log's window
	}
	return findOrCreate(ctx, cfg, nc, js, want)
}

const (
	serverAttempt = 2 * time.Second // for one answer
	serverPause   = 50 * time.Millisecond
)

// findOrCreate finds the Log, or creates it if there is none. While a cluster elects a
// leader, or other processes create the Log at the same moment, it retries until ctx
// ends.
func findOrCreate(ctx context.Context, cfg Config, nc *nats.Conn, js jetstream.JetStream, want wire.LogWant) error {
	for {
		attempt, cancel := context.WithTimeout(ctx, serverAttempt)
		_, err := wire.FindLog(attempt, js, want)
		missing := errors.Is(err, jetstream.ErrStreamNotFound)
		if missing && !client.MayCreate(js) {
			cancel()
			return fmt.Errorf("%w: a command with an admin's key makes it", client.ErrNoLog)
		}
		if missing && !cfg.NoCreate {
			err = createLog(attempt, cfg, nc, js)
		}
		cancel()
		var api *jetstream.APIError
		switch {
		case missing && cfg.NoCreate:
			return fmt.Errorf("%w: the first append, import or restore makes it", client.ErrNoLog)
		case err == nil && !missing:
			return nil
		case err != nil && errors.As(err, &api) && api.Code >= 400 && api.Code < 500,
			err != nil && api == nil && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, nats.ErrTimeout):
			return err
		}
		if ended := wait.For(ctx, serverPause); ended != nil {
			return fmt.Errorf("the log is not there yet: %w (%w)", ended, err)
		}
	}
}

// createLog creates the Log: with three replicas in any cluster, however few of its
// servers run at the moment.
func createLog(ctx context.Context, cfg Config, nc *nats.Conn, js jetstream.JetStream) error {
	replicas := cfg.Servers.Replicas
	if replicas == 0 {
		replicas = 1
		if nc.ConnectedClusterName() != "" {
			replicas = 3
		}
	}
	err := wire.CreateLog(ctx, js, replicas, cfg.DuplicateWindow)
	var api *jetstream.APIError
	if errors.As(err, &api) && api.ErrorCode == wire.CodeNoPeers {
		return fmt.Errorf("the log needs %d servers of the cluster %s, and they are not all there: start them, or choose fewer replicas (--replicas, Config.Replicas): %w",
			replicas, nc.ConnectedClusterName(), err)
	}
	return err
}

func recreateLog(ctx context.Context, nc *nats.Conn, first event.Sequence) error {
	done, err := wire.AskToRestore(ctx, nc, wire.RestoreRequest{First: first})
	if !done && err == nil {
		var js jetstream.JetStream
		if js, err = jetstream.New(nc); err == nil {
			err = wire.RecreateLog(ctx, js, first, nil)
		}
	}
	if err != nil {
		return fmt.Errorf("durablestream: %w", err)
	}
	return nil
}
