package client

// Checkpoints are the questions that wait for a human, and their answers.
type Checkpoints struct{ c *Client }

// Checkpoints are the questions of this Log.
func (c *Client) Checkpoints() Checkpoints { return Checkpoints{c} }

// Intents are the units of work that agents create, claim and end.
type Intents struct{ c *Client }

// Intents are the units of work of this Log.
func (c *Client) Intents() Intents { return Intents{c} }

// Sessions are the sessions of agents. A session is a stream.
type Sessions struct{ c *Client }

// Sessions are the sessions of this Log.
func (c *Client) Sessions() Sessions { return Sessions{c} }

// Deadlines are the calls by which the sweeper of a host enforces deadlines: no other
// program needs them.
type Deadlines struct{ c *Client }

// Deadlines returns the sweeper's calls for this Log.
func (c *Client) Deadlines() Deadlines { return Deadlines{c} }

// Admin is the calls for operators and tools.
type Admin struct{ c *Client }

// Admin returns the calls for operators and tools on this Log.
func (c *Client) Admin() Admin { return Admin{c} }
