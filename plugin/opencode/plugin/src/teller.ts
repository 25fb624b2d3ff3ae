import { isMainThread } from "node:worker_threads";
import type { Client } from "./host.ts";

const service = "durable-stream";
/** What is said while OpenCode starts, its terminal does not hear. */
const settled = 3_000;

/** Tells the human at OpenCode something. It never throws, and nobody waits for it. */
export class Teller {
  readonly #client: Client;
  readonly #since = Date.now();

  constructor(client: Client) {
    this.#client = client;
  }

  /** Into OpenCode's log. */
  quietly(message: string, level: "debug" | "info" | "warn" = "debug"): void {
    this.#soon(0, () => this.#client.app?.log({ body: { service, level, message } }));
  }

  /** Into the log, and to where a human looks: the terminal's corner, or the output of run and serve. */
  loudly(message: string, level: "info" | "warn" = "warn"): void {
    this.quietly(message, level);
    // Not in the terminal's OpenCode, whose screen this would spoil.
    if (isMainThread && ["run", "serve", "web"].includes(process.argv[2] ?? "")) {
      try {
        process.stderr.write(`${service}: ${message}\n`);
      } catch {
        // there is nobody to tell
      }
    }
    const variant = level === "warn" ? "warning" : "info";
    this.#soon(settled - (Date.now() - this.#since), () =>
      this.#client.tui?.showToast({ body: { title: "Durable Stream", message, variant, duration: 10_000 } }));
  }

  /** OpenCode answers its plugins only when it has loaded them all. */
  #soon(after: number, say: () => Promise<unknown> | undefined): void {
    const timer = setTimeout(() => {
      try {
        say()?.catch(() => {});
      } catch {
        // this OpenCode has no such way
      }
    }, Math.max(after, 0));
    timer.unref();
  }
}
