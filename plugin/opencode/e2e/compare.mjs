// Holds the log to what OpenCode itself reports, by the rules of docs/opencode.md.
import assert from "node:assert/strict";
import { isDeepStrictEqual } from "node:util";

const kept = new Set(["session.updated", "session.diff", "todo.updated"]);

/**
 * For each event that OpenCode reported and that is no piece of a text: is it in the
 * log, once, with its content, and in OpenCode's order; and is what the rules leave out
 * left out? It gives what is wrong, in words; nothing, when nothing is.
 */
export function compare(reported, log, { instance } = {}) {
  const wrong = [];
  const by = new Map(); // bus event's id → what the log has of it
  const ids = new Set();
  for (const e of log) {
    if (ids.has(e.id)) wrong.push(`seq ${e.seq}: the id ${e.id} is there twice`);
    ids.add(e.id);
    const of = e.metadata?.opencode_event ?? e.id;
    by.set(of, [...(by.get(of) ?? []), e]);
  }
  const rules = new Rules();
  const stands = new Map(); // what the log has of a thing that is told again and again
  let checked = 0, last = 0;
  for (const bus of reported) {
    if (bus.type === "message.part.delta") continue;
    checked++;
    const found = by.get(bus.id) ?? [];
    const { stored, left, same, why, thing, value } = rules.of(bus);
    const name = `${bus.type} ${bus.id}`;
    if (stored && found.length === 0) wrong.push(`${name} is not in the log: ${why ?? JSON.stringify(bus.properties).slice(0, 300)}`);
    if (left && found.some((e) => !e.type.startsWith("checkpoint.") && !e.type.startsWith("agent.") && !partial(e))) wrong.push(`${name} is in the log as ${found.map((e) => e.type)}, and says nothing new (${why})`);
    if (stored && found.length > 0 && same && !found.some(same)) wrong.push(`${name} is in the log with another content: ${found.map((e) => `${e.type} ${JSON.stringify(e.payload).slice(0, 300)}`)}`);
    if (thing) {
      const content = found.find((e) => e.id === bus.id)?.payload;
      if (found.length === 0 && !isDeepStrictEqual(stands.get(thing), value)) wrong.push(`${name} is not in the log, and is not what was said just before: ${JSON.stringify(value).slice(0, 300)}`);
      if (content && !isDeepStrictEqual(value.role && content.info ? content.info : content, value)) wrong.push(`${name} is in the log with another content: ${JSON.stringify(content).slice(0, 300)}`);
      if (content) stands.set(thing, value);
    }
    const own = found.find((e) => e.id === bus.id);
    if (own) {
      if (own.seq <= last) wrong.push(`${name} is in the log at ${own.seq}, before what OpenCode said before it`);
      last = own.seq;
    }
  }
  const said = new Set(reported.map((e) => e.id));
  const first = reported.find((e) => e.id?.startsWith("evt_"))?.id ?? "";
  for (const e of log) {
    const of = e.metadata?.opencode_event ?? e.id;
    if (!of.startsWith("evt_") || of < first || said.has(of)) continue;
    if (instance && e.metadata?.opencode_instance !== instance) continue;
    wrong.push(`seq ${e.seq}: ${e.type} comes from ${of}, which OpenCode did not report`);
  }
  return { checked, wrong };
}

const partial = (e) => e.payload?.partial === true || e.type === "execution.tool_progress";

/** What docs/opencode.md says of each event, given those before it. */
class Rules {
  #busy = new Set();
  #idle = new Set();
  #last = new Map();
  #running = new Set();
  #done = new Map();

  #repeats(key, value) {
    const same = isDeepStrictEqual(this.#last.get(key), value);
    this.#last.set(key, value);
    return same;
  }

