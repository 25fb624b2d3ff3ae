// What an OpenCode session can do, one after the other in one OpenCode, and each time
// whether the log has what OpenCode says of itself.
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { compare, compareMessages } from "./compare.mjs";
import { Model, call, fail, prose, say, think, used } from "./model.mjs";
import { Project, until } from "./opencode.mjs";

let model, project, oc;

before(async () => {
  model = await Model.start();
  project = new Project(model);
  oc = await project.serve();
});

after(async () => {
  oc?.close();
  await project?.remove();
  await model?.stop();
});

/** A session's events in the log, and those of its sub-agents, once OpenCode's last word is there. */
async function recorded() {
  const last = oc.events.findLast((e) => e.type === "session.idle" || e.type === "session.deleted").id;
  return until(async () => {
    const log = await project.log();
    return log.some((e) => e.id >= last) && log;
  }, "the last event in the log");
}

/** All of a session, compared; gives its events in the log. */
async function check(session, t) {
  // After idle, OpenCode says a few more things: wait until it says nothing new.
  let count;
  await until(async () => {
    const before = count;
    count = oc.events.length;
    await new Promise((go) => setTimeout(go, 150));
    return before === count;
  }, "an OpenCode that is quiet");
  const { checked, wrong } = compare(oc.reported(project), await recorded());
  assert.deepEqual(wrong, []);
  const log = await project.log("--correlation", session);
  assert.deepEqual(compareMessages(await oc.api("GET", `/session/${session}/message`), log), []);
  t.diagnostic(`${checked} events of OpenCode so far, each once in the log`);
  return log;
}

const types = (log, type) => log.filter((e) => e.type === type);
const finish = (log, tool) => types(log, "execution.tool_finish").filter((e) => e.payload.tool === tool);
/** The open question of a session, in the log. */
const pending = (session) => until(async () => JSON.parse(await project.dstream("checkpoint", "list", "--json") || "[]").find?.((it) => it.stream_id === session), "a checkpoint of the session");

test("writes, edits, reads, a shell and todos", async (t) => {
  const file = join(project.dir, "hello.txt");
  model.script("edit",
    [think(prose(40)), say("I write the file."), call("write", { filePath: file, content: "one\ntwo\nthree\n" })],
    [call("edit", { filePath: file, oldString: "two", newString: "2" })],
    [call("read", { filePath: file }), call("bash", { command: "wc -l < hello.txt", description: "Count" })],
    [call("todowrite", { todos: [{ content: "check", status: "in_progress", priority: "low" }] })],
    [say(prose(60))]);
  const session = await oc.session();
  await oc.turn(session, "Make a file. @@edit");
  const log = await check(session, t);
  assert.equal(readFileSync(file, "utf8"), "one\n2\nthree\n");
  assert.deepEqual(types(log, "execution.tool_finish").map((e) => e.payload.tool).sort(), ["bash", "edit", "read", "todowrite", "write"]);
  assert.ok(types(log, "files.changed").every((e) => e.stream_id === session && e.payload.file === file));
  assert.equal(types(log, "execution.text_snapshot").at(-1).payload.text, prose(60));
});

test("a call that fails, and one that is invalid", async (t) => {
  model.script("fails", [call("bash", { command: "cat nowhere && false", description: "Fails" }), call("read", { filePath: join(project.dir, "nothing.txt") })], [say("It failed.")]);
  const session = await oc.session();
  await oc.turn(session, "@@fails");
  const log = await check(session, t);
  assert.equal(finish(log, "read")[0].payload.state.status, "error");
  assert.equal(types(log, "execution.tool_start").length, 2);
});

test("two sub-agents at once", async (t) => {
  const sub = (n) => call("task", { description: `Part ${n}`, prompt: `Do part ${n}. @@part`, subagent_type: "general" });
  model.script("part", [say("At work."), call("bash", { command: "echo part > part.txt", description: "Write" })], [say(`A result: ${prose(20)}`)]);
  model.script("delegate", [say("I delegate."), sub(1), sub(2)], [say("Both are done.")]);
  const session = await oc.session();
  await oc.turn(session, "@@delegate");
  const log = await check(session, t);
  const spawned = types(log, "agent.spawned"), completed = types(log, "agent.completed");
  assert.deepEqual([spawned.length, completed.length], [2, 2]);
  const children = spawned.map((e) => e.payload.session_id);
  assert.equal(new Set(children).size, 2);
  for (const child of children) {
    assert.ok(types(log, "lifecycle.session.created").some((e) => e.stream_id === child && e.payload.parentID === session));
    assert.ok(types(log, "execution.text_snapshot").some((e) => e.stream_id === child && e.payload.text.startsWith("A result")));
  }
});

