// The 8,696 events of 37 real sessions, through the plugin as fast as they go.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { gunzipSync } from "node:zlib";
import { compare } from "./compare.mjs";
import { Model } from "./model.mjs";
import { Project, program, until } from "./opencode.mjs";

const here = dirname(fileURLToPath(import.meta.url));
const captured = gunzipSync(readFileSync(join(here, "../../../internal/agents/opencode/testdata/session-events.jsonl.gz")));
const events = captured.toString().trim().split("\n").map((line) => JSON.parse(line).event);
let model;

before(async () => (model = await Model.start()));
after(() => model.stop());

for (const [name, bin, env] of [["Bun", program, { BUN_BE_BUN: "1" }], ["Node", process.execPath, {}]]) {
  test(`8,696 events at full speed under ${name}`, async (t) => {
    const project = new Project(model);
    t.after(() => project.remove());
    assert.equal(events.length, 8696);
    const file = join(project.root, "events.jsonl");
    writeFileSync(file, captured);
    const args = [join(here, "replay.mjs"), join(here, "../../../internal/agents/opencode/plugin/durable-stream.js"), file, project.dir];
    const { stdout } = await promisify(execFile)(bin, args, { env: { ...project.env, ...env }, timeout: 120_000 });
    const figures = JSON.parse(stdout);
    const last = events.findLast((e) => e.type === "session.idle").id;
    const log = await until(async () => {
      const log = await project.log();
      return log.some((e) => e.id >= last) && log;
    }, "the last event in the log");
    const { checked, wrong } = compare(events, log);
    assert.deepEqual(wrong, []);
    // The comparison sees each event that is not there, or is there twice.
    const direct = log.filter((e) => e.id.startsWith("evt_") && !e.payload.partial);
    for (const e of direct.filter((_, i) => i % 97 === 0)) {
      assert.ok(compare(events, log.filter((it) => it !== e)).wrong.length > 0, `the comparison misses the loss of ${e.type} ${e.id}`);
      assert.ok(compare(events, [...log, e]).wrong.length > 0);
    }
    const ms = (n) => n.toFixed(n < 10 ? 3 : 0);
    t.diagnostic(`${checked} events that are no deltas: none lost, none twice, in order; ${log.length} in the log`);
    t.diagnostic(`OpenCode's hook was held ${ms(figures.p50)} ms (p50), ${ms(figures.p99)} ms (p99), ${ms(figures.max)} ms (max); all handed over in ${ms(figures.handed)} ms, all on disk after ${ms(figures.stored)} ms`);
    assert.ok(figures.p50 < 1, `p50 ${figures.p50} ms`);
  });

  test(`kill -9 in the moment after the hook, under ${name}`, async (t) => {
    const project = new Project(model);
    t.after(() => project.remove());
    const some = events.filter((e) => e.type !== "message.part.delta").slice(0, 40); // less than a pipe holds
    const text = `
      const { default: it } = await import(${JSON.stringify(new URL("../../../internal/agents/opencode/plugin/durable-stream.js", import.meta.url).href)});
      const hooks = await it.server({ directory: ${JSON.stringify(project.dir)}, worktree: "/", client: {} });
      for (const event of ${JSON.stringify(some)}) void hooks.event({ event });
      process.kill(process.pid, "SIGKILL");
    `;
    const file = join(project.root, "killed.mjs");
    writeFileSync(file, text);
    await assert.rejects(promisify(execFile)(bin, [file], { env: { ...project.env, ...env } }), { signal: "SIGKILL" });
    await until(async () => compare(some, await project.log()).wrong.length === 0, "all events in the log", 10_000);
  });
}
