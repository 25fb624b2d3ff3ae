/** Names of errors that programs go by; docs/protocol.md has all of them. */
export type ErrorName =
  | "invalid" | "conflict" | "decided" | "expired" | "cancelled" | "unknown_checkpoint" | "unknown_intent"
  | "unknown_option" | "answer" | "own_checkpoint" | "ended" | "held" | "duplicate_id" | "too_large" | "disk_full"
  | "not_allowed" | "refused" | "unknown_outcome" | "timeout" | "no_program" | "not_started" | "closed"
  | (string & {});

/** A call that was refused. Unless its name is unknown_outcome, nothing was stored. */
export class DurableStreamError extends Error {
  override readonly name = "DurableStreamError";
  /** What happened, for programs. */
  readonly error: ErrorName;
  /** JSON-RPC's code; 0 for an error of this module. */
  readonly code: number;
  /** What goes with it: the decision that stands, the field and the rule, … */
  readonly data: Record<string, any>;

  constructor(error: ErrorName, message: string, code = 0, data: Record<string, any> = {}) {
    super(message);
    this.error = error;
    this.code = code;
    this.data = data;
  }
}
