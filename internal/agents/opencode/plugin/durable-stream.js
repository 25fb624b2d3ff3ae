// Made from plugin/opencode/plugin/src by 'make plugin'. Put it into .opencode/plugin/.

// src/index.ts
import { join as join4 } from "node:path";

// ../../../sdk/typescript/src/stream.ts
import { resolve as resolve2 } from "node:path";

// ../../../sdk/typescript/src/connection.ts
import { spawn, spawnSync } from "node:child_process";

// ../../../sdk/typescript/src/call.ts
var named = /* @__PURE__ */ new Set(["initialize", "query", "resume", "checkpoint.get", "checkpoint.list", "checkpoint.wait", "intent.get", "intent.list"]);
var reads = (method) => named.has(method) || method.endsWith(".recover");
function again(call) {
  if (call.sentAt === 0 || call.method !== "append") return call.line;
  return compose(call.id, call.method, { ...call.params, sent_at: call.sentAt });
}
function compose(id, method, params) {
  return JSON.stringify({ jsonrpc: "2.0", id, method, params }) + "\n";
}

// ../../../sdk/typescript/src/errors.ts
var DurableStreamError = class extends Error {
  name = "DurableStreamError";
  /** What happened, for programs. */
  error;
  /** JSON-RPC's code; 0 for an error of this module. */
  code;
  /** What goes with it: the decision that stands, the field and the rule, … */
  data;
  constructor(error, message2, code = 0, data = {}) {
    super(message2);
    this.error = error;
    this.code = code;
    this.data = data;
  }
};

// ../../../sdk/typescript/src/program.ts
import { accessSync, constants, statSync } from "node:fs";
import { basename, delimiter, dirname, isAbsolute, join, resolve } from "node:path";
function isProgram(path) {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}
function findProgram(config) {
  const named3 = [
    ["the option bin", config.bin],
    ["DSTREAM_BIN", process.env["DSTREAM_BIN"]]
  ];
  for (const [by, path2] of named3) {
    if (!path2) continue;
    const full = isAbsolute(path2) ? path2 : resolve(path2);
    if (isProgram(full)) return full;
    throw new DurableStreamError("no_program", `${by} names ${full}, and there is no program: correct it, or build one with "make build"`);
  }
  const path = process.env["PATH"] ?? "";
  for (const dir of path.split(delimiter)) {
    const full = join(dir, process.platform === "win32" ? "dstream.exe" : "dstream");
    if (dir && isProgram(full)) return full;
  }
  throw new DurableStreamError(
    "no_program",
    'the program dstream was not found: there is no option bin, DSTREAM_BIN is not set, and it is not on the PATH. Build it with "make build", and say where it is by one of the three'
  );
}
function logDir(config) {
  if (config.dir || !config.storePath) return config.dir;
  if (basename(config.storePath) !== "durable_stream.jsonl") {
    throw new DurableStreamError("invalid", `invalid storePath ${JSON.stringify(config.storePath)}: the file's name must be durable_stream.jsonl; choose its directory`);
  }
  return dirname(config.storePath);
}
function programArgs(config) {
  const dir = logDir(config);
  const args = config.shared ? ["--shared"] : [];
  if (dir) args.push("--dir", dir);
  for (const server2 of config.servers ?? []) args.push("--server", server2);
  if (config.nkey) args.push("--nkey", config.nkey);
  return [...args, ...config.args ?? [], "rpc"];
}

