import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { DurableStream, DurableStreamError, getDurableStream, initializeDurableStream, shutdownDurableStream } from "durable-stream";
import { fresh, project, until } from "./helpers.mjs";

const run = promisify(execFile);
const refused = (name) => (error) => error instanceof DurableStreamError && error.error === name;

test("the Quick Start runs, ends by itself, and is in the JSONL", async (t) => {
  const cwd = project(t);
  const program = fileURLToPath(new URL("./out/quickstart.js", import.meta.url));
  const { stdout } = await run(process.execPath, [program], { cwd, timeout: 60_000 });
  assert.match(stdout, /^1 task.created Refactor Auth$/m);
  const file = join(cwd, ".opencode", "durable_stream.jsonl");
  // The child writes the mirror up to the end before it ends, a moment after its parent.
  const lines = await until(() => {
    const lines = existsSync(file) ? readFileSync(file, "utf8").trim().split("\n").filter(Boolean) : [];
    return lines.length === 2 && lines;
  }, "two lines in the JSONL");
  assert.equal(JSON.parse(lines[0]).payload.title, "Refactor Auth");
  assert.equal(JSON.parse(lines[1]).payload.result, "ok");
});

// BUN names a Bun, such as OpenCode's program with BUN_BE_BUN=1. It runs the TypeScript as it is.
test("the Quick Start runs under Bun", { skip: !process.env.BUN && "BUN names none" }, async (t) => {
  const cwd = project(t);
  const program = fileURLToPath(new URL("./quickstart.ts", import.meta.url));
  const { stdout } = await run(process.env.BUN, [program], { cwd, timeout: 60_000, env: { ...process.env, BUN_BE_BUN: "1" } });
  assert.match(stdout, /^1 task.created Refactor Auth$/m);
  const file = join(cwd, ".opencode", "durable_stream.jsonl");
  await until(() => existsSync(file) && readFileSync(file, "utf8").split("\n").length === 3, "two lines in the JSONL");
});

test("append gives the event as it was recorded; query and getStreamEvents find it", async (t) => {
  const stream = fresh(t);
  const a = await stream.append({ type: "task.created", actor: "agent/planner", payload: { text: "<b> é 😀 \u2028" } });
  assert.equal(typeof a.seq, "number");
  assert.equal(a.stream_id, stream.getStreamId());
  assert.equal(a.correlation_id, stream.getCorrelationId());
  const b = await stream.append({ type: "task.completed", actor: "agent/executor", stream_id: "ses_1", causation_id: a.id, metadata: { m: 1 } });
  assert.ok(b.seq > a.seq);
  assert.deepEqual(await stream.query({ actor: "agent/planner" }), [a]);
  assert.deepEqual(await stream.getStreamEvents("ses_1"), [b]);
  assert.deepEqual(await stream.query({ type: ["task.*"], since: a.timestamp }), [a, b]);
  assert.deepEqual(await stream.query({ type: "*", last: 1 }), [b]);
  const again = await stream.append({ ...a, seq: undefined });
  assert.equal(again.seq, a.seq);
});

test("a query longer than a page comes whole, and stops at its limit", async (t) => {
  const stream = fresh(t);
  for (let i = 0; i < 3; i++) {
    await stream.appendBatch(Array.from({ length: 900 }, (_, n) => ({ type: "task.created", actor: "a", stream_id: "s", payload: i * 900 + n })));
  }
  assert.deepEqual((await stream.query({ stream_id: "s" })).map((e) => e.payload), Array.from({ length: 2700 }, (_, n) => n));
  assert.equal((await stream.query({ stream_id: "s", limit: 1500 })).length, 1500);
});

