package event

import "encoding/json"

// The payloads of the known types. Keys are those of the original module: snake_case for
// agents, checkpoints and progress, camelCase for the ledger. Times are Unix
// milliseconds, durations are milliseconds, and 0 is none. payload_opencode.go has
// OpenCode's own shapes.

// None is an empty payload: {}.
type None struct{}

// The values of Intent.Status.
const (
	IntentPending   = "pending"
	IntentRunning   = "running"
	IntentCompleted = "completed"
	IntentFailed    = "failed"
	IntentAborted   = "aborted"
)

// Intent is long-running work that an agent was asked to do.
type Intent struct {
	ID              string `json:"id"`
	Description     string `json:"description"`
	Agent           string `json:"agent"`
	Prompt          string `json:"prompt"`
	ParentSessionID string `json:"parent_session_id,omitempty"`
	TimeoutMS       int64  `json:"timeout_ms,omitempty"` // from CreatedAt; 0 is never
	Status          string `json:"status"`
	CreatedAt       Time   `json:"created_at"`
	StartedAt       Time   `json:"started_at,omitzero"`
	CompletedAt     Time   `json:"completed_at,omitzero"`
	Result          string `json:"result,omitempty"`
	Error           string `json:"error,omitempty"`
}

// IntentEnd ends an intent: with a Result after success, an Error after a failure, a
// Reason if it was aborted or another process ended it.
type IntentEnd struct {
	IntentID string `json:"intent_id"`
	Result   string `json:"result,omitempty"`
	Error    string `json:"error,omitempty"`
	Reason   string `json:"reason,omitempty"` // "timeout" when the sweeper ended it
	Duration int64  `json:"duration,omitempty"`
}

// Handoff passes work from one agent to another.
type Handoff struct {
	FromAgent string `json:"from_agent"`
	ToAgent   string `json:"to_agent"`
	SessionID string `json:"session_id,omitempty"`
	IntentID  string `json:"intent_id,omitempty"`
	Reason    string `json:"reason,omitempty"`
	Summary   string `json:"summary,omitempty"`
}

// Yield reports that an agent waits. The original writes sessionId.
type Yield struct {
	Agent     string `json:"agent"`
	SessionID string `json:"sessionId,omitempty"`
	IntentID  string `json:"intent_id,omitempty"`
	Reason    string `json:"reason,omitempty"`
}

// Resumed reports that an agent continues after a Yield.
type Resumed struct {
	Agent      string          `json:"agent"`
	SessionID  string          `json:"session_id,omitempty"`
	IntentID   string          `json:"intent_id,omitempty"`
	SignalData json.RawMessage `json:"signal_data,omitempty"` // what it waited for
}

// Option is one of the answers that a checkpoint offers.
type Option struct {
	ID          string `json:"id"`
	Label       string `json:"label"`
	Description string `json:"description,omitempty"`
}

// Checkpoint is a question that waits for a human.
type Checkpoint struct {
	ID            string   `json:"id"`
	DecisionPoint string   `json:"decision_point"`
	Options       []Option `json:"options"`
	RequestedBy   string   `json:"requested_by"`
	RequestedAt   Time     `json:"requested_at"`
	ExpiresAt     Time     `json:"expires_at,omitzero"` // 0 is never

	// Schema is the JSON Schema of a free answer.
	Schema json.RawMessage `json:"schema,omitempty"`
	// Action is the exact action that an approval allows.
	Action json.RawMessage `json:"action,omitempty"`
	// ActionHash is the SHA-256 in hex over Action as canonical JSON.
	ActionHash string `json:"action_hash,omitempty"`
}

// Approved is the decision to approve.
type Approved struct {
	CheckpointID   string          `json:"checkpoint_id"`
	ApprovedBy     string          `json:"approved_by"`
	SelectedOption string          `json:"selected_option,omitempty"`
	Answer         json.RawMessage `json:"answer,omitempty"` // as Checkpoint.Schema says
	Comment        string          `json:"comment,omitempty"`
	RequestSeq     Sequence        `json:"request_seq,omitempty"` // of the request that it answers
	ActionHash     string          `json:"action_hash,omitempty"` // of the action that it is for
}