// ../../../sdk/typescript/src/connection.ts
var maxLine = 9 << 20;
var firstTries = 3;
var maxPause = 2e3;
var keptWords = 4e3;
var lastPatience = 1e4;
var Connection = class {
  #config;
  #hello;
  #calls = /* @__PURE__ */ new Map();
  // without an answer, in the order in which they were made
  #subs = /* @__PURE__ */ new Map();
  #listeners = /* @__PURE__ */ new Map();
  // by the method of a notification
  #child;
  #full;
  // whose pipe has no room
  #next = 1;
  #ever = false;
  // a child has answered
  #failed = 0;
  // children in a row that did not
  #words = "";
  // the end of the child's stderr
  #timer;
  #held;
  // what hold did last
  #closing;
  #closed;
  /** Called when another child has taken the place of one that died; set by whoever needs one to be there always. */
  restarted;
  /** Called when children, some in a row, ended without an answer, with what they said. */
  failing;
  /** Called at the very end of this process, with how many calls may not be carried out, and why. */
  lost;
  /** The highest seq that this connection has heard of. */
  known;
  constructor(config, hello) {
    this.#config = config;
    this.#hello = hello;
  }
  /** The process id of the child that runs, for tests and status. */
  get pid() {
    return this.#child?.pid;
  }
  /** Whether close was called. */
  get closed() {
    return this.#closing !== void 0;
  }
  /** How many calls have no answer yet. */
  get unanswered() {
    return this.#calls.size;
  }
  /** Makes a call. It is written to the child before this returns. */
  call(method, params, signal) {
    return new Promise((resolve4, reject) => {
      if (this.#closing) throw new DurableStreamError("closed", `${method}: the stream is shut down`);
      if (signal?.aborted) throw signal.reason;
      const call = { id: this.#next++, method, params, line: "", sentAt: 0, resolve: resolve4, reject };
      call.line = compose(call.id, method, params);
      if (Buffer.byteLength(call.line) > maxLine) {
        throw new DurableStreamError("too_large", `${method}: the message has ${Buffer.byteLength(call.line)} bytes, and the limit is ${maxLine}`, 0, { limit: maxLine });
      }
      this.#start();
      this.#calls.set(call.id, call);
      signal?.addEventListener("abort", () => {
        if (this.#calls.delete(call.id)) {
          this.#hold();
          reject(signal.reason);
        }
      }, { once: true });
      this.#hold();
      this.#send(call);
    });
  }
  /** Begins a subscription. Its handler is called for each event once, in order. */
  subscribe(sub) {
    if (this.#closing) throw new DurableStreamError("closed", "the stream is shut down");
    this.#start();
    this.#subs.set(sub.name, sub);
    this.#sendSubscription(sub);
    if (sub.after === void 0 && this.known !== void 0) sub.filter = { base: this.known, ...sub.filter };
  }
  /** Calls handle for each notification of that method; one listener a method. */
  listen(method, handle) {
    this.#listeners.set(method, handle);
  }
  unsubscribe(name) {
    if (!this.#subs.delete(name) || this.#closing) return;
    this.#write({ method: "unsubscribe", params: { subscription: name } });
  }
  /**
   * Ends the connection: what was called is carried out and answered, waits end. It is
   * over when the child has gone.
   */
  close() {
    this.#closed ??= new Promise((done) => {
      this.#subs.clear();
      this.#closing = { done };
      if (this.#timer && this.#calls.size === 0) {
        clearTimeout(this.#timer);
        this.#timer = void 0;
      }
      if (this.#child) {
        this.#hold();
        this.#child.stdin.end();
      } else if (!this.#timer) {
        done();
      }
    }).finally(() => process.off("exit", this.lastWords));
    return this.#closed;
  }
  /**
   * This process ends with calls that have no answer: what is still in its memory goes
   * with it. So all of them are sent again, in their order, to a child that is waited
   * for. Beside the first child, which goes on with what it got, order and ids hold: both
   * go through the same events in the same order, and each is stored by who comes first.
   *
   * A process that a signal is about to end calls it itself: then there is no exit.
   */
  lastWords = () => {
    const last = [...this.#calls.values()].filter((call) => !reads(call.method));
    const input = last.map(again).join("");
    if (!input || !process.versions["bun"] && this.#child?.stdin?.writableLength === 0) return;
    try {
      const hello = JSON.stringify({ jsonrpc: "2.0", method: "initialize", params: this.#hello }) + "\n";
      const { status: status2, signal, error, stderr } = spawnSync(findProgram(this.#config), programArgs(this.#config), {
        input: hello + input,
        stdio: ["pipe", "ignore", "pipe"],
        timeout: lastPatience,
        windowsHide: true,
        env: { ...process.env, ...this.#config.env }
      });
      const answers = this.#child && this.#ever && this.#failed === 0;
      if (status2 !== 0 && !answers) throw error ?? new Error(this.#end(signal ? `was ended by ${signal}` : `ended with status ${status2}`, String(stderr)));
    } catch (error) {
      this.#config.logger?.(`durable-stream: ${last.length} calls have no answer, and this process ends: ${error}`);
      this.lost?.(last.length, error instanceof Error ? error.message : String(error));
    }
  };
  #start() {
    if (this.#child || this.#timer) return;
    const args = programArgs(this.#config);
    const program = findProgram(this.#config);
    process.off("exit", this.lastWords).on("exit", this.lastWords);
    const child = spawn(program, args, {
      stdio: ["pipe", "pipe", "pipe"],
      detached: true,
      windowsHide: true,
      env: { ...process.env, ...this.#config.env }
    });
    this.#child = child;
    this.#words = "";
    child.stdin.on("error", () => {
    });
    child.stderr.setEncoding("utf8").on("data", (words) => {
      this.#words = (this.#words + words).slice(-keptWords);
      this.#config.logger?.(words.trimEnd());
    });
    let rest = [];
    child.stdout.setEncoding("utf8").on("data", (data) => {
      let from = 0;
      for (let at = data.indexOf("\n"); at >= 0; at = data.indexOf("\n", from)) {
        const line2 = rest.length > 0 ? rest.join("") + data.slice(from, at) : data.slice(from, at);
        rest = [];
        from = at + 1;
        this.#read(line2);
      }
      if (from < data.length) rest.push(data.slice(from));
    });
    let over = false;
    const ended = (how) => {
      if (over) return;
      over = true;
      this.#child = void 0;
      this.#ended(how);
    };
    child.on("error", (error) => ended(error.message));
    child.on("close", (status2, signal) => ended(signal ? `was ended by ${signal}` : `ended with status ${status2}`));
    this.#write({ id: 0, method: "initialize", params: this.#hello });
    for (const sub of this.#subs.values()) this.#sendSubscription(sub);
    for (const call of this.#calls.values()) this.#send(call);
    this.#hold();
    if (this.#closing) child.stdin.end();
  }
  /** Decides what follows the end of a child. */
  #ended(how) {
    if (this.#closing && this.#calls.size === 0) {
      this.#closing.done();
      return;
    }
    this.#failed++;
    const why = this.#end(how, this.#words);
    const vain = this.#failed >= firstTries;
    if (vain) this.failing?.(why);
    if (vain && (!this.#ever || this.#closing)) {
      this.#failed = 0;
      const error = new DurableStreamError("not_started", why);
      const calls = [...this.#calls.values()];
      this.#calls.clear();
      this.#subs.clear();
      for (const call of calls) call.reject(error);
      this.#closing?.done();
      return;
    }
    this.#config.logger?.(`durable-stream: dstream rpc ${how}; starting it again with ${this.#calls.size} calls to send again`);
    if (this.#calls.size === 0 && this.#subs.size === 0 && !this.restarted) return;
    const pause2 = this.#failed <= 1 ? 0 : Math.min(50 * 2 ** (this.#failed - 2), maxPause);
    this.#timer = setTimeout(() => {
      this.#timer = void 0;
      try {
        this.#start();
        this.restarted?.();
      } catch (error) {
        this.#words = String(error);
        this.#ended("cannot be started");
      }
    }, pause2);
    if (this.#calls.size === 0) this.#timer.unref();
  }
  /** What to say of a child that ended too early. */
  #end(how, words) {
    let command = "dstream rpc";
    try {
      command = [findProgram(this.#config), ...programArgs(this.#config)].join(" ");
    } catch {
    }
    return `"${command}" ${how} before it answered: ${words.trim().slice(-keptWords) || "it said nothing, as if it were no dstream"}`;
  }
  #read(line2) {
    let m;
    try {
      m = JSON.parse(line2);
    } catch {
      this.#config.logger?.(`durable-stream: not JSON from dstream rpc: ${line2.slice(0, 200)}`);
      return;
    }
    this.#ever = true;
    this.#failed = 0;
    if (m.method === "event") return this.#event(m.params);
    if (m.method === "subscription.end") return this.#subscriptionEnded(m.params);
    if (m.method !== void 0) return this.#listeners.get(m.method)?.(m.params);
    if (m.id === 0) return this.#greeted(m.result?.position);
    if (typeof m.id === "string") return this.#subscribed(m.id.slice(4), m);
    const call = this.#calls.get(m.id);
    if (!call) return;
    if (m.error?.data?.error === "shutting_down" && !this.#closing) return;
    this.#calls.delete(m.id);
    this.#hold();
    if (m.error) {
      call.reject(new DurableStreamError(m.error.data?.error ?? "internal", m.error.message, m.error.code, m.error.data ?? {}));
    } else {
      this.#knows(m.result?.seq);
      call.resolve(m.result);
    }
  }
  /** Subscriptions that say "from now on" begin no later than here, should the child die before it says where. */
  #greeted(position) {
    this.#knows(position);
    for (const sub of this.#subs.values()) {
      if (sub.after === void 0) sub.filter = { base: this.known, ...sub.filter };
    }
  }
  #sendSubscription(sub) {
    const { base, ...filter } = sub.filter;
    const after = sub.after ?? base;
    this.#write({ id: "sub:" + sub.name, method: "subscribe", params: { ...filter, subscription: sub.name, ...after === void 0 ? {} : { after } } });
  }
  #subscribed(name, m) {
    if (m.error) {
      this.#subs.delete(name);
      this.#config.logger?.(`durable-stream: subscribe: ${m.error.message}`);
      return;
    }
    const sub = this.#subs.get(name);
    if (sub) sub.after ??= m.result.after;
  }
  #event(params) {
    const sub = this.#subs.get(params.subscription);
    this.#knows(params.seq);
    if (!sub || sub.after !== void 0 && params.seq <= sub.after) return;
    sub.after = params.seq;
    try {
      sub.handle(params.event);
    } catch (error) {
      this.#config.logger?.(`durable-stream: a handler threw at seq ${params.seq}: ${error}`);
    }
  }
  #subscriptionEnded(params) {
    const sub = this.#subs.get(params.subscription);
    if (!sub || !params.error) return;
    this.#subs.delete(params.subscription);
    this.#config.logger?.(`durable-stream: the subscription to ${JSON.stringify(sub.filter["types"])} ended: ${params.error.message}`);
  }
  #knows(seq) {
    if (typeof seq === "number" && seq > (this.known ?? -1)) this.known = seq;
  }
  #send(call) {
    if (!this.#child) return;
    const line2 = again(call);
    if (call.sentAt === 0) call.sentAt = Date.now();
    this.#child.stdin.write(line2);
    this.#handOver(this.#child);
  }
  /**
   * Bun keeps the last 4 KiB that were written until its event loop turns, and kill -9
   * before that would lose them. Beneath its stream there is what writes them now. When
   * the pipe is full it says when there is room again, and nothing is asked of it until then.
   */
  #handOver(child) {
    if (this.#full === child || !process.versions["bun"]) return;
    const stdin = child.stdin;
    const key = Object.getOwnPropertySymbols(stdin).find((it) => it.description === "kWriteStreamFastPath");
    try {
      const room = key && stdin[key]?.flush?.();
      if (typeof room?.then !== "function") return;
      this.#full = child;
      const over = () => {
        if (this.#full === child) this.#full = void 0;
      };
      room.then(over, over);
    } catch {
    }
  }
  #write(message2) {
    this.#child?.stdin.write(JSON.stringify({ jsonrpc: "2.0", ...message2 }) + "\n");
  }
  /** The child keeps this process alive exactly while a call has no answer. */
  #hold() {
    const on = this.#calls.size > 0 || this.#closing !== void 0;
    if (this.#timer) on ? this.#timer.ref() : this.#timer.unref();
    const child = this.#child;
    if (!child || this.#held?.child === child && this.#held.on === on) return;
    this.#held = { child, on };
    for (const it of [child, child.stdin, child.stdout, child.stderr]) on ? it?.ref?.() : it?.unref?.();
  }
};

// ../../../sdk/typescript/src/ids.ts
import { randomBytes } from "node:crypto";
function newID() {
  const b = randomBytes(16);
  b.writeUIntBE(Date.now(), 0, 6);
  b[6] = b[6] & 15 | 112;
  b[8] = b[8] & 63 | 128;
  const hex = b.toString("hex");
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}

// ../../../sdk/typescript/src/stream.ts
var defaultCheckpointTimeout = 5 * 60 * 1e3;
var orchestrator = "orchestrator";
var DurableStream = class {
  #config;
  #connection;
  #handlers = /* @__PURE__ */ new Map();
  // by type
  #correlationID;
  #streamID;
  constructor(config = {}) {
    this.#config = config;
    this.#correlationID = config.correlationId ?? newID();
    this.#streamID = config.streamId ?? this.#correlationID;
    this.#connection = new Connection(config, { stream_id: this.#streamID, correlation_id: this.#correlationID });
  }
  /** Given to events that have none; the same for all of this process's life. */
  getCorrelationId() {
    return this.#correlationID;
  }
  /** Given to events that name no stream. */
  getStreamId() {
    return this.#streamID;
  }
  /**
   * The connection beneath, with calls by the names of docs/protocol.md: for a plugin that
   * brings an agent's own events into the log.
   */
  get connection() {
    return this.#connection;
  }
  /** The directory of the log and its JSONL file. */
  get directory() {
    return resolve2(logDir(this.#config) ?? ".opencode");
  }
  /** The process id of `dstream rpc`, while it runs. */
  get childPid() {
    return this.#connection.pid;
  }
  /** Whether shutdown was called. */
  get closed() {
    return this.#connection.closed;
  }
  /** How many calls have no answer yet. */
  get unanswered() {
    return this.#connection.unanswered;
  }
  /** Makes sure that the log can be used. Every call does so too. */
  async initialize() {
    await this.#connection.call("initialize", {});
  }
  /** Whether it can still be used. */
  isInitialized() {
    return !this.closed;
  }
  /** Ends the use of the log: what was called before is stored. Later calls are refused. */
  async shutdown() {
    this.#handlers.clear();
    await this.#connection.close();
  }
  /**
   * Stores an event. It is handed to the child before this returns; the promise is kept
   * when it is on disk. Events are recorded in the order of the calls.
   */
  async append(input) {
    const event = this.#event(input);
    return { ...event, ...await this.#connection.call("append", { event }) };
  }
  /** Stores 1 to 999 events one after the other, all of them or none. */
  async appendBatch(inputs) {
    const events2 = inputs.map((input) => this.#event(input));
    const { events: receipts } = await this.#connection.call("appendBatch", { events: events2 });
    return events2.map((event, i) => ({ ...event, ...receipts[i] }));
  }
  #event(input) {
    return {
      ...input,
      id: input.id ?? newID(),
      stream_id: input.stream_id ?? this.#streamID,
      correlation_id: input.correlation_id ?? this.#correlationID,
      timestamp: input.timestamp ?? Date.now(),
      payload: input.payload ?? {}
    };
  }
  /**
   * Calls handler for each event recorded from now on, by whichever process, whose type
   * is `type` or matches it as a pattern ("checkpoint.*", "ledger.>"; "*" for all). In
   * order, each once. A handler that throws goes on with the next event.
   */
  on(type, handler) {
    this.#follow(type, handler);
    return this;
  }
  /** Ends what on began. */
  off(type, handler) {
    const sub = this.#handlers.get(type)?.get(handler);
    if (sub) {
      this.#handlers.get(type).delete(handler);
      this.#connection.unsubscribe(sub.name);
    }
    return this;
  }
  /** on, from any position; returns what ends it. */
  subscribe(type, handler, options = {}) {
    const sub = this.#follow(type, handler, options.after);
    return () => {
      for (const handlers of this.#handlers.values()) {
        if (handlers.get(handler) === sub) handlers.delete(handler);
      }
      this.#connection.unsubscribe(sub.name);
    };
  }
  #follow(type, handler, after) {
    const types = (typeof type === "string" ? [type] : type).map(pattern);
    const key = typeof type === "string" ? type : type.join(" ");
    const there = this.#handlers.get(key)?.get(handler);
    if (there) return there;
    const sub = { name: newID(), filter: { types }, after, handle: handler };
    this.#connection.subscribe(sub);
    if (!this.#handlers.has(key)) this.#handlers.set(key, /* @__PURE__ */ new Map());
    this.#handlers.get(key).set(handler, sub);
    return sub;
  }
  /** Reads events, up to the present end of the log. It sees what was appended before. */
  async query(filter = {}) {
    const { type, ...params } = filter;
    const types = type === void 0 ? [] : typeof type === "string" ? [type] : type;
    const found = [];
    let after = filter.after;
    for (; ; ) {
      const limit = filter.limit === void 0 ? void 0 : filter.limit - found.length;
      const page = await this.#connection.call("query", { ...params, types: types.map(pattern), after, limit });
      found.push(...page.events);
      if (!page.more || filter.last !== void 0 || found.length === filter.limit) return found;
      after = page.position;
    }
  }
  /** All events of a stream. */
  getStreamEvents(streamId) {
    return this.query({ stream_id: streamId });
  }
  /** What survived: the questions that wait, the work that is unfinished. It may be called again. */
  resume() {
    return this.#connection.call("resume", {});
  }
  async requestCheckpoint(first, second = {}, options = [], requestedBy = "agent") {
    let params;
    if (typeof second === "string") {
      params = {
        id: "cp_" + newID(),
        stream_id: first,
        decision_point: second,
        options,
        requested_by: requestedBy,
        expires_ms: this.#config.checkpointTimeoutMs ?? defaultCheckpointTimeout
      };
    } else {
      const asked = Array.isArray(second) ? { options: second } : second;
      params = {
        decision_point: first,
        requested_by: "agent",
        stream_id: this.#streamID,
        ...asked,
        id: first,
        options: (asked.options ?? []).map((o) => typeof o === "string" ? { id: o, label: o } : o)
      };
    }
    return (await this.#connection.call("checkpoint.request", params)).id;
  }
  /**
   * Waits until a checkpoint is decided, and resolves to it with its decision, whatever
   * it is. It goes on through restarts of the log. timeoutMs rejects with "timeout", and
   * the question still waits.
   */
  waitForCheckpoint(id, options = {}) {
    return this.#connection.call("checkpoint.wait", { id, timeout_ms: options.timeoutMs }, options.signal);
  }
  /** A checkpoint as it stands. */
  getCheckpoint(id) {
    return this.#connection.call("checkpoint.get", { id });
  }
  /** The checkpoints that wait for a human. */
  async getPendingCheckpoints() {
    return (await this.#connection.call("checkpoint.list", {})).checkpoints;
  }
  /**
   * Decides yes, and resolves to true. Whoever comes too late, asked themselves, or names
   * an option that is not there gets an error; a late one carries the decision that stands.
   */
  async approveCheckpoint(id, approvedBy, selectedOption, more = {}) {
    await this.#connection.call("checkpoint.approve", { id, by: approvedBy, option: selectedOption, ...more, event_id: newID() });
    return true;
  }
  /** Decides no; see approveCheckpoint. */
  async rejectCheckpoint(id, rejectedBy, reason) {
    await this.#connection.call("checkpoint.reject", { id, by: rejectedBy, reason, event_id: newID() });
    return true;
  }
  /** Withdraws a question. From whoever asked, it is a request that the log's host carries out. */
  cancelCheckpoint(id, by, reason) {
    return this.#connection.call("checkpoint.cancel", { id, by, reason });
  }
  /**
   * Writes out, in this moment, what the child has not got yet, and waits for it. Only
   * for a process that a signal ends: at process.exit it happens by itself.
   */
  lastWords() {
    this.#connection.lastWords();
  }
  /** Registers long-running work, and resolves to its id. */
  async createIntent(spec) {
    const { parent_session_id, ...rest } = spec;
    const params = { ...rest, id: "intent_" + newID(), stream_id: parent_session_id ?? this.#streamID, actor: orchestrator, event_id: newID() };
    return (await this.#connection.call("intent.create", params)).id;
  }
  /** Ends an intent as completed. An intent ends once: again is an error, "ended". */
  async completeIntent(intentId, result) {
    await this.#connection.call("intent.complete", { id: intentId, result, event_id: newID() });
  }
  /** Ends an intent as failed. */
  async failIntent(intentId, error) {
    await this.#connection.call("intent.fail", { id: intentId, error, event_id: newID() });
  }
  /** Ends an intent as aborted. */
  async abortIntent(intentId, reason) {
    await this.#connection.call("intent.abort", { id: intentId, reason, event_id: newID() });
  }
  /** The intents that have not ended. */
  async getActiveIntents() {
    return (await this.#connection.call("intent.list", {})).intents;
  }
  /** Ends a session that is deleted, with its child sessions, intents and questions. */
  deleteSession(sessionId, options = {}) {
    return this.#connection.call("session.delete", { id: sessionId, by: options.by ?? orchestrator, reason: options.reason });
  }
  /** Ends a session that is aborted, children first; it stays aborted after a restart. */
  abortSession(sessionId, options = {}) {
    return this.#connection.call("session.abort", { id: sessionId, by: options.by ?? orchestrator, reason: options.reason });
  }
  /** abortSession, which always takes the children along. */
  recursiveAbort(sessionId, options = {}) {
    return this.abortSession(sessionId, options);
  }
};
function pattern(type) {
  if (type === "*") return ">";
  if (type !== ">" && !type.includes(".")) {
    throw new DurableStreamError("invalid", `invalid type ${JSON.stringify(type)}: must be two or more tokens joined by dots, such as "task.created" or "checkpoint.*", or "*"`, 0, { field: "type", value: type });
  }
  return type;
}

// src/bridge.ts
import { createHash } from "node:crypto";
import { hostname } from "node:os";
import { join as join2, sep } from "node:path";

// src/answers.ts
var tries = 3;
var pause = 500;
async function carry(client, answer) {
  if (!client) throw new Error("there is no client of OpenCode");
  for (let n = 1; ; n++) {
    const { status: status2, error } = await give(client, answer);
    if (!error || status2 === 404) return;
    if (n === tries) throw new Error(error);
    await new Promise((go) => setTimeout(go, pause));
  }
}
async function give(client, answer) {
  try {
    const result = await send(client, answer);
    const status2 = result?.response?.status;
    if (result?.error === void 0 && (status2 === void 0 || status2 < 400)) return {};
    return { status: status2, error: `OpenCode says ${status2}: ${JSON.stringify(result?.error)?.slice(0, 500)}` };
  } catch (error) {
    return { error: String(error) };
  }
}
function send(client, answer) {
  const { requestID, sessionID, reply, answers, message: message2 } = answer;
  const post = client._client?.post.bind(client._client);
  const headers = { "Content-Type": "application/json" };
  const path = { requestID };
  if (answer.kind === "question") {
    if (!post) throw new Error("this OpenCode's client has no way to answer a question");
    if (reply === "reject") return post({ url: "/question/{requestID}/reject", path });
    return post({ url: "/question/{requestID}/reply", path, headers, body: { answers: answers ?? [] } });
  }
  if (message2 && post) return post({ url: "/permission/{requestID}/reply", path, headers, body: { reply, message: message2 } });
  if (client.postSessionIdPermissionsPermissionId) {
    return client.postSessionIdPermissionsPermissionId({ path: { id: sessionID, permissionID: requestID }, body: { response: reply } });
  }
  if (!post) throw new Error("this OpenCode's client has no way to answer a permission");
  return post({ url: "/permission/{requestID}/reply", path, headers, body: { reply } });
}

// src/bridge.ts
var keptOfString = 64 << 10;
var pauses = [2e3, 6e4];
var waitingLimit = 256 << 20;
var longestTimer = 2 ** 31 - 1;
var quiet = 6e4;
var started = 0;
var start = () => started = Math.max(Date.now(), started + 1);
var bridges = /* @__PURE__ */ new WeakMap();
function createBridgeHooks(stream, options = {}) {
  let bridge = bridges.get(stream);
  if (!bridge) bridges.set(stream, bridge = new Bridge(stream.connection, stream.directory, options));
  return bridge;
}
async function recoverSessions(stream) {
  return (await stream.connection.call("opencode.recover", {})).sessions;
}
var Bridge = class {
  instance;
  #connection;
  #options;
  #complained = /* @__PURE__ */ new Map();
  #next = 0;
  #open = 0;
  // calls without an answer
  #waiting = [];
  // for a log that can be opened, in order
  #waitingBytes = 0;
  #pause;
  #pauseLength = pauses[0];
  #off = false;
  // there is no program: nothing can be recorded
  #lost = 0;
  #flushes = [];
  // that wait
  #why;
  // the log cannot be opened
  #last;
  // that is no piece of a text
  #dir;
  /** dir is where the log's own files are. */
  constructor(connection, dir, options) {
    this.#connection = connection;
    this.#dir = dir;
    this.#options = options;
    this.instance = options.instance ?? `${hostname()}:${process.pid}:${start()}`;
    connection.failing = (why) => {
      this.#why = why;
      for (const end of this.#flushes.splice(0)) end(false);
    };
    connection.lost = (calls, why) => options.onError?.(`${calls} events are not known to be recorded: ${why}`);
    connection.listen("opencode.answer", (answer) => void this.#answer(answer));
    connection.listen("opencode.notice", (notice) => this.#notice(notice));
    connection.restarted = () => {
      if (this.#last && connection.unanswered === 0) this.#hand({ n: this.#next++, event: this.#last, size: 0 });
    };
  }
  /** Never throws, and never waits: the promise is kept already. */
  event(input) {
    try {
      if (!this.#off && !this.#own(input.event)) this.#hand({ n: this.#next++, event: input.event, size: 0 });
    } catch (error) {
      this.#complain("error", `an event was not recorded: ${error}`);
    }
    return Promise.resolve();
  }
  async flush(timeoutMs = 5e3) {
    if (this.unrecorded === 0) return true;
    return new Promise((resolve4) => {
      const timer = setTimeout(() => resolve4(false), Math.min(timeoutMs, longestTimer));
      this.#flushes.push((done) => {
        clearTimeout(timer);
        resolve4(done);
      });
      if (this.#pause) this.#again();
    });
  }
  get unrecorded() {
    return this.#open + this.#waiting.length + this.#lost;
  }
  get failure() {
    return this.#why;
  }
  /** The files of the log change with every event: to record that would never end. */
  #own(event) {
    const file = event.properties?.file;
    if (event.type !== "file.watcher.updated" || typeof file !== "string") return false;
    const store = join2(this.#dir, "durable_stream");
    return file === store || file.startsWith(store + sep) || file.startsWith(store + ".") && file.endsWith(".jsonl");
  }
  #hand(sent) {
    if (this.#pause) {
      this.#wait(sent);
      return;
    }
    this.#open++;
    if (sent.event.type !== "message.part.delta") this.#last = sent.event;
    this.#connection.call("opencode.event", { event: sent.event, instance: this.instance }).then(
      () => {
        this.#pauseLength = pauses[0];
        this.#why = void 0;
        this.#done();
      },
      (error) => {
        try {
          this.#refused(sent, error);
        } finally {
          this.#done();
        }
      }
    );
  }
  #done() {
    this.#open--;
    if (this.#open > 0 || this.#waiting.length > 0) return;
    for (const end of this.#flushes.splice(0)) end(this.#lost === 0);
  }
  #refused(sent, error) {
    const name = error instanceof DurableStreamError ? error.error : "";
    if (name === "no_program") {
      this.#off = true;
      this.#complain("no_program", `nothing is recorded: ${message(error)}`);
    } else if (name === "not_started") {
      if (!this.#connection.closed) this.#complain("not_started", `nothing is recorded for now, and events wait: ${message(error)}`);
      this.#wait(sent);
      this.#rest();
    } else if (name === "too_large" && sent.size === 0) {
      this.#hand({ ...sent, size: 1, event: shortened(sent.event) });
    } else if (name !== "closed") {
      this.#complain(name, `an event (${sent.event?.type} ${sent.event?.id}) was not recorded: ${message(error)}`);
    }
  }
  /** Keeps an event for later, in its place. */
  #wait(sent) {
    sent.size ||= JSON.stringify(sent.event)?.length ?? 0;
    if (this.#waitingBytes + sent.size > waitingLimit) {
      this.#lost++;
      this.#complain("lost", `${this.#lost} events are lost: the log could not be opened for long, and ${waitingLimit >> 20} MiB wait`);
      return;
    }
    this.#waitingBytes += sent.size;
    this.#waiting.push(sent);
  }
  #rest() {
    if (this.#pause || this.#connection.closed) return;
    this.#pause = setTimeout(() => this.#again(), this.#pauseLength);
    this.#pause.unref();
    this.#pauseLength = Math.min(this.#pauseLength * 2, pauses[1]);
  }
  /** Hands over what waits. */
  #again() {
    clearTimeout(this.#pause);
    this.#pause = void 0;
    const again2 = this.#waiting.sort((a, b) => a.n - b.n);
    this.#waiting = [];
    this.#waitingBytes = 0;
    for (const sent of again2) this.#hand(sent);
  }
  /** Carries a decision into OpenCode, whose event about it comes back by the bus. */
  async #answer(answer) {
    try {
      await (this.#options.onAnswer ?? ((it) => carry(this.#options.client, it)))(answer);
    } catch (error) {
      this.#complain(`answer ${answer?.requestID}`, `the answer to ${answer?.kind} ${answer?.requestID} could not be given to OpenCode: ${message(error)}`);
    }
  }
  #notice(notice) {
    try {
      if (this.#options.onNotice) this.#options.onNotice(notice);
      else this.#options.onError?.(notice.text);
    } catch {
    }
  }
  #complain(kind, words) {
    const now = Date.now();
    if (now - (this.#complained.get(kind) ?? 0) < quiet) return;
    if (this.#complained.size > 1e3) this.#complained.clear();
    this.#complained.set(kind, now);
    try {
      this.#options.onError?.(words);
    } catch {
    }
  }
};
function message(error) {
  return error instanceof Error ? error.message : String(error);
}
function shortened(event) {
  const text2 = JSON.stringify(event, (_, value) => {
    if (typeof value !== "string" || value.length <= keptOfString) return value;
    const sum = createHash("sha256").update(value).digest("hex");
    return `${value.slice(0, keptOfString)}…[cut: ${Buffer.byteLength(value)} bytes in all, sha256 ${sum}]`;
  });
  return JSON.parse(text2);
}

// src/config.ts
import { readFileSync } from "node:fs";
import { homedir } from "node:os";
import { isAbsolute as isAbsolute2, join as join3, resolve as resolve3 } from "node:path";
var keys = {
  bin: isText,
  dir: isText,
  nkey: isText,
  servers: isTexts,
  args: isTexts,
  tools: (value) => typeof value === "boolean"
};
function configure(context, options = {}) {
  const root = context.worktree && context.worktree !== "/" ? context.worktree : context.directory;
  const home = join3(root, ".opencode");
  const file = join3(home, "durable-stream.json");
  const given = { ...check(read(file), file), ...check(options, "the plugin's options") };
  const path = (value) => {
    const full = value.startsWith("~/") ? join3(homedir(), value.slice(2)) : value;
    return isAbsolute2(full) ? full : resolve3(root, full);
  };
  return {
    ...given,
    dir: path(given.dir ?? home),
    shared: given.dir === void 0,
    tools: given.tools ?? true,
    ...given.bin ? { bin: path(given.bin) } : {},
    ...given.nkey ? { nkey: path(given.nkey) } : {}
  };
}
function read(file) {
  let text2;
  try {
    text2 = readFileSync(file, "utf8");
  } catch (error) {
    if (error.code === "ENOENT") return {};
    throw error;
  }
  try {
    return JSON.parse(text2);
  } catch (error) {
    throw new Error(`${file} is not JSON: ${error.message}`);
  }
}
function check(given, where) {
  if (given === null || typeof given !== "object" || Array.isArray(given)) throw new Error(`${where} must be a JSON object`);
  for (const [key, value] of Object.entries(given)) {
    if (!keys[key]) throw new Error(`${where}: there is no key ${JSON.stringify(key)}; there are ${Object.keys(keys).join(", ")}`);
    if (!keys[key](value)) throw new Error(`${where}: ${key} cannot be ${JSON.stringify(value)}`);
  }
  return given;
}
function isText(value) {
  return typeof value === "string" && value !== "";
}
function isTexts(value) {
  return Array.isArray(value) && value.every(isText);
}

// src/signals.ts
import { isMainThread } from "node:worker_threads";
var patience = 3e3;
var signals = ["SIGTERM", "SIGINT", "SIGHUP"];
var ends = globalThis[Symbol.for("durable-stream.signals")] ??= { all: /* @__PURE__ */ new Set(), caught: false };
function atSignal(end) {
  ends.all.add(end);
  if (ends.caught || !isMainThread) return;
  ends.caught = true;
  for (const signal of signals) {
    const caught = async () => {
      await Promise.race([Promise.allSettled([...ends.all].map((each) => each())), new Promise((go) => setTimeout(go, patience))]);
      process.off(signal, caught);
      if (process.listenerCount(signal) === 0) process.kill(process.pid, signal);
    };
    process.on(signal, caught);
  }
}
function forgetSignal(end) {
  ends.all.delete(end);
}

// src/story.ts
var named2 = 3;
async function tellStory(stream, tell) {
  try {
    const left = await recoverSessions(stream);
    if (left.length > 0) tell.loudly(story(left), "info");
  } catch (error) {
    tell.quietly(`which sessions were interrupted is not known: ${error}`, "warn");
  }
}
function story(left) {
  left.sort((a, b) => b.last_at - a.last_at);
  const lines = left.slice(0, named2).map((it) => {
    const waits = new Set([...it.questions ?? [], ...it.answered ?? []].map((q) => q["call_id"]));
    const tools2 = it.tools?.filter((call) => call.tool && !waits.has(call.callID)).map((call) => call.tool) ?? [];
    return [
      `${it.id}${it.title ? ` "${it.title}"` : ""} ${it.interrupted ? "was interrupted" : "waits"}`,
      tools2.length > 0 && `unknown outcome of ${tools2.join(", ")}`,
      it.questions?.length && `open: ${it.questions.map((q) => q.id).join(", ")}`
    ].filter(Boolean).join("; ");
  });
  if (left.length > named2) lines.push(`and ${left.length - named2} more`);
  return `${lines.join(". ")}. "dstream opencode recover" tells the whole story; nothing goes on by itself.`;
}

// src/teller.ts
import { isMainThread as isMainThread2 } from "node:worker_threads";
var service = "durable-stream";
var settled = 3e3;
var Teller = class {
  #client;
  #since = Date.now();
  constructor(client) {
    this.#client = client;
  }
  /** Into OpenCode's log. */
  quietly(message2, level = "debug") {
    this.#soon(0, () => this.#client.app?.log({ body: { service, level, message: message2 } }));
  }
  /** Into the log, and to where a human looks: the terminal's corner, or the output of run and serve. */
  loudly(message2, level = "warn") {
    this.quietly(message2, level);
    if (isMainThread2 && ["run", "serve", "web"].includes(process.argv[2] ?? "")) {
      try {
        process.stderr.write(`${service}: ${message2}
`);
      } catch {
      }
    }
    const variant = level === "warn" ? "warning" : "info";
    this.#soon(settled - (Date.now() - this.#since), () => this.#client.tui?.showToast({ body: { title: "Durable Stream", message: message2, variant, duration: 1e4 } }));
  }
  /** OpenCode answers its plugins only when it has loaded them all. */
  #soon(after, say) {
    const timer = setTimeout(() => {
      try {
        say()?.catch(() => {
        });
      } catch {
      }
    }, Math.max(after, 0));
    timer.unref();
  }
};

// src/tools.ts
import { createHash as createHash2 } from "node:crypto";
var delivered = "checkpoint.delivered";
var events = [20, 100];
var searched = 1e3;
var shown = [600, 24e3];
var text = (description) => ({ type: "string", description });
function tools(log, ending, tell) {
  return {
    checkpoint_request: {
      description: "Ask a human to decide before you do something that cannot be undone or is not yours to decide. It waits until a human has answered, however long that takes, and gives the decision. Do not go on with the matter unless it says approved. Do not ask twice.",
      args: {
        decision_point: text("The question, with all that a human needs to decide it"),
        options: { type: "array", items: { type: "string" }, description: "What an approval chooses from. [] for none" },
        action: text("Exactly what you will do when it is approved, such as the command. Empty for none")
      },
      execute: (args, context) => request(log(), ending, tell, args ?? {}, context)
    },
    checkpoint_status: {
      description: "Tells how a question to a human stands, or, with an empty id, which questions of this session are open. It decides nothing.",
      args: { id: text("The checkpoint's id, or empty") },
      execute: (args, context) => status(log().stream, args?.id, context)
    },
    history: {
      description: "Looks into the durable log of what was done in this project, also before a crash and by other sessions: prompts, answers, tool calls with their results, file edits, decisions of humans. The newest events, oldest first.",
      args: {
        session: text(`A session's id, "all", or empty for this session`),
        types: { type: "array", items: { type: "string" }, description: 'Types or patterns, such as "execution.tool_finish", "checkpoint.*", "files.>". [] for all' },
        contains: text("Only those of the newest 1,000 events that hold this text. Empty for any"),
        last: { type: "integer", description: `How many events, at most ${events[1]}; 0 for ${events[0]}` }
      },
      execute: (args, context) => history(log().stream, args ?? {}, context)
    }
  };
}
async function request({ stream, instance }, ending, tell, args, context) {
  const point = String(args.decision_point ?? "").trim();
  if (!point) throw new Error("checkpoint_request: decision_point is missing: say what is to be decided");
  const options = choices(args.options);
  const action = args.action === void 0 || args.action === "" ? void 0 : args.action;
  const by = `agent/${context.agent || "opencode"}`;
  const name = "cp_" + createHash2("sha256").update(JSON.stringify([context.sessionID, point, options, action ?? null])).digest("hex").slice(0, 24);
  const used = new Set((await stream.query({ stream_id: context.sessionID, type: delivered })).map((e) => e.payload?.checkpoint_id));
  for (let n = 1; ; n++) {
    const id = n === 1 ? name : `${name}.${n}`;
    if (used.has(id)) continue;
    await stream.requestCheckpoint(id, {
      decision_point: point,
      options,
      action: apart(action),
      requested_by: by,
      stream_id: context.sessionID,
      metadata: { opencode_instance: instance, opencode_call: context.callID }
    });
    let it = await stream.getCheckpoint(id);
    const waited = it.status === "pending";
    if (waited) {
      context.metadata?.({ title: `waits for a human: ${id}`, metadata: { checkpoint: id } });
      it = await decision(stream, ending, tell, it, by, context);
    }
    if (it.status !== "approved" && it.status !== "rejected") {
      if (waited) return told(it);
      continue;
    }
    if (await take(stream, it, context)) return told(it);
  }
}
async function decision(stream, ending, tell, asked, by, context) {
  try {
    return await stream.waitForCheckpoint(asked.id, { signal: context.abort });
  } catch (error) {
    if (!context.abort.aborted) throw error;
    setTimeout(() => {
      if (ending()) return;
      stream.cancelCheckpoint(asked.id, by, "its session was aborted").catch((why) => tell.quietly(`checkpoint ${asked.id} could not be cancelled: ${why}`, "warn"));
    }, 100).unref();
    throw new Error(`the session was aborted while ${asked.id} waited`);
  }
}
async function take(stream, it, context) {
  try {
    await stream.append({
      type: delivered,
      id: `${it.id}.delivered`,
      actor: "opencode",
      stream_id: context.sessionID,
      causation_id: it.decision?.event_id,
      payload: { checkpoint_id: it.id, session_id: context.sessionID, message_id: context.messageID, call_id: context.callID }
    });
    return true;
  } catch (error) {
    if (error instanceof DurableStreamError && error.error === "duplicate_id") return false;
    throw error;
  }
}
function told(it) {
  const d = it.decision;
  const lines = [`${it.status}${d ? ` by ${d.by}` : ""}: ${it.decision_point}`];
  if (d?.option) lines.push(`option: ${d.option}`);
  if (d?.answer !== void 0) lines.push(`answer: ${JSON.stringify(d.answer)}`);
  if (d?.comment) lines.push(`comment: ${d.comment}`);
  if (d?.reason) lines.push(`reason: ${d.reason}`);
  lines.push(`checkpoint: ${it.id}`);
  if (it.status !== "approved") lines.push("This is no approval.");
  return lines.join("\n");
}
function apart(action) {
  return typeof action === "object" && action !== null ? { checkpoint_request: action } : action;
}
function choices(given) {
  if (!Array.isArray(given)) return [];
  return given.map((it) => typeof it === "string" ? { id: it, label: it } : it);
}
async function status(stream, id, context) {
  if (id) {
    const it = await stream.getCheckpoint(String(id));
    return it.status === "pending" ? `pending: ${it.decision_point}
checkpoint: ${it.id}` : told(it);
  }
  const open = (await stream.getPendingCheckpoints()).filter((it) => it.stream_id === context.sessionID);
  if (open.length === 0) return "No question of this session is open.";
  return open.map((it) => `${it.id} since ${new Date(it.requested_at).toISOString()}: ${it.decision_point}`).join("\n");
}
async function history(stream, args, context) {
  const session = args.session || context.sessionID;
  const last = Math.min(Math.max(Math.trunc(Number(args.last) || events[0]), 1), events[1]);
  const filter = {
    ...session === "all" ? {} : { stream_id: String(session) },
    ...Array.isArray(args.types) && args.types.length > 0 ? { type: args.types.map(String) } : typeof args.types === "string" && args.types ? { type: [args.types] } : {}
  };
  let found = await stream.query({ ...filter, last: args.contains ? searched : last });
  if (args.contains) found = found.filter((e) => JSON.stringify(e).includes(String(args.contains)));
  const lines = [];
  let size = 0;
  for (const one of found.slice(-last).reverse().map(line)) {
    if ((size += one.length) > shown[1]) break;
    lines.unshift(one);
  }
  return lines.length > 0 ? lines.join("\n") : "The log has no such events.";
}
function line(e) {
  const payload = JSON.stringify(e.payload);
  const cut = payload.length > shown[0] ? `${payload.slice(0, shown[0])}… (${payload.length} characters)` : payload;
  return `${e.seq} ${new Date(e.timestamp).toISOString()} ${e.stream_id} ${e.actor} ${e.type} ${cut}`;
}

// src/index.ts
var patience2 = 5e3;
var grace = 1e3;
var active = globalThis[Symbol.for("durable-stream.active")] ??= /* @__PURE__ */ new Map();
async function server(context, options) {
  const tell = new Teller(context.client);
  try {
    return start2(context, options, tell);
  } catch (error) {
    tell.loudly(`nothing is recorded: ${error instanceof Error ? error.message : error}`);
    return {};
  }
}
function start2(context, options, tell) {
  const config = configure(context, options);
  findProgram(config);
  const stream = new DurableStream({ ...config, logger: (words) => tell.quietly(words) });
  const bridge = createBridgeHooks(stream, {
    client: context.client,
    onError: (words) => tell.loudly(words),
    onNotice: (notice) => tell.loudly(notice.text)
  });
  let ending = false;
  const me = {
    stream,
    instance: bridge.instance,
    close: () => {
      setTimeout(() => {
        forgetSignal(end);
        if (active.get(key) === me) active.delete(key);
        stream.shutdown().catch(() => {
        }).then(lost);
      }, grace).unref();
    }
  };
  const key = join4(context.directory, "\n", config.dir);
  active.get(key)?.close();
  active.set(key, me);
  const end = async () => {
    ending = true;
    await stream.shutdown();
    lost();
  };
  let said = 0;
  const lost = () => {
    const { unrecorded, failure } = bridge;
    if (!failure || unrecorded === 0) return false;
    if (unrecorded === said) return true;
    said = unrecorded;
    const what = stream.unanswered > 0 ? "recorded yet, and only OpenCode's end tries once more" : "recorded, and are lost when OpenCode ends";
    tell.loudly(`${unrecorded} events are not ${what}: ${failure}
Mend that before the next start: it is mended when that command, with </dev/null, ends with status 0`);
    return true;
  };
  atSignal(end);
  stream.initialize().then(
    () => tellStory(stream, tell),
    (error) => tell.loudly(`nothing is recorded for now: ${error.message}`)
  );
  return {
    event: (input) => {
      if (active.get(key) !== me) return Promise.resolve();
      return bridge.event(input);
    },
    tool: config.tools ? tools(() => active.get(key) ?? me, () => ending, tell) : {},
    dispose: async () => {
      ending = true;
      try {
        if (!await bridge.flush(patience2) && !lost()) {
          tell.loudly(`${bridge.unrecorded} events are not on disk after ${patience2 / 1e3} s; dstream rpc (process ${stream.childPid}) has them, and goes on without OpenCode`);
        }
      } catch (error) {
        tell.loudly(`the end: ${error}`);
      }
      me.close();
    }
  };
}
var index_default = { id: "durable-stream", server };
export {
  index_default as default
};
