import { accessSync, constants, statSync } from "node:fs";
import { basename, delimiter, dirname, isAbsolute, join, resolve } from "node:path";
import { DurableStreamError } from "./errors.ts";
import type { DurableStreamConfig } from "./types.ts";

function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}

/** Finds dstream: by option, by $DSTREAM_BIN, on the PATH. */
export function findProgram(config: DurableStreamConfig): string {
  const named: [string, string | undefined][] = [
    ["the option bin", config.bin],
    ["DSTREAM_BIN", process.env["DSTREAM_BIN"]],
  ];
  for (const [by, path] of named) {
    if (!path) continue;
    const full = isAbsolute(path) ? path : resolve(path);
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
    "the program dstream was not found: there is no option bin, DSTREAM_BIN is not set, and it is not on the PATH. " +
      'Build it with "make build", and say where it is by one of the three',
  );
}

/** The directory of the log, where the config names one. */
export function logDir(config: DurableStreamConfig): string | undefined {
  if (config.dir || !config.storePath) return config.dir;
  if (basename(config.storePath) !== "durable_stream.jsonl") {
    throw new DurableStreamError("invalid", `invalid storePath ${JSON.stringify(config.storePath)}: the file's name must be durable_stream.jsonl; choose its directory`);
  }
  return dirname(config.storePath);
}

/** The command line of the child. */
export function programArgs(config: DurableStreamConfig): string[] {
  const dir = logDir(config);
  const args: string[] = config.shared ? ["--shared"] : [];
  if (dir) args.push("--dir", dir);
  for (const server of config.servers ?? []) args.push("--server", server);
  if (config.nkey) args.push("--nkey", config.nkey);
  return [...args, ...(config.args ?? []), "rpc"];
}
