// Package roles says who may do what with a Log: the keys, their roles, and what a
// server must allow each of them.
package roles

// Role is what a key may do.
type Role string

// The roles.
const (
	Agent    Role = "agent"    // append and read
	Operator Role = "operator" // also decides
	Admin    Role = "admin"    // everything
)

// Key is the public half of an nkey, and what its holder may do.
type Key struct {
	Name   string `json:"name"`
	Role   Role   `json:"role"`
	Public string `json:"public"` // U…
}