// Rejected is the decision to reject.
type Rejected struct {
	CheckpointID string   `json:"checkpoint_id"`
	RejectedBy   string   `json:"rejected_by"`
	Reason       string   `json:"reason,omitempty"`
	RequestSeq   Sequence `json:"request_seq,omitempty"`
	ActionHash   string   `json:"action_hash,omitempty"`
}

// Expired is the decision after the deadline has passed.
type Expired struct {
	CheckpointID string   `json:"checkpoint_id"`
	ExpiresAt    Time     `json:"expires_at,omitzero"` // when it was due
	RequestSeq   Sequence `json:"request_seq,omitempty"`
	ActionHash   string   `json:"action_hash,omitempty"`
}

// Cancelled is the decision that withdraws the question.
type Cancelled struct {
	CheckpointID string   `json:"checkpoint_id"`
	CancelledBy  string   `json:"cancelled_by"`
	Reason       string   `json:"reason,omitempty"`
	RequestSeq   Sequence `json:"request_seq,omitempty"`
	ActionHash   string   `json:"action_hash,omitempty"`
}

// CancelRequested asks the sweeper for Cancelled, on behalf of an actor that may not
// decide.
type CancelRequested struct {
	CheckpointID string `json:"checkpoint_id"`
	RequestedBy  string `json:"requested_by"`
	Reason       string `json:"reason,omitempty"`
}

// GuardVoided opens a checkpoint whose guard was written by hand, without a decision.
type GuardVoided struct {
	CheckpointID string   `json:"checkpoint_id"`
	GuardSeq     Sequence `json:"guard_seq,omitempty"` // of the guard that is voided; 0: whichever stands there
	VoidedBy     string   `json:"voided_by"`
	Reason       string   `json:"reason,omitempty"`
}

// Ledger is the payload of all ledger.* types, and of learning.extracted; each
// type fills the members it needs. Title is what some versions of the original
// write for TaskTitle.
type Ledger struct {
	EpicID    string `json:"epicId,omitempty"`
	EpicTitle string `json:"epicTitle,omitempty"`
	TaskID    string `json:"taskId,omitempty"`
	TaskTitle string `json:"taskTitle,omitempty"`
	Title     string `json:"title,omitempty"`
	Agent     string `json:"agent,omitempty"`
	Result    string `json:"result,omitempty"`
	Summary   string `json:"summary,omitempty"`
	Error     string `json:"error,omitempty"`

	DirectiveContent    string `json:"directiveContent,omitempty"`
	AssumptionContent   string `json:"assumptionContent,omitempty"`
	AssumptionSource    string `json:"assumptionSource,omitempty"`
	AssumptionRationale string `json:"assumptionRationale,omitempty"`

	LearningType    string `json:"learningType,omitempty"`
	LearningContent string `json:"learningContent,omitempty"`

	HandoffReason        string   `json:"handoffReason,omitempty"`
	HandoffCommand       string   `json:"handoffCommand,omitempty"`
	HandoffFilesModified []string `json:"handoffFilesModified,omitempty"`
	HandoffWhatsDone     []string `json:"handoffWhatsDone,omitempty"`
	HandoffWhatsNext     []string `json:"handoffWhatsNext,omitempty"`
	HandoffKeyContext    []string `json:"handoffKeyContext,omitempty"`
}

// Progress tells a user where an agent is.
type Progress struct {
	Agent           string          `json:"agent"`
	Phase           string          `json:"phase"`
	Message         string          `json:"message"`
	ProgressPercent float64         `json:"progress_percent,omitempty"` // 0 to 100
	ActionRequired  json.RawMessage `json:"action_required,omitempty"`  // what the user is to do
	SessionID       string          `json:"session_id,omitempty"`
	TaskID          string          `json:"task_id,omitempty"`
}

// ContextHandoff passes the context of one agent to another.
type ContextHandoff struct {
	FromAgent   string          `json:"from_agent"`
	FromSession string          `json:"from_session"`
	ToAgent     string          `json:"to_agent"`
	ToSession   string          `json:"to_session,omitempty"`
	Context     json.RawMessage `json:"context,omitempty"`
}

// Task is a task outside of a ledger.
type Task struct {
	ID          string `json:"id,omitempty"`
	Title       string `json:"title,omitempty"`
	Description string `json:"description,omitempty"`
	Agent       string `json:"agent,omitempty"`
	Result      string `json:"result,omitempty"`
	Error       string `json:"error,omitempty"`
}
