import { resolve } from "node:path";
import { Connection, type Subscription } from "./connection.ts";
import { DurableStreamError } from "./errors.ts";
import { newID } from "./ids.ts";
import { logDir } from "./program.ts";
import type {
  Checkpoint, CheckpointOption, CheckpointRequest, DurableStreamConfig, EventHandler, Intent, IntentSpec,
  ResumeResult, SessionEnd, StreamEvent, StreamEventInput, StreamFilter,
} from "./types.ts";

const defaultCheckpointTimeout = 5 * 60 * 1000;
const orchestrator = "orchestrator";

/** A durable, ordered log of what agents do. */
export class DurableStream {
  readonly #config: DurableStreamConfig;
  readonly #connection: Connection;
  readonly #handlers = new Map<string, Map<EventHandler, Subscription>>(); // by type
  readonly #correlationID: string;
  readonly #streamID: string;

  constructor(config: DurableStreamConfig = {}) {
    this.#config = config;
    this.#correlationID = config.correlationId ?? newID();
    this.#streamID = config.streamId ?? this.#correlationID;
    this.#connection = new Connection(config, { stream_id: this.#streamID, correlation_id: this.#correlationID });
  }

  /** Given to events that have none; the same for all of this process's life. */
  getCorrelationId(): string {
    return this.#correlationID;
  }

  /** Given to events that name no stream. */
  getStreamId(): string {
    return this.#streamID;
  }

  /**
   * The connection beneath, with calls by the names of docs/protocol.md: for a plugin that
   * brings an agent's own events into the log.
   */
  get connection(): Connection {
    return this.#connection;
  }

