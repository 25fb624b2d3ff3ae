// The Quick Start, as in example_test.go: the stream of this process, one event, a
// handler, the history. It ends by itself, with nothing to close.
import { getDurableStream } from "durable-stream";

const stream = getDurableStream();
await stream.initialize();

await stream.append({
  type: "task.created",
  actor: "agent/planner",
  payload: { title: "Refactor Auth" },
});

stream.on("task.completed", (event) => {
  console.log("task done:", event.payload.result);
});

const history = await stream.query({ actor: "agent/planner" });
console.log(history.length, history[0]!.type, history[0]!.payload.title);

// Not of the original: what the handler hears of.
await stream.append({ type: "task.completed", actor: "agent/executor", payload: { result: "ok" } });