test("handlers hear of events from then on, of all processes, until off", async (t) => {
  const stream = fresh(t);
  const other = fresh(t, { dir: stream.dir });
  await stream.append({ type: "task.created", actor: "a", payload: 0 });
  const all = [], tasks = [], patterns = [];
  const handler = (e) => tasks.push(e.payload);
  stream.on("*", (e) => all.push(e.payload)).on("task.created", handler);
  const end = stream.subscribe(["task.*", "ledger.>"], (e) => {
    patterns.push(e.payload);
    throw new Error("mine");
  });
  await stream.append({ type: "task.created", actor: "a", payload: 1 });
  await other.append({ type: "ledger.task.created", actor: "b", payload: 2 });
  await until(() => all.length === 2 && patterns.length === 2 && tasks.length === 1, "the events");
  stream.off("task.created", handler);
  end();
  await other.append({ type: "task.created", actor: "b", payload: 3 });
  await until(() => all.length === 3, "the last event");
  assert.deepEqual([all, tasks, patterns], [[1, 2, 3], [1], [1, 2]]);
  const history = [];
  stream.subscribe("task.created", (e) => history.push(e.payload), { after: 0 });
  await until(() => history.length === 3, "the history");
  assert.deepEqual(history, [0, 1, 3]);
});

test("a checkpoint is asked in both forms, decided once, and waited for", async (t) => {
  const stream = fresh(t);
  const other = fresh(t, { dir: stream.dir });
  const id = await stream.requestCheckpoint("cp_deploy", { decision_point: "Deploy?", options: ["yes", "no"], requested_by: "agent/deployer", action: { run: "deploy" } });
  assert.equal(id, "cp_deploy");
  assert.equal(await stream.requestCheckpoint("cp_deploy", { decision_point: "Deploy?", options: ["yes", "no"], requested_by: "agent/deployer", action: { run: "deploy" } }), id);
  const timed = await stream.requestCheckpoint("ses_1", "Go on?", [{ id: "go", label: "Go" }], "agent/planner");
  const pending = await stream.getPendingCheckpoints();
  assert.deepEqual(pending.map((cp) => cp.id), [id, timed]);
  assert.equal(pending[0].expires_at, undefined);
  assert.equal(pending[1].expires_at - pending[1].requested_at, 300_000);

  const decided = stream.waitForCheckpoint(id);
  await assert.rejects(stream.waitForCheckpoint(timed, { timeoutMs: 10 }), refused("timeout"));
  const controller = new AbortController();
  const given = stream.waitForCheckpoint(timed, { signal: controller.signal });
  controller.abort();
  await assert.rejects(given, { name: "AbortError" });
  await assert.rejects(other.approveCheckpoint(id, "agent/deployer", "yes"), refused("own_checkpoint"));
  await assert.rejects(other.approveCheckpoint(id, "alice", "maybe"), refused("unknown_option"));
  assert.equal(await other.approveCheckpoint(id, "alice", "yes"), true);
  const cp = await decided;
  assert.deepEqual([cp.status, cp.decision.by, cp.decision.option], ["approved", "alice", "yes"]);
  await assert.rejects(other.rejectCheckpoint(id, "bob", "late"), (e) => refused("decided")(e) && e.data.checkpoint.decision.by === "alice");
  assert.equal(await other.rejectCheckpoint(timed, "alice", "no"), true);
  assert.equal((await stream.getCheckpoint(timed)).decision.reason, "no");
  await assert.rejects(stream.getCheckpoint("cp_none"), refused("unknown_checkpoint"));
});

