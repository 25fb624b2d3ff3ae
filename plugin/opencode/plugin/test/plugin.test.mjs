// The plugin as the one file that OpenCode loads, without an OpenCode: e2e has that.
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { chmodSync, mkdirSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

const file = new URL("../../../../internal/agents/opencode/plugin/durable-stream.js", import.meta.url);
const { default: plugin } = await import(file.href);
const bin = process.env.DSTREAM_BIN;

/** A project, and what the plugin said through OpenCode's client. */
function project(t, config) {
  const directory = realpathSync(mkdtempSync(join(tmpdir(), "dstream-plugin-")));
  const log = [], toasts = [], loaded = [];
  t.after(async () => {
    for (const hooks of loaded) await hooks.dispose?.();
    await new Promise((go) => setTimeout(go, 1_200)); // the plugin's last second
    rmSync(directory, { recursive: true, force: true, maxRetries: 50, retryDelay: 100 });
  });
  mkdirSync(join(directory, ".opencode"));
  if (config !== undefined) writeFileSync(join(directory, ".opencode", "durable-stream.json"), typeof config === "string" ? config : JSON.stringify(config));
  const client = {
    app: { log: async ({ body }) => void log.push(body.message) },
    tui: { showToast: async ({ body }) => void toasts.push(body.message) },
  };
  return {
    directory, log, toasts,
    load: async (options, worktree = "/") => {
      const hooks = await plugin.server({ directory, worktree, client }, options);
      loaded.push(hooks);
      return hooks;
    },
    dstream: (...args) => {
      const { status, stdout, stderr } = spawnSync(bin, args, { cwd: directory, encoding: "utf8" });
      if (/there is no log in/.test(stderr)) return ""; // the plugin has not come so far
      assert.equal(status, 0, `dstream ${args.join(" ")}: ${stderr}`);
      return stdout;
    },
    events: () => JSON.parse(`[${spawnSync(bin, ["query"], { cwd: directory, encoding: "utf8" }).stdout.trim().split("\n").join(",")}]`),
  };
}

async function until(f, what) {
  for (const end = Date.now() + 30_000; ; await new Promise((go) => setTimeout(go, 20))) {
    const got = await f();
    if (got) return got;
    if (Date.now() > end) throw new Error(`${what} did not happen`);
  }
}

let n = 0;
const todo = () => ({ id: `evt_${String(++n).padStart(26, "0")}`, type: "todo.updated", properties: { sessionID: "ses_1", todos: [n] } });
const call = (more) => ({ sessionID: "ses_1", messageID: "msg_1", callID: `call_${++n}`, agent: "build", abort: new AbortController().signal, ...more });
const may = { decision_point: "May I?", options: ["blue", "green"], action: "deploy.sh" };
const pending = (p) => until(() => JSON.parse(p.dstream("checkpoint", "list", "--json") || "[]")[0], "a question");

test("events are recorded, and dispose waits until they are on disk", async (t) => {
  const p = project(t);
  const hooks = await p.load();
  const events = Array.from({ length: 300 }, todo);
  for (const event of events) void hooks.event({ event });
  await hooks.dispose();
  assert.deepEqual(p.events().map((e) => e.id), events.map((e) => e.id));
  await hooks.event({ event: todo() }); // OpenCode's very last
  await until(() => p.events().length === 301, "the last event");
});

test("loaded twice, from the project and from the user's configuration, it records once", async (t) => {
  const p = project(t);
  const both = [await p.load(), await p.load()];
  const event = todo();
  for (const hooks of both) await hooks.event({ event });
  for (const hooks of both) await hooks.dispose();
  assert.deepEqual(p.events().map((e) => e.id), [event.id]);
});

test("the one that was loaded first ends its child, and its tools use the other's", async (t) => {
  const p = project(t);
  const first = await p.load();
  const child = await until(() => children()[0], "a child");
  const second = await p.load();
  await until(() => children().length === 1 && children()[0] !== child, "one child, of the second");
  for (const { tool } of [second, first]) {
    const answer = tool.checkpoint_request.execute(may, call());
    p.dstream("checkpoint", "approve", (await pending(p)).id, "--by", "alice", "--option", "blue");
    assert.match(await answer, /^approved/);
  }
  await first.event({ event: todo() }); // not its business any more
  await second.event({ event: todo() });
  await second.dispose();
  assert.equal(p.events().filter((e) => e.type === "opencode.todo.updated").length, 1);

  function children() {
    const listed = spawnSync("ps", ["-eo", "pid=,args="], { encoding: "utf8" }).stdout;
    return listed.split("\n").filter((line) => line.endsWith(`--dir ${p.directory}/.opencode rpc`)).map((line) => Number.parseInt(line));
  }
});

test("the log is at the root of the repository, where there is one, or where the configuration says", async (t) => {
  const p = project(t);
  const hooks = await plugin.server({ directory: join(p.directory, "sub"), worktree: p.directory, client: {} });
  await hooks.event({ event: todo() });
  await hooks.dispose();
  assert.equal(p.events().length, 1);
  const other = project(t, { dir: "elsewhere" });
  const there = await other.load();
  await there.event({ event: todo() });
  await there.dispose();
  assert.equal(JSON.parse(`[${other.dstream("--dir", "elsewhere", "query").trim()}]`).length, 1);
});

test("what is wrong with the configuration is said once, and OpenCode goes on", async (t) => {
  for (const [config, words] of [
    ["{", /durable-stream.json is not JSON/],
    [{ binn: "x" }, /there is no key "binn"; there are bin, dir,/],
    [{ servers: "nats:\/\/x" }, /servers cannot be "nats:/],
    [{ bin: "/nowhere" }, /the option bin names \/nowhere, and there is no program/],
  ]) {
    const p = project(t, config);
    assert.deepEqual(await p.load(), {});
    const said = await until(() => p.log[0] && p.log, "the message");
    assert.equal(said.length, 1);
    assert.match(said[0], words);
    assert.match(said[0], /^nothing is recorded: /);
  }
});

test("the log's own files are not recorded when they change", async (t) => {
  const p = project(t);
  const hooks = await p.load();
  const changed = (name) => ({ id: `evt_${String(++n).padStart(26, "0")}`, type: "file.watcher.updated", properties: { file: join(p.directory, name), event: "change" } });
  for (const name of [".opencode/durable_stream.jsonl", ".opencode/durable_stream.seq-1.jsonl", ".opencode/durable_stream/address", ".opencode/durable_stream", "durable_stream.jsonl", ".opencode/durable_streams.txt"]) {
    await hooks.event({ event: changed(name) });
  }
  await hooks.dispose();
  assert.deepEqual(p.events().map((e) => e.payload.file.slice(p.directory.length + 1)), ["durable_stream.jsonl", ".opencode/durable_streams.txt"]);
});

test("checkpoint_request waits for a human, and gives the decision", async (t) => {
  const p = project(t);
  const { tool } = await p.load();
  assert.deepEqual(Object.keys(tool), ["checkpoint_request", "checkpoint_status", "history"]);
  const shown = [];
  const answer = tool.checkpoint_request.execute(may, call({ metadata: (it) => shown.push(it) }));
  const asked = await pending(p);
  assert.deepEqual([asked.decision_point, asked.requested_by, asked.action, asked.options.map((o) => o.id)], ["May I?", "agent/build", "deploy.sh", ["blue", "green"]]);
  assert.equal((await until(() => shown[0], "what OpenCode shows")).metadata.checkpoint, asked.id);
  assert.match(await tool.checkpoint_status.execute({ id: asked.id }, call()), /^pending: May I\?/);
  assert.match(await tool.checkpoint_status.execute({}, call()), new RegExp(`^${asked.id} since .*: May I\\?$`));
  p.dstream("checkpoint", "reject", asked.id, "--by", "alice", "--reason", "no");
  assert.equal(await answer, `rejected by alice: May I?\nreason: no\ncheckpoint: ${asked.id}\nThis is no approval.`);
  assert.match(await tool.history.execute({ types: ["checkpoint.*"], last: 2 }, call()), /alice checkpoint.rejected .*\n.*checkpoint.delivered/);
  assert.equal(await tool.history.execute({ contains: "nothing like it" }, call()), "The log has no such events.");
  await assert.rejects(tool.checkpoint_request.execute({}, call()), /decision_point is missing/);
});

test("asked again after a crash, a question finds its answer; asked once more, it is a new one", async (t) => {
  const p = project(t);
  // A plugin that is killed while it waits.
  const program = `
    const { default: plugin } = await import(${JSON.stringify(file.href)});
    const { tool } = await plugin.server({ directory: ${JSON.stringify(p.directory)}, worktree: "/", client: {} });
    await tool.checkpoint_request.execute(${JSON.stringify(may)}, { sessionID: "ses_1", callID: "call_0", agent: "build", abort: new AbortController().signal });
  `;
  const killed = spawn(process.execPath, ["--input-type=module", "-e", program], { stdio: "inherit" });
  const asked = await pending(p);
  killed.kill("SIGKILL");
  await once(killed, "exit");
  p.dstream("checkpoint", "approve", asked.id, "--by", "alice", "--option", "green");
  const { tool } = await p.load();
  const two = [tool.checkpoint_request.execute(may, call()), tool.checkpoint_request.execute({ ...may, action: "rm -r /" }, call())];
  assert.match(await two[0], new RegExp(`^approved by alice: May I\\?\noption: green\ncheckpoint: ${asked.id}$`));
  const other = await pending(p); // of another action
  assert.notEqual(other.id, asked.id);
  const again = tool.checkpoint_request.execute(may, call());
  await until(() => JSON.parse(p.dstream("checkpoint", "list", "--json")).some((it) => it.id === `${asked.id}.2`), "a new question");
  p.dstream("checkpoint", "reject", `${asked.id}.2`, "--by", "alice");
  p.dstream("checkpoint", "reject", other.id, "--by", "alice");
  assert.match(await again, /^rejected/);
  assert.match(await two[1], /^rejected/);
});

test("two calls that ask the same at once: one answer is for one of them", async (t) => {
  const p = project(t);
  const { tool } = await p.load();
  const both = [tool.checkpoint_request.execute(may, call()), tool.checkpoint_request.execute(may, call())];
  const first = await pending(p);
  p.dstream("checkpoint", "approve", first.id, "--by", "alice", "--option", "blue");
  assert.match(await Promise.race(both), /^approved/);
  const second = await pending(p);
  assert.equal(second.id, `${first.id}.2`);
  p.dstream("checkpoint", "reject", second.id, "--by", "alice");
  assert.deepEqual((await Promise.all(both)).map((it) => it.split(" ")[0]).sort(), ["approved", "rejected"]);
});

test("an aborted session's question is cancelled; one that OpenCode's end aborts is not", async (t) => {
  const p = project(t);
  const hooks = await p.load();
  const controller = new AbortController();
  const aborted = hooks.tool.checkpoint_request.execute(may, call({ abort: controller.signal }));
  const asked = await pending(p);
  controller.abort();
  await assert.rejects(aborted, /was aborted while/);
  await until(() => JSON.parse(p.dstream("checkpoint", "show", asked.id, "--json")).status === "cancelled", "the cancellation");
  const end = new AbortController();
  const ended = hooks.tool.checkpoint_request.execute(may, call({ abort: end.signal }));
  const second = await pending(p);
  end.abort();
  const disposed = hooks.dispose();
  await assert.rejects(ended);
  await disposed;
  await new Promise((go) => setTimeout(go, 500)); // longer than the plugin hesitates
  assert.equal(JSON.parse(p.dstream("checkpoint", "show", second.id, "--json")).status, "pending");
});

test("what the model gives as its action is never one of OpenCode's", async (t) => {
  const p = project(t);
  const { tool } = await p.load();
  const action = { opencode: "permission", sessionID: "ses_1", permission: "bash", patterns: ["rm -r /"], metadata: {} };
  const answer = tool.checkpoint_request.execute({ decision_point: "Nice weather?", options: [], action }, call());
  const asked = await pending(p);
  assert.deepEqual(asked.action, { checkpoint_request: action });
  p.dstream("checkpoint", "approve", asked.id, "--by", "alice");
  assert.match(await answer, /^approved/);
});

for (const [what, make, words] of [
  ["a program that is no dstream", (dir) => writeFileSync(join(dir, ".opencode", "durable-stream.json"), '{"bin":"/bin/false"}'), /it said nothing, as if it were no dstream/],
  ["a file where the log's directory should be", (dir) => writeFileSync(join(dir, ".opencode", "durable_stream"), ""), /not a directory/],
]) {
  test(`${what}: at the end it is said how many events are lost and why, and nothing waits`, async (t) => {
    const p = project(t);
    make(p.directory);
    const hooks = await p.load();
    for (let k = 0; k < 79; k++) void hooks.event({ event: todo() });
    await until(() => p.log.some((it) => /^nothing is recorded for now, and events wait/.test(it)), "the complaint");
    const began = Date.now();
    await hooks.dispose();
    assert.ok(Date.now() - began < 4_000, `dispose took ${Date.now() - began} ms`);
    const said = await until(() => p.log.find((it) => /^79 events are not recorded, and are lost when OpenCode ends: /.test(it)), "the last words");
    assert.match(said, words);
    assert.match(said, /Mend that/);
    assert.ok(!p.log.some((it) => /has them/.test(it)));
  });
}

test("a dstream that cannot be started any more: OpenCode's end does not wait, and does not say that it has the events", async (t) => {
  const p = project(t);
  const program = join(p.directory, "dstream");
  const script = (words) => (writeFileSync(program, `#!/bin/sh\n${words}\n`), chmodSync(program, 0o755));
  script(`exec "${bin}" "$@"`);
  writeFileSync(join(p.directory, ".opencode", "durable-stream.json"), JSON.stringify({ bin: program }));
  const hooks = await p.load();
  await hooks.event({ event: todo() });
  await until(() => p.events().length === 1, "the first event");
  script("echo no disk >&2; exit 1");
  const listed = spawnSync("ps", ["-eo", "pid=,args="], { encoding: "utf8" }).stdout;
  process.kill(Number.parseInt(listed.split("\n").find((line) => line.endsWith(`--dir ${p.directory}/.opencode rpc`))), "SIGKILL");
  for (let k = 0; k < 5; k++) await hooks.event({ event: todo() });
  const began = Date.now();
  await hooks.dispose();
  assert.ok(Date.now() - began < 4_000, `dispose took ${Date.now() - began} ms`);
  await until(() => p.log.some((it) => /^5 events are not recorded yet, and only OpenCode's end tries once more: .*no disk/.test(it)), "the last words");
});

for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"]) {
  test(`${signal} writes out what there is, and ends the process as it would have`, async (t) => {
    const p = project(t);
    const program = `
      const { default: plugin } = await import(${JSON.stringify(file.href)});
      const hooks = await plugin.server({ directory: ${JSON.stringify(p.directory)}, worktree: "/", client: {} });
      for (let n = 0; n < 2000; n++) void hooks.event({ event: { id: "evt_" + String(n).padStart(26, "0"), type: "todo.updated", properties: { sessionID: "ses_1", todos: [n] } } });
      setInterval(() => {}, 1000);
      process.kill(process.pid, ${JSON.stringify(signal)});
    `;
    const child = spawn(process.execPath, ["--input-type=module", "-e", program], { stdio: "inherit" });
    const [, by] = await once(child, "exit");
    assert.equal(by, signal);
    assert.deepEqual(p.events().map((e) => e.payload.todos[0]), Array.from({ length: 2000 }, (_, n) => n));
  });
}
