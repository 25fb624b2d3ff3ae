import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { fresh, project, until } from "./helpers.mjs";

const numbered = (n) => ({ type: "task.created", actor: "agent/planner", stream_id: "ses", payload: { n } });
const numbers = (events) => events.map((e) => e.payload.n);
const upTo = (n) => Array.from({ length: n }, (_, i) => i);

test("kill -9 of the child in the middle of appends: nothing lost, nothing twice, no caller notices", async (t) => {
  const stream = fresh(t);
  await stream.initialize();
  const seen = [];
  stream.subscribe("task.created", (e) => seen.push(e.payload.n), { after: 0 });
  const rounds = 10, each = 100;
  const sent = [];
  for (let round = 0; round < rounds; round++) {
    for (let i = 0; i < each; i++) sent.push(stream.append(numbered(round * each + i)));
    // Some are answered, some are stored without an answer, some are on their way.
    await sent[round * each + Math.floor(Math.random() * each)];
    const { childPid } = stream;
    process.kill(childPid, "SIGKILL");
    await until(() => stream.childPid !== childPid, "another child");
  }
  const recorded = await Promise.all(sent);
  assert.deepEqual(numbers(recorded), upTo(rounds * each));
  const stored = await stream.query({ stream_id: "ses" });
  assert.deepEqual(numbers(stored), upTo(rounds * each));
  assert.deepEqual(stored.map((e) => e.seq), recorded.map((e) => e.seq));
  await until(() => seen.length >= rounds * each, "all events at the handler");
  assert.deepEqual(seen, upTo(rounds * each));
  t.diagnostic(`${rounds} kills, ${stored.length} events, 0 lost, 0 twice, 0 errors`);
});

test("kill -9 while a question waits: it is answered all the same", async (t) => {
  const stream = fresh(t);
  const human = fresh(t, { dir: stream.dir });
  const id = await stream.requestCheckpoint("cp_1", { decision_point: "Go on?", requested_by: "agent" });
  const answer = stream.waitForCheckpoint(id);
  const work = stream.createIntent({ description: "d", agent: "a", prompt: "p" });
  process.kill(stream.childPid, "SIGKILL");
  await until(async () => (await human.getPendingCheckpoints()).length === 1, "the question");
  const decision = human.approveCheckpoint(id, "alice");
  process.kill(human.childPid, "SIGKILL"); // of the one who decides too: sent again, it is the same decision
  assert.equal(await decision, true);
  assert.equal((await answer).decision.by, "alice");
  await work;
  assert.equal((await stream.getActiveIntents()).length, 1);
});

test("a child that somebody ends with SIGTERM is started again", async (t) => {
  const stream = fresh(t);
  await stream.append(numbered(0));
  const waiting = stream.requestCheckpoint("cp_1", { requested_by: "agent" }).then(() => stream.waitForCheckpoint("cp_1"));
  await stream.getPendingCheckpoints();
  const { childPid } = stream;
  process.kill(childPid, "SIGTERM");
  const sent = upTo(50).map((n) => stream.append(numbered(n + 1)));
  await Promise.all(sent);
  await until(() => stream.childPid !== childPid, "another child");
  await stream.rejectCheckpoint("cp_1", "alice");
  assert.equal((await waiting).status, "rejected");
  assert.deepEqual(numbers(await stream.query({ stream_id: "ses" })), upTo(51));
});

test("kill -9 of the log's host: calls wait, and go on", async (t) => {
  const dir = join(project(t), ".opencode");
  const host = spawn(process.env.DSTREAM_BIN, ["--dir", dir, "serve"], { stdio: "ignore" });
  t.after(() => host.kill("SIGKILL"));
  await until(() => existsSync(join(dir, "durable_stream", "address")), "the host");
  const stream = fresh(t, { dir });
  await stream.initialize();
  const { childPid } = stream;
  const sent = upTo(400).map((n) => stream.append(numbered(n)));
  await sent[100];
  host.kill("SIGKILL");
  await Promise.all(sent);
  assert.deepEqual(numbers(await stream.query({ stream_id: "ses" })), upTo(400));
  assert.equal(stream.childPid, childPid);
});

test("a program that ends right after its last append, or is killed, loses nothing that append was called for", async (t) => {
  const dir = join(project(t), ".opencode");
  const program = `
    import { DurableStream } from "durable-stream";
    const [name, count] = process.argv.slice(1);
    const stream = new DurableStream({ dir: ${JSON.stringify(dir)} });
    await stream.initialize();
    for (let n = 0; n < Number(count); n++) void stream.append({ type: "task.created", actor: "a", stream_id: name, payload: { n } });
    if (name === "killed") process.kill(process.pid, "SIGKILL");
    if (name === "exits") process.exit(0);
  `;
  // 2,000 are more than the pipe holds; of those, a process that is killed takes some along.
  const programs = { ends: 2000, exits: 2000, killed: 50 };
  for (const [how, count] of Object.entries(programs)) {
    await once(spawn(process.execPath, ["--input-type=module", "-e", program, how, String(count)], { stdio: "inherit", cwd: import.meta.dirname }), "exit");
  }
  const stream = fresh(t, { dir });
  for (const [how, count] of Object.entries(programs)) {
    const stored = await until(async () => {
      const events = await stream.query({ stream_id: how });
      return events.length === count && events;
    }, `${count} events of the program that ${how}`);
    assert.deepEqual(numbers(stored), upTo(count));
  }
});

test("append returns within a millisecond, whatever the log does", async (t) => {
  const stream = fresh(t);
  await stream.initialize();
  const took = [];
  const sent = [];
  for (let n = 0; n < 2000; n++) {
    const start = performance.now();
    sent.push(stream.append(numbered(n)));
    took.push(performance.now() - start);
  }
  const start = performance.now();
  await Promise.all(sent);
  took.sort((a, b) => a - b);
  t.diagnostic(`append held its caller ${took[1000].toFixed(3)} ms (p50), ${took[1999].toFixed(1)} ms (max); 2,000 on disk ${(performance.now() - start).toFixed(0)} ms later`);
  assert.ok(took[1000] < 1);
});
