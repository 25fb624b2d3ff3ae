// Only compiled: the forms in which the calls are written.
import { DurableStream, DurableStreamError, type Checkpoint, type StreamEvent } from "durable-stream";

export async function forms(stream: DurableStream): Promise<void> {
  const event: StreamEvent<{ title: string }> = await stream.append({ type: "task.created", actor: "a", payload: { title: "t" } });
  event.payload.title.length + event.seq;
  const off = stream.subscribe<{ n: number }>("task.>", (e) => e.payload.n + 1, { after: 0 });
  off();
  await stream.requestCheckpoint("cp_1", { decision_point: "?", options: ["yes", { id: "no", label: "No" }] });
  await stream.requestCheckpoint("cp_1", ["yes", "no"]);
  await stream.requestCheckpoint("ses_1", "Deploy?", [{ id: "yes", label: "Yes" }], "agent");
  const decided: Checkpoint = await stream.waitForCheckpoint("cp_1", { timeoutMs: 5, signal: AbortSignal.timeout(5) });
  decided.decision?.option;
  // @ts-expect-error: the original's form names who asks
  await stream.requestCheckpoint("ses_1", "Deploy?");
  // @ts-expect-error: an event has a type
  await stream.append({ actor: "a" });
  const error: unknown = new DurableStreamError("decided", "");
  if (error instanceof DurableStreamError && error.error === "decided") error.data["checkpoint"];
}
