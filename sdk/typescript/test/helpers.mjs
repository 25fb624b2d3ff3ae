import { DurableStream } from "durable-stream";
import { streams } from "./kit.mjs";

export { project, until } from "./kit.mjs";

/** A stream, in a directory of its own where none is given, for one test. */
export const fresh = streams(DurableStream);
