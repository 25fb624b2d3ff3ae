package event

// The types of the catalogue (catalogue.go says what each payload is). Any other
// valid type may be appended too.
const (
	LifecycleSessionCreated   = "lifecycle.session.created"
	LifecycleSessionIdle      = "lifecycle.session.idle"
	LifecycleSessionCompacted = "lifecycle.session.compacted"
	LifecycleSessionError     = "lifecycle.session.error"
	LifecycleSessionDeleted   = "lifecycle.session.deleted"
	LifecycleSessionAborted   = "lifecycle.session.aborted"

	ExecutionMessageUpdated    = "execution.message.updated"
	ExecutionStepStart         = "execution.step_start"
	ExecutionStepFinish        = "execution.step_finish"
	ExecutionToolStart         = "execution.tool_start"
	ExecutionToolFinish        = "execution.tool_finish"
	ExecutionAgent             = "execution.agent"
	ExecutionTextDelta         = "execution.text_delta"
	ExecutionTextSnapshot      = "execution.text_snapshot"
	ExecutionReasoningDelta    = "execution.reasoning_delta"
	ExecutionReasoningSnapshot = "execution.reasoning_snapshot"
	ExecutionSnapshot          = "execution.snapshot"
	ExecutionRetry             = "execution.retry"

	AgentSpawned   = "agent.spawned"
	AgentCompleted = "agent.completed"
	AgentFailed    = "agent.failed"
	AgentAborted   = "agent.aborted"
	AgentHandoff   = "agent.handoff"
	AgentYield     = "agent.yield"
	AgentResumed   = "agent.resumed"

	CheckpointRequested       = "checkpoint.requested"
	CheckpointApproved        = "checkpoint.approved"
	CheckpointRejected        = "checkpoint.rejected"
	CheckpointExpired         = "checkpoint.expired"
	CheckpointCancelled       = "checkpoint.cancelled"
	CheckpointCancelRequested = "checkpoint.cancel_requested"
	CheckpointGuardVoided     = "checkpoint.guard_voided"

	FilesChanged = "files.changed"
	FilesPatched = "files.patched"

	LearningExtracted = "learning.extracted"

	LedgerEpicCreated               = "ledger.epic.created"
	LedgerEpicStarted               = "ledger.epic.started"
	LedgerEpicCompleted             = "ledger.epic.completed"
	LedgerEpicFailed                = "ledger.epic.failed"
	LedgerEpicArchived              = "ledger.epic.archived"
	LedgerTaskCreated               = "ledger.task.created"
	LedgerTaskStarted               = "ledger.task.started"
	LedgerTaskCompleted             = "ledger.task.completed"
	LedgerTaskFailed                = "ledger.task.failed"
	LedgerTaskYielded               = "ledger.task.yielded"
	LedgerHandoffCreated            = "ledger.handoff.created"
	LedgerHandoffResumed            = "ledger.handoff.resumed"
	LedgerGovernanceDirectiveAdded  = "ledger.governance.directive_added"
	LedgerGovernanceAssumptionAdded = "ledger.governance.assumption_added"
	LedgerLearningExtracted         = "ledger.learning.extracted"

	ProgressPhaseStarted     = "progress.phase_started"
	ProgressPhaseCompleted   = "progress.phase_completed"
	ProgressStatusUpdate     = "progress.status_update"
	ProgressUserActionNeeded = "progress.user_action_needed"
	ProgressContextHandoff   = "progress.context_handoff"

	TaskCreated   = "task.created"
	TaskCompleted = "task.completed"
)
