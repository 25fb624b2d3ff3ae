// The Quick Start, as it stands in sdk/typescript/test/quickstart.ts, under Node and under Bun.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { dstreamBin, program, until } from "./opencode.mjs";

const sdk = fileURLToPath(new URL("../../../sdk/typescript/test/", import.meta.url));

for (const [name, bin, file, env] of [
  ["Bun, as TypeScript", program, "quickstart.ts", { BUN_BE_BUN: "1" }],
  ["Node", process.execPath, "out/quickstart.js", {}],
]) {
  test(`the Quick Start under ${name}`, async (t) => {
    const cwd = mkdtempSync(join(tmpdir(), "dstream-quickstart-"));
    t.after(() => rmSync(cwd, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 }));
    const { stdout } = await promisify(execFile)(bin, [join(sdk, file)], { cwd, timeout: 60_000, env: { ...process.env, DSTREAM_BIN: dstreamBin, ...env } });
    assert.match(stdout, /^1 task.created Refactor Auth$/m);
    const jsonl = join(cwd, ".opencode", "durable_stream.jsonl");
    const lines = await until(() => {
      const lines = existsSync(jsonl) ? readFileSync(jsonl, "utf8").trim().split("\n") : [];
      return lines.length === 2 && lines;
    }, "two lines in the JSONL");
    assert.deepEqual(lines.map((line) => JSON.parse(line).type), ["task.created", "task.completed"]);
  });
}
