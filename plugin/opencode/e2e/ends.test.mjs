// OpenCode's end, right after its last event; and two of them at once.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { compare } from "./compare.mjs";
import { Model, call, prose, say } from "./model.mjs";
import { Project, until } from "./opencode.mjs";

const runs = Number(process.env.E2E_RUNS ?? 20);
let model;
before(async () => (model = await Model.start()));
after(() => model.stop());

test(`${runs} runs of opencode run, each of which ends right after its last event`, async (t) => {
  const project = new Project(model);
  t.after(() => project.remove());
  model.script("work", [say(prose(30)), call("bash", { command: "echo hi", description: "Say" })], [say(prose(80))]);
  let events = 0;
  for (let n = 1; n <= runs; n++) {
    const { status, words, pid } = await project.run(`Run ${n}. @@work`);
    assert.equal(status, 0, words);
    const recorded = project.recorded(pid);
    // dstream rpc outlives OpenCode for as long as it takes to write what it got.
    const log = await until(async () => {
      const log = await project.log();
      const { wrong } = compare(recorded, log);
      return wrong.length === 0 && log;
    }, () => `all of run ${n} in the log`).catch(async (error) => {
      assert.deepEqual(compare(recorded, await project.log()).wrong, [], error.message);
    });
    assert.ok(log.some((e) => e.id === recorded.findLast((it) => it.type === "session.idle").id));
    events += recorded.filter((e) => e.type !== "message.part.delta").length;
  }
  t.diagnostic(`${events} events that are no deltas in ${runs} runs, none missing`);
});

test("two OpenCode processes in one project: both in one log, each event once", async (t) => {
  const project = new Project(model);
  t.after(() => project.remove());
  model.script("both", [say(prose(200), 2), call("bash", { command: "echo hi", description: "Say" })], [say(prose(100), 2)]);
  // One after the other: at its first start OpenCode makes a database, and two of them collide there.
  const both = [await project.serve(), await project.serve()];
  await Promise.all(both.map(async (oc) => {
    const session = await oc.session();
    for (let n = 0; n < 3; n++) await oc.turn(session, "@@both");
  }));
  const lasts = both.map((oc) => oc.events.findLast((e) => e.type === "session.idle").id);
  const log = await until(async () => {
    const log = await project.log();
    return lasts.every((last) => log.some((e) => e.id === last)) && log;
  }, "the last events in the log");
  const instances = new Set(log.map((e) => e.metadata?.opencode_instance));
  assert.equal(instances.size, 2);
  for (const oc of both) {
    const own = log.find((e) => e.id === oc.events.findLast((e) => e.type === "session.idle").id).metadata.opencode_instance;
    const { checked, wrong } = compare(oc.reported(project), log, { instance: own });
    assert.deepEqual(wrong, []);
    t.diagnostic(`${checked} events of ${own}`);
    oc.close();
  }
});
