// Package joined lets other processes join a host without keys, and ends their connections.
package joined

import (
	"context"
	"crypto/subtle"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"durablestream/internal/roles"
	"durablestream/internal/wait"
)

// Entry lets in each connection that shows one of two tokens, until it is shut.
type Entry struct {
	own    string // of the host's own connections
	joined string // in the address file
	shut   atomic.Bool
}

// NewEntry is an Entry for the token of the host's own connections and the one in the address
// file.
func NewEntry(own, joined string) *Entry { return &Entry{own: own, joined: joined} }

// Shut lets nobody in from here on.
func (e *Entry) Shut() { e.shut.Store(true) }

// Check is asked by the server for each connection, once it is on the server's list.
func (e *Entry) Check(c server.ClientAuthentication) bool {
	has := func(token string) bool {
		return subtle.ConstantTimeCompare([]byte(c.GetOpts().Token), []byte(token)) == 1
	}
	switch {
	case e.shut.Load():
		return false
	case has(e.own):
		return true
	case !has(e.joined):
		return false
	}
	// One request by mistake, such as an update of the stream's max_age, would delete the
	// Log. This stops mistakes: a reply that is led to such a request is malice, and takes
	// keys to stop.
	c.RegisterUser(&server.User{Username: roles.JoinedUser, Permissions: &server.Permissions{
		Publish: &server.SubjectPermission{Deny: roles.HostOnly()},
	}})
	return true
}

// Within reports whether a process that joined within the last while is still connected to s.
// A host with keys has none: it does not know its own connections by their user.
func Within(s *server.Server, while time.Duration) bool {
	conns, err := s.Connz(&server.ConnzOptions{Limit: 1 << 20, Username: true})
	if err != nil {
		return false // the server is ending
	}
	for _, c := range conns.Conns {
		if c.AuthorizedUser == roles.JoinedUser && time.Since(c.Start) < while {
			return true
		}
	}
	return false
}

// CutOff ends all connections to s but those of keep, and returns when they have ended.
func CutOff(ctx context.Context, s *server.Server, keep ...*nats.Conn) error {
	own := map[uint64]bool{}
	for _, nc := range keep {
		if id, err := nc.GetClientID(); err == nil {
			own[id] = true
		}
	}
	for {
		others, err := disconnect(s, own)
		if err != nil {
			return err
		}
		if others == 0 {
			break
		}
		// Some are on their way out, and one may have dialled just before.
		if err := wait.For(ctx, time.Millisecond); err != nil {
			return fmt.Errorf("%d connections do not end: %w", others, err)
		}
	}
	return nil
}

// disconnect ends all connections but our own, and returns how many there were.
func disconnect(s *server.Server, own map[uint64]bool) (others int, err error) {
	conns, err := s.Connz(&server.ConnzOptions{Limit: 1 << 20})
	if err != nil {
		return 0, fmt.Errorf("cannot list the connections: %w", err)
	}
	for _, c := range conns.Conns {
		if !own[c.Cid] {
			others++
			_ = s.DisconnectClientByID(c.Cid) // it may have gone meanwhile
		}
	}
	return others, nil
}
