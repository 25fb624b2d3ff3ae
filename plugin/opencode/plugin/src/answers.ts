import type { OpenCodeAnswer, OpenCodeClient } from "./opencode.ts";

/** So often an answer is given to an OpenCode that fails to take it, and the pause between, in milliseconds. */
const tries = 3;
const pause = 500;

/**
 * Carries a decision into OpenCode. It throws when OpenCode does not take it. That it
 * does not ask any more is no error: an answer may come twice, or too late.
 */
export async function carry(client: OpenCodeClient | undefined, answer: OpenCodeAnswer): Promise<void> {
  if (!client) throw new Error("there is no client of OpenCode");
  for (let n = 1; ; n++) {
    const { status, error } = await give(client, answer);
    if (!error || status === 404) return;
    if (n === tries) throw new Error(error);
    await new Promise((go) => setTimeout(go, pause));
  }
}

async function give(client: OpenCodeClient, answer: OpenCodeAnswer): Promise<{ status?: number; error?: string }> {
  try {
    const result = (await send(client, answer)) as { error?: unknown; response?: { status?: number } } | undefined;
    const status = result?.response?.status;
    if (result?.error === undefined && (status === undefined || status < 400)) return {};
    return { status, error: `OpenCode says ${status}: ${JSON.stringify(result?.error)?.slice(0, 500)}` };
  } catch (error) {
    return { error: String(error) };
  }
}

function send(client: OpenCodeClient, answer: OpenCodeAnswer): Promise<unknown> {
  const { requestID, sessionID, reply, answers, message } = answer;
  const post = client._client?.post.bind(client._client);
  const headers = { "Content-Type": "application/json" };
  const path = { requestID };
  if (answer.kind === "question") {
    if (!post) throw new Error("this OpenCode's client has no way to answer a question");
    if (reply === "reject") return post({ url: "/question/{requestID}/reject", path });
    return post({ url: "/question/{requestID}/reply", path, headers, body: { answers: answers ?? [] } });
  }
  // Only this way takes the human's words to the model.
  if (message && post) return post({ url: "/permission/{requestID}/reply", path, headers, body: { reply, message } });
  if (client.postSessionIdPermissionsPermissionId) {
    return client.postSessionIdPermissionsPermissionId({ path: { id: sessionID, permissionID: requestID }, body: { response: reply } });
  }
  if (!post) throw new Error("this OpenCode's client has no way to answer a permission");
  return post({ url: "/permission/{requestID}/reply", path, headers, body: { reply } });
}
