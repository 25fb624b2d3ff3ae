// Package client appends to the Log and reads it, over any NATS connection.
//
// An append returns when the event is durable, and tries again as long as its
// context lasts. Reads are iterators: they catch up from a Sequence, in order and
// without gaps, across reconnects and restarts of the broker.
package client

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/nats-io/nats.go"

	"durablestream/event"
	"durablestream/internal/dial"
	"durablestream/internal/logio"
)

// Config says what a Client fills in. The zero value works.
type Config struct {
	// CorrelationID is given to events that have none. Default: a new UUIDv7.
	CorrelationID string
	// StreamID is given to events that have none. Default: none, and an event
	// without a stream is refused.
	StreamID string
	// Worktree is the name of the git work tree that this client works for, if it is a
	// linked one: events whose metadata has no such key get it (event.MetadataWorktree).
	// Default: none.
	Worktree string
	// Restoring opens a Log whose restore has not ended. Default: such a one is
	// refused.
	Restoring bool
	// Logger hears of retries and of messages that are set aside. Default: discarded.
	Logger *slog.Logger
	// Why tells what the owner knows of why the Log does not answer, nil if nothing:
	// it goes into the errors of calls whose context ended first. Default: none.
	Why func() error
	// OwnHost says that the server is a host of ours, which answers whether its store is
	// whole. A server that is not ours has nobody who could.
	OwnHost bool
}

// Client reads and writes one Log. Its methods may be called from any number of
// goroutines. Whoever made the connection closes it, after the client.
type Client struct {
	cfg    Config
	nc     *nats.Conn
	rights dial.Rights
	log    *logio.Log

	handlers sync.Map // *Handler → context.CancelFunc: those of On that run
	imports  imports
	setAside atomic.Uint64 // messages on events.> that are no events
}

// New makes a Client over nc. It asks the server about the Log once: ErrNoLog
// where there is none, and an error in words for one of a later version.
func New(ctx context.Context, nc *nats.Conn, cfg Config) (*Client, error) {
	if cfg.CorrelationID == "" {
		cfg.CorrelationID = event.NewID()
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	rights, err := dial.AskRights(ctx, nc)
	if err != nil {
		return nil, err
	}
	c := &Client{cfg: cfg, nc: nc, rights: rights}
	c.log, err = logio.Open(ctx, nc, rights, logio.Config{
		Restoring: cfg.Restoring, Logger: cfg.Logger, Why: cfg.Why, OwnHost: cfg.OwnHost, MayStore: c.mayStore,
	})
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	c.imports.log = c.log
	return c, nil
}

// Close ends the handlers of On and the client's watch over its connection, which
// stays open. Calls that are under way go on, and notice a lost connection later.
func (c *Client) Close() {
	c.handlers.Range(func(_, off any) bool { off.(context.CancelFunc)(); return true })
	c.log.Close()
}

// Identity tells the Log of this client from every other.
func (c *Client) Identity() string { return c.log.Identity() }

// CorrelationID is what this client gives to events that have none.
func (c *Client) CorrelationID() string { return c.cfg.CorrelationID }

// SetAside counts the messages on events.> that this client met and that are not
// events: something other than a Durable Stream client wrote them.
func (adm Admin) SetAside() uint64 { return adm.c.setAside.Load() }

// MaxPayload is the most bytes that the server takes in one message now, headers
// included.
func (c *Client) MaxPayload() int { return c.log.MaxPayload() }

// Role is what this client's key may do; RoleNone on a server without roles.
func (adm Admin) Role() Role { return Role(adm.c.rights.Role) }

// mayStore refuses at once what the server would refuse without an answer.
func (c *Client) mayStore(subject string) error { return mayStore(c.rights, subject) }

// Needs refuses what only a role, or one with more rights, may do: with a
// *NotAllowedError, before anything is asked of the server. what says what it is, as in
// "restore a log".
func (adm Admin) Needs(role Role, what string) error {
	c := adm.c
	order := []Role{RoleAgent, RoleOperator, RoleAdmin}
	if !c.rights.Limited || slices.Index(order, c.Admin().Role()) >= slices.Index(order, role) {
		return nil
	}
	return fmt.Errorf("client: %w", &NotAllowedError{Role: c.Admin().Role(), Needs: role, What: what})
}
