import assert from "node:assert/strict";
import { chmodSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { project, streams, until } from "../../../../sdk/typescript/test/kit.mjs";
import { DurableStream, createBridgeHooks, getDurableStream, initializeDurableStream, shutdownDurableStream } from "../out/parts.js";

const fresh = streams(DurableStream);

let n = 0;
/** A bus event of OpenCode, with an id like those of OpenCode. */
const bus = (type, properties) => ({ id: `evt_${(Date.now() * 0x1000 + n++).toString(16).slice(-12)}001${String(n).padStart(11, "0")}`, type, properties });
const todo = (k) => bus("todo.updated", { sessionID: "ses_1", todos: [k] });
const asked = (id, session = "ses_1") => bus("permission.asked", { id, sessionID: session, permission: "bash", patterns: [`touch ${id}`], metadata: {}, always: [] });
const question = (id) => bus("question.asked", { id, sessionID: "ses_1", questions: [{ question: "Deploy?", header: "Deploy", options: [{ label: "Yes", description: "" }, { label: "No", description: "" }] }] });
const told = (events) => events.map((e) => e.payload.todos[0]);
const upTo = (n) => Array.from({ length: n }, (_, i) => i);

test("events of OpenCode's bus are in the log, in their order, each once", async (t) => {
  const stream = fresh(t);
  const bridge = createBridgeHooks(stream);
  assert.equal(createBridgeHooks(stream), bridge);
  const events = upTo(500).map(todo);
  for (const event of events) bridge.event({ event });
  for (const event of events.slice(400)) await bridge.event({ event }); // a bus that repeats itself
  assert.equal(await bridge.flush(2 ** 40), true); // a timer of so long would fire at once
  const stored = await stream.query({ stream_id: "ses_1" });
  assert.deepEqual(told(stored), upTo(500));
  assert.deepEqual(stored.map((e) => e.id), events.map((e) => e.id));
  assert.ok(stored.every((e) => e.metadata.opencode_instance === bridge.instance));
});

test("the original's Quick Start for plugins", async (t) => {
  const dir = join(project(t), ".opencode");
  const stream = await initializeDurableStream({ storePath: join(dir, "durable_stream.jsonl") });
  t.after(shutdownDurableStream);
  await stream.resume();
  assert.equal(stream.isInitialized(), true);
  const bridge = createBridgeHooks(stream);
  const hooks = { event: async (eventInput) => { await bridge.event?.(eventInput); } };
  await hooks.event({ event: todo(1) });
  assert.equal(await bridge.flush(30_000), true);
  assert.deepEqual(told(await getDurableStream().query({ type: "opencode.*.*" })), [1]);
});

test("kill -9 of the child while events come: none lost, none twice, in order", async (t) => {
  const stream = fresh(t);
  const bridge = createBridgeHooks(stream);
  for (let round = 0; round < 5; round++) {
    for (let i = 0; i < 100; i++) bridge.event({ event: todo(round * 100 + i) });
    const { childPid } = await until(() => stream.childPid && stream, "a child");
    process.kill(childPid, "SIGKILL");
    await until(() => stream.childPid && stream.childPid !== childPid, "another child");
  }
  assert.equal(await bridge.flush(30_000), true);
  assert.deepEqual(told(await stream.query({ stream_id: "ses_1" })), upTo(500));
});

test("decisions made elsewhere are carried into OpenCode through its client, also by a child that took another's place", async (t) => {
  const stream = fresh(t);
  const human = fresh(t, { dir: stream.dir });
  const calls = [];
  const client = {
    postSessionIdPermissionsPermissionId: async (options) => (calls.push(options), { response: { status: 200 } }),
    _client: { post: async (options) => (calls.push(options), { response: { status: 200 } }) },
  };
  const bridge = createBridgeHooks(stream, { client });
  for (const event of [asked("per_1"), asked("per_2"), asked("per_3"), question("que_1"), question("que_2")]) bridge.event({ event });
  await bridge.flush();
  await human.approveCheckpoint("per_1", "alice", "once");
  await until(() => calls.length === 1, "the first answer");
  assert.deepEqual(calls[0], { path: { id: "ses_1", permissionID: "per_1" }, body: { response: "once" } });
  await human.rejectCheckpoint("per_2", "alice", "not today");
  await until(() => calls.length === 2, "the second answer");
  assert.equal(calls[1].url, "/permission/{requestID}/reply");
  assert.deepEqual(calls[1].path, { requestID: "per_2" });
  assert.equal(calls[1].body.reply, "reject");
  assert.match(calls[1].body.message, /not today/);
  const { childPid } = stream;
  process.kill(childPid, "SIGKILL");
  await until(() => stream.childPid && stream.childPid !== childPid, "another child, though nobody calls");
  await human.approveCheckpoint("per_3", "alice", "once");
  await until(() => calls.some((it) => it.path.permissionID === "per_3"), "the answer by the new child");
  await human.approveCheckpoint("que_1", "alice", "No");
  await human.rejectCheckpoint("que_2", "alice");
  const answer = await until(() => calls.find((it) => it.path.requestID === "que_1"), "the answer to the question");
  assert.equal(answer.url, "/question/{requestID}/reply");
  assert.deepEqual(answer.body, { answers: [["No"]] });
  await until(() => calls.find((it) => it.url === "/question/{requestID}/reject" && it.path.requestID === "que_2"), "the rejection");
});

test("an OpenCode that does not take an answer is complained about, and nothing is thrown", async (t) => {
  const stream = fresh(t);
  const errors = [];
  let tries = 0;
  const client = { postSessionIdPermissionsPermissionId: async ({ path }) => {
    tries++;
    if (path.permissionID === "per_1") throw new Error("no network");
    return { error: { name: "PermissionNotFoundError" }, response: { status: 404 } };
  } };
  const bridge = createBridgeHooks(stream, { client, onError: (words) => errors.push(words) });
  for (const event of [asked("per_1"), asked("per_2"), question("que_1")]) bridge.event({ event });
  await bridge.flush();
  await stream.approveCheckpoint("per_1", "alice", "once");
  await until(() => errors.length === 1, "the complaint");
  assert.match(errors[0], /^the answer to permission per_1 could not be given to OpenCode: .*no network/);
  assert.equal(tries, 3);
  await stream.approveCheckpoint("per_2", "alice", "once");
  await until(() => tries === 4, "the second answer, which comes too late and is no error");
  await stream.approveCheckpoint("que_1", "alice", "Yes");
  await until(() => errors.length === 2, "the second complaint");
  assert.match(errors[1], /que_1 .* no way to answer a question/);
});

test("an event too large for a message is cut, with its size and its hash", async (t) => {
  const stream = fresh(t);
  const bridge = createBridgeHooks(stream);
  bridge.event({ event: bus("something.new", { sessionID: "ses_1", small: "kept", large: "x".repeat(10 << 20) }) });
  assert.equal(await bridge.flush(30_000), true);
  const [stored] = await stream.query({ stream_id: "ses_1" });
  assert.equal(stored.payload.small, "kept");
  assert.match(stored.payload.large.slice(-200), /^x+…\[cut: 10485760 bytes in all, sha256 [0-9a-f]{64}\]$/);
});

test("what is no event, and what makes JSON fail, is no exception", async (t) => {
  const stream = fresh(t);
  const errors = [];
  const bridge = createBridgeHooks(stream, { onError: (words) => errors.push(words) });
  const ring = {};
  ring.ring = ring;
  for (const event of [undefined, null, 5, "x", ring, { id: "evt_1", type: "a.b", properties: { big: 1n } }]) await bridge.event({ event });
  await bridge.event(undefined);
  bridge.event({ event: todo(1) });
  assert.equal(await bridge.flush(30_000), true);
  assert.deepEqual(told(await stream.query({ type: "opencode.todo.updated" })), [1]);
  assert.ok(errors.length > 0);
});

test("without the program one thing is said, and nothing is thrown", async (t) => {
  const errors = [];
  const stream = fresh(t, { bin: "/nowhere/dstream" });
  const bridge = createBridgeHooks(stream, { onError: (words) => errors.push(words) });
  for (const k of upTo(100)) await bridge.event({ event: todo(k) });
  assert.equal(await bridge.flush(), true);
  assert.equal(errors.length, 1);
  assert.match(errors[0], /^nothing is recorded: the option bin names \/nowhere\/dstream, and there is no program/);
});

test("a log that cannot be opened yet: events wait, and are there in their order when it can", async (t) => {
  const dir = project(t);
  const bin = join(dir, "dstream");
  const gate = join(dir, "gate");
  writeFileSync(bin, `#!/bin/sh\n[ -e ${gate} ] || { echo "dstream: no disk" >&2; exit 1; }\nexec "${process.env.DSTREAM_BIN}" "$@"\n`);
  chmodSync(bin, 0o755);
  const errors = [];
  const stream = fresh(t, { bin, dir: join(dir, ".opencode") });
  const bridge = createBridgeHooks(stream, { onError: (words) => errors.push(words) });
  for (const k of upTo(50)) bridge.event({ event: todo(k) });
  await until(() => errors.length === 1, "the complaint");
  assert.match(errors[0], /^nothing is recorded for now, and events wait: .*no disk/);
  for (const k of upTo(50)) bridge.event({ event: todo(50 + k) });
  assert.equal(bridge.unrecorded, 100);
  assert.equal(await bridge.flush(60_000), false); // at once: nothing can be started
  assert.match(bridge.failure, /no disk/);
  assert.equal(bridge.unrecorded, 100);
  writeFileSync(gate, "");
  assert.equal(await bridge.flush(60_000), true); // it does not sit out the pause
  assert.deepEqual([bridge.unrecorded, bridge.failure], [0, undefined]);
  await until(async () => stream.unanswered === 0 && (await stream.query({ stream_id: "ses_1" })).length === 100, "the events");
  assert.deepEqual(told(await stream.query({ stream_id: "ses_1" })), upTo(100));
});
