package dial

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"durablestream/internal/roles"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Rights is what this client may do, as the server reported at Open.
type Rights struct {
	Limited bool // the server reported rights
	May     roles.Permissions
	Role    string // as package roles names it; "" on a server without roles
}

// askTimeout bounds the request for the rights: a server answers it by itself, at once,
// and an old server not at all.
const askTimeout = 2 * time.Second

// AskRights asks the server what this connection may do.
func AskRights(ctx context.Context, nc *nats.Conn) (Rights, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	m, err := nc.RequestWithContext(ctx, roles.UserInfo, nil)
	if errors.Is(err, nats.ErrNoResponders) || errors.Is(err, context.DeadlineExceeded) && nc.IsConnected() {
		return Rights{}, nil // a server that reports no rights
	}
	if err != nil {
		return Rights{}, fmt.Errorf("client: cannot ask the server what this key may do: %w", err)
	}
	var answer struct {
		Data struct {
			User        string `json:"user"`
			Permissions *struct {
				Publish   struct{ Allow, Deny []string } `json:"publish"`
				Subscribe struct{ Allow, Deny []string } `json:"subscribe"`
			} `json:"permissions"`
		} `json:"data"`
	}
	if err := json.Unmarshal(m.Data, &answer); err != nil {
		return Rights{}, fmt.Errorf("client: the server's answer to what this key may do cannot be read: %w", err)
	}
	p := answer.Data.Permissions
	if p == nil || answer.Data.User == roles.JoinedUser { // a host without keys refuses only its own subjects
		return Rights{}, nil
	}
	r := Rights{Limited: true, May: roles.Permissions{Publish: p.Publish.Allow, Deny: p.Publish.Deny, Subscribe: p.Subscribe.Allow}}
	if len(r.May.Publish) == 0 {
		r.May.Publish = []string{">"}
	}
	r.Role = string(r.May.Role())
	return r, nil
}

// JetStream returns JetStream's API under the name that it has for these rights.
func (r Rights) JetStream(nc *nats.Conn) (jetstream.JetStream, error) {
	if prefix := r.May.Prefix(); r.Limited && prefix == roles.APIPrefix {
		return jetstream.NewWithAPIPrefix(nc, prefix)
	}
	return jetstream.New(nc)
}
