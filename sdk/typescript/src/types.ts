/** What a caller appends. What is left out is filled in. */
export interface StreamEventInput<T = any> {
  /** 2 to 8 tokens joined by dots, such as "task.created". */
  type: string;
  /** Who did it: "user", or an agent's name such as "agent/planner". */
  actor: string;
  /** Any JSON. Default {}. */
  payload?: T;
  /** The session or task that it belongs to. Default: this stream's own, see DurableStreamConfig. */
  stream_id?: string;
  /** Groups the events of one run. Default: this stream's own. */
  correlation_id?: string;
  /** The id of the event that caused this one. */
  causation_id?: string;
  /** Default: a new UUIDv7. The same id again stores nothing new. */
  id?: string;
  /** Unix milliseconds. Default: now. */
  timestamp?: number;
  metadata?: Record<string, unknown>;
}

/** An event as it was recorded. */
export interface StreamEvent<T = any> extends StreamEventInput<T> {
  /** Its place in the log: order is always by this. */
  seq: number;
  id: string;
  stream_id: string;
  correlation_id: string;
  timestamp: number;
  payload: T;
  /** What it was written behind, for a decision or the state of an intent. */
  guard?: string;
  imported?: boolean;
}

/** Which events a reader wants. Each member that is given narrows the choice. */
export interface StreamFilter {
  stream_id?: string;
  /** A type or a pattern, or several: "checkpoint.*", "ledger.>". */
  type?: string | string[];
  actor?: string;
  correlation_id?: string;
  /** Bounds of timestamp, inclusive, in Unix milliseconds. */
  since?: number;
  until?: number;
  /** Events after this seq. */
  after?: number;
  /** At most so many, from the front. */
  limit?: number;
  /** Only the newest so many, at most 1,000. Not with limit. */
  last?: number;
  /** On a cluster: miss no event whose append had returned to anybody. */
  linearizable?: boolean;
}

export interface CheckpointOption {
  id: string;
  label: string;
  description?: string;
}

export type CheckpointStatus = "pending" | "approved" | "rejected" | "expired" | "cancelled";

/** What was decided, once and for all. */
export interface Decision {
  status: CheckpointStatus;
  by: string;
  at: number;
  seq: number;
  event_id: string;
  option?: string;
  answer?: any;
  comment?: string;
  reason?: string;
}

/** A question for a human. */
export interface Checkpoint {
  id: string;
  stream_id: string;
  decision_point: string;
  options: CheckpointOption[];
  requested_by: string;
  requested_at: number;
  /** Unix milliseconds; left out: never. */
  expires_at?: number;
  schema?: unknown;
  action?: unknown;
  action_hash?: string;
  seq: number;
  status: CheckpointStatus;
  decision?: Decision;
  overdue?: boolean;
  imported?: boolean;
  cancel_requested?: boolean;
}

/** The second argument of requestCheckpoint(id, options). */
export interface CheckpointRequest {
  /** The question, for a human to read. Default: the checkpoint's id. */
  decision_point?: string;
  /** What an approval chooses from. Default: nothing to choose. */
  options?: (CheckpointOption | string)[];
  /** Who asks, and can never decide. Default "agent". */
  requested_by?: string;
  /** The session that asks. Default: this stream's own. */
  stream_id?: string;
  /** After so many milliseconds the answer is "expired". Default: never. */
  expires_ms?: number;
  /** A JSON Schema for a free answer. */
  schema?: unknown;
  /** The exact action that the question is about: its hash goes with request and decision. */
  action?: unknown;
  causation_id?: string;
  metadata?: Record<string, unknown>;
}

export interface IntentSpec {
  description: string;
  agent: string;
  prompt: string;
  /** The session that the work belongs to. Default: this stream's own. */
  parent_session_id?: string;
  /** After so many milliseconds the log fails it, with reason "timeout". Default: never. */
  timeout_ms?: number;
}

export type IntentStatus = "pending" | "running" | "completed" | "failed" | "aborted";

/** Long-running work. */
export interface Intent extends IntentSpec {
  id: string;
  stream_id: string;
  status: IntentStatus;
  created_at: number;
  seq: number;
  holder?: string;
  lease_until?: number;
  token?: number;
  ended_by?: string;
  result?: string;
  error?: string;
  reason?: string;
  overdue?: boolean;
  imported?: boolean;
}

/** What survived: all that is unfinished. */
export interface ResumeResult {
  events_replayed: number;
  pending_checkpoints: Checkpoint[];
  active_intents: Intent[];
  last_event_at?: number;
  open_sessions: { id: string; parent?: string; title?: string; status: string; seq: number; at: number }[];
  position: number;
}

/** What the end of a session took with it. */
export interface SessionEnd {
  sessions: string[];
  intents: string[];
  checkpoints: string[];
}

export interface DurableStreamConfig {
  /** The directory of the log and its JSONL file. Default ".opencode". */
  dir?: string;
  /**
   * Where dir is that of a linked git work tree which has no log of its own: use the log of
   * the main work tree, which the work trees share. Default false.
   */
  shared?: boolean;
  /** The original's way to name it: the path of durable_stream.jsonl in that directory. */
  storePath?: string;
  /** The program. Default: $DSTREAM_BIN, else "dstream" on the PATH. */
  bin?: string;
  /** NATS servers that hold the log, instead of dir. */
  servers?: string[];
  /** A file with the seed of the key to connect with. */
  nkey?: string;
  /** More flags for `dstream`. */
  args?: string[];
  /** More of the environment for `dstream`. */
  env?: Record<string, string>;
  /** Given to events that name no stream. Default: correlationId. */
  streamId?: string;
  /** Given to events that have none. Default: a new UUIDv7. */
  correlationId?: string;
  /** When requestCheckpoint(streamId, decisionPoint, …) expires. Default 5 minutes, as in the original. */
  checkpointTimeoutMs?: number;
  /** Hears of what goes wrong in the background. Default: nobody. */
  logger?: (message: string) => void;
}

export type EventHandler<T = any> = (event: StreamEvent<T>) => void;