test("a permission approved from the command line", async (t) => {
  model.script("guarded", [call("bash", { command: "touch guarded-yes.txt", description: "Touch" })], [say("It is over.")]);
  const session = await oc.session();
  await oc.prompt(session, "@@guarded");
  const asked = await pending(session);
  assert.match(asked.decision_point, /touch guarded-yes.txt/);
  await project.dstream("checkpoint", "approve", asked.id, "--by", "alice", "--option", "once");
  await oc.idle(session);
  assert.ok(existsSync(join(project.dir, "guarded-yes.txt")));
  const log = await check(session, t);
  assert.deepEqual(types(log, "checkpoint.approved").map((e) => [e.payload.checkpoint_id, e.actor]), [[asked.id, "alice"]]);
});

test("a permission rejected from the command line, with a reason for the model", async (t) => {
  model.script("refused", [call("bash", { command: "touch guarded-no.txt", description: "Touch" })], [say("I see.")]);
  const session = await oc.session();
  await oc.prompt(session, "@@refused");
  const asked = await pending(session);
  await project.dstream("checkpoint", "reject", asked.id, "--by", "alice", "--reason", "not on a Friday");
  await oc.idle(session);
  assert.ok(!existsSync(join(project.dir, "guarded-no.txt")));
  const log = await check(session, t);
  assert.match(finish(log, "bash")[0].payload.state.error, /not on a Friday/);
});

test("a permission answered in OpenCode", async (t) => {
  model.script("inside", [call("bash", { command: "touch guarded-in.txt", description: "Touch" })], [say("It is over.")]);
  const session = await oc.session();
  await oc.prompt(session, "@@inside");
  const asked = await pending(session);
  await oc.api("POST", `/permission/${asked.id}/reply`, { reply: "once" });
  await oc.idle(session);
  const log = await check(session, t);
  assert.deepEqual(types(log, "checkpoint.approved").map((e) => [e.payload.checkpoint_id, e.actor, e.payload.selected_option]), [[asked.id, "user", "once"]]);
});

test("a question answered from the command line", async (t) => {
  const options = [{ label: "Yes", description: "go" }, { label: "No", description: "stop" }];
  model.script("question", [call("question", { questions: [{ question: "Deploy?", header: "Deploy", options }] })], [say("Thank you.")]);
  const session = await oc.session();
  await oc.prompt(session, "@@question");
  const asked = await pending(session);
  await project.dstream("checkpoint", "approve", asked.id, "--by", "alice", "--option", "Yes");
  await oc.idle(session);
  const log = await check(session, t);
  assert.match(finish(log, "question")[0].payload.state.output, /Yes/);
});

test("several questions answered at once from the command line", async (t) => {
  const labels = (...all) => all.map((label) => ({ label, description: "" }));
  model.script("several", [call("question", { questions: [
    { question: "Which region?", header: "Region", options: labels("EU", "US") },
    { question: "Which parts?", header: "Parts", multiple: true, options: labels("API", "Web") },
  ] })], [say("Thank you.")]);
  const session = await oc.session();
  await oc.prompt(session, "@@several");
  const asked = await pending(session);
  const approve = (...how) => project.dstream("checkpoint", "approve", asked.id, "--by", "alice", ...how);
  await assert.rejects(approve("--option", "EU"), /no such option/);
  await assert.rejects(approve("--answer", '[["EU"]]'), /minItems: got 1, want 2/);
  await approve("--answer", '[["EU"],["API","Web"]]');
  await oc.idle(session);
  const log = await check(session, t);
  assert.match(finish(log, "question")[0].payload.state.output, /"Which region\?"="EU".*"Which parts\?"="API, Web"/);
});

test("a question dismissed from the command line", async (t) => {
  model.script("dismissed", [call("question", { questions: [{ question: "Really?", header: "Really", options: [{ label: "Yes", description: "" }] }] })], [say("Well.")]);
  const session = await oc.session();
  await oc.prompt(session, "@@dismissed");
  const asked = await pending(session);
  await project.dstream("checkpoint", "reject", asked.id, "--by", "alice");
  await oc.idle(session);
  const log = await check(session, t);
  assert.equal(finish(log, "question")[0].payload.state.status, "error");
});

test("the model asks a human, and hears the answer; there is no tool that decides", async (t) => {
  model.script("ask", [call("checkpoint_request", { decision_point: "May I deploy?", options: ["blue", "green"], action: "deploy.sh" })], [call("checkpoint_status", { id: "" }), call("history", { session: "", types: ["checkpoint.*"], contains: "", last: 5 })], [say("Well.")]);
  const session = await oc.session();
  await oc.prompt(session, "@@ask");
  const asked = await pending(session);
  assert.equal(asked.requested_by, "agent/build");
  await project.dstream("checkpoint", "approve", asked.id, "--by", "alice", "--option", "green", "--comment", "carefully");
  await oc.idle(session);
  const log = await check(session, t);
  assert.equal(finish(log, "checkpoint_request")[0].payload.state.output, `approved by alice: May I deploy?\noption: green\ncomment: carefully\ncheckpoint: ${asked.id}`);
  assert.equal(finish(log, "checkpoint_status")[0].payload.state.output, "No question of this session is open.");
  assert.match(finish(log, "history")[0].payload.state.output, /alice checkpoint.approved/);
  const { tools } = model.requests.find((it) => it.name === "ask");
  assert.deepEqual(tools.map((it) => it.function.name).filter((name) => /checkpoint|history/.test(name)).sort(), ["checkpoint_request", "checkpoint_status", "history"]);
});

