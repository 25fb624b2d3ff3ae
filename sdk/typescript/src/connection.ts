import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import { again, compose, reads, type Call } from "./call.ts";
import { DurableStreamError } from "./errors.ts";
import { findProgram, programArgs } from "./program.ts";
import type { DurableStreamConfig, StreamEvent } from "./types.ts";

/** The longest line that `dstream rpc` takes, in bytes. */
const maxLine = 9 << 20;
/** So many children in a row may end without an answer before a first one has come. */
const firstTries = 3;
/** The longest pause between two children, in milliseconds. */
const maxPause = 2000;
/** How much of the child's stderr is kept for error messages. */
const keptWords = 4000;
/** How long the end of this process may be held up by what has no answer yet, in milliseconds. */
const lastPatience = 10_000;

/** A subscription, which outlives the child that serves it. */
export interface Subscription {
  name: string;
  filter: Record<string, unknown>;
  /** The seq of the last event that was handed on; undefined: not yet known. */
  after: number | undefined;
  handle: (event: StreamEvent) => void;
}

/**
 * A connection to the log, through a child process `dstream rpc`.
 *
 * Every call is kept until it is answered. When the child dies, another one is started,
 * and the calls without an answer are sent again, in their order and with their ids; the
 * log knows ids, so nothing is stored twice. Subscriptions go on after the last event.
 *
 * What is written to the child is the system's, and outlives this process, however it
 * ends; as far as the pipe has room. What it had no room for is written at process.exit,
 * which waits for it. Only kill -9 in the moment of a full pipe loses it.
 */
export class Connection {
  readonly #config: DurableStreamConfig;
  readonly #hello: Record<string, unknown>;
  readonly #calls = new Map<number, Call>(); // without an answer, in the order in which they were made
  readonly #subs = new Map<string, Subscription>();
  readonly #listeners = new Map<string, (params: any) => void>(); // by the method of a notification
  #child: ChildProcess | undefined;
  #full: ChildProcess | undefined; // whose pipe has no room
  #next = 1;
  #ever = false; // a child has answered
  #failed = 0; // children in a row that did not
  #words = ""; // the end of the child's stderr
  #timer: NodeJS.Timeout | undefined;
  #held: { child: ChildProcess; on: boolean } | undefined; // what hold did last
  #closing: { done: () => void } | undefined;
  #closed: Promise<void> | undefined;
  /** Called when another child has taken the place of one that died; set by whoever needs one to be there always. */
  restarted: (() => void) | undefined;
  /** Called when children, some in a row, ended without an answer, with what they said. */
  failing: ((why: string) => void) | undefined;
  /** Called at the very end of this process, with how many calls may not be carried out, and why. */
  lost: ((calls: number, why: string) => void) | undefined;
  /** The highest seq that this connection has heard of. */
  known: number | undefined;

  constructor(config: DurableStreamConfig, hello: Record<string, unknown>) {
    this.#config = config;
    this.#hello = hello;
  }

  /** The process id of the child that runs, for tests and status. */
  get pid(): number | undefined {
    return this.#child?.pid;
  }

  /** Whether close was called. */
  get closed(): boolean {
    return this.#closing !== undefined;
  }

  /** How many calls have no answer yet. */
  get unanswered(): number {
    return this.#calls.size;
  }

