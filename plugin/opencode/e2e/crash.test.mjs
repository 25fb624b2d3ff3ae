// What is left when something is killed in the middle of its work.
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { compare, compareMessages } from "./compare.mjs";
import { Model, call, prose, say } from "./model.mjs";
import { Project, dstreamBin, until } from "./opencode.mjs";

let model;
before(async () => (model = await Model.start()));
after(() => model.stop());

const open = async (project) => JSON.parse(await project.dstream("checkpoint", "list", "--json") || "[]");
const text = (log, session) => log.filter((e) => e.type === "execution.text_snapshot" && e.stream_id === session && e.actor !== "user").at(-1)?.payload;

/** Four sessions: one streams a text, one runs a tool, one waits for a permission, one asks a human. */
async function work(project, oc, words) {
  model.script("stream", [say(prose(words), 10)]);
  model.script("tool", [call("bash", { command: "echo begun > tool.txt; sleep 6; echo over >> tool.txt", description: "Slow" })], [say("The tool is over.")]);
  model.script("guarded", [call("bash", { command: "touch guarded.txt", description: "Touch" })], [say("It is touched.")]);
  model.script("ask", [call("checkpoint_request", { decision_point: "May I deploy?", options: [], action: "deploy.sh" })], [say("I heard.")]);
  const s = {};
  for (const name of ["guarded", "ask", "tool", "stream"]) {
    s[name] = await oc.session(name);
    await oc.prompt(s[name], `@@${name}`);
  }
  await until(async () => (await open(project)).length === 2, "two open questions", 60_000);
  await until(() => existsSync(join(project.dir, "tool.txt")), "the tool");
  await until(() => oc.events.filter((e) => e.type === "message.part.delta" && e.properties.sessionID === s.stream).length > 100, "a text that streams", 60_000);
  return s;
}

test("kill -9 of OpenCode while it streams, runs a tool and waits for answers", async (t) => {
  const project = new Project(model);
  t.after(() => project.remove());
  const first = await project.serve();
  const sessions = await work(project, first, 3000);
  const seen = [];
  await until(async () => {
    seen.push([Date.now(), first.events.filter((e) => e.type === "message.part.delta" && e.properties.sessionID === sessions.stream).map((e) => e.properties.delta).join("")]);
    return seen.length > 100;
  }, "two seconds of text", 60_000);
  await first.kill();
  const killed = Date.now();
  first.close();

  // What the log has: all but at most the last second of the text.
  const log = await until(async () => {
    const log = await project.log();
    return text(log, sessions.stream) && project.children(first.pid).length === 0 && log;
  }, "the log after the kill");
  const got = text(log, sessions.stream);
  const [, sure] = seen.findLast(([at]) => at < killed - 1000);
  assert.equal(got.partial, true);
  assert.ok(got.text.startsWith(sure), `${got.text.length} characters are in the log, and a second before the kill there were ${sure.length}`);
  t.diagnostic(`of ${seen.at(-1)[1].length} characters that OpenCode had reported, ${Math.max(0, seen.at(-1)[1].length - got.text.length)} are not in the log`);

  // The questions are open, and the story is told.
  const questions = await open(project);
  assert.deepEqual(questions.map((it) => it.stream_id).sort(), [sessions.guarded, sessions.ask].sort());
  const { sessions: left } = JSON.parse(await project.dstream("opencode", "recover", "--json"));
  const story = Object.fromEntries(left.map((it) => [it.id, it]));
  assert.ok(Object.values(sessions).every((id) => story[id]?.interrupted));
  assert.equal(story[sessions.stream].text, got.text);
  assert.equal(story[sessions.tool].tools[0].tool, "bash");
  assert.deepEqual(story[sessions.ask].questions.map((it) => it.decision_point), ["May I deploy?"]);
  assert.match(story[sessions.guarded].questions[0].decision_point, /touch guarded.txt/);

  // A human answers while there is no OpenCode. Asked again, the answers are there.
  for (const it of questions) await project.dstream("checkpoint", "approve", it.id, "--by", "alice", ...(it.stream_id === sessions.guarded ? ["--option", "once"] : []));
  const second = await project.serve();
  await second.api("GET", "/session"); // loads the plugin
  await until(() => second.child.words.includes("was interrupted"), () => `the story at start: ${second.child.words}`);
  assert.deepEqual(second.child.words.match(/unknown outcome of [\w, ]+/g), ["unknown outcome of bash"]);
  assert.ok(!second.events.some((e) => e.type === "session.status"), "nothing goes on by itself");
  // The model asks for the same again when it is prompted.
  const asks = Object.fromEntries(["guarded", "ask"].map((name) => [name, model.scripts.get(name)[0]]));
  for (const name of ["guarded", "ask"]) {
    model.script(name, (messages) => (messages.at(-1).role === "user" ? asks[name] : [say("It is over.")]));
    await project.dstream("opencode", "recover", "--continue", sessions[name], "--url", second.url);
    await second.idle(sessions[name]);
  }
  assert.ok(existsSync(join(project.dir, "guarded.txt")));
  const all = await project.log("--stream", sessions.ask);
  assert.match(all.findLast((e) => e.type === "execution.tool_finish").payload.state.output, /^approved by alice: May I deploy\?/);
  assert.equal(all.filter((e) => e.type === "checkpoint.requested").length, 1);
  assert.deepEqual(await open(project), []);
  // An answer is used once: the same question again is a new one.
  await second.prompt(sessions.ask, "Again. @@ask");
  await until(async () => (await open(project)).length === 1, "a new question");
  second.close();
});

