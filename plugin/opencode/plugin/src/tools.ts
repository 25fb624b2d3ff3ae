import { createHash } from "node:crypto";
import { DurableStreamError, type Checkpoint, type CheckpointOption, type DurableStream, type StreamEvent } from "../../../../sdk/typescript/src/index.ts";
import type { Tool, ToolContext } from "./host.ts";
import type { Teller } from "./teller.ts";

/** Noted when an answer goes to the model: an answer is used once. */
const delivered = "checkpoint.delivered";
/** How many events history gives: by default, and at most. */
const events = [20, 100] as const;
/** How many events are searched for a text. */
const searched = 1_000;
/** How much of a payload history shows, in characters, and how much in all. */
const shown = [600, 24_000] as const;

// OpenCode takes each argument to be required, so each has a value that means none.
const text = (description: string) => ({ type: "string", description });

/** Where to ask and to look, and this run of OpenCode. */
interface Log {
  stream: DurableStream;
  instance: string;
}

/**
 * What the model may do with the log: ask a human, and look. There is no tool that
 * decides: an agent's question is for somebody else.
 */
export function tools(log: () => Log, ending: () => boolean, tell: Teller): Record<string, Tool> {
  return {
    checkpoint_request: {
      description:
        "Ask a human to decide before you do something that cannot be undone or is not yours to decide. " +
        "It waits until a human has answered, however long that takes, and gives the decision. " +
        "Do not go on with the matter unless it says approved. Do not ask twice.",
      args: {
        decision_point: text("The question, with all that a human needs to decide it"),
        options: { type: "array", items: { type: "string" }, description: "What an approval chooses from. [] for none" },
        action: text("Exactly what you will do when it is approved, such as the command. Empty for none"),
      },
      execute: (args, context) => request(log(), ending, tell, args ?? {}, context),
    },
    checkpoint_status: {
      description: "Tells how a question to a human stands, or, with an empty id, which questions of this session are open. It decides nothing.",
      args: { id: text("The checkpoint's id, or empty") },
      execute: (args, context) => status(log().stream, args?.id, context),
    },
    history: {
      description:
        "Looks into the durable log of what was done in this project, also before a crash and by other sessions: " +
        "prompts, answers, tool calls with their results, file edits, decisions of humans. The newest events, oldest first.",
      args: {
        session: text('A session\'s id, "all", or empty for this session'),
        types: { type: "array", items: { type: "string" }, description: 'Types or patterns, such as "execution.tool_finish", "checkpoint.*", "files.>". [] for all' },
        contains: text("Only those of the newest 1,000 events that hold this text. Empty for any"),
        last: { type: "integer", description: `How many events, at most ${events[1]}; 0 for ${events[0]}` },
      },
      execute: (args, context) => history(log().stream, args ?? {}, context),
    },
  };
}

/**
 * The question's id is made of the session and the question, so that a model that asks
 * it again after a crash finds the old one, and the answer that came in between. An
 * answer is handed out once: asked again after that, it is a new question.
 */
async function request({ stream, instance }: Log, ending: () => boolean, tell: Teller, args: any, context: ToolContext): Promise<string> {
  const point = String(args.decision_point ?? "").trim();
  if (!point) throw new Error("checkpoint_request: decision_point is missing: say what is to be decided");
  const options = choices(args.options);
  const action = args.action === undefined || args.action === "" ? undefined : args.action;
  const by = `agent/${context.agent || "opencode"}`;
  const name = "cp_" + createHash("sha256").update(JSON.stringify([context.sessionID, point, options, action ?? null])).digest("hex").slice(0, 24);
  const used = new Set((await stream.query({ stream_id: context.sessionID, type: delivered })).map((e) => e.payload?.checkpoint_id));
  for (let n = 1; ; n++) {
    const id = n === 1 ? name : `${name}.${n}`;
    if (used.has(id)) continue;
    await stream.requestCheckpoint(id, {
      decision_point: point, options, action: apart(action), requested_by: by, stream_id: context.sessionID,
      metadata: { opencode_instance: instance, opencode_call: context.callID },
    });
    let it = await stream.getCheckpoint(id);
    const waited = it.status === "pending";
    if (waited) {
      context.metadata?.({ title: `waits for a human: ${id}`, metadata: { checkpoint: id } });
      it = await decision(stream, ending, tell, it, by, context);
    }
    if (it.status !== "approved" && it.status !== "rejected") {
      if (waited) return told(it);
      continue; // nobody was there to hear it
    }
    if (await take(stream, it, context)) return told(it);
  }
}

