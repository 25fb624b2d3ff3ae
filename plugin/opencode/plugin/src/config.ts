import { readFileSync } from "node:fs";
import { homedir } from "node:os";
import { isAbsolute, join, resolve } from "node:path";
import type { DurableStreamConfig } from "../../../../sdk/typescript/src/index.ts";
import type { PluginContext } from "./host.ts";

export interface PluginConfig extends DurableStreamConfig {
  /**
   * The directory of the log and its JSONL file. Default: .opencode at the root of the project, or
   * that of the main work tree where the project is a linked git work tree.
   */
  dir: string;
  /** Whether the model gets the tools. Default true. */
  tools: boolean;
}

/** Each key, and what it must be. */
const keys: Record<string, (value: unknown) => boolean> = {
  bin: isText, dir: isText, nkey: isText, servers: isTexts, args: isTexts,
  tools: (value) => typeof value === "boolean",
};

/**
 * The configuration is .opencode/durable-stream.json, and the options that opencode.json
 * gives the plugin, which go before it. Neither needs to be there.
 */
export function configure(context: PluginContext, options: Record<string, unknown> = {}): PluginConfig {
  const root = context.worktree && context.worktree !== "/" ? context.worktree : context.directory;
  const home = join(root, ".opencode");
  const file = join(home, "durable-stream.json");
  const given = { ...check(read(file), file), ...check(options, "the plugin's options") } as Partial<PluginConfig>;
  const path = (value: string) => {
    const full = value.startsWith("~/") ? join(homedir(), value.slice(2)) : value;
    return isAbsolute(full) ? full : resolve(root, full);
  };
  return {
    ...given,
    dir: path(given.dir ?? home),
    shared: given.dir === undefined,
    tools: given.tools ?? true,
    ...(given.bin ? { bin: path(given.bin) } : {}),
    ...(given.nkey ? { nkey: path(given.nkey) } : {}),
  };
}

function read(file: string): unknown {
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return {};
    throw error;
  }
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Error(`${file} is not JSON: ${(error as Error).message}`);
  }
}

function check(given: unknown, where: string): Record<string, unknown> {
  if (given === null || typeof given !== "object" || Array.isArray(given)) throw new Error(`${where} must be a JSON object`);
  for (const [key, value] of Object.entries(given)) {
    if (!keys[key]) throw new Error(`${where}: there is no key ${JSON.stringify(key)}; there are ${Object.keys(keys).join(", ")}`);
    if (!keys[key](value)) throw new Error(`${where}: ${key} cannot be ${JSON.stringify(value)}`);
  }
  return given as Record<string, unknown>;
}

function isText(value: unknown): boolean {
  return typeof value === "string" && value !== "";
}

function isTexts(value: unknown): boolean {
  return Array.isArray(value) && value.every(isText);
}
