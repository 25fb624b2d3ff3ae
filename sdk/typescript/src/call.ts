/** A call of dstream rpc, from when it is made until it is answered. */
export interface Call {
  id: number;
  method: string;
  params: Record<string, unknown>;
  line: string;
  sentAt: number; // first, Unix ms; 0: not yet
  resolve: (result: any) => void;
  reject: (error: Error) => void;
}

const named = new Set(["initialize", "query", "resume", "checkpoint.get", "checkpoint.list", "checkpoint.wait", "intent.get", "intent.list"]);

/** Whether a method changes nothing, and need not be sent again when nobody is left to hear. */
export const reads = (method: string): boolean => named.has(method) || method.endsWith(".recover");

/** The line of a call, the first time or again: the log forgets ids after a while, and must know. */
export function again(call: Call): string {
  if (call.sentAt === 0 || call.method !== "append") return call.line;
  return compose(call.id, call.method, { ...call.params, sent_at: call.sentAt });
}

export function compose(id: number, method: string, params: Record<string, unknown>): string {
  return JSON.stringify({ jsonrpc: "2.0", id, method, params }) + "\n";
}
