// Feeds events to the plugin as OpenCode does, and measures how long it held its caller.
// Run by replay.test.mjs, under Node and under the Bun of OpenCode.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [plugin, events, dir] = process.argv.slice(2);
const { default: it } = await import(pathToFileURL(plugin).href);
const hooks = await it.server({ directory: dir, worktree: "/", client: {} });
const held = [];
const started = performance.now();
for (const line of readFileSync(events, "utf8").trim().split("\n")) {
  const { event } = JSON.parse(line);
  const before = performance.now();
  void hooks.event({ event }); // as OpenCode calls it: not awaited
  held.push(performance.now() - before);
}
const handed = performance.now() - started;
await hooks.dispose();
const stored = performance.now() - started;
held.sort((a, b) => a - b);
console.log(JSON.stringify({ events: held.length, p50: held[held.length >> 1], p99: held[Math.floor(held.length * 0.99)], max: held.at(-1), handed, stored }));
process.exit(0); // as OpenCode ends
