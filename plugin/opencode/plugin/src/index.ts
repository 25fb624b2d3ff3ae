/**
 * The plugin for OpenCode: every event of its bus goes into the log, its questions can
 * be answered from outside, and the model gets tools to ask a human and to look back.
 *
 * Three rules come from how OpenCode calls its plugins. The event hook is not awaited,
 * and a throw in it hangs the session: so it hands the event to the child process and
 * returns, whatever happens. Only dispose and the tools are awaited: there is flushing
 * and waiting. And a signal ends OpenCode without a word: so signals are caught here.
 */
import { join } from "node:path";
import { DurableStream } from "../../../../sdk/typescript/src/index.ts";
import { findProgram } from "../../../../sdk/typescript/src/program.ts";
import { createBridgeHooks } from "./bridge.ts";
import { configure } from "./config.ts";
import type { Hooks, PluginContext } from "./host.ts";
import type { BridgeHooks, BusEvent } from "./opencode.ts";
import { atSignal, forgetSignal } from "./signals.ts";
import { tellStory } from "./story.ts";
import { Teller } from "./teller.ts";
import { tools } from "./tools.ts";

/** How long OpenCode's end may be held up by what is not on disk yet, in milliseconds. */
const patience = 5_000;
/** After dispose a few events still come. */
const grace = 1_000;

interface Loaded {
  stream: DurableStream;
  instance: string;
  close: () => void;
}

/**
 * Of each directory the plugin that OpenCode loaded last. Loaded twice, from the project
 * and for the user, it records once; the tools of either use the one that does.
 */
const active: Map<string, Loaded> = ((globalThis as any)[Symbol.for("durable-stream.active")] ??= new Map());

async function server(context: PluginContext, options?: Record<string, unknown>): Promise<Hooks> {
  const tell = new Teller(context.client);
  try {
    return start(context, options, tell);
  } catch (error) {
    tell.loudly(`nothing is recorded: ${error instanceof Error ? error.message : error}`);
    return {};
  }
}

function start(context: PluginContext, options: Record<string, unknown> | undefined, tell: Teller): Hooks {
  const config = configure(context, options);
  findProgram(config);
  const stream = new DurableStream({ ...config, logger: (words) => tell.quietly(words) });
  const bridge: BridgeHooks = createBridgeHooks(stream, {
    client: context.client,
    onError: (words) => tell.loudly(words),
    onNotice: (notice) => tell.loudly(notice.text),
  });
  let ending = false;
  const me: Loaded = {
    stream, instance: bridge.instance,
    close: () => {
      setTimeout(() => {
        forgetSignal(end);
        if (active.get(key) === me) active.delete(key);
        stream.shutdown().catch(() => {}).then(lost);
      }, grace).unref();
    },
  };
  const key = join(context.directory, "\n", config.dir);
  active.get(key)?.close();
  active.set(key, me);

  const end = async (): Promise<void> => {
    ending = true;
    await stream.shutdown();
    lost();
  };
  let said = 0; // events that are lost
  /** Says what dstream rpc has not got, and never will, and whether there is any. */
  const lost = (): boolean => {
    const { unrecorded, failure } = bridge;
    if (!failure || unrecorded === 0) return false;
    if (unrecorded === said) return true;
    said = unrecorded;
    const what = stream.unanswered > 0 ? "recorded yet, and only OpenCode's end tries once more" : "recorded, and are lost when OpenCode ends";
    tell.loudly(`${unrecorded} events are not ${what}: ${failure}\nMend that before the next start: it is mended when that command, with </dev/null, ends with status 0`);
    return true;
  };
  atSignal(end);
  stream.initialize().then(
    () => tellStory(stream, tell),
    (error) => tell.loudly(`nothing is recorded for now: ${error.message}`),
  );

  return {
    event: (input: { event: BusEvent }): Promise<void> => {
      if (active.get(key) !== me) return Promise.resolve();
      return bridge.event(input);
    },
    tool: config.tools ? tools(() => active.get(key) ?? me, () => ending, tell) : {},
    dispose: async (): Promise<void> => {
      ending = true;
      try {
        if (!(await bridge.flush(patience)) && !lost()) {
          tell.loudly(`${bridge.unrecorded} events are not on disk after ${patience / 1000} s; dstream rpc (process ${stream.childPid}) has them, and goes on without OpenCode`);
        }
      } catch (error) {
        tell.loudly(`the end: ${error}`);
      }
      me.close();
    },
  };
}

export default { id: "durable-stream", server };
