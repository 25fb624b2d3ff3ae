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

// Entry accepts each connection with one of two tokens, until Shut.
type Entry struct {
	own    string // the token of the host's own connections
	joined string // the token in the address file
	shut   atomic.Bool
}

// NewEntry returns an Entry for two tokens: that of the host's own connections, and that in the
// address file.
func NewEntry(own, joined string) *Entry { return &Entry{own: own, joined: joined} }

// Shut makes Check refuse every connection from now on.
func (e *Entry) Shut() { e.shut.Store(true) }

// Check implements server.Authentication. The server calls it for each connection, when the
// connection is on the server's list already.
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
	// A single request by mistake, such as an update of the stream's max_age, would delete the
	// Log. These permissions stop mistakes. They do not stop a process that makes the host
	// send such a request as its reply; only keys do.
	c.RegisterUser(&server.User{Username: roles.JoinedUser, Permissions: &server.Permissions{
		Publish: &server.SubjectPermission{Deny: roles.HostOnly()},
	}})
	return true
}

// Within reports whether a process that joined within the last while is still connected to s.
// Of a host with keys it returns false: joined processes have no user of their own there.
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
		// Some connections are still ending, and a process may have connected just before Shut.
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
			_ = s.DisconnectClientByID(c.Cid) // an error means that the connection has ended by itself
		}
	}
	return others, nil
}
