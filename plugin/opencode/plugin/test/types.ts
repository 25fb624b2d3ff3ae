// Only compiled: the forms in which the calls are written.
import type { DurableStream } from "../../../../sdk/typescript/src/index.ts";
import { createBridgeHooks, recoverSessions } from "../src/bridge.ts";
import type { BridgeHooks, BusEvent, OpenCodeClient } from "../src/opencode.ts";

export async function plugin(stream: DurableStream, event: BusEvent, client: OpenCodeClient): Promise<void> {
  const bridge: BridgeHooks = createBridgeHooks(stream, { client, onError: (words) => words.length });
  await bridge.event({ event });
  const stored: boolean = await bridge.flush(1_000);
  (await recoverSessions(stream)).filter((it) => it.interrupted && stored);
}
