/**
 * Durable Stream from TypeScript and JavaScript, under Node 20 and Bun.
 *
 * It starts the program `dstream` as a child and speaks JSON-RPC with it; see
 * docs/protocol.md and docs/api.md.
 */
import { DurableStream } from "./stream.ts";
import type { DurableStreamConfig } from "./types.ts";

export { DurableStream } from "./stream.ts";
export { DurableStreamError, type ErrorName } from "./errors.ts";
export type * from "./types.ts";
export type { Connection } from "./connection.ts";

let instance: DurableStream | undefined;

/** The stream that this process shares, made by the first call with that call's config; after shutdown, a new one. */
export function getDurableStream(config?: DurableStreamConfig): DurableStream {
  if (!instance || instance.closed) instance = new DurableStream(config);
  return instance;
}

/** getDurableStream, when the log can be used. */
export async function initializeDurableStream(config?: DurableStreamConfig): Promise<DurableStream> {
  const stream = getDurableStream(config);
  await stream.initialize();
  return stream;
}

/** Ends the shared stream; what was called before is stored. The next get makes a new one. */
export async function shutdownDurableStream(): Promise<void> {
  const stream = instance;
  instance = undefined;
  await stream?.shutdown();
}
