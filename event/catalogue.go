package event

import (
	"reflect"
	"slices"
)

// Known is one type of the catalogue.
type Known struct {
	// Type is the event's type.
	Type string
	// Payload is the zero value of the payload's Go type, such as Checkpoint{}.
	Payload any
	// Doc says in one line what happened.
	Doc string
}

// New returns a pointer to a new zero payload, to decode into with encoding/json.
// Decoding ignores members that the Go type does not name; the event's own Payload still
// holds them.
func (k Known) New() any { return reflect.New(reflect.TypeOf(k.Payload)).Interface() }

// catalogue is sorted by kind, and within a kind in the order of a life.
var catalogue = []Known{
	{LifecycleSessionCreated, Session{}, "a session began"},
	{LifecycleSessionIdle, None{}, "a session has nothing to do"},
	{LifecycleSessionCompacted, None{}, "a session's context was compacted"},
	{LifecycleSessionError, SessionError{}, "a session met an error"},
	{LifecycleSessionDeleted, SessionDeleted{}, "a session was deleted"},
	{LifecycleSessionAborted, SessionAborted{}, "a session was stopped"},

	{ExecutionMessageUpdated, Message{}, "a message of a session is complete"},
	{ExecutionStepStart, SnapshotPart{}, "a step of a message began"},
	{ExecutionStepFinish, StepFinish{}, "a step of a message ended, with its tokens and cost"},
	{ExecutionToolStart, Tool{}, "a tool call began"},
	{ExecutionToolFinish, Tool{}, "a tool call ended, completed or with an error"},
	{ExecutionAgent, AgentPart{}, "a message names an agent"},
	{ExecutionTextDelta, Delta{}, "a piece of a text"},
	{ExecutionTextSnapshot, Text{}, "a text as far as it has come"},
	{ExecutionReasoningDelta, Delta{}, "a piece of a reasoning"},
	{ExecutionReasoningSnapshot, Text{}, "a reasoning as far as it has come"},
	{ExecutionSnapshot, SnapshotPart{}, "a snapshot of the project's files"},
	{ExecutionRetry, Retry{}, "a call of the model is tried again"},

	{AgentSpawned, Intent{}, "an intent was created: long-running work for an agent"},
	{AgentCompleted, IntentEnd{}, "an intent is done"},
	{AgentFailed, IntentEnd{}, "an intent failed"},
	{AgentAborted, IntentEnd{}, "an intent was given up"},
	{AgentHandoff, Handoff{}, "an agent gave its work to another"},
	{AgentYield, Yield{}, "an agent waits for something outside"},
	{AgentResumed, Resumed{}, "an agent that had yielded goes on"},

	{CheckpointRequested, Checkpoint{}, "a question waits for a human"},
	{CheckpointApproved, Approved{}, "decision: a human said yes"},
	{CheckpointRejected, Rejected{}, "decision: a human said no"},
	{CheckpointExpired, Expired{}, "decision: nobody answered in time"},
	{CheckpointCancelled, Cancelled{}, "decision: the question no longer matters"},
	{CheckpointCancelRequested, CancelRequested{}, "an agent asks for a checkpoint to be cancelled; decides nothing itself"},
	{CheckpointGuardVoided, GuardVoided{}, "an operator voids a guard that was written without a decision; decides nothing itself"},

	{FilesChanged, FileChanged{}, "a file was written"},
	{FilesPatched, Patch{}, "a step changed files"},

	{LearningExtracted, Ledger{}, "something was learned"},

	{LedgerEpicCreated, Ledger{}, "an epic was created"},
	{LedgerEpicStarted, Ledger{}, "work on an epic began"},
	{LedgerEpicCompleted, Ledger{}, "an epic is done"},
	{LedgerEpicFailed, Ledger{}, "an epic failed"},
	{LedgerEpicArchived, Ledger{}, "an epic was put away"},
	{LedgerTaskCreated, Ledger{}, "a task of an epic was created"},
	{LedgerTaskStarted, Ledger{}, "work on a task of an epic began"},
	{LedgerTaskCompleted, Ledger{}, "a task of an epic is done"},
	{LedgerTaskFailed, Ledger{}, "a task of an epic failed"},
	{LedgerTaskYielded, Ledger{}, "a task of an epic waits; result holds the reason"},
	{LedgerHandoffCreated, Ledger{}, "an epic was prepared for another session"},
	{LedgerHandoffResumed, Ledger{}, "another session took an epic up"},
	{LedgerGovernanceDirectiveAdded, Ledger{}, "a rule was laid down"},
	{LedgerGovernanceAssumptionAdded, Ledger{}, "an assumption was noted"},
	{LedgerLearningExtracted, Ledger{}, "something was learned from an epic"},

	{ProgressPhaseStarted, Progress{}, "an agent entered a phase"},
	{ProgressPhaseCompleted, Progress{}, "an agent finished a phase"},
	{ProgressStatusUpdate, Progress{}, "an agent says where it is"},
	{ProgressUserActionNeeded, Progress{}, "an agent needs its user"},
	{ProgressContextHandoff, ContextHandoff{}, "an agent gave its context to another"},

	{TaskCreated, Task{}, "a task was created"},
	{TaskCompleted, Task{}, "a task is done"},
}

var byType = func() map[string]Known {
	m := make(map[string]Known, len(catalogue))
	for _, k := range catalogue {
		m[k.Type] = k
	}
	return m
}()

// Catalogue returns all known types. It restricts nothing: an event may have any other
// type, and any other shape of payload.
func Catalogue() []Known { return slices.Clone(catalogue) }

// Lookup finds a type in the catalogue.
func Lookup(typ string) (Known, bool) {
	k, ok := byType[typ]
	return k, ok
}