async function decision(stream: DurableStream, ending: () => boolean, tell: Teller, asked: Checkpoint, by: string, context: ToolContext): Promise<Checkpoint> {
  try {
    return await stream.waitForCheckpoint(asked.id, { signal: context.abort });
  } catch (error) {
    if (!context.abort.aborted) throw error;
    // At OpenCode's end every session is aborted; its questions outlive it.
    setTimeout(() => {
      if (ending()) return;
      stream.cancelCheckpoint(asked.id, by, "its session was aborted")
        .catch((why) => tell.quietly(`checkpoint ${asked.id} could not be cancelled: ${why}`, "warn"));
    }, 100).unref();
    throw new Error(`the session was aborted while ${asked.id} waited`);
  }
}

/** Notes that an answer goes to this call; false when another one has it. */
async function take(stream: DurableStream, it: Checkpoint, context: ToolContext): Promise<boolean> {
  try {
    await stream.append({
      type: delivered, id: `${it.id}.delivered`, actor: "opencode", stream_id: context.sessionID, causation_id: it.decision?.event_id,
      payload: { checkpoint_id: it.id, session_id: context.sessionID, message_id: context.messageID, call_id: context.callID },
    });
    return true;
  } catch (error) {
    if (error instanceof DurableStreamError && error.error === "duplicate_id") return false;
    throw error;
  }
}

function told(it: Checkpoint): string {
  const d = it.decision;
  const lines = [`${it.status}${d ? ` by ${d.by}` : ""}: ${it.decision_point}`];
  if (d?.option) lines.push(`option: ${d.option}`);
  if (d?.answer !== undefined) lines.push(`answer: ${JSON.stringify(d.answer)}`);
  if (d?.comment) lines.push(`comment: ${d.comment}`);
  if (d?.reason) lines.push(`reason: ${d.reason}`);
  lines.push(`checkpoint: ${it.id}`);
  if (it.status !== "approved") lines.push("This is no approval.");
  return lines.join("\n");
}

/**
 * The model's own words never look like a request of OpenCode's, whose action is an
 * object: the answer to one of those is carried into OpenCode.
 */
function apart(action: unknown): unknown {
  return typeof action === "object" && action !== null ? { checkpoint_request: action } : action;
}

function choices(given: unknown): CheckpointOption[] {
  if (!Array.isArray(given)) return [];
  return given.map((it) => (typeof it === "string" ? { id: it, label: it } : it));
}

async function status(stream: DurableStream, id: unknown, context: ToolContext): Promise<string> {
  if (id) {
    const it = await stream.getCheckpoint(String(id));
    return it.status === "pending" ? `pending: ${it.decision_point}\ncheckpoint: ${it.id}` : told(it);
  }
  const open = (await stream.getPendingCheckpoints()).filter((it) => it.stream_id === context.sessionID);
  if (open.length === 0) return "No question of this session is open.";
  return open.map((it) => `${it.id} since ${new Date(it.requested_at).toISOString()}: ${it.decision_point}`).join("\n");
}

async function history(stream: DurableStream, args: any, context: ToolContext): Promise<string> {
  const session = args.session || context.sessionID;
  const last = Math.min(Math.max(Math.trunc(Number(args.last) || events[0]), 1), events[1]);
  const filter = {
    ...(session === "all" ? {} : { stream_id: String(session) }),
    ...(Array.isArray(args.types) && args.types.length > 0 ? { type: args.types.map(String) } : typeof args.types === "string" && args.types ? { type: [args.types] } : {}),
  };
  let found = await stream.query({ ...filter, last: args.contains ? searched : last });
  if (args.contains) found = found.filter((e) => JSON.stringify(e).includes(String(args.contains)));
  const lines: string[] = [];
  let size = 0;
  for (const one of found.slice(-last).reverse().map(line)) {
    if ((size += one.length) > shown[1]) break;
    lines.unshift(one);
  }
  return lines.length > 0 ? lines.join("\n") : "The log has no such events.";
}

function line(e: StreamEvent): string {
  const payload = JSON.stringify(e.payload);
  const cut = payload.length > shown[0] ? `${payload.slice(0, shown[0])}… (${payload.length} characters)` : payload;
  return `${e.seq} ${new Date(e.timestamp).toISOString()} ${e.stream_id} ${e.actor} ${e.type} ${cut}`;
}