test("an abort: of a text, and of two questions, which are cancelled", async (t) => {
  model.script("long", [say(prose(5000), 20)]);
  model.script("forever", [call("checkpoint_request", { decision_point: "Shall I wait?", options: [], action: "" })]);
  model.script("unasked", [call("bash", { command: "touch guarded-abort.txt", description: "Touch" })]);
  const session = await oc.session();
  await oc.prompt(session, "@@long");
  await oc.event("message.part.delta", (p) => p.sessionID === session, "a text that streams");
  await oc.api("POST", `/session/${session}/abort`);
  await oc.idle(session);
  await check(session, t);
  for (const name of ["forever", "unasked"]) {
    const session = await oc.session();
    await oc.prompt(session, `@@${name}`);
    const asked = await pending(session);
    await oc.api("POST", `/session/${session}/abort`);
    await oc.idle(session);
    await until(async () => JSON.parse(await project.dstream("checkpoint", "show", asked.id, "--json")).status === "cancelled", `${name} cancelled`);
    const log = await check(session, t);
    assert.equal(types(log, "lifecycle.session.idle").length, 1);
  }
});

test("an error of the model's provider, and one that passes", async (t) => {
  model.script("broken", [fail(400)]);
  const session = await oc.session();
  await oc.turn(session, "@@broken");
  const log = await check(session, t);
  assert.match(JSON.stringify(types(log, "lifecycle.session.error")[0].payload), /the script fails with 400/);
  const turn = [fail(503)];
  model.script("flaky", turn);
  const other = await oc.session();
  await oc.prompt(other, "@@flaky");
  await oc.event("session.status", (p) => p.sessionID === other && p.status.type === "retry", "a retry");
  turn[0] = say("Now it works.");
  await oc.idle(other);
  assert.ok(types(await check(other, t), "execution.retry").length > 0);
});

test("an input of 1.1 MB", async (t) => {
  const content = "0123456789abcdef".repeat(1_126_400 / 16);
  model.script("big", [call("write", { filePath: join(project.dir, "big.txt"), content })], [say("It is written.")]);
  const session = await oc.session();
  await oc.turn(session, "@@big");
  const log = await check(session, t);
  assert.equal(finish(log, "write")[0].payload.state.input.content, content);
});

test("compaction", async (t) => {
  model.script("grow", [say("That was much."), used(195_000)]);
  model.script("on", [say("On it goes.")]);
  const session = await oc.session();
  await oc.turn(session, "@@grow");
  await oc.turn(session, "@@on");
  await oc.event("session.compacted", (p) => p.sessionID === session, "the compaction");
  const log = await check(session, t);
  assert.equal(types(log, "lifecycle.session.compacted").length, 1);
});

test("a session that is forked, renamed and deleted", async (t) => {
  model.script("hello", [say("Hello.")]);
  const session = await oc.session();
  await oc.turn(session, "@@hello");
  const { id: fork } = await oc.api("POST", `/session/${session}/fork`, {});
  await oc.api("PATCH", `/session/${fork}`, { title: "another name" });
  await oc.api("DELETE", `/session/${fork}`);
  await oc.event("session.deleted", (p) => p.info.id === fork, "the deletion");
  await check(session, t);
});

test("OpenCode's snapshots hold the work of its tools, and nothing of the log", async () => {
  model.script("again", [call("write", { filePath: join(project.dir, "again.txt"), content: "once more" })], [say("It is written.")]);
  const session = await oc.session();
  await oc.turn(session, "@@again");
  await recorded();
  const log = await until(async () => {
    const all = await project.log();
    return all.some((e) => e.type === "files.patched" && e.stream_id === session) && all;
  }, "a patch in the log");
  assert.ok(log.some((e) => e.type === "files.patched" && e.payload.files.some((file) => file.endsWith("again.txt"))), "no patch names the file");
  const own = log.filter((e) => /durable_stream[^"]*\.jsonl/.test(JSON.stringify(e.payload)));
  assert.deepEqual(own.map((e) => `${e.seq} ${e.type}`), []);
  const shown = await oc.api("GET", `/session/${session}/diff`);
  assert.ok(!JSON.stringify(shown).includes("durable_stream"), JSON.stringify(shown).slice(0, 500));
});
