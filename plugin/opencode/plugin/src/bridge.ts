import { createHash } from "node:crypto";
import { hostname } from "node:os";
import { join, sep } from "node:path";
import { carry } from "./answers.ts";
import { DurableStreamError, type Connection, type DurableStream } from "../../../../sdk/typescript/src/index.ts";
import type { BridgeHooks, BridgeOptions, BusEvent, InterruptedSession, OpenCodeAnswer, OpenCodeNotice } from "./opencode.ts";

/** How much of an event that is too large is kept of each of its long strings, in characters. */
const keptOfString = 64 << 10;
/** The pause after a log that could not be opened, in milliseconds: the first, and the longest. */
const pauses = [2_000, 60_000] as const;
/** So many bytes of events wait for a log that cannot be opened; what comes then is lost, and counted. */
const waitingLimit = 256 << 20;
/** A timer of more milliseconds than that fires at once. */
const longestTimer = 2 ** 31 - 1;
/** One complaint of a kind is heard in so many milliseconds. */
const quiet = 60_000;

let started = 0;
/** When a run of OpenCode began, in Unix milliseconds; no two of this process have the same. */
const start = () => (started = Math.max(Date.now(), started + 1));

const bridges = new WeakMap<DurableStream, Bridge>();

/**
 * What goes between OpenCode's bus and the log; its `event` is for the plugin's event
 * hook. A stream has one, whose options are those of the first call.
 */
export function createBridgeHooks(stream: DurableStream, options: BridgeOptions = {}): BridgeHooks {
  let bridge = bridges.get(stream);
  if (!bridge) bridges.set(stream, (bridge = new Bridge(stream.connection, stream.directory, options)));
  return bridge;
}

/** Which sessions of OpenCode were interrupted, or have open questions, and are not at work in an OpenCode that runs. */
export async function recoverSessions(stream: DurableStream): Promise<InterruptedSession[]> {
  return (await stream.connection.call("opencode.recover", {})).sessions;
}

/** An event that has no answer yet. */
interface Sent {
  n: number;
  event: BusEvent;
  size: number;
}

/**
 * Hands OpenCode's bus events to the log, in their order. Nothing in it throws, and
 * nothing waits: an event is on its way to the child when `event` returns.
 */
class Bridge implements BridgeHooks {
  readonly instance: string;
  readonly #connection: Connection;
  readonly #options: BridgeOptions;
  readonly #complained = new Map<string, number>();
  #next = 0;
  #open = 0; // calls without an answer
  #waiting: Sent[] = []; // for a log that can be opened, in order
  #waitingBytes = 0;
  #pause: NodeJS.Timeout | undefined;
  #pauseLength: number = pauses[0];
  #off = false; // there is no program: nothing can be recorded
  #lost = 0;
  #flushes: ((done: boolean) => void)[] = []; // that wait
  #why: string | undefined; // the log cannot be opened
  #last: BusEvent | undefined; // that is no piece of a text
  readonly #dir: string;