test("intents end once; sessions take along what is unfinished; resume tells what is left", async (t) => {
  const stream = fresh(t);
  const spec = { description: "Refactor", agent: "executor", prompt: "Do it", parent_session_id: "ses_1" };
  const [a, b, c, d] = await Promise.all([1, 2, 3, 4].map(() => stream.createIntent(spec)));
  await stream.completeIntent(a, "done");
  await stream.failIntent(b, "broken");
  await assert.rejects(stream.completeIntent(b, "after all"), refused("ended"));
  await stream.append({ type: "lifecycle.session.created", actor: "system", stream_id: "child", payload: { id: "child", parentID: "ses_1" } });
  const e = await stream.createIntent({ ...spec, parent_session_id: "child" });
  const asked = await stream.requestCheckpoint("cp_1", { stream_id: "child", requested_by: "agent" });
  assert.deepEqual((await stream.getActiveIntents()).map((i) => i.id), [c, d, e]);
  const before = await stream.resume();
  assert.deepEqual([before.active_intents.length, before.pending_checkpoints.length], [3, 1]);
  const ended = await stream.recursiveAbort("ses_1", { by: "alice", reason: "stop" });
  assert.deepEqual(ended.sessions, ["child", "ses_1"]);
  assert.deepEqual(ended.intents.toSorted(), [c, d, e].toSorted());
  assert.deepEqual(ended.checkpoints, [asked]);
  await stream.deleteSession("ses_2", { by: "alice" });
  assert.equal((await stream.getStreamEvents("ses_2"))[0].type, "lifecycle.session.deleted");
  const after = await stream.resume();
  assert.deepEqual([after.active_intents.length, after.pending_checkpoints.length], [0, 0]);
  assert.equal(after.events_replayed, (await stream.query()).length);
});

test("what is wrong is refused by name, and the next call works", async (t) => {
  const stream = fresh(t);
  await assert.rejects(stream.append({ type: "task", actor: "a" }), (e) => refused("invalid")(e) && e.data.field === "type" && e.code === -32602);
  await assert.rejects(stream.append({ type: "task.x", actor: "a", payload: "x".repeat(10 << 20) }), refused("too_large"));
  await assert.rejects(stream.append({ type: "task.x", actor: "a", payload: 1n }), TypeError);
  assert.throws(() => stream.on("completed", () => {}), refused("invalid"));
  assert.ok((await stream.append({ type: "task.x", actor: "a" })).seq);
});

test("the program is found by option, then DSTREAM_BIN, then PATH", async (t) => {
  const saved = { DSTREAM_BIN: process.env.DSTREAM_BIN, PATH: process.env.PATH };
  t.after(() => Object.assign(process.env, saved));
  const none = (config, words) => assert.rejects(new DurableStream(config).initialize(), (e) => refused("no_program")(e) && words.test(e.message));
  await none({ bin: "/nowhere/dstream" }, /option bin.*\/nowhere\/dstream/);
  process.env.DSTREAM_BIN = "/nowhere/else";
  await none({}, /DSTREAM_BIN.*\/nowhere\/else/);
  const byOption = fresh(t, { bin: saved.DSTREAM_BIN });
  await byOption.initialize();
  delete process.env.DSTREAM_BIN;
  process.env.PATH = "/nowhere";
  await none({}, /not found.*make build/);
  assert.equal(saved.DSTREAM_BIN.split("/").at(-1), "dstream");
  process.env.PATH = saved.DSTREAM_BIN.replace(/\/dstream$/, "");
  const byPath = fresh(t);
  await byPath.initialize();
});

test("a program that cannot serve is an error with its words", async (t) => {
  const stream = fresh(t, { args: ["--no-such-flag"] });
  await assert.rejects(stream.initialize(), (e) => refused("not_started")(e) && /no-such-flag/.test(e.message));
});

test("the shared stream is one, and after shutdown a new one", async (t) => {
  const dir = join(project(t), "log");
  const a = await initializeDurableStream({ storePath: join(dir, "durable_stream.jsonl") });
  assert.equal(getDurableStream(), a);
  void a.append({ type: "task.created", actor: "a" }); // stored, though nobody waits
  await shutdownDurableStream();
  assert.equal(readFileSync(join(dir, "durable_stream.jsonl"), "utf8").trim().split("\n").length, 1);
  await assert.rejects(a.append({ type: "task.created", actor: "a" }), refused("closed"));
  const b = await initializeDurableStream({ dir });
  assert.notEqual(a, b);
  assert.equal((await b.query()).length, 1);
  await b.shutdown();
  assert.notEqual(getDurableStream({ dir }), b);
  await shutdownDurableStream();
});