test("kill -9 of dstream rpc and of the log's host in the middle: OpenCode does not notice", async (t) => {
  const project = new Project(model);
  t.after(() => project.remove());
  const host = project.spawn(dstreamBin, ["serve"]);
  await until(() => project.host === host.pid, () => `the host: ${host.words}`);
  const oc = await project.serve();
  const sessions = await work(project, oc, 1000);
  const killed = [];
  const kill = (pid) => {
    killed.push(pid);
    process.kill(pid, "SIGKILL");
  };
  const child = () => until(() => project.children(oc.pid).find((pid) => !killed.includes(pid)), "a dstream rpc");
  kill(await child());
  await until(async () => (await project.log("--stream", sessions.stream)).length > 0, "the log");
  kill(host.pid);
  await until(() => project.host && project.host !== host.pid, "another host");
  kill(await child()); // that is the host now, or was a moment ago
  for (const it of await open(project)) await project.dstream("checkpoint", "approve", it.id, "--by", "alice", ...(it.stream_id === sessions.guarded ? ["--option", "once"] : []));
  kill(await child());
  for (const session of Object.values(sessions)) await oc.idle(session);
  const last = oc.events.findLast((e) => e.type === "session.idle").id;
  const log = await until(async () => {
    const log = await project.log();
    return log.some((e) => e.id >= last) && log;
  }, "the last event in the log");
  const { checked, wrong } = compare(oc.reported(project), log);
  for (const session of Object.values(sessions)) wrong.push(...compareMessages(await oc.api("GET", `/session/${session}/message`), log));
  assert.deepEqual(wrong, []);
  assert.equal(text(log, sessions.stream).text, prose(1000));
  assert.ok(existsSync(join(project.dir, "guarded.txt")));
  t.diagnostic(`${killed.length} kills; ${checked} events that are no deltas, each once in the log`);
  oc.close();
});

test("SIGTERM while a text streams: nothing is lost, and OpenCode ends by the signal", async (t) => {
  const project = new Project(model);
  t.after(() => project.remove());
  const oc = await project.serve();
  model.script("stream", [say(prose(3000), 5)]);
  const session = await oc.session();
  await oc.prompt(session, "@@stream");
  await until(() => oc.events.filter((e) => e.type === "message.part.delta").length > 200, "a text that streams");
  const before = oc.events.filter((e) => e.type === "message.part.delta").map((e) => e.properties.delta).join("");
  const [, signal] = await oc.kill("SIGTERM");
  assert.equal(signal, "SIGTERM");
  const log = await until(async () => {
    const log = await project.log();
    return text(log, session)?.text.startsWith(before) && log;
  }, "the text in the log");
  // What OpenCode did while it ended is beyond the signal.
  const last = log.map((e) => e.metadata?.opencode_event ?? e.id).filter((id) => id.startsWith("evt_")).sort().at(-1);
  assert.deepEqual(compare(oc.reported(project).filter((e) => e.id <= last), log).wrong, []);
  oc.close();
});

test("without dstream there is one clear message, and OpenCode goes on", async (t) => {
  const project = new Project(model);
  t.after(() => project.remove());
  Object.defineProperty(project, "env", { value: { ...project.env, DSTREAM_BIN: join(project.root, "nothing") } });
  model.script("hello", [say("Hello.")]);
  const { status, words } = await project.run("@@hello");
  assert.equal(status, 0, words);
  assert.match(words, /Hello\./);
  assert.equal(words.match(/durable-stream: /g)?.length, 1, words);
  assert.match(words, /durable-stream: nothing is recorded: DSTREAM_BIN names .*nothing, and there is no program/);
});
