// Package roles says who may do what with a Log: the keys, their roles, and what a
// server must allow each of them.
//
// The accounts. LOG holds the Log and its JetStream; admins and the host's own
// connections live there. AGENT and OPERATOR hold the keys of those roles and reach
// LOG only through service imports, each its own list: what AGENT does not import,
// no agent reaches, whatever reply subject it names, since a server sends its
// answers to a reply without asking whether the asker may publish there. In LOG
// itself such a reply can do anything, so only admins are let in.
//
// Nobody but the host may subscribe in LOG to anything but inboxes of their own. A
// consumer that pushes can be made to push onto any subject, and does so if somebody
// there subscribes to exactly that one: with a subscriber on
// $JS.API.STREAM.DELETE.EVENTS its heartbeats would delete the Log.
package roles

import "slices"

// Role is what a key may do.
type Role string

// The roles.
const (
	Agent    Role = "agent"    // append and read
	Operator Role = "operator" // also decides
	Admin    Role = "admin"    // everything
)

// Roles are all roles, each with more rights than the one before.
var Roles = []Role{Agent, Operator, Admin}

// Valid reports whether r is one of Roles.
func (r Role) Valid() bool { return slices.Contains(Roles, r) }

// Account is the account that the keys of a role belong to.
func (r Role) Account() string {
	switch r {
	case Agent:
		return AgentAccount
	case Operator:
		return OperatorAccount
	case Admin:
		return LogAccount
	}
	return ""
}

// The accounts.
const (
	LogAccount      = "LOG"
	AgentAccount    = "AGENT"
	OperatorAccount = "OPERATOR"
	SystemAccount   = "SYS"
)

// Key is the public half of an nkey, and what its holder may do.
type Key struct {
	Name   string `json:"name"`
	Role   Role   `json:"role"`
	Public string `json:"public"` // U…
}
