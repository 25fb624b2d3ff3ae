package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"durablestream/event"
	"durablestream/internal/dial"
	"durablestream/internal/roles"
	"durablestream/internal/wire"
)

// Role is the set of rights that the server gives this client.
type Role string

// The roles. RoleNone is that of a server without roles, where everybody has all rights.
const (
	RoleNone     Role = ""
	RoleAgent    Role = "agent"
	RoleOperator Role = "operator"
	RoleAdmin    Role = "admin"
)

// ErrNotAllowed means that the role of this client's key does not allow the call. Nothing
// was stored. A *NotAllowedError has the details.
var ErrNotAllowed = errors.New("not allowed")

// NotAllowedError is a refusal in the client, since the server would refuse without an
// answer.
type NotAllowedError struct {
	Role  Role   // of the key
	Needs Role   // the lowest role that is enough
	What  string // the operation
}

func (e *NotAllowedError) Error() string {
	return fmt.Sprintf("%v: this key has the role %s, and to %s takes the role %s: the holder of such a key can do it",
		ErrNotAllowed, cmp.Or(e.Role, "(none of ours)"), e.What, e.Needs)
}

// Unwrap returns ErrNotAllowed.
func (e *NotAllowedError) Unwrap() error { return ErrNotAllowed }

// JetStream returns JetStream's API under the name that it has for this connection's key,
// for use before a Log exists to create a Client for.
func JetStream(ctx context.Context, nc *nats.Conn) (jetstream.JetStream, error) {
	r, err := dial.AskRights(ctx, nc)
	if err != nil {
		return nil, err
	}
	return r.JetStream(nc)
}

// mayStore refuses at once an append that the server would refuse without an answer.
func mayStore(rights dial.Rights, subject string) error {
	if !rights.Limited || rights.May.MayPublish(subject) {
		return nil
	}
	e := &NotAllowedError{Role: Role(rights.Role), Needs: RoleOperator, What: "write to " + subject}
	kind, id, guard := wire.ParseGuardSubject(subject)
	typ, _, err := wire.ParseEventSubject(subject)
	switch {
	case guard && kind == event.GuardCheckpoint:
		e.What = fmt.Sprintf("decide checkpoint %s", id)
	case guard && kind == event.GuardImport:
		e.What = "import"
	case guard:
		e.Needs = RoleAdmin
	case err == nil && event.IsDecision(typ):
		e.What = "decide a checkpoint (" + typ + ")"
	}
	return e
}

// MayCreate reports whether a JetStream of JetStream may create the Log. Agents and
// operators may not: they reach the Log through an API that only reads.
func MayCreate(js jetstream.JetStream) bool { return js.Options().APIPrefix != roles.APIPrefix }