  of({ type, properties: p }) {
    const session = p?.sessionID;
    switch (type) {
      case "session.status": {
        if (p.status.type === "idle") return { left: true, why: "session.idle follows" };
        if (p.status.type === "retry") return { stored: true, same: (e) => e.type === "execution.retry" && e.payload.attempt === p.status.attempt && e.payload.message === p.status.message };
        const busy = this.#busy.has(session);
        this.#busy.add(session);
        this.#idle.delete(session);
        return busy ? { left: true, why: "it was busy" } : { stored: true };
      }
      case "session.idle": {
        const again = this.#idle.has(session);
        this.#idle.add(session);
        this.#busy.delete(session);
        return again ? { left: true, why: "it was idle" } : { stored: true, same: (e) => e.type === "lifecycle.session.idle" };
      }
      case "session.created":
        return { stored: true, same: (e) => isDeepStrictEqual(e.payload, p.info) && e.stream_id === p.info.id };
      case "session.error":
        return { stored: true, same: (e) => isDeepStrictEqual(e.payload.error, p.error) };
      case "session.deleted":
        return { stored: true, same: (e) => e.type === "lifecycle.session.deleted" && isDeepStrictEqual(e.payload.info, p.info) };
      case "message.updated":
        return { thing: `message ${p.info.id}`, value: p.info };
      case "message.part.updated":
        return this.#part(p.part);
      case "permission.asked":
      case "question.asked":
        return { stored: true, same: (e) => e.type === "checkpoint.requested" && e.payload.id === p.id && isDeepStrictEqual(without(e.payload.action, "opencode"), p) };
      case "permission.replied":
      case "question.replied":
      case "question.rejected":
        // Where the decision came from outside, that one stands, and this is kept beside it.
        return { stored: true, same: (e) => e.type === `opencode.${type}` ? isDeepStrictEqual(e.payload, p) : e.payload.checkpoint_id === p.requestID };
      case "file.edited":
      case "file.watcher.updated":
        return { stored: true, same: (e) => e.payload.file === p.file };
      default:
        if (kept.has(type)) return { thing: `${type} ${session}`, value: p };
        return { stored: true, same: (e) => e.type === `opencode.${type}` ? isDeepStrictEqual(e.payload, p) : e.type === `lifecycle.${type}` };
    }
  }

  #part(part) {
    if (part.type === "text" || part.type === "reasoning") {
      if (part.text === "" && !part.time?.end) return { left: true, why: "an empty text begins" };
      if (this.#repeats(`part ${part.id}`, part)) return {};
      return { stored: true, same: (e) => e.payload.partID === part.id && e.payload.text === part.text };
    }
    if (part.type !== "tool") return { stored: true, same: (e) => e.payload.id === part.id || e.payload.part?.id === part.id };
    const { status } = part.state;
    if (status === "pending") return { left: true, why: "nothing runs yet" };
    if (status === "running") {
      const first = !this.#running.has(part.id);
      this.#running.add(part.id);
      return first ? { stored: true, same: (e) => e.type === "execution.tool_start" && e.payload.callID === part.callID && isDeepStrictEqual(e.payload.state.input, part.state.input) } : {};
    }
    if (this.#repeats(`done ${part.id}`, part)) return {};
    const again = this.#done.has(part.id);
    this.#done.set(part.id, true);
    return { stored: true, same: (e) => (again ? isDeepStrictEqual(e.payload.part, part) : e.type === "execution.tool_finish" && isDeepStrictEqual(e.payload.state, part.state)) };
  }
}

function without(object, key) {
  const { [key]: _, ...rest } = object ?? {};
  return rest;
}

/** Holds the log to what OpenCode has in its own store of a session: texts and calls. */
export function compareMessages(messages, log) {
  const wrong = [];
  for (const { parts } of messages) {
    for (const part of parts) {
      if (part.type === "text" || part.type === "reasoning") {
        if (!part.text) continue;
        const last = log.filter((e) => /^execution\.(text|reasoning)_snapshot$/.test(e.type) && e.payload.partID === part.id).at(-1);
        if (last?.payload.text !== part.text) wrong.push(`the ${part.type} ${part.id} of ${part.text.length} characters has ${last?.payload.text?.length} in the log`);
      }
      if (part.type === "tool") {
        const ends = log.filter((e) => e.type === "execution.tool_finish" && e.payload.id === part.id);
        const starts = log.filter((e) => e.type === "execution.tool_start" && e.payload.id === part.id);
        if (ends.length !== 1 || ends[0].payload.state.status !== part.state.status) wrong.push(`the call ${part.tool} ${part.id} is ${part.state.status}, and has ${ends.length} ends in the log`);
        if (starts.length > 1) wrong.push(`the call ${part.tool} ${part.id} has ${starts.length} starts in the log`);
      }
    }
  }
  assert.ok(messages.length > 0);
  return wrong;
}