  /** The directory of the log and its JSONL file. */
  get directory(): string {
    return resolve(logDir(this.#config) ?? ".opencode");
  }

  /** The process id of `dstream rpc`, while it runs. */
  get childPid(): number | undefined {
    return this.#connection.pid;
  }

  /** Whether shutdown was called. */
  get closed(): boolean {
    return this.#connection.closed;
  }

  /** How many calls have no answer yet. */
  get unanswered(): number {
    return this.#connection.unanswered;
  }

  /** Makes sure that the log can be used. Every call does so too. */
  async initialize(): Promise<void> {
    await this.#connection.call("initialize", {});
  }

  /** Whether it can still be used. */
  isInitialized(): boolean {
    return !this.closed;
  }

  /** Ends the use of the log: what was called before is stored. Later calls are refused. */
  async shutdown(): Promise<void> {
    this.#handlers.clear();
    await this.#connection.close();
  }

  /**
   * Stores an event. It is handed to the child before this returns; the promise is kept
   * when it is on disk. Events are recorded in the order of the calls.
   */
  async append<T = any>(input: StreamEventInput<T>): Promise<StreamEvent<T>> {
    const event = this.#event(input);
    return { ...event, ...(await this.#connection.call("append", { event })) };
  }

  /** Stores 1 to 999 events one after the other, all of them or none. */
  async appendBatch(inputs: StreamEventInput[]): Promise<StreamEvent[]> {
    const events = inputs.map((input) => this.#event(input));
    const { events: receipts } = await this.#connection.call("appendBatch", { events });
    return events.map((event, i) => ({ ...event, ...receipts[i] }));
  }

  #event<T>(input: StreamEventInput<T>): Omit<StreamEvent<T>, "seq"> {
    return {
      ...input,
      id: input.id ?? newID(),
      stream_id: input.stream_id ?? this.#streamID,
      correlation_id: input.correlation_id ?? this.#correlationID,
      timestamp: input.timestamp ?? Date.now(),
      payload: input.payload ?? ({} as T),
    };
  }

  /**
   * Calls handler for each event recorded from now on, by whichever process, whose type
   * is `type` or matches it as a pattern ("checkpoint.*", "ledger.>"; "*" for all). In
   * order, each once. A handler that throws goes on with the next event.
   */
  on<T = any>(type: string, handler: EventHandler<T>): this {
    this.#follow(type, handler);
    return this;
  }

  /** Ends what on began. */
  off(type: string, handler: EventHandler): this {
    const sub = this.#handlers.get(type)?.get(handler);
    if (sub) {
      this.#handlers.get(type)!.delete(handler);
      this.#connection.unsubscribe(sub.name);
    }
    return this;
  }

  /** on, from any position; returns what ends it. */
  subscribe<T = any>(type: string | string[], handler: EventHandler<T>, options: { after?: number } = {}): () => void {
    const sub = this.#follow(type, handler, options.after);
    return () => {
      for (const handlers of this.#handlers.values()) {
        if (handlers.get(handler) === sub) handlers.delete(handler);
      }
      this.#connection.unsubscribe(sub.name);
    };
  }

  #follow(type: string | string[], handler: EventHandler, after?: number): Subscription {
    const types = (typeof type === "string" ? [type] : type).map(pattern);
    const key = typeof type === "string" ? type : type.join(" ");
    const there = this.#handlers.get(key)?.get(handler);
    if (there) return there;
    const sub: Subscription = { name: newID(), filter: { types }, after, handle: handler };
    this.#connection.subscribe(sub);
    if (!this.#handlers.has(key)) this.#handlers.set(key, new Map());
    this.#handlers.get(key)!.set(handler, sub);
    return sub;
  }

  /** Reads events, up to the present end of the log. It sees what was appended before. */
  async query<T = any>(filter: StreamFilter = {}): Promise<StreamEvent<T>[]> {
    const { type, ...params } = filter;
    const types = type === undefined ? [] : typeof type === "string" ? [type] : type;
    const found: StreamEvent<T>[] = [];
    let after = filter.after;
    for (;;) {
      const limit = filter.limit === undefined ? undefined : filter.limit - found.length;
      const page = await this.#connection.call("query", { ...params, types: types.map(pattern), after, limit });
      found.push(...page.events);
      if (!page.more || filter.last !== undefined || found.length === filter.limit) return found;
      after = page.position;
    }
  }

  /** All events of a stream. */
  getStreamEvents(streamId: string): Promise<StreamEvent[]> {
    return this.query({ stream_id: streamId });
  }

  /** What survived: the questions that wait, the work that is unfinished. It may be called again. */
  resume(): Promise<ResumeResult> {
    return this.#connection.call("resume", {});
  }

  /**
   * Asks a human, under an id of the caller's: asking again is the same question, also
   * after a crash. Resolves to the id when the question is on disk; waitForCheckpoint
   * waits for the answer.
   */
  requestCheckpoint(id: string, options?: CheckpointRequest | (CheckpointOption | string)[]): Promise<string>;
  /** The original's form, which expires (after 5 minutes unless configured). */
  requestCheckpoint(streamId: string, decisionPoint: string, options: CheckpointOption[], requestedBy: string): Promise<string>;
  async requestCheckpoint(
    first: string, second: string | CheckpointRequest | (CheckpointOption | string)[] = {}, options: CheckpointOption[] = [], requestedBy = "agent",
  ): Promise<string> {
    let params: Record<string, unknown>;
    if (typeof second === "string") {
      params = {
        id: "cp_" + newID(), stream_id: first, decision_point: second, options, requested_by: requestedBy,
        expires_ms: this.#config.checkpointTimeoutMs ?? defaultCheckpointTimeout,
      };
    } else {
      const asked: CheckpointRequest = Array.isArray(second) ? { options: second } : second;
      params = {
        decision_point: first, requested_by: "agent", stream_id: this.#streamID, ...asked,
        id: first, options: (asked.options ?? []).map((o) => (typeof o === "string" ? { id: o, label: o } : o)),
      };
    }
    return (await this.#connection.call("checkpoint.request", params)).id;
  }

  /**
   * Waits until a checkpoint is decided, and resolves to it with its decision, whatever
   * it is. It goes on through restarts of the log. timeoutMs rejects with "timeout", and
   * the question still waits.
   */
  waitForCheckpoint(id: string, options: { timeoutMs?: number; signal?: AbortSignal } = {}): Promise<Checkpoint> {
    return this.#connection.call("checkpoint.wait", { id, timeout_ms: options.timeoutMs }, options.signal);
  }

  /** A checkpoint as it stands. */
  getCheckpoint(id: string): Promise<Checkpoint> {
    return this.#connection.call("checkpoint.get", { id });
  }

  /** The checkpoints that wait for a human. */
  async getPendingCheckpoints(): Promise<Checkpoint[]> {
    return (await this.#connection.call("checkpoint.list", {})).checkpoints;
  }

  /**
   * Decides yes, and resolves to true. Whoever comes too late, asked themselves, or names
   * an option that is not there gets an error; a late one carries the decision that stands.
   */
  async approveCheckpoint(id: string, approvedBy: string, selectedOption?: string, more: { answer?: unknown; comment?: string } = {}): Promise<boolean> {
    await this.#connection.call("checkpoint.approve", { id, by: approvedBy, option: selectedOption, ...more, event_id: newID() });
    return true;
  }

  /** Decides no; see approveCheckpoint. */
  async rejectCheckpoint(id: string, rejectedBy: string, reason?: string): Promise<boolean> {
    await this.#connection.call("checkpoint.reject", { id, by: rejectedBy, reason, event_id: newID() });
    return true;
  }

  /** Withdraws a question. From whoever asked, it is a request that the log's host carries out. */
  cancelCheckpoint(id: string, by: string, reason?: string): Promise<Checkpoint> {
    return this.#connection.call("checkpoint.cancel", { id, by, reason });
  }

  /**
   * Writes out, in this moment, what the child has not got yet, and waits for it. Only
   * for a process that a signal ends: at process.exit it happens by itself.
   */
  lastWords(): void {
    this.#connection.lastWords();
  }

  /** Registers long-running work, and resolves to its id. */
  async createIntent(spec: IntentSpec): Promise<string> {
    const { parent_session_id, ...rest } = spec;
    const params = { ...rest, id: "intent_" + newID(), stream_id: parent_session_id ?? this.#streamID, actor: orchestrator, event_id: newID() };
    return (await this.#connection.call("intent.create", params)).id;
  }

  /** Ends an intent as completed. An intent ends once: again is an error, "ended". */
  async completeIntent(intentId: string, result: string): Promise<void> {
    await this.#connection.call("intent.complete", { id: intentId, result, event_id: newID() });
  }

  /** Ends an intent as failed. */
  async failIntent(intentId: string, error: string): Promise<void> {
    await this.#connection.call("intent.fail", { id: intentId, error, event_id: newID() });
  }

  /** Ends an intent as aborted. */
  async abortIntent(intentId: string, reason?: string): Promise<void> {
    await this.#connection.call("intent.abort", { id: intentId, reason, event_id: newID() });
  }

  /** The intents that have not ended. */
  async getActiveIntents(): Promise<Intent[]> {
    return (await this.#connection.call("intent.list", {})).intents;
  }

  /** Ends a session that is deleted, with its child sessions, intents and questions. */
  deleteSession(sessionId: string, options: { by?: string; reason?: string } = {}): Promise<SessionEnd> {
    return this.#connection.call("session.delete", { id: sessionId, by: options.by ?? orchestrator, reason: options.reason });
  }

  /** Ends a session that is aborted, children first; it stays aborted after a restart. */
  abortSession(sessionId: string, options: { by?: string; reason?: string } = {}): Promise<SessionEnd> {
    return this.#connection.call("session.abort", { id: sessionId, by: options.by ?? orchestrator, reason: options.reason });
  }

  /** abortSession, which always takes the children along. */
  recursiveAbort(sessionId: string, options: { by?: string; reason?: string } = {}): Promise<SessionEnd> {
    return this.abortSession(sessionId, options);
  }
}

/** The original's "*" stands for all types; here that is ">". */
function pattern(type: string): string {
  if (type === "*") return ">";
  if (type !== ">" && !type.includes(".")) {
    throw new DurableStreamError("invalid", `invalid type ${JSON.stringify(type)}: must be two or more tokens joined by dots, such as "task.created" or "checkpoint.*", or "*"`, 0, { field: "type", value: type });
  }
  return type;
}
