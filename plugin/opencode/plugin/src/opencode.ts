/** An event of OpenCode's bus, as its plugins and its /event get it. */
export interface BusEvent {
  id?: string;
  type: string;
  properties?: unknown;
}

/** A decision made outside OpenCode, which is to be carried into it. */
export interface OpenCodeAnswer {
  sessionID: string;
  kind: "permission" | "question";
  requestID: string;
  reply: "once" | "always" | "reject";
  /** To a question: for each of its parts the labels chosen, or the human's own words. */
  answers?: string[][];
  /** What the human said with it. */
  message?: string;
}

/** Something that the human at OpenCode ought to know. */
export interface OpenCodeNotice {
  text: string;
  sessionID?: string;
  requestID?: string;
}

/** What is used of the client that OpenCode gives its plugins. */
export interface OpenCodeClient {
  postSessionIdPermissionsPermissionId?(options: {
    path: { id: string; permissionID: string };
    body: { response: "once" | "always" | "reject" };
  }): Promise<unknown>;
  /** The one beneath, for what has no method of its own. */
  _client?: { post(options: Record<string, unknown>): Promise<unknown> };
}

export interface BridgeOptions {
  /** Names this run of OpenCode in the events' metadata. Default: host:pid:start, in Unix ms. */
  instance?: string;
  /** OpenCode's client, through which decisions are carried into it. Default: none are. */
  client?: OpenCodeClient;
  /** Carries decisions instead of client. */
  onAnswer?: (answer: OpenCodeAnswer) => void | Promise<void>;
  /** Hears what the human at OpenCode ought to know. Default: onError does. */
  onNotice?: (notice: OpenCodeNotice) => void;
  /** Hears what went wrong, in words, each kind at most once a minute. Default: nobody. */
  onError?: (message: string) => void;
}

/** What a plugin of OpenCode returns to it, or calls from its own hooks. */
export interface BridgeHooks {
  /** This run of OpenCode. */
  readonly instance: string;
  /**
   * Takes an event of the bus. It is handed to the child before this returns; it never
   * throws, and never waits for the log.
   */
  event(input: { event: BusEvent }): Promise<void>;
  /**
   * Waits until all that was taken is on disk: true. False when it took longer than
   * timeoutMs (default 5,000), and at once when the log cannot be opened, also not now.
   */
  flush(timeoutMs?: number): Promise<boolean>;
  /** How many events were taken and are not known to be on disk: on their way, waiting, or lost. */
  readonly unrecorded: number;
  /** Why the log cannot be opened, while that is so: then nobody but this process has the events. */
  readonly failure: string | undefined;
}

/** A session that an OpenCode which is over left unfinished, or with an open question. */
export interface InterruptedSession {
  id: string;
  title?: string;
  agent?: string;
  instance?: string;
  interrupted: boolean;
  last_at: number;
  prompt?: string;
  text?: string;
  partial?: boolean;
  tools?: { tool?: string; callID?: string; [key: string]: unknown }[];
  agents?: string[];
  questions?: { id: string; decision_point?: string; [key: string]: unknown }[];
  /** Decided, and OpenCode does not know it. */
  answered?: { id: string; decision_point?: string; status?: string; by?: string; [key: string]: unknown }[];
  /** What is known of the OpenCode that ran it. */
  life?: "over" | "unknown";
  /** All that in words, on a few lines. */
  story?: string;
  [key: string]: unknown;
}
