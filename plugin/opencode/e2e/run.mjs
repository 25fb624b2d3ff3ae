// Runs the scenarios, one file after the other, and says how many passed.
// `node run.mjs crash.test.mjs` runs one file, `node run.mjs -t compaction` what has that in its name.
import { readdirSync } from "node:fs";
import { run } from "node:test";
import { spec } from "node:test/reporters";

process.chdir(import.meta.dirname);
const args = process.argv.slice(2);
const at = args.indexOf("-t");
const names = at < 0 ? [] : args.splice(at, 2).slice(1);
const files = args.length > 0 ? args : readdirSync(".").filter((name) => name.endsWith(".test.mjs")).sort();

let passed = 0, failed = 0;
const started = Date.now();
const tests = run({ files, concurrency: 1, testNamePatterns: names.length > 0 ? names : undefined, timeout: 10 * 60_000 });
tests.on("test:pass", (it) => { if (!it.skip && it.details?.type !== "suite" && !it.name.endsWith(".mjs")) passed++; });
tests.on("test:fail", (it) => { failed++; process.exitCode = 1; });
tests.compose(new spec()).pipe(process.stdout);
tests.on("end", () => process.on("exit", () => console.log(`${passed} passed, ${failed} failed, in ${Math.round((Date.now() - started) / 1000)} s`)));
