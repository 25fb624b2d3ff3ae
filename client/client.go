// Package client appends to the Log and reads it, over any NATS connection.
//
// An append returns when the event is durable, and retries until its context ends. Reads
// are iterators: they catch up from a Sequence, in order and without gaps, across
// reconnects and restarts of the broker.
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

// Config sets the fields that a Client fills in. The zero value works.
type Config struct {
	// CorrelationID is for events without one. Default: a new UUIDv7.
	CorrelationID string
	// StreamID is for events without one. Default: none, and an event without a stream is
	// refused.
	StreamID string
	// Worktree is the name of the git work tree that this client works for, if it is a
	// linked one. Events whose metadata has no event.MetadataWorktree get it. Default:
	// none.
	Worktree string
	// Restoring opens a Log whose restore has not ended. Default: New refuses such a Log.
	Restoring bool
	// Logger gets retries and messages that are set aside. Default: discarded.
	Logger *slog.Logger
	// Why returns the reason why the Log does not answer, as far as the caller knows it,
	// else nil. Calls whose context ended first put the reason into their error. Default:
	// none.
	Why func() error
	// OwnHost says that the server is a host of ours, which reports whether its store is
	// whole. A server that is not ours cannot report that.
	OwnHost bool
}

// Client reads and writes one Log. Any number of goroutines may call its methods. The
// caller that made the connection closes it, after the client.
type Client struct {
	cfg    Config
	nc     *nats.Conn
	rights dial.Rights
	log    *logio.Log

	handlers sync.Map // *Handler → context.CancelFunc: the running handlers of On
	imports  imports
	setAside atomic.Uint64 // messages on events.> that are not events
}

// New returns a Client over nc. It asks the server about the Log once. It returns
// ErrNoLog if the server has none, a *NewerFormatError for a Log of a later version, and a
// *WeakLogError for a Log whose configuration promises less than a Log must.
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

// Close ends the handlers of On and the client's watch over its connection, and leaves
// the connection open. Calls in progress continue; they notice a lost connection later.
func (c *Client) Close() {
	c.handlers.Range(func(_, off any) bool { off.(context.CancelFunc)(); return true })
	c.log.Close()
}

// Identity distinguishes the Log of this client from every other Log.
func (c *Client) Identity() string { return c.log.Identity() }

// CorrelationID returns the CorrelationID for events without one.
func (c *Client) CorrelationID() string { return c.cfg.CorrelationID }

// SetAside counts the messages on events.> that this client read and that are not events:
// another program than a Durable Stream client wrote them.
func (adm Admin) SetAside() uint64 { return adm.c.setAside.Load() }

// MaxPayload is the most bytes, headers included, that the server accepts in one message
// now.
func (c *Client) MaxPayload() int { return c.log.MaxPayload() }

// Role is the role of this client's key; RoleNone on a server without roles.
func (adm Admin) Role() Role { return Role(adm.c.rights.Role) }

// mayStore refuses at once what the server would refuse without an answer.
func (c *Client) mayStore(subject string) error { return mayStore(c.rights, subject) }

// Needs returns a *NotAllowedError, before any request to the server, if the client's
// role is below needed. what describes the operation, as in "restore a log".
func (adm Admin) Needs(role Role, what string) error {
	c := adm.c
	order := []Role{RoleAgent, RoleOperator, RoleAdmin}
	if !c.rights.Limited || slices.Index(order, c.Admin().Role()) >= slices.Index(order, role) {
		return nil
	}
	return fmt.Errorf("client: %w", &NotAllowedError{Role: c.Admin().Role(), Needs: role, What: what})
}
