import { isMainThread } from "node:worker_threads";

/** How long a signal's end may be held up, in milliseconds. */
const patience = 3_000;
const signals = ["SIGTERM", "SIGINT", "SIGHUP"] as const;

interface Ends {
  all: Set<() => Promise<void>>;
  caught: boolean;
}

/** One for the process, however often this file is loaded: who catches a signal has to end the process. */
const ends: Ends = ((globalThis as any)[Symbol.for("durable-stream.signals")] ??= { all: new Set(), caught: false });

/**
 * Does end when a signal ends this process, which waits for it. What signals do is left
 * as it was: where nobody else listens, the signal ends the process. In a worker (the
 * terminal's OpenCode runs its plugins in one) signals belong to the main thread, and
 * what was written to the child is safe there too.
 */
export function atSignal(end: () => Promise<void>): void {
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

export function forgetSignal(end: () => Promise<void>): void {
  ends.all.delete(end);
}
