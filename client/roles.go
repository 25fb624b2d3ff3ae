package client

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"durablestream/event"
	"durablestream/internal/roles"
	"durablestream/internal/wire"
)

// Role is what the server lets this client do.
type Role string

// The roles; RoleNone is that of a server without roles, where everybody may do
// everything.
const (
	RoleNone     Role = ""
	RoleAgent    Role = "agent"
	RoleOperator Role = "operator"
	RoleAdmin    Role = "admin"
)

// ErrNotAllowed means that the role of this client's key does not allow what was
// asked. Nothing was stored. A *NotAllowedError says more.
var ErrNotAllowed = errors.New("not allowed")

// NotAllowedError is a refusal of what the server would refuse without a word.
type NotAllowedError struct {
	Role  Role   // of the key
	Needs Role   // the least that is needed
	What  string // was to be done
}

func (e *NotAllowedError) Error() string {
	return fmt.Sprintf("%v: this key has the role %s, and to %s takes the role %s: let somebody do it who has such a key",
		ErrNotAllowed, cmp.Or(e.Role, "(none of ours)"), e.What, e.Needs)
}

// Unwrap gives ErrNotAllowed.
func (e *NotAllowedError) Unwrap() error { return ErrNotAllowed }

// rights are what the server said at New that this client may do.
type rights struct {
	limited bool // it said so at all
	may     roles.Permissions
	role    Role
}

// askTimeout bounds the question for the rights: a server answers it itself, at once,
// or, an old one, not at all.
const askTimeout = 2 * time.Second

// askRights asks the server what this connection may do.
func askRights(ctx context.Context, nc *nats.Conn) (rights, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	m, err := nc.RequestWithContext(ctx, roles.UserInfo, nil)
	if errors.Is(err, nats.ErrNoResponders) || errors.Is(err, context.DeadlineExceeded) && nc.IsConnected() {
		return rights{}, nil // a server that does not tell
	}
	if err != nil {
		return rights{}, fmt.Errorf("client: cannot ask the server what this key may do: %w", err)
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
		return rights{}, fmt.Errorf("client: the server's answer to what this key may do cannot be read: %w", err)
	}
	p := answer.Data.Permissions
	if p == nil || answer.Data.User == roles.JoinedUser { // a host without keys withholds only what is its own
		return rights{}, nil
	}
	r := rights{limited: true, may: roles.Permissions{Publish: p.Publish.Allow, Deny: p.Publish.Deny, Subscribe: p.Subscribe.Allow}}
	if len(r.may.Publish) == 0 {
		r.may.Publish = []string{">"}
	}
	r.role = Role(r.may.Role())
	return r, nil
}

// jetStream gives JetStream's API under the name that it has for these rights.
func (r rights) jetStream(nc *nats.Conn) (jetstream.JetStream, error) {
	if prefix := r.may.Prefix(); r.limited && prefix == roles.APIPrefix {
		return jetstream.NewWithAPIPrefix(nc, prefix)
	}
	return jetstream.New(nc)
}

// JetStream gives JetStream's API under the name that it has for this connection's
// key, before there is a Log to make a Client for.
func JetStream(ctx context.Context, nc *nats.Conn) (jetstream.JetStream, error) {
	r, err := askRights(ctx, nc)
	if err != nil {
		return nil, err
	}
	return r.jetStream(nc)
}

// Role is what this client's key may do; RoleNone on a server without roles.
func (c *Client) Role() Role { return c.rights.role }

// mayStore refuses at once what the server would refuse without an answer.
func (c *Client) mayStore(subject string) error {
	if !c.rights.limited || c.rights.may.MayPublish(subject) {
		return nil
	}
	e := &NotAllowedError{Role: c.rights.role, Needs: RoleOperator, What: "write to " + subject}
	kind, id, guard := wire.ParseGuardSubject(subject)
	typ, _, err := wire.ParseEventSubject(subject)
	switch {
	case guard && kind == wire.GuardCheckpoint:
		e.What = fmt.Sprintf("decide checkpoint %s", id)
	case guard && kind == wire.GuardImport:
		e.What = "import"
	case guard:
		e.Needs = RoleAdmin
	case err == nil && event.IsDecision(typ):
		e.What = "decide a checkpoint (" + typ + ")"
	}
	return e
}

// Needs refuses what only a role, or one with more rights, may do: with a
// *NotAllowedError, before anything is asked of the server. what says what it is, as in
// "restore a log".
func (c *Client) Needs(role Role, what string) error {
	order := []Role{RoleAgent, RoleOperator, RoleAdmin}
	if !c.rights.limited || slices.Index(order, c.rights.role) >= slices.Index(order, role) {
		return nil
	}
	return fmt.Errorf("client: %w", &NotAllowedError{Role: c.rights.role, Needs: role, What: what})
}

// MayCreate reports whether a JetStream of JetStream may make the Log: agents and
// operators reach it through what they may only read.
func MayCreate(js jetstream.JetStream) bool { return js.Options().APIPrefix != roles.APIPrefix }

// mayDelete reports whether consumers may be taken off the server.
func (c *Client) mayDelete() bool {
	return !c.rights.limited || c.rights.may.Prefix() != roles.APIPrefix
}

// idle is how long a consumer may be unread before it goes: soon, where nothing else
// takes it off.
func (c *Client) idle() time.Duration {
	if c.mayDelete() {
		return consumerIdle
	}
	return 5 * time.Second
}
