package event

import "encoding/json"

// OpenCode's own shapes, as its version 1.18 sends them and as the original module
// stored them. What has no fixed shape there is raw JSON here. Times are Unix
// milliseconds.

// Session is OpenCode's session.
type Session struct {
	ID         string          `json:"id"`
	Slug       string          `json:"slug,omitempty"`
	Version    string          `json:"version,omitempty"`
	ProjectID  string          `json:"projectID,omitempty"`
	Directory  string          `json:"directory,omitempty"`
	Path       string          `json:"path,omitempty"`
	ParentID   string          `json:"parentID,omitempty"` // the session that spawned it
	Title      string          `json:"title,omitempty"`
	Agent      string          `json:"agent,omitempty"`
	Model      json.RawMessage `json:"model,omitempty"`
	Permission json.RawMessage `json:"permission,omitempty"`
	Cost       float64         `json:"cost,omitempty"` // US dollars
	Tokens     *Tokens         `json:"tokens,omitempty"`
	Time       *Times          `json:"time,omitempty"`
}

// SessionError is what went wrong in a session.
type SessionError struct {
	Error *Failure `json:"error,omitempty"`
}

// SessionDeleted says who deleted a session and why.
type SessionDeleted struct {
	DeletedAt Time   `json:"deleted_at,omitzero"`
	Reason    string `json:"reason,omitempty"`
	Actor     string `json:"actor,omitempty"`
}

// SessionAborted says who stopped a session and why.
type SessionAborted struct {
	AbortedAt Time   `json:"aborted_at,omitzero"`
	Reason    string `json:"reason,omitempty"`
	Actor     string `json:"actor,omitempty"`
}

// Failure is an error by name, such as "MessageAbortedError", with its details.
type Failure struct {
	Name string          `json:"name"`
	Data json.RawMessage `json:"data,omitempty"`
}

// Tokens counts what a model read and wrote.
type Tokens struct {
	Total     int64 `json:"total,omitempty"`
	Input     int64 `json:"input"`
	Output    int64 `json:"output"`
	Reasoning int64 `json:"reasoning"`
	Cache     struct {
		Read  int64 `json:"read"`
		Write int64 `json:"write"`
	} `json:"cache"`
}

// Times are the moments of a session, message, tool call or text; each kind has
// its own two or three of them.
type Times struct {
	Created   Time `json:"created,omitzero"`
	Updated   Time `json:"updated,omitzero"`
	Completed Time `json:"completed,omitzero"`
	Start     Time `json:"start,omitzero"`
	End       Time `json:"end,omitzero"`
}

// Message is a user's or an assistant's message, without its parts.
type Message struct {
	ID         string          `json:"id"`
	SessionID  string          `json:"sessionID"`
	ParentID   string          `json:"parentID,omitempty"` // the message that it answers
	Role       string          `json:"role"`               // "user" or "assistant"
	Mode       string          `json:"mode,omitempty"`
	Agent      string          `json:"agent,omitempty"`
	ModelID    string          `json:"modelID,omitempty"`
	ProviderID string          `json:"providerID,omitempty"`
	Path       *MessagePath    `json:"path,omitempty"`
	Cost       float64         `json:"cost,omitempty"` // US dollars
	Tokens     *Tokens         `json:"tokens,omitempty"`
	Time       *Times          `json:"time,omitempty"`
	Finish     string          `json:"finish,omitempty"` // why the model ended
	Error      *Failure        `json:"error,omitempty"`
	Summary    json.RawMessage `json:"summary,omitempty"` // true of an assistant, an object of a user
}

// MessagePath is where an assistant worked.
type MessagePath struct {
	CWD  string `json:"cwd"`
	Root string `json:"root"`
}

// Part is what all parts of a message have.
type Part struct {
	ID        string `json:"id,omitempty"`
	SessionID string `json:"sessionID,omitempty"`
	MessageID string `json:"messageID,omitempty"`
	Type      string `json:"type,omitempty"` // "step-start", "tool", "patch", …
}

// SnapshotPart holds the hash of a snapshot of the project's files.
type SnapshotPart struct {
	Part
	Snapshot string `json:"snapshot,omitempty"`
}

// StepFinish ends a step.
type StepFinish struct {
	Part
	Reason   string  `json:"reason"` // such as "stop" or "tool-calls"
	Snapshot string  `json:"snapshot,omitempty"`
	Tokens   *Tokens `json:"tokens,omitempty"`
	Cost     float64 `json:"cost"` // US dollars
}

// Tool is one call of a tool.
type Tool struct {
	Part
	Tool   string    `json:"tool"`
	CallID string    `json:"callID"`
	State  ToolState `json:"state"`
}

// ToolState is how far a call has come.
type ToolState struct {
	Status   string          `json:"status"` // "pending", "running", "completed" or "error"
	Input    json.RawMessage `json:"input,omitempty"`
	Raw      string          `json:"raw,omitempty"` // input that is still being written
	Title    string          `json:"title,omitempty"`
	Output   string          `json:"output,omitempty"`
	Error    string          `json:"error,omitempty"`
	Metadata json.RawMessage `json:"metadata,omitempty"`
	Time     *Times          `json:"time,omitempty"`
}

// AgentPart names an agent in a message.
type AgentPart struct {
	Part
	Name   string          `json:"name"`
	Source json.RawMessage `json:"source,omitempty"`
}

// Delta is a piece of a text or a reasoning, to be joined to those before it.
type Delta struct {
	SessionID string `json:"sessionID"`
	MessageID string `json:"messageID"`
	PartID    string `json:"partID"`
	Field     string `json:"field,omitempty"`
	Delta     string `json:"delta"`
}

// Text is a text or a reasoning as a whole.
type Text struct {
	SessionID string `json:"sessionID"`
	MessageID string `json:"messageID"`
	PartID    string `json:"partID"`
	Text      string `json:"text"`
}

// Retry is a call of the model that failed and is tried again.
type Retry struct {
	Part
	Attempt int64           `json:"attempt"`
	Message string          `json:"message,omitempty"`
	Next    Time            `json:"next,omitzero"` // when
	Error   json.RawMessage `json:"error,omitempty"`
	Time    *Times          `json:"time,omitempty"`
}

// FileChanged is a file that was written.
type FileChanged struct {
	File      string `json:"file"`
	Event     string `json:"event,omitempty"` // "add", "change" or "unlink", where that is known
	SessionID string `json:"sessionID,omitempty"`
}

// Patch lists the files that a step changed.
type Patch struct {
	Part
	Hash  string   `json:"hash"`
	Files []string `json:"files"`
}
