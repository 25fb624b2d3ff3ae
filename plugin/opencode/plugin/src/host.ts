import type { BusEvent, OpenCodeClient } from "./opencode.ts";

// What this plugin uses of OpenCode 1.18; its own types come with a package that
// would have to be installed.

export interface Client extends OpenCodeClient {
  app?: { log(options: { body: { service: string; level: "debug" | "info" | "warn" | "error"; message: string } }): Promise<unknown> };
  tui?: { showToast(options: { body: { title?: string; message: string; variant: "info" | "warning" | "error"; duration?: number } }): Promise<unknown> };
}

export interface PluginContext {
  client: Client;
  /** Where OpenCode was started. */
  directory: string;
  /** The root of the repository that this is in; "/" where there is none. */
  worktree: string;
}

export interface ToolContext {
  sessionID: string;
  messageID?: string;
  callID?: string;
  agent?: string;
  /** Also fires after a normal end. */
  abort: AbortSignal;
  metadata?(shown: { title?: string; metadata?: Record<string, unknown> }): void;
}

export interface Tool {
  description: string;
  /** A JSON Schema for each argument. */
  args: Record<string, unknown>;
  execute(args: any, context: ToolContext): Promise<string>;
}

export interface Hooks {
  event?(input: { event: BusEvent }): Promise<void>;
  tool?: Record<string, Tool>;
  dispose?(): Promise<void>;
}
