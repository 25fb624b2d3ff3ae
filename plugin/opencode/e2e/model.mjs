// A model on 127.0.0.1 that does what a script says, in the form of OpenAI's streaming
// chat completions. A prompt that holds "@@name" is answered by the script of that name:
// a list of turns, each a list of items. Which turn it is shows in the conversation: it
// is the number of answers since that prompt. A function in place of the turns gives the
// items for the messages so far.
import http from "node:http";

/** Says a text, word by word, with so many milliseconds between. */
export const say = (text, pause = 0) => ({ text, field: "content", pause });
export const think = (text, pause = 0) => ({ text, field: "reasoning_content", pause });
/** Calls a tool. */
export const call = (tool, args) => ({ tool, args });
/** Answers with an HTTP error instead. */
export const fail = (status) => ({ status });
/** Waits, in the middle of the answer. */
export const hold = (until) => ({ until });
/** Says that so many tokens were used, which makes OpenCode compact. */
export const used = (tokens) => ({ tokens });

const words = "a log keeps what agents do and a human may look at it later when they are gone".split(" ");
/** n words of which each says its place, so that a lost or doubled one shows. */
export const prose = (n) => Array.from({ length: n }, (_, i) => `${words[i % words.length]}-${i}`).join(" ");

export class Model {
  scripts = new Map();
  requests = []; // what was asked: script, turn, tools, messages
  #server;

  static async start() {
    const model = new Model();
    model.#server = http.createServer((req, res) => model.#answer(req, res).catch(() => res.destroy()));
    await new Promise((go) => model.#server.listen(0, "127.0.0.1", go));
    return model;
  }

  get url() {
    return `http://127.0.0.1:${this.#server.address().port}/v1`;
  }

  script(name, ...turns) {
    this.scripts.set(name, typeof turns[0] === "function" ? turns[0] : turns);
    return `@@${name}`;
  }

  stop() {
    this.#server.closeAllConnections();
    return new Promise((go) => this.#server.close(go));
  }

  async #answer(req, res) {
    let body = "";
    for await (const piece of req) body += piece;
    const asked = JSON.parse(body || "{}");
    const items = this.#items(asked);
    const failed = items.find((it) => it.status);
    if (failed) {
      res.writeHead(failed.status, { "content-type": "application/json" });
      return res.end(JSON.stringify({ error: { message: `the script fails with ${failed.status}`, type: "script", code: "script" } }));
    }
    res.writeHead(200, { "content-type": "text/event-stream" });
    const id = `chatcmpl-${this.requests.length}`;
    const send = (delta, more = {}) =>
      res.write(`data: ${JSON.stringify({ id, object: "chat.completion.chunk", created: 0, model: "scripted", choices: [{ index: 0, delta, finish_reason: null, ...more }] })}\n\n`);
    let calls = 0, tokens;
    for (const it of items) {
      if (it.until) await it.until;
      if (it.tokens) tokens = it.tokens;
      for (const word of it.text?.match(/\S+\s*|\s+/g) ?? []) {
        if (res.destroyed) return;
        send({ [it.field]: word });
        if (it.pause) await new Promise((go) => setTimeout(go, it.pause));
      }
      if (it.tool) {
        const call = { index: calls, id: `call_${this.requests.length}_${calls}`, type: "function" };
        const args = JSON.stringify(it.args);
        send({ tool_calls: [{ ...call, function: { name: it.tool, arguments: "" } }] });
        for (let at = 0; at < args.length; at += 4096) send({ tool_calls: [{ index: calls, function: { arguments: args.slice(at, at + 4096) } }] });
        calls++;
      }
    }
    const usage = { prompt_tokens: tokens ?? 100, completion_tokens: 10, total_tokens: (tokens ?? 100) + 10 };
    res.write(`data: ${JSON.stringify({ id, object: "chat.completion.chunk", created: 0, model: "scripted", choices: [{ index: 0, delta: {}, finish_reason: calls ? "tool_calls" : "stop" }], usage })}\n\n`);
    res.end("data: [DONE]\n\n");
  }

  #items(asked) {
    const messages = asked.messages ?? [];
    const system = messages.filter((m) => m.role === "system").map(flat).join("\n");
    if (!asked.tools?.length) return [say(/title/i.test(system) ? "A title" : `A summary: ${prose(20)}`)];
    for (let at = messages.length - 1; at >= 0; at--) {
      const [, name] = messages[at].role === "user" ? (flat(messages[at]).match(/@@([\w-]+)/) ?? []) : [];
      if (!this.scripts.has(name)) continue;
      const turn = messages.slice(at).filter((m) => m.role === "assistant").length;
      this.requests.push({ name, turn, tools: asked.tools, messages });
      const script = this.scripts.get(name);
      return (typeof script === "function" ? script(messages) : script[turn]) ?? [say("Done.")];
    }
    this.requests.push({ name: undefined, tools: asked.tools, messages });
    return [say("There is no script for that.")];
  }
}

const flat = (message) => (typeof message.content === "string" ? message.content : (message.content ?? []).map((part) => part.text ?? "").join("\n"));
