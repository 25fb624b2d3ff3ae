// A real OpenCode in a project of its own, with the plugin, and all that it reports.
import { execFile, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const plugin = join(here, "../../../internal/agents/opencode/plugin/durable-stream.js");
export const dstreamBin = process.env.DSTREAM_BIN ?? join(here, "..", "..", "..", "bin", "dstream");

/** OpenCode's program: the one of this machine's kind that runs. */
export const program = (() => {
  const kind = `opencode-${process.platform}-${process.arch}`;
  for (const name of [kind, `${kind}-baseline`, `${kind}-musl`, `${kind}-baseline-musl`]) {
    const path = join(here, "node_modules", name, "bin", "opencode");
    if (existsSync(path) && spawnSync(path, ["--version"], { env: { ...process.env, HOME: tmpdir() } }).status === 0) return path;
  }
  throw new Error(`no OpenCode for ${kind} in ${here}/node_modules: run "make e2e"`);
})();

/** Waits until f gives something. */
export async function until(f, what, ms = 60_000) {
  for (const end = Date.now() + ms; ; await new Promise((go) => setTimeout(go, 20))) {
    const got = await f();
    if (got) return got;
    if (Date.now() > end) throw new Error(`${typeof what === "function" ? what() : what} did not happen in ${ms / 1000} s`);
  }
}

/** A project with the plugin, in a git repository and a home of its own: only there OpenCode takes snapshots. */
export class Project {
  #processes = [];

  constructor(model, { config = {} } = {}) {
    this.root = realpathSync(mkdtempSync(join(tmpdir(), "dstream-e2e-")));
    this.dir = join(this.root, "project");
    this.home = join(this.root, "home");
    mkdirSync(join(this.dir, ".opencode", "plugin"), { recursive: true });
    mkdirSync(this.home);
    cpSync(plugin, join(this.dir, ".opencode", "plugin", "durable-stream.js"));
    writeFileSync(join(this.dir, ".opencode", "plugin", "recorder.js"), recorder(join(this.root, "recorded-")));
    const scripted = {
      npm: "@ai-sdk/openai-compatible", name: "Scripted", options: { baseURL: model.url, apiKey: "none" },
      models: { scripted: { name: "Scripted", tool_call: true, reasoning: true, limit: { context: 200_000, output: 8_000 } } },
    };
    writeFileSync(join(this.dir, "opencode.json"), JSON.stringify({
      $schema: "https://opencode.ai/config.json", autoupdate: false, share: "disabled", lsp: false, formatter: false,
      model: "scripted/scripted", small_model: "scripted/scripted", enabled_providers: ["scripted"], provider: { scripted },
      permission: { bash: { "*": "allow", "touch guarded*": "ask" } }, ...config,
    }, null, 2));
    for (const args of [["init", "--quiet"], ["add", "opencode.json"], ["commit", "--quiet", "--message", "A project"]]) {
      const { status, stderr, error } = spawnSync("git", ["-c", "user.name=e2e", "-c", "user.email=e2e@localhost", ...args], { cwd: this.dir, env: this.env, encoding: "utf8" });
      if (status !== 0) throw error ?? new Error(`git ${args.join(" ")}: ${stderr}`);
    }
  }

  get env() {
    const env = { ...process.env, HOME: this.home, PWD: this.dir, DSTREAM_BIN: dstreamBin };
    for (const name of Object.keys(env)) if (/^(XDG_|OPENCODE)/.test(name)) delete env[name];
    for (const name of ["AUTOUPDATE", "MODELS_FETCH", "SHARE", "LSP_DOWNLOAD", "CLAUDE_CODE", "DEFAULT_PLUGINS", "EMBEDDED_WEB_UI"]) env[`OPENCODE_DISABLE_${name}`] = "1";
    // What OpenCode wants from npm at boot, this plugin does not need.
    return { ...env, npm_config_fetch_retries: "0", npm_config_offline: "true" };
  }

  spawn(bin, args, options = {}) {
    const child = spawn(bin, args, { cwd: this.dir, env: this.env, stdio: ["ignore", "pipe", "pipe"], ...options });
    child.words = "";
    for (const out of [child.stdout, child.stderr]) out?.setEncoding("utf8").on("data", (words) => (child.words += words));
    child.ended = once(child, "exit");
    this.#processes.push(child);
    return child;
  }

  /** `opencode serve`, ready. */
  async serve() {
    const port = await freePort();
    const child = this.spawn(program, ["serve", "--port", String(port), "--hostname", "127.0.0.1"]);
    const server = new Server(child, `http://127.0.0.1:${port}`);
    await until(async () => {
      if (child.exitCode !== null) throw new Error(`opencode serve ended: ${child.words}`);
      return fetch(`${server.url}/global/health`, { signal: AbortSignal.timeout(500) }).then((it) => it.ok, () => false);
    }, () => `opencode serve: ${child.words}`);
    await server.listen();
    return server;
  }

  /** `opencode run`, to its end. */
  async run(prompt, ...args) {
    const child = this.spawn(program, ["run", ...args, prompt]);
    const [status] = await child.ended;
    return { status, words: child.words, pid: child.pid };
  }

  /** A command of dstream: its output, or an error that holds what it said. */
  dstream(...args) {
    return new Promise((resolve, reject) => {
      execFile(dstreamBin, args, { cwd: this.dir, env: this.env, maxBuffer: 1 << 30, timeout: 60_000 }, (error, stdout, stderr) =>
        error && !/there is no log in/.test(stderr) ? reject(Object.assign(new Error(`dstream ${args.join(" ")}: ${stderr || error.message}`), { status: error.code })) : resolve(stdout));
    });
  }

  /** All events of the log, as the command line tells them. */
  async log(...filter) {
    return (await this.dstream("query", ...filter)).split("\n").filter(Boolean).map((line) => JSON.parse(line));
  }

  /** What an OpenCode gave its plugins: a second one wrote it down. */
  recorded(pid) {
    return readFileSync(join(this.root, `recorded-${pid}.jsonl`), "utf8").split("\n").filter(Boolean).map((line) => JSON.parse(line));
  }

  /** The children of a process that run dstream rpc. */
  children(pid) {
    const listed = spawnSync("ps", ["-eo", "pid=,ppid=,args="], { encoding: "utf8" }).stdout;
    return listed.split("\n").map((line) => line.trim().match(/^(\d+)\s+(\d+)\s+(.*)$/)).filter((m) => m && Number(m[2]) === pid && m[3].endsWith(" rpc")).map((m) => Number(m[1]));
  }

  /** Who hosts the log now. */
  get host() {
    try {
      return JSON.parse(readFileSync(join(this.dir, ".opencode", "durable_stream", "address"), "utf8")).pid;
    } catch {
      return undefined;
    }
  }

  async remove() {
    for (const child of this.#processes) if (child.exitCode === null && child.signalCode === null) child.kill("SIGKILL");
    await Promise.all(this.#processes.map((child) => child.ended));
    // The plugin's children end by themselves when OpenCode has gone; then nobody hosts.
    await until(() => !running(this.dir), "the end of dstream rpc").catch(() => {});
    rmSync(this.root, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 });
  }
}

const recorder = (file) => `
import { appendFileSync } from "node:fs";
export default { id: "recorder", server: async () => ({
  event: async ({ event }) => appendFileSync(${JSON.stringify(file)} + process.pid + ".jsonl", JSON.stringify(event) + "\\n"),
}) };
`;

/** Whether a dstream works on that project. */
function running(dir) {
  return spawnSync("ps", ["-eo", "args="], { encoding: "utf8" }).stdout.split("\n").some((line) => line.includes(` --dir ${dir}/`) && line.endsWith(" rpc"));
}

async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  await new Promise((go) => server.close(go));
  return port;
}

/** A running OpenCode: its API, and its own event stream, recorded. */
export class Server {
  events = []; // as OpenCode reports them
  #stop = new AbortController();

  constructor(child, url) {
    this.child = child;
    this.pid = child.pid;
    this.url = url;
  }

  async api(method, path, body) {
    const answer = await fetch(this.url + path, { method, headers: { "content-type": "application/json" }, body: body && JSON.stringify(body) });
    const text = await answer.text();
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${text}`);
    return text ? JSON.parse(text) : undefined;
  }

  async listen() {
    const stream = await fetch(`${this.url}/event`, { signal: this.#stop.signal });
    (async () => {
      let rest = "";
      for await (const piece of stream.body.pipeThrough(new TextDecoderStream())) {
        const lines = (rest + piece).split("\n");
        rest = lines.pop();
        for (const line of lines) if (line.startsWith("data: ")) this.events.push(JSON.parse(line.slice(6)));
      }
    })().catch(() => {});
    await until(() => this.events.length > 0, "the first event");
  }

  async session(title) {
    return (await this.api("POST", "/session", title ? { title } : {})).id;
  }

  /** Gives a prompt, and does not wait for what follows. */
  prompt(session, text) {
    return this.api("POST", `/session/${session}/prompt_async`, { parts: [{ type: "text", text }] });
  }

  /** Waits for the event that f knows; f gets the event and its type. */
  event(type, f = () => true, what = type) {
    return until(() => this.events.find((e) => e.type === type && f(e.properties)), what);
  }

  /** Waits until the session has ended its turn; turns counts from 1. */
  idle(session, turn = 1) {
    return until(() => this.turns(session) >= turn, () => `idle of ${session}`, 60_000);
  }

  turns(session) {
    let turns = 0, busy = false;
    for (const { type, properties: p } of this.events) {
      if (p?.sessionID !== session) continue;
      if (type === "session.status" && p.status.type === "busy") busy = true;
      if (type === "session.idle" && busy) {
        turns++;
        busy = false;
      }
    }
    return turns;
  }

  /**
   * All that OpenCode reported: by its event stream, and as it gave it to its plugins.
   * The stream says which events there were, and has to agree; of their contents the
   * plugins' is taken, since the stream tells of some objects as they are a moment later.
   */
  reported(project) {
    const recorded = project.recorded(this.pid);
    const there = new Map(recorded.map((e, i) => [e.id, i]));
    let last = -1;
    for (const e of this.events) {
      if (["server.connected", "server.heartbeat"].includes(e.type)) continue;
      if (!(there.get(e.id) > last)) throw new Error(`the plugins got no ${e.type} ${e.id}, or not in its place`);
      last = there.get(e.id);
    }
    return recorded;
  }

  /** A prompt, and its turn to the end. */
  async turn(session, text) {
    const turns = this.turns(session);
    await this.prompt(session, text);
    await this.idle(session, turns + 1);
  }

  async kill(signal = "SIGKILL") {
    this.child.kill(signal);
    return this.child.ended;
  }

  close() {
    this.#stop.abort();
  }
}
