import type { DurableStream } from "../../../../sdk/typescript/src/index.ts";
import { recoverSessions } from "./bridge.ts";
import type { InterruptedSession } from "./opencode.ts";
import type { Teller } from "./teller.ts";

/** So many sessions are named. */
const named = 3;

/** Tells which sessions an earlier run of OpenCode left unfinished. It continues nothing. */
export async function tellStory(stream: DurableStream, tell: Teller): Promise<void> {
  try {
    const left = await recoverSessions(stream);
    if (left.length > 0) tell.loudly(story(left), "info");
  } catch (error) {
    tell.quietly(`which sessions were interrupted is not known: ${error}`, "warn");
  }
}

function story(left: InterruptedSession[]): string {
  left.sort((a, b) => b.last_at - a.last_at);
  const lines = left.slice(0, named).map((it) => {
    // A call that waits for an answer has not begun its work.
    const waits = new Set([...(it.questions ?? []), ...(it.answered ?? [])].map((q) => q["call_id"]));
    const tools = it.tools?.filter((call) => call.tool && !waits.has(call.callID)).map((call) => call.tool) ?? [];
    return [
      `${it.id}${it.title ? ` "${it.title}"` : ""} ${it.interrupted ? "was interrupted" : "waits"}`,
      tools.length > 0 && `unknown outcome of ${tools.join(", ")}`,
      it.questions?.length && `open: ${it.questions.map((q) => q.id).join(", ")}`,
    ].filter(Boolean).join("; ");
  });
  if (left.length > named) lines.push(`and ${left.length - named} more`);
  return `${lines.join(". ")}. "dstream opencode recover" tells the whole story; nothing goes on by itself.`;
}