  /** Makes a call. It is written to the child before this returns. */
  call(method: string, params: Record<string, unknown>, signal?: AbortSignal): Promise<any> {
    return new Promise((resolve, reject) => {
      if (this.#closing) throw new DurableStreamError("closed", `${method}: the stream is shut down`);
      if (signal?.aborted) throw signal.reason;
      const call: Call = { id: this.#next++, method, params, line: "", sentAt: 0, resolve, reject };
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
  subscribe(sub: Subscription): void {
    if (this.#closing) throw new DurableStreamError("closed", "the stream is shut down");
    this.#start();
    this.#subs.set(sub.name, sub);
    this.#sendSubscription(sub);
    if (sub.after === undefined && this.known !== undefined) sub.filter = { base: this.known, ...sub.filter };
  }

  /** Calls handle for each notification of that method; one listener a method. */
  listen(method: string, handle: (params: any) => void): void {
    this.#listeners.set(method, handle);
  }

  unsubscribe(name: string): void {
    if (!this.#subs.delete(name) || this.#closing) return;
    this.#write({ method: "unsubscribe", params: { subscription: name } });
  }

  /**
   * Ends the connection: what was called is carried out and answered, waits end. It is
   * over when the child has gone.
   */
  close(): Promise<void> {
    this.#closed ??= new Promise<void>((done) => {
      this.#subs.clear();
      this.#closing = { done };
      if (this.#timer && this.#calls.size === 0) {
        clearTimeout(this.#timer);
        this.#timer = undefined;
      }
      if (this.#child) {
        this.#hold();
        this.#child.stdin!.end();
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
  readonly lastWords = (): void => {
    const last = [...this.#calls.values()].filter((call) => !reads(call.method));
    const input = last.map(again).join("");
    // Bun does not say how much it has not written.
    if (!input || (!process.versions["bun"] && this.#child?.stdin?.writableLength === 0)) return;
    try {
      const hello = JSON.stringify({ jsonrpc: "2.0", method: "initialize", params: this.#hello }) + "\n";
      const { status, signal, error, stderr } = spawnSync(findProgram(this.#config), programArgs(this.#config), {
        input: hello + input, stdio: ["pipe", "ignore", "pipe"], timeout: lastPatience, windowsHide: true,
        env: { ...process.env, ...this.#config.env },
      });
      // A child that answers has all of it, or sooner or later gets it.
      const answers = this.#child && this.#ever && this.#failed === 0;
      if (status !== 0 && !answers) throw error ?? new Error(this.#end(signal ? `was ended by ${signal}` : `ended with status ${status}`, String(stderr)));
    } catch (error) {
      this.#config.logger?.(`durable-stream: ${last.length} calls have no answer, and this process ends: ${error}`);
      this.lost?.(last.length, error instanceof Error ? error.message : String(error));
    }
  };

  #start(): void {
    if (this.#child || this.#timer) return;
    const args = programArgs(this.#config);
    const program = findProgram(this.#config);
    process.off("exit", this.lastWords).on("exit", this.lastWords);
    // A process group of its own: Ctrl-C is for the parent, whose end is that of the
    // child's input, by which it writes out what it has.
    const child = spawn(program, args, {
      stdio: ["pipe", "pipe", "pipe"], detached: true, windowsHide: true,
      env: { ...process.env, ...this.#config.env },
    });
    this.#child = child;
    this.#words = "";
    child.stdin!.on("error", () => {}); // the child's end says it all
    child.stderr!.setEncoding("utf8").on("data", (words: string) => {
      this.#words = (this.#words + words).slice(-keptWords);
      this.#config.logger?.(words.trimEnd());
    });
    let rest: string[] = [];
    child.stdout!.setEncoding("utf8").on("data", (data: string) => {
      let from = 0;
      for (let at = data.indexOf("\n"); at >= 0; at = data.indexOf("\n", from)) {
        const line = rest.length > 0 ? rest.join("") + data.slice(from, at) : data.slice(from, at);
        rest = [];
        from = at + 1;
        this.#read(line);
      }
      if (from < data.length) rest.push(data.slice(from));
    });
    let over = false;
    const ended = (how: string) => {
      if (over) return;
      over = true;
      this.#child = undefined;
      this.#ended(how);
    };
    child.on("error", (error) => ended(error.message));
    child.on("close", (status, signal) => ended(signal ? `was ended by ${signal}` : `ended with status ${status}`));

    this.#write({ id: 0, method: "initialize", params: this.#hello });
    for (const sub of this.#subs.values()) this.#sendSubscription(sub);
    for (const call of this.#calls.values()) this.#send(call);
    this.#hold();
    if (this.#closing) child.stdin!.end();
  }

  /** Decides what follows the end of a child. */
  #ended(how: string): void {
    if (this.#closing && this.#calls.size === 0) {
      this.#closing.done();
      return;
    }
    this.#failed++;
    const why = this.#end(how, this.#words);
    const vain = this.#failed >= firstTries;
    if (vain) this.failing?.(why);
    // Later on calls wait for as long as it takes, but for one who wants to end.
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
    if (this.#calls.size === 0 && this.#subs.size === 0 && !this.restarted) return; // the next call starts it
    const pause = this.#failed <= 1 ? 0 : Math.min(50 * 2 ** (this.#failed - 2), maxPause);
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      try {
        this.#start();
        this.restarted?.();
      } catch (error) {
        this.#words = String(error);
        this.#ended("cannot be started");
      }
    }, pause);
    if (this.#calls.size === 0) this.#timer.unref();
  }

  /** What to say of a child that ended too early. */
  #end(how: string, words: string): string {
    let command = "dstream rpc";
    try {
      command = [findProgram(this.#config), ...programArgs(this.#config)].join(" ");
    } catch {
      // it has gone
    }
    return `"${command}" ${how} before it answered: ${words.trim().slice(-keptWords) || "it said nothing, as if it were no dstream"}`;
  }

  #read(line: string): void {
    let m: any;
    try {
      m = JSON.parse(line);
    } catch {
      this.#config.logger?.(`durable-stream: not JSON from dstream rpc: ${line.slice(0, 200)}`);
      return;
    }
    this.#ever = true;
    this.#failed = 0;
    if (m.method === "event") return this.#event(m.params);
    if (m.method === "subscription.end") return this.#subscriptionEnded(m.params);
    if (m.method !== undefined) return this.#listeners.get(m.method)?.(m.params);
    if (m.id === 0) return this.#greeted(m.result?.position);
    if (typeof m.id === "string") return this.#subscribed(m.id.slice(4), m);
    const call = this.#calls.get(m.id);
    if (!call) return; // given up by its caller
    // The child was told to end by somebody else: the next one carries it out.
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
  #greeted(position: unknown): void {
    this.#knows(position);
    for (const sub of this.#subs.values()) {
      if (sub.after === undefined) sub.filter = { base: this.known, ...sub.filter };
    }
  }

  #sendSubscription(sub: Subscription): void {
    const { base, ...filter } = sub.filter;
    const after = sub.after ?? base;
    this.#write({ id: "sub:" + sub.name, method: "subscribe", params: { ...filter, subscription: sub.name, ...(after === undefined ? {} : { after }) } });
  }

  #subscribed(name: string, m: any): void {
    if (m.error) {
      this.#subs.delete(name);
      this.#config.logger?.(`durable-stream: subscribe: ${m.error.message}`);
      return;
    }
    const sub = this.#subs.get(name);
    if (sub) sub.after ??= m.result.after;
  }

  #event(params: any): void {
    const sub = this.#subs.get(params.subscription);
    this.#knows(params.seq);
    if (!sub || (sub.after !== undefined && params.seq <= sub.after)) return;
    sub.after = params.seq;
    try {
      sub.handle(params.event);
    } catch (error) {
      this.#config.logger?.(`durable-stream: a handler threw at seq ${params.seq}: ${error}`);
    }
  }

  #subscriptionEnded(params: any): void {
    const sub = this.#subs.get(params.subscription);
    if (!sub || !params.error) return; // unsubscribed, or the child ends: the next one goes on
    this.#subs.delete(params.subscription);
    this.#config.logger?.(`durable-stream: the subscription to ${JSON.stringify(sub.filter["types"])} ended: ${params.error.message}`);
  }

  #knows(seq: unknown): void {
    if (typeof seq === "number" && seq > (this.known ?? -1)) this.known = seq;
  }

  #send(call: Call): void {
    if (!this.#child) return;
    const line = again(call);
    if (call.sentAt === 0) call.sentAt = Date.now();
    this.#child.stdin!.write(line);
    this.#handOver(this.#child);
  }

  /**
   * Bun keeps the last 4 KiB that were written until its event loop turns, and kill -9
   * before that would lose them. Beneath its stream there is what writes them now. When
   * the pipe is full it says when there is room again, and nothing is asked of it until then.
   */
  #handOver(child: ChildProcess): void {
    if (this.#full === child || !process.versions["bun"]) return;
    const stdin = child.stdin as any;
    const key = Object.getOwnPropertySymbols(stdin).find((it) => it.description === "kWriteStreamFastPath");
    try {
      const room = key && stdin[key]?.flush?.();
      if (typeof room?.then !== "function") return;
      this.#full = child;
      const over = () => {
        if (this.#full === child) this.#full = undefined;
      };
      room.then(over, over);
    } catch {
      // another Bun: it writes when its loop turns
    }
  }

  #write(message: Record<string, unknown>): void {
    this.#child?.stdin!.write(JSON.stringify({ jsonrpc: "2.0", ...message }) + "\n");
  }

  /** The child keeps this process alive exactly while a call has no answer. */
  #hold(): void {
    const on = this.#calls.size > 0 || this.#closing !== undefined;
    if (this.#timer) on ? this.#timer.ref() : this.#timer.unref();
    const child = this.#child;
    if (!child || (this.#held?.child === child && this.#held.on === on)) return;
    this.#held = { child, on };
    for (const it of [child, child.stdin, child.stdout, child.stderr] as any[]) on ? it?.ref?.() : it?.unref?.();
  }
}
