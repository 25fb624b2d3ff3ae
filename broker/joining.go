package broker

import (
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"durablestream/internal/roles"
)

// Joining reports whether a process that joined within the last while is still connected.
// A host with keys reports false: it does not know its own connections by their user.
func (b *Broker) Joining(within time.Duration) bool {
	conns, err := b.server.Connz(&server.ConnzOptions{Limit: 1 << 20, Username: true})
	if err != nil {
		return false // the server is ending
	}
	for _, c := range conns.Conns {
		if c.AuthorizedUser == roles.JoinedUser && time.Since(c.Start) < within {
			return true
		}
	}
	return false
}