  /** dir is where the log's own files are. */
  constructor(connection: Connection, dir: string, options: BridgeOptions) {
    this.#connection = connection;
    this.#dir = dir;
    this.#options = options;
    this.instance = options.instance ?? `${hostname()}:${process.pid}:${start()}`;
    connection.failing = (why) => {
      this.#why = why;
      for (const end of this.#flushes.splice(0)) end(false);
    };
    connection.lost = (calls, why) => options.onError?.(`${calls} events are not known to be recorded: ${why}`);
    connection.listen("opencode.answer", (answer: OpenCodeAnswer) => void this.#answer(answer));
    connection.listen("opencode.notice", (notice: OpenCodeNotice) => this.#notice(notice));
    // A new child watches over this run's open questions once it has an event of it.
    connection.restarted = () => {
      if (this.#last && connection.unanswered === 0) this.#hand({ n: this.#next++, event: this.#last, size: 0 });
    };
  }

  /** Never throws, and never waits: the promise is kept already. */
  event(input: { event: BusEvent }): Promise<void> {
    try {
      if (!this.#off && !this.#own(input.event)) this.#hand({ n: this.#next++, event: input.event, size: 0 });
    } catch (error) {
      this.#complain("error", `an event was not recorded: ${error}`);
    }
    return Promise.resolve();
  }

  async flush(timeoutMs = 5_000): Promise<boolean> {
    if (this.unrecorded === 0) return true;
    return new Promise((resolve) => {
      const timer = setTimeout(() => resolve(false), Math.min(timeoutMs, longestTimer));
      this.#flushes.push((done) => {
        clearTimeout(timer);
        resolve(done);
      });
      if (this.#pause) this.#again();
    });
  }

  get unrecorded(): number {
    return this.#open + this.#waiting.length + this.#lost;
  }

  get failure(): string | undefined {
    return this.#why;
  }

  /** The files of the log change with every event: to record that would never end. */
  #own(event: BusEvent): boolean {
    const file = (event.properties as { file?: unknown } | undefined)?.file;
    if (event.type !== "file.watcher.updated" || typeof file !== "string") return false;
    const store = join(this.#dir, "durable_stream");
    return file === store || file.startsWith(store + sep) || (file.startsWith(store + ".") && file.endsWith(".jsonl"));
  }

  #hand(sent: Sent): void {
    if (this.#pause) {
      this.#wait(sent);
      return;
    }
    this.#open++;
    if (sent.event.type !== "message.part.delta") this.#last = sent.event;
    this.#connection.call("opencode.event", { event: sent.event, instance: this.instance }).then(
      () => {
        this.#pauseLength = pauses[0];
        this.#why = undefined;
        this.#done();
      },
      (error) => {
        try {
          this.#refused(sent, error);
        } finally {
          this.#done();
        }
      },
    );
  }

  #done(): void {
    this.#open--;
    if (this.#open > 0 || this.#waiting.length > 0) return;
    for (const end of this.#flushes.splice(0)) end(this.#lost === 0);
  }

  #refused(sent: Sent, error: unknown): void {
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
  #wait(sent: Sent): void {
    sent.size ||= JSON.stringify(sent.event)?.length ?? 0;
    if (this.#waitingBytes + sent.size > waitingLimit) {
      this.#lost++;
      this.#complain("lost", `${this.#lost} events are lost: the log could not be opened for long, and ${waitingLimit >> 20} MiB wait`);
      return;
    }
    this.#waitingBytes += sent.size;
    this.#waiting.push(sent);
  }

  #rest(): void {
    if (this.#pause || this.#connection.closed) return;
    this.#pause = setTimeout(() => this.#again(), this.#pauseLength);
    this.#pause.unref();
    this.#pauseLength = Math.min(this.#pauseLength * 2, pauses[1]);
  }

  /** Hands over what waits. */
  #again(): void {
    clearTimeout(this.#pause);
    this.#pause = undefined;
    const again = this.#waiting.sort((a, b) => a.n - b.n);
    this.#waiting = [];
    this.#waitingBytes = 0;
    for (const sent of again) this.#hand(sent);
  }

  /** Carries a decision into OpenCode, whose event about it comes back by the bus. */
  async #answer(answer: OpenCodeAnswer): Promise<void> {
    try {
      await (this.#options.onAnswer ?? ((it) => carry(this.#options.client, it)))(answer);
    } catch (error) {
      this.#complain(`answer ${answer?.requestID}`, `the answer to ${answer?.kind} ${answer?.requestID} could not be given to OpenCode: ${message(error)}`);
    }
  }

  #notice(notice: OpenCodeNotice): void {
    try {
      if (this.#options.onNotice) this.#options.onNotice(notice);
      else this.#options.onError?.(notice.text);
    } catch {
      // as below
    }
  }

  #complain(kind: string, words: string): void {
    const now = Date.now();
    if (now - (this.#complained.get(kind) ?? 0) < quiet) return;
    if (this.#complained.size > 1000) this.#complained.clear();
    this.#complained.set(kind, now);
    try {
      this.#options.onError?.(words);
    } catch {
      // whoever listens must not stop the events
    }
  }
}

function message(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** An event whose long strings are cut, with what was there: its size, and its SHA-256. */
function shortened(event: BusEvent): BusEvent {
  const text = JSON.stringify(event, (_, value) => {
    if (typeof value !== "string" || value.length <= keptOfString) return value;
    const sum = createHash("sha256").update(value).digest("hex");
    return `${value.slice(0, keptOfString)}…[cut: ${Buffer.byteLength(value)} bytes in all, sha256 ${sum}]`;
  });
  return JSON.parse(text);
}
