import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

// What tests of the SDK, and of what is made of it, share.

const mess = new WeakMap(); // test → what it leaves behind

/** What a test leaves behind: its streams end before its directories go. */
function left(t) {
  if (!mess.has(t)) {
    const here = { streams: [], dirs: [] };
    mess.set(t, here);
    t.after(async () => {
      await Promise.all(here.streams.map((stream) => stream.shutdown()));
      for (const dir of here.dirs) rmSync(dir, { recursive: true, force: true, maxRetries: 20, retryDelay: 50 });
    });
  }
  return mess.get(t);
}

/** Makes streams of that class, each for one test, in a directory of its own where none is given. */
export function streams(DurableStream) {
  return (t, config = {}) => {
    const dir = config.dir ?? join(project(t), ".opencode");
    const heard = [];
    const stream = new DurableStream({ dir, logger: (words) => heard.push(words), ...config });
    left(t).streams.push(stream);
    return Object.assign(stream, { dir, heard });
  };
}

/** A directory for one test. */
export function project(t) {
  const dir = mkdtempSync(join(tmpdir(), "dstream-sdk-"));
  left(t).dirs.push(dir);
  return dir;
}

/** Waits until f gives something. */
export async function until(f, what, ms = 30_000) {
  for (const end = Date.now() + ms; ; await new Promise((go) => setTimeout(go, 5))) {
    const got = await f();
    if (got) return got;
    if (Date.now() > end) throw new Error(`${what} did not happen`);
  }
}
