// What bridge.test.mjs tests, in one file that Node can load.
export { DurableStream, getDurableStream, initializeDurableStream, shutdownDurableStream } from "../../../../sdk/typescript/src/index.ts";
export { createBridgeHooks } from "../src/bridge.ts";
