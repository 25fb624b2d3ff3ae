package measure

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"

	"durablestream/broker"
	"durablestream/client"
)

// Host is a broker of ours in this process, synced to disk as always, with a client
// of ours and a bare one, each over a TCP connection of its own.
type Host struct {
	Dir    string
	Broker *broker.Broker
	Client *client.Client
	Bare   *Bare

	conns []*nats.Conn
}

// Start hosts a log in dir, which is made.
func Start(ctx context.Context, dir string) (*Host, error) {
	h := &Host{Dir: dir}
	var err error
	if h.Broker, err = broker.Start(ctx, broker.Config{Dir: dir}); err != nil {
		return nil, fmt.Errorf("measure: %w", err)
	}
	if err = h.Broker.Advertise(); err == nil {
		target := client.Target{AddressFile: broker.AddressPath(dir)}
		h.Client, h.Bare, h.conns, err = Join(ctx, target)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("measure: %w", err), h.Stop(ctx))
	}
	return h, nil
}

// Join makes a client of ours and a bare one for a host that runs. Whoever calls it
// closes the client, and then the connections.
func Join(ctx context.Context, t client.Target) (*client.Client, *Bare, []*nats.Conn, error) {
	ours, err := client.Connect(ctx, t)
	if err != nil {
		return nil, nil, nil, err
	}
	theirs, err := client.Connect(ctx, t)
	if err != nil {
		ours.Close()
		return nil, nil, nil, err
	}
	conns := []*nats.Conn{ours, theirs}
	c, err := client.New(ctx, ours, client.Config{})
	var b *Bare
	if err == nil {
		b, err = NewBare(theirs)
	}
	if err != nil {
		ours.Close()
		theirs.Close()
		return nil, nil, nil, err
	}
	return c, b, conns, nil
}

// Stop ends all of it. Where there is no host, as after a Start that failed, it does
// nothing.
func (h *Host) Stop(ctx context.Context) error {
	if h == nil {
		return nil
	}
	if h.Client != nil {
		h.Client.Close()
	}
	for _, nc := range h.conns {
		nc.Close()
	}
	return h.Broker.Stop(context.WithoutCancel(ctx))
}
